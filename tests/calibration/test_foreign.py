"""A sampler of anyone's goes through the benchmark's cases as a function."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.calibration.benchmark.foreign import FunctionSampler, named
from sciinv.calibration.benchmark.linear import Matrix, mixture_case, random_mixture
from sciinv.calibration.benchmark.suite import suite
from sciinv.errors import ConfigError
from sciinv.samplers import DAPS

FILE = """
def right(prior, physics, y, draws, seed):
    import torch
    from sciinv.samplers import DAPS

    sampler = DAPS(prior, conditional="mixture", levels=3, micro_batch=draws)
    return torch.as_tensor(sampler.sample(y, physics, draws=draws, seed=seed)["image"].values[:, 0])


def short(prior, physics, y, draws, seed):
    return right(prior, physics, y, draws, seed)[0]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_function_is_measured_as_a_sampler_is(file):
    problem = random_mixture(0, 0.3)
    of_function = mixture_case(problem, 200, named(f"{file}:right"))
    own = mixture_case(problem, 200, lambda p: DAPS(p, conditional="mixture", levels=3,
                                                    micro_batch=200))  # fmt: skip
    assert of_function["distance"] == own["distance"]
    assert of_function["nfe"] == 3


def test_cases_with_a_known_answer_are_run_with_the_users_samplers_alone(file):
    names = [name for _, name, _ in suite(False, {"mine": named(f"{file}:right")})]
    assert names
    assert all("mine" in name for name in names)


def test_what_is_no_draws_is_refused(file):
    problem = random_mixture(0, 0.3)
    with pytest.raises(ConfigError, match="does not return draws"):
        mixture_case(problem, 8, named(f"{file}:short"))
    with pytest.raises(ConfigError, match="holds no such sampler"):
        named(f"{file}:wrong")
    sampler = FunctionSampler(problem.prior, lambda *a: torch.zeros(2, 1, 1, 8), "x")
    with pytest.raises(ConfigError, match="one measurement at a time"):
        sampler.sample(torch.zeros(2, 3), None, draws=2)


def test_the_density_that_a_foreign_chain_sees_is_the_posteriors():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
    import foreign_samplers

    problem = random_mixture(0, 0.25)
    physics = Matrix(problem.matrix, problem.shape, problem.sd)
    function = foreign_samplers.log_posterior(problem.prior, physics, problem.y[None])
    x = problem.exact(2, 0).numpy()
    # Of one component alone the difference of two log densities would be a quadratic form.
    w, means, covs = problem._known
    normal = torch.distributions.MultivariateNormal
    known = [
        float(torch.logsumexp(torch.stack([
            w[k].log() + normal(means[k], covs[k]).log_prob(torch.as_tensor(z)) for k in range(6)
        ]), 0))
        for z in x
    ]  # fmt: skip
    assert function(x[0])[0] - function(x[1])[0] == pytest.approx(known[0] - known[1], abs=1e-8)
    h, slope = 1e-5, function(x[0])[1]
    for k in range(8):
        step = h * np.eye(8)[k]
        rise = (function(x[0] + step)[0] - function(x[0] - step)[0]) / (2 * h)
        assert slope[k] == pytest.approx(rise, abs=1e-5 * max(1.0, abs(rise)))


@pytest.mark.parametrize("side", [8, 12])
def test_the_files_for_bart_say_the_same_measurement(tmp_path, side):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
    import bart_sample

    p = bart_sample.problem(1, 2, side)
    p = replace(p, y=p.matrix @ p.truth.flatten())  # without noise
    names = bart_sample.files(tmp_path, p, 2, 1)
    k, maps, pattern = (bart_sample.read(Path(names[n])).squeeze() for n in ("k", "s", "p"))
    image = np.fft.fftshift((p.truth[0] + 1j * p.truth[1]).numpy())[..., None]
    axes = (0, 1)  # BART's transform is unitary and centred
    seen = np.fft.fft2(np.fft.ifftshift(maps * image, axes), axes=axes, norm="ortho")
    seen = pattern[..., None] * np.fft.fftshift(seen, axes)
    assert np.abs(seen).max() > 0.1
    np.testing.assert_allclose(k, seen, atol=1e-5)  # its files are in single precision
    # CN(0, 1): a variance of ½ in each part, where it is the squared noise here.
    assert np.abs(maps).max() == pytest.approx(1 / (p.sd * 2**0.5), rel=0.1)
