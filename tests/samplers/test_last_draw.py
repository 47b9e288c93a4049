"""The last draw of an annealing is handed out, not noised anew: κ widens the others alone."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting

from sciinv import priors, samplers

SIDE, SIGMA = 24, 0.5
SHAPE = (1, SIDE, SIDE)


def variance_of_unseen(**settings):
    """Return the variance of pixels without data, of one level at σ."""
    prior = priors.Gaussian(torch.zeros(SHAPE), power_spectrum=torch.ones(SIDE, SIDE))
    mask = torch.zeros(SHAPE)
    mask[..., ::2] = 1
    physics = Inpainting(SHAPE, mask=mask, noise_model=GaussianNoise(0.1))
    sampler = samplers.DAPS(
        prior, "isotropic", "exact", levels=1, sigma_max=SIGMA, sigma_min=0.1, micro_batch=16,
        retries=0, **settings,
    )  # fmt: skip
    post = sampler.sample(torch.zeros(1, *SHAPE), physics, draws=64, seed=1)
    return float(post["image"].values[..., 1::2].var())


# x_t ~ N(0, σ²), D = x_t/(1 + σ²), and p(x0 | x_t) has r² = σ²/(1 + σ²) about it, never above σ².
OF_D, WIDTH = SIGMA**2 / (1 + SIGMA**2) ** 2, SIGMA**2 / (1 + SIGMA**2)


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({"inflate": 9.0}, WIDTH),
        ({"inflate": 1.0}, WIDTH),
        ({"inflate": 0.5}, 0.5 * WIDTH),
        ({"inflate": 9.0, "renoise": "bridge"}, SIGMA**2),
    ],
)
def test_variance_of_what_no_data_tell(settings, width):
    # 64 · 288 values know a variance to √(2/18432) = 1 %; 4 of these, and κ = 9 would be 14 % off
    assert variance_of_unseen(**settings) == pytest.approx(OF_D + width, rel=0.042)


def test_the_factor_of_the_record_is_that_of_all_levels_but_the_last():
    prior = priors.Gaussian(torch.zeros(SHAPE), power_spectrum=torch.ones(SIDE, SIDE))
    sampler = samplers.DAPS(prior, "isotropic", inflate=9.0)
    assert sampler.settings()["inflate"] == 9.0
    assert sampler.last.inflate == 1.0
