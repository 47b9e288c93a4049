"""The adapters of other libraries' samplers give draws of what they were asked for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv import priors
from sciinv.calibration.benchmark.foreign import FunctionSampler
from sciinv.calibration.benchmark.linear import Matrix

FILE = Path(__file__).resolve().parents[2] / "docs" / "studies" / "foreign_samplers.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("foreign_samplers", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["foreign_samplers"] = module
    spec.loader.exec_module(module)
    module.STEPS, module.CHAIN = 100, 600
    return module


CUQIPY = ("cuqipy_nuts", "cuqipy_mala")  # not declared: see the file's head

# p(x0) = N(0, 1), y = x0 + N(0, 1) = 1 in each of 4 components: the posterior is N(0.5, 0.5).
# Moment matching is exact there up to its time steps; the others are biased by construction, by
# as much as they are known to be, and are held to lie between prior and data.
EXACT = ("deepinv_moments", "azula_mmps", "azula_tmpd", *CUQIPY)
NAMES = (
    "deepinv_dps", "deepinv_pigdm", "deepinv_moments", "deepinv_ddrm", "deepinv_ula",
    "deepinv_skrock", "azula_dps", "azula_pgdm", "azula_diffpir", "azula_tmpd", "azula_mmps",
)  # fmt: skip


def test_every_adapter_is_tested(study):
    assert set(study.FOREIGN) == set(NAMES)
    assert set(study.CUQIPY) == set(CUQIPY)


@pytest.mark.parametrize("name", [*NAMES, *CUQIPY])
def test_draws_are_finite_and_follow_the_data(study, name):
    if name.startswith("azula"):
        pytest.importorskip("azula")
    if name in CUQIPY:
        pytest.importorskip("cuqi")
    shape = (1, 1, 4)
    one = torch.ones(1, 4, dtype=torch.float64)
    prior = priors.GaussianMixture(
        torch.zeros(1, *shape, dtype=torch.float64),
        torch.eye(4, dtype=torch.float64)[None],
        torch.ones(1, dtype=torch.float64),
    )
    physics = Matrix(torch.eye(4, dtype=torch.float64), shape, 1.0)
    sampler = FunctionSampler(prior, (study.FOREIGN | study.CUQIPY)[name], name)
    post = sampler.sample(one, physics, draws=200, seed=3)
    x = post["image"].values.ravel()  # 800 independent numbers
    assert np.isfinite(x).all()
    assert float(post["nfe"].values[0, 0]) >= 100
    if name in EXACT:
        # Monte Carlo: sd 0.025 of the mean, 0.018 of the sd; 100 steps of time: a few percent.
        assert abs(x.mean() - 0.5) < 0.1
        assert abs(x.std() - 0.5**0.5) < 0.1
    else:
        assert -0.1 < x.mean() < 1.5
