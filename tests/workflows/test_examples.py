"""The tutorial's operator: it passes the check, and its configuration gives the right posterior."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv import operators, readers, samplers
from sciinv.config import Config
from sciinv.operators import check as checks
from sciinv.steps.build import gaussian_power, load_prior


@pytest.fixture(scope="module")
def examples() -> Path:
    return Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def name(examples: Path) -> str:
    return f"{examples / 'photoacoustic.py'}:Photoacoustic"


def test_the_swapped_in_operator_has_thirty_lines_at_most(examples: Path) -> None:
    assert len((examples / "photoacoustic.py").read_text().splitlines()) <= 30


@pytest.mark.parametrize("params", [{}, {"size": 9, "detectors": 5}])
def test_it_passes_every_check(name: str, params: dict) -> None:
    found = checks.check_operator(operators.load(name, **params))
    assert len(found) == 9
    assert [c for c in found if not c.ok] == []


def test_a_point_is_heard_on_the_circle_through_it(name: str) -> None:
    """Every detector hears all of a pixel's light, at the pixel's distance."""
    physics = operators.load(name, size=16, pixel_mm=0.5, detectors=7)
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[0, 0, 3, 11] = 2.0
    y = physics.A(x)[0]
    np.testing.assert_allclose(y.sum(1), 2.0 * 0.5, rtol=1e-12)  # value × pixel² ÷ circle spacing
    turn = np.linspace(0, np.pi, 7)
    spec = physics.image_spec
    distance = np.hypot(spec.x[11] - 8 * np.cos(turn), spec.y[3] - 8 * np.sin(turn))  # mm
    centre = (y * torch.arange(y.shape[1])).sum(1) / y.sum(1)
    np.testing.assert_allclose(0.5 * centre, distance, rtol=1e-12)


def test_its_configuration_gives_the_exact_posterior(
    examples: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small enough for the closed form: x | y is Gaussian with a dense covariance."""
    monkeypatch.chdir(examples.parents[1])
    problem = Config.of_file(examples / "photoacoustic.yaml").problem("vessels")
    data = readers.find(problem.data.reader)(size=12, detectors=6)
    physics, y = operators.from_measurement(data, operator=name)
    spec = physics.image_spec
    prior = load_prior(problem.prior, spec.shape, spec.units)
    method = samplers.build(problem.sampler.kind, prior, **problem.sampler.settings)
    draws = method.sample(y, physics, draws=200, seed=3)["image"].values.reshape(200, -1)
    a = physics.A(torch.eye(144).reshape(144, 1, 12, 12)).flatten(1).T.double()
    power = gaussian_power((12, 12), problem.prior.sd, problem.prior.length).double()
    unit = torch.eye(144, dtype=torch.float64).reshape(144, 12, 12)
    covariance = torch.fft.ifft2(torch.fft.fft2(unit) * power).real.reshape(144, 144)
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + 0.01 * torch.eye(len(a)))
    mean = problem.prior.mean + gain @ (y.flatten().double() - problem.prior.mean * a.sum(1))
    sd = (covariance - gain @ a @ covariance).diagonal().sqrt().numpy()
    # 200 draws: the mean is known to sd/√200 = 0.07 sd, an sd to 5 %; 144 correlated pixels
    z = (draws.mean(0) - mean.numpy()) / sd
    assert np.sqrt(np.mean(z**2)) < 0.15
    assert np.mean(draws.std(0, ddof=1) / sd) == pytest.approx(1, abs=0.04)


def test_the_pages_name_files_that_are_there(examples: Path) -> None:
    docs = examples.parent
    pages = [*docs.rglob("*.md"), *(docs.parent / f for f in ("README.md", "CONTRIBUTING.md"))]
    assert len(pages) > 10
    for page in pages:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            target = (page.parent / link).resolve()
            made = target.is_relative_to(docs / "reference")  # by the site's build
            if target.parent == docs / "notebooks":
                target = target.with_suffix(".ipynb")  # so are the pages of the notebooks
            assert made or target.is_file(), f"{page.name}: {link}"
        for path in re.findall(r"`((?:docs|tests|operators|data)/[\w./-]+\.\w+)", text):
            places = (docs.parent, docs.parent / "tests")  # pages of evidence name tests from there
            assert any((place / path).exists() for place in places), f"{page.name}: {path}"


def test_the_tutorial_shows_the_files_as_they_are(examples: Path) -> None:
    page = (examples.parent / "guides/swap-an-operator.md").read_text()
    for name in ("photoacoustic.py", "photoacoustic.yaml"):
        assert (examples / name).read_text() in page


def test_pictures_are_small(examples: Path) -> None:
    sizes = [p.stat().st_size for p in (examples.parent / "pictures").glob("*.png")]
    assert sizes
    assert max(sizes) < 150_000
    assert sum(sizes) < 3_000_000
