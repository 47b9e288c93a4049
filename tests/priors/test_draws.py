"""Draws of a prior: a Gaussian's are its own, whatever the number of steps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sciinv.priors.base import Prior
from sciinv.priors.draws import prior_draws

SIDE, COUNT = 8, 400


class Coloured(Prior):
    """The exact denoiser of a Gaussian field with power S(|k|), and its exact widths."""

    channels, sigma_min, sigma_max, micro_batch = 1, 0.01, 30.0, COUNT

    def __init__(self, fitted: bool) -> None:
        super().__init__()
        f = torch.fft.fftfreq(SIDE).double()
        self.register_buffer("power", 10.0 * torch.exp(-14 * torch.hypot(f[:, None], f)))
        self.widths = SimpleNamespace(spectral_at=self.error) if fitted else None

    def forward(self, x, sigma, **kwargs):
        gain = self.power / (self.power + float(sigma) ** 2)
        return torch.fft.ifft2(gain * torch.fft.fft2(x)).real

    def error(self, sigma, shape):
        return self.power * sigma**2 / (self.power + sigma**2)


def share(prior: Coloured, steps: int) -> torch.Tensor:
    """Return the draws' power over S, by wave [SIDE, SIDE]."""
    x = prior_draws(prior, COUNT, (1, SIDE, SIDE), seed=3, steps=steps)
    return torch.fft.fft2(x, norm="ortho").abs().square().mean((0, 1)) / prior.power


@pytest.mark.parametrize("steps", [10, 40])
def test_with_the_denoisers_error_a_gaussian_field_has_its_power_at_any_number_of_steps(steps):
    found = share(Coloured(fitted=True), steps)
    # 64 waves of which half are conjugate, 400 draws: the mean is known to √(2/(64·400)) = 0.9 %;
    # x_T lacks S beside σ_max², 1 % of the strongest wave.
    assert float(found.mean()) == pytest.approx(1.0, abs=0.03)
    # each wave to √(2/400) = 7 %, the extreme of 64 within four of these
    assert float((found - 1).abs().max()) < 0.28


def test_without_it_every_step_leaves_power_out():
    # the recursion of the variances of the ancestral step, 40 steps of this grid, leaves 0.77
    assert float(share(Coloured(fitted=False), 40).mean()) < 0.9
