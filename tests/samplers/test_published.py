"""The released settings where the operator's norm and the image's unit are not 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.toys import Matrix

from sciinv import priors, samplers
from sciinv.operators.ct import CT, CTCounts

SETTINGS = {"levels": 12, "langevin_steps": 30, "micro_batch": 3}


def drawn(a: float, u: float, **settings) -> np.ndarray:
    """Draws of the same problem with A times a and the image times u."""
    rows = torch.eye(6, dtype=torch.float64)[:4]
    prior = priors.Gaussian(
        torch.zeros(1, 2, 3, dtype=torch.float64),
        covariance=0.25 * u**2 * torch.eye(6, dtype=torch.float64),
    )
    y = a * u * torch.tensor([[0.3, -0.2, 0.1, 0.5]], dtype=torch.float64)
    sampler = samplers.DAPS.published(prior, **SETTINGS, **settings)
    found = sampler.sample(y, Matrix(a * rows, (1, 2, 3), 0.1), draws=3)
    return found["image"].values


def test_a_norm_above_one_and_a_unit_leave_the_released_draws():
    plain = drawn(1.0, 1.0)
    assert np.allclose(drawn(50.0, 1.0), plain, atol=1e-9)
    assert np.allclose(drawn(50.0, 0.01, unit=0.01) / 0.01, plain, atol=1e-9)
    assert np.array_equal(drawn(1.0, 1.0, unit=1.0), plain)


@pytest.mark.parametrize("counts", [False, True])
def test_the_released_settings_draw_on_both_ct_problems(counts):
    scan = {"pixel_mm": 1.0, "detectors": 12, "detector_mm": 1.0}
    angles = np.linspace(0, 180, 9, endpoint=False)
    physics = CTCounts(angles, 8, blank_counts=1e4, **scan) if counts else CT(angles, 8, **scan)
    truth = torch.full((1, 1, 8, 8), 0.02)
    prior = priors.Gaussian(truth[0], power_spectrum=torch.full((8, 8), 1e-4), units="1/mm")
    sampler = samplers.DAPS.published(prior, unit=0.02, **SETTINGS)
    image = sampler.sample(physics.A(truth), physics, draws=3)["image"].values
    # Draws about the truth, at most a few prior sds away.
    assert np.abs(image - 0.02).mean() < 0.03
