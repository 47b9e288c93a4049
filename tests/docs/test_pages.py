"""The pages say what the code does: examples, configurations, roads, the drawing of the floors."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from sciinv import operators, priors, readers, samplers
from sciinv.calibration.benchmark import foreign, linear
from sciinv.config import Config
from sciinv.kernels import KERNELS


@pytest.mark.parametrize("page", ["index", "how-it-works", "architecture"])
def test_examples_of_a_page_give_what_it_says(page: str, repo: Path) -> None:
    found = doctest.testfile(str(repo / f"docs/{page}.md"), module_relative=False)
    assert not found.failed
    assert found.attempted or page != "index"


@pytest.mark.parametrize("page", ["mri", "ct", "interferometry"])
def test_the_configuration_of_a_guide_passes_the_check(
    page: str, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    text = (repo / f"docs/guides/{page}.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n")[1].split("```")[0]
    assert Config.of_mapping(yaml.safe_load(block)).problems


def test_every_reader_has_its_options_in_a_guide(repo: Path) -> None:
    pages = "".join(p.read_text(encoding="utf-8") for p in (repo / "docs/guides").glob("*.md"))
    assert set(re.findall(r"<!-- made: reader (\w+) -->", pages)) == set(readers.READERS)


def test_the_conditional_of_its_guide_has_the_closed_form_mean_and_sd(repo: Path) -> None:
    """Pixels N(0, 1), data 1 with noise sd ½: N(0.8, 0.2), 6,400 independent pixels of draws."""
    text = (repo / "docs/guides/own-conditional.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    x = names["draws"].values
    assert x.size == 6400
    assert x.mean() == pytest.approx(0.8, abs=4 * (0.2 / x.size) ** 0.5)
    assert x.std() == pytest.approx(0.2**0.5, rel=4 / (2 * x.size) ** 0.5)
    # the wrong width is seen, so that the closed form tests something
    wrong = names["OfUnitVariance"](names["prior"], sd=0.5)
    sampler = samplers.DAPS(names["prior"], conditional=wrong, levels=20)
    x = sampler.sample(names["y"], names["physics"], draws=100, seed=0)["image"].values
    assert abs(x.mean() - 0.8) > 8 * (0.2 / x.size) ** 0.5


def test_the_sampler_of_its_guide_goes_through_the_benchmark(repo: Path, tmp_path: Path) -> None:
    """Pixels of sd ½ under noise of 1, where its steps leave an error of a few percent."""
    text = (repo / "docs/guides/own-sampler.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(text.split("```python\n")[1].split("```")[0])
    make = foreign.named(f"{tmp_path}/mine.py:annealed")
    row = linear.gaussian_case("white", "mask", 1.0, 4, 400, make)
    assert row["nfe"] == 1000
    # 16 modes of 400 draws: 0.9 % of a standard error for the mean of the ratios.
    assert row["sd_ratio_mean"] == pytest.approx(1, abs=0.08)
    assert row["mean_error_rms"] < 2 * row["mean_error_rms_expected"]


def roads(repo: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Return (file, names said of it) of every step of every road, by the road's name."""
    text = (repo / "docs/architecture.md").read_text(encoding="utf-8")
    text = text.split("## Four roads")[1].split("\n## ")[0]
    out = {}
    for section in text.split("\n### ")[1:]:
        title, body = section.split("\n", 1)
        steps = re.findall(r"^\d+\. `([^`]+)`:((?:.+\n(?:   .*\n)*))", body, re.MULTILINE)
        out[title] = [(file, re.findall(r"`(\w+)`", said)) for file, said in steps]
    return out


def test_each_road_has_at_most_eight_files_and_none_twice(repo: Path) -> None:
    told = roads(repo)
    assert len(told) == 4
    for title, steps in told.items():
        files = [file for file, _ in steps]
        assert 4 <= len(files) <= 8, title
        assert len(set(files)) == len(files), title


def test_files_of_the_roads_hold_what_is_said_of_them(repo: Path) -> None:
    for title, steps in roads(repo).items():
        for file, names in steps:
            text = (repo / file).read_text(encoding="utf-8")
            assert names or file.startswith("workflows/scripts"), f"{title}: {file}"
            for name in names:
                assert re.search(rf"\b{name}\b", text), f"{title}: {file} has no {name}"
            if file.endswith(".py") and names:
                tree = ast.walk(ast.parse(text))
                kinds = (ast.FunctionDef, ast.ClassDef)
                defined = {n.name for n in tree if isinstance(n, kinds)}
                assert defined & set(names) or "guard" in names, f"{title}: {file} defines none"


def test_the_drawing_of_the_floors_is_that_of_the_imports(repo: Path) -> None:
    command = [sys.executable, str(repo / "docs/studies/draw_architecture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def recipe(repo: Path, title: str) -> dict:
    """Run the Python block of a section of CONTRIBUTING, of ten lines of code at most."""
    text = (repo / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = text.split(f"## {title}\n")[1].split("```python\n")[1].split("```")[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    names: dict = {}
    exec(code, names)
    return names


def test_the_reader_of_contributing_makes_a_measurement(repo: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.ones((2, 6, 9)))
    data = recipe(repo, "Add a reader")["read"](tmp_path / "scan.npy", noise_sd=0.1)
    physics, y = operators.from_measurement(data, item=1)
    assert y.shape == (1, 1, 6, 9)
    assert physics.image_spec.shape == (1, 9, 9)


def test_the_quantity_of_contributing_measures_every_draw(repo: Path) -> None:
    values = np.zeros((2, 1, 3, 3))
    values[1, 0, 2, 1] = 5
    image = xr.DataArray(values, dims=("draw", "channel", "y", "x"), attrs={"units": "1/mm"})
    (found,) = recipe(repo, "Add a quantity")["brightest"](image).values()
    assert found.values.tolist() == [0, 5]
    assert found.units == "1/mm"


def test_the_kernel_of_contributing_has_the_closed_form_mean_and_sd(repo: Path) -> None:
    """One pixel, prior N(0, 1), datum 1 with noise sd 1: N(½, ½)."""
    kernel = recipe(repo, "Add a kernel")["Chosen"]()
    assert kernel.name not in KERNELS
    from support.toys import Matrix

    prior = priors.Gaussian(torch.zeros(1, 1, 1), power_spectrum=torch.ones(1, 1))
    physics = Matrix(torch.ones(1, 1), (1, 1, 1), 1.0)
    sampler = samplers.DAPS(prior, kernel=kernel, levels=8, micro_batch=1000)
    x = sampler.sample(torch.ones(1, 1), physics, draws=1000, seed=0)["image"].values
    assert x.mean() == pytest.approx(0.5, abs=0.09)  # 4 standard errors
    assert x.std() == pytest.approx(0.5**0.5, rel=0.09)
