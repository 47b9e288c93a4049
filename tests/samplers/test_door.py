"""What a sampler is given wrongly: one clear error each, before the first level."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting
from support.cli import REPO
from support.toys import Matrix

from sciinv import priors, samplers
from sciinv.errors import ConfigError, OperatorError
from sciinv.likelihoods import WeightedNoise
from sciinv.operators.ct import CT


def white(size: int = 4) -> priors.Gaussian:
    return priors.Gaussian(torch.zeros(1, size, size), power_spectrum=torch.ones(size, size))


WRONG = {
    "complex": torch.zeros(1, 1, 4, 4, dtype=torch.complex64),
    "whole numbers": torch.zeros(1, 1, 4, 4, dtype=torch.int64),
    "bfloat16": torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16),
    "float16": torch.zeros(1, 1, 4, 4, dtype=torch.float16),
    "NumPy": np.zeros((1, 1, 4, 4), "f4"),
    "no items": torch.zeros(0, 1, 4, 4),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_measurement_of_another_kind_is_refused_at_the_door(kind):
    physics = Inpainting((1, 4, 4), mask=0.5, noise_model=GaussianNoise(0.1))
    with pytest.raises(OperatorError, match="kind that a sampler takes") as caught:
        samplers.DAPS(white(), conditional="tweedie", levels=2).sample(WRONG[kind], physics)
    assert caught.value.remedy


def test_infinite_noise_everywhere_is_told_before_the_first_level():
    physics = Inpainting((1, 4, 4), mask=0.5, noise_model=WeightedNoise(math.inf))
    with pytest.raises(OperatorError, match="carries no data"):
        samplers.DAPS(white(), conditional="tweedie", levels=2).sample(
            torch.zeros(1, 1, 4, 4), physics
        )


@pytest.mark.parametrize("kind", ["daps", "particles"])
def test_a_first_noise_far_below_the_prior_is_refused(kind):
    physics = Inpainting((1, 4, 4), mask=0.5, noise_model=GaussianNoise(0.1))
    low = samplers.build(kind, white(), conditional="tweedie", sigma_max=1e-4, sigma_min=1e-5)
    with pytest.raises(ConfigError, match="far below") as caught:
        low.sample(torch.zeros(1, 1, 4, 4), physics)
    assert "20" in str(caught.value.expected)  # the prior's own


def test_a_setting_in_words_is_told_what_it_should_be():
    with pytest.raises(ConfigError, match="levels is no whole number") as caught:
        samplers.DAPS(white(), conditional="tweedie", levels="ten")
    assert caught.value.remedy == "give an integer"


def test_ct_products_are_differentiable_on_several_threads():
    """A Matrix of the same numbers gives the same gradient."""
    physics = CT(np.linspace(0, 180, 5, endpoint=False), 6, 1.0, 9, 1.0)
    dense = Matrix(torch.from_numpy(physics.projector.matrix().toarray()).float(), (1, 6, 6), 0.1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = torch.rand(3, 1, 6, 6, requires_grad=True)
        (found,) = torch.autograd.grad(physics.A(x).square().sum(), x)
        (wanted,) = torch.autograd.grad(dense.A(x).square().sum(), x)
        y = torch.rand(3, 1, 5, 9, requires_grad=True)
        (turned,) = torch.autograd.grad(physics.A_adjoint(y).square().sum(), y)
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert turned.shape == y.shape


def test_dps_draws_with_the_ct_operator():
    physics = CT(np.linspace(0, 180, 5, endpoint=False), 4, 1.0, 6, 1.0)
    drawn = samplers.DPS(white(), steps=4).sample(torch.ones(1, 1, 5, 6), physics, draws=2)
    assert np.isfinite(drawn["image"].values).all()


@pytest.mark.parametrize("name", ["reverse", "score"])
def test_particles_refuse_a_conditional_that_is_not_gaussian(name):
    with pytest.raises(ConfigError, match="Gaussian conditional"):
        samplers.Particles(white(), conditional=name)


def test_forward_derivatives_print_no_warning_of_torchs_own():
    code = (
        "import sciinv.samplers, torch\n"
        "torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "FutureWarning" not in done.stderr


def test_loading_a_prior_leaves_torchs_random_numbers_alone():
    before = torch.get_rng_state()
    priors.load(REPO / "data/priors/ct.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
