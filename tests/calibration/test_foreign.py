"""A sampler of anyone's goes through the benchmark's cases as a function."""

from __future__ import annotations

import pytest
import torch

from sciinv.calibration.benchmark.foreign import FunctionSampler, named
from sciinv.calibration.benchmark.linear import mixture_case, random_mixture
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
