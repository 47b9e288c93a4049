"""Calibration measures on draws that are right, too narrow, too wide, and shifted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.toys import MaskedFourier, fourier_spectrum

from sciinv import calibration, priors, samplers
from sciinv.errors import DataError

RNG = np.random.default_rng(3)
N, DRAWS = 200, 15


def ensemble(width: float, shift: float = 0.0):
    """Truth and draws around a common centre: right where width is 1 and shift 0."""
    centre = RNG.normal(size=(N, 4))
    truth = centre + RNG.normal(size=(N, 4))
    draws = centre + shift + width * RNG.normal(size=(DRAWS, N, 4))
    return draws, truth


def test_right_draws_pass_every_measure():
    x, t = ensemble(1.0)
    found = calibration.measure(x, t, np.ones((DRAWS, N)))
    assert found.spread_skill == pytest.approx(1, abs=4 * found.spread_skill_error)
    for c, e, level in zip(found.coverage, found.coverage_error, found.levels, strict=True):
        assert c == pytest.approx(level, abs=4 * e)
    levels, got = calibration.tarp(x, t)
    assert np.abs(got - levels).max() < 1.63 / N**0.5  # Kolmogorov–Smirnov at 1 %
    assert calibration.rank_uniformity(x[..., 0], t[:, 0]) > 1e-3
    # CRPS of a normal truth under a normal forecast of sd 1 is 1/√π
    assert found.crps == pytest.approx(np.pi**-0.5, abs=4 * found.crps_error)


@pytest.mark.parametrize("width", [0.4, 2.5])
def test_wrong_widths_fail_every_measure(width):
    x, t = ensemble(width)
    found = calibration.measure(x, t, np.ones((DRAWS, N)))
    # the error of the mean of n draws of width w around the truth's centre is √(1 + w²/n)
    expected = width * np.sqrt((1 + 1 / DRAWS) / (1 + width**2 / DRAWS))
    assert found.spread_skill == pytest.approx(expected, rel=0.1)
    assert (found.coverage[0] - 0.5) * (width - 1) > 5 * found.coverage_error[0] * abs(width - 1)
    assert calibration.rank_uniformity(x[..., 0], t[:, 0]) < 1e-4


def test_shifted_draws_fail_sbc():
    x, t = ensemble(1.0, shift=0.7)
    assert calibration.rank_uniformity(x[..., 0], t[:, 0]) < 1e-4


def test_sliced_wasserstein_is_the_shift_of_a_shifted_normal():
    a = RNG.normal(size=(4000, 3))
    # E|θ·s| over directions on the sphere in 3-D is ‖s‖/2; each projection has sd 1
    got = calibration.sliced_wasserstein(a + np.array([2.0, 0, 0]), a)
    assert got == pytest.approx(1.0, abs=0.06)


def test_too_few_truths_are_an_error():
    with pytest.raises(DataError, match="two truths"):
        calibration.measure(np.ones((4, 1, 2)), np.ones((1, 2)), np.ones((4, 1)))


def test_the_exact_sampler_is_calibrated_on_truths_from_its_prior():
    mask = (torch.rand(8, 8, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    prior = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=fourier_spectrum(8))
    physics = MaskedFourier(mask, 0.1)
    truths = calibration.prior_draws(prior, 40, (1, 8, 8), seed=1)
    sampler = samplers.DAPS(prior, levels=4, micro_batch=15)
    found, x, _ = calibration.run(sampler, physics, truths, draws=15, seed=2)
    assert x.shape == (15, 40, 1, 8, 8)
    assert found.spread_skill == pytest.approx(1, abs=4 * found.spread_skill_error)
    assert found.residual == pytest.approx(1, abs=4 * found.residual_error + 0.01)
    assert found.nfe == 4
