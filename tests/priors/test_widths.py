"""Fitted widths: exact for denoisers whose error is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciinv.priors.widths.stationary import (
    BINS,
    HIGHEST,
    FittedWidths,
    measure,
    radial_bins,
    radial_power,
    remeasured,
)


def white(sigmas: torch.Tensor, variance: float = 0.5) -> FittedWidths:
    """Widths of the white Gaussian prior N(0, variance)."""
    r2 = variance * sigmas**2 / (variance + sigmas**2)
    centres = (torch.arange(BINS).double() + 0.5) / BINS * HIGHEST
    return FittedWidths(sigmas, r2, r2[:, None].repeat(1, BINS), centres)


class TestSpectrum:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 1000))
    def test_rings_keep_the_energy(self, H, W, seed):
        x = torch.randn(2, 3, H, W, generator=torch.Generator().manual_seed(seed)).double()
        count = torch.bincount(radial_bins((H, W)).flatten(), minlength=BINS)
        energy = float((radial_power(x) * count).sum()) * 6
        assert energy == pytest.approx(float(x.square().sum()), rel=1e-10)  # Parseval

    def test_a_wave_lands_in_its_ring(self):
        axis = torch.arange(64)
        x = math.sqrt(2) * torch.cos(2 * torch.pi * axis * 16 / 64).expand(1, 1, 64, 64)
        power = radial_power(x)
        assert int(power.argmax()) == int(0.25 / HIGHEST * BINS)
        assert float(power.sum() - power.max()) < 1e-6 * float(power.max())

    def test_white_noise_has_its_variance_in_every_ring(self):
        x = 0.3 * torch.randn(400, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        # At least 4 modes a ring × 400 images: sd of the mean of χ²₂/2 is 1/√800; five of them.
        torch.testing.assert_close(
            radial_power(x), torch.full((BINS,), 0.09).double(), rtol=5 / 800**0.5, atol=0
        )


class TestMeasure:
    def test_of_the_exact_denoiser_of_white_noise(self):
        images = math.sqrt(0.5) * torch.randn(
            200, 1, 32, 32, generator=torch.Generator().manual_seed(1)
        )
        sigmas = torch.tensor([0.1, 0.7, 4.0])

        def denoise(x, sigma):
            s2 = sigma.reshape(-1, 1, 1, 1) ** 2
            return 0.5 / (0.5 + s2) * x

        widths = measure(denoise, images, sigmas, seed=3)
        exact = white(sigmas.double())
        # 204,800 pixels: relative sd of a variance √(2/n) = 0.3 %; five of them.
        torch.testing.assert_close(widths.isotropic, exact.isotropic, rtol=0.016, atol=0)
        torch.testing.assert_close(widths.spectral, exact.spectral, rtol=5 / 400**0.5, atol=0)

    def test_equal_seeds_equal_widths_whatever_the_batch(self):
        images = torch.randn(6, 2, 16, 16, generator=torch.Generator().manual_seed(1))
        both = [measure(lambda x, s: 0.5 * x, images, torch.tensor([0.2]), batch=b) for b in (2, 6)]
        # The noise is one stream through the images; sums differ by rounding.
        torch.testing.assert_close(both[0].spectral, both[1].spectral, rtol=1e-6, atol=0)

    def test_isotropic_is_the_mean_over_modes(self):
        images = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)).cumsum(-1)
        widths = measure(lambda x, s: 0.5 * x, images, torch.tensor([0.2, 1.0]))
        count = torch.bincount(radial_bins((16, 16)).flatten(), minlength=BINS).double()
        over_modes = (widths.spectral * count).sum(1) / count.sum()
        torch.testing.assert_close(over_modes, widths.isotropic, rtol=1e-6, atol=0)


class TestInterpolation:
    SIGMAS = torch.logspace(-2, 1, 24, dtype=torch.float64)

    @settings(max_examples=50, deadline=None)
    @given(st.floats(-2, 1))
    def test_is_close_to_the_exact_width_between_the_levels(self, log_sigma):
        sigma = 10**log_sigma
        exact = 0.5 * sigma**2 / (0.5 + sigma**2)
        # Linear in logarithms on a grid of ratio 1.35: error ≤ (ln 1.35)²/8 × curvature ≤ 1.1 %.
        assert white(self.SIGMAS).isotropic_at(sigma) == pytest.approx(exact, rel=1.2e-2)

    @settings(max_examples=50, deadline=None)
    @given(st.floats(-6, 4), st.floats(0.1, 9))
    def test_is_never_above_the_noise(self, log_sigma, excess):
        bad = FittedWidths(
            self.SIGMAS,
            excess * self.SIGMAS**2,
            excess * (self.SIGMAS**2)[:, None].repeat(1, 3),
            torch.tensor([0.1, 0.3, 0.6]).double(),
        )
        sigma = 10**log_sigma
        assert bad.isotropic_at(sigma) <= sigma**2 * (1 + 1e-12)
        assert float(bad.spectral_at(sigma, (8, 6)).max()) <= sigma**2 * (1 + 1e-12)

    def test_beyond_the_grid(self):
        widths = white(self.SIGMAS)
        # Below, the denoiser learns nothing new (r ∝ σ); above, r stays at the prior's own.
        assert widths.isotropic_at(1e-4) == pytest.approx(1e-8, rel=1e-3)
        assert widths.isotropic_at(1e4) == pytest.approx(float(widths.isotropic[-1]), rel=1e-9)

    def test_the_map_is_in_unshifted_order_and_even(self):
        ramp = (torch.arange(BINS).double() + 1)[None].repeat(24, 1) * 1e-6
        centres = (torch.arange(BINS).double() + 0.5) / BINS * HIGHEST
        at = FittedWidths(self.SIGMAS, ramp[:, 0], ramp, centres).spectral_at(1.0, (10, 12))
        assert at.shape == (10, 12)
        assert at.dtype == torch.float64
        assert float(at[0, 0]) == float(at.min())
        assert float(at[5, 6]) == float(at.max())
        torch.testing.assert_close(at[1:], at[1:].flip(0), rtol=1e-12, atol=0)
        torch.testing.assert_close(at[:, 1:], at[:, 1:].flip(1), rtol=1e-12, atol=0)

    def test_units_are_converted(self):
        widths, sigma = white(self.SIGMAS), 0.37
        other = widths.to(1 / 500)
        assert other.isotropic_at(sigma / 500) == pytest.approx(widths.isotropic_at(sigma) / 500**2)
        torch.testing.assert_close(
            other.spectral_at(sigma / 500, (9, 8)), widths.spectral_at(sigma, (9, 8)) / 500**2
        )


def test_levels_above_a_sigma_are_measured_anew_and_the_others_stay():
    images = torch.zeros(32, 1, 16, 16)
    sigmas = torch.tensor([0.5, 1.0, 2.0])
    first = measure(lambda x, s: x, images, sigmas)
    # half of the noise is left: a quarter of its power
    again = remeasured(first, lambda x, s: x / 2, images, 0.9, seed=5)
    assert torch.equal(again.spectral[0], first.spectral[0])
    assert float(again.isotropic[0]) == float(first.isotropic[0])
    # 8,192 squares of sd √2: 1.6 % of one standard error
    assert again.isotropic[1:].tolist() == pytest.approx([0.25, 1.0], rel=0.06)
    assert again.spectral.shape == first.spectral.shape
