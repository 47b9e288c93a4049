"""Draws as far from each other as from the truth."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.calibration import distances


def images(sd: torch.Tensor, draws: int, wide: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Truths of errors sd [N], and draws `wide` times as far from the exact mean as the truth."""
    g = torch.Generator().manual_seed(1)
    mean = torch.randn(len(sd), 1, 8, 8, generator=g)
    truth = mean + sd[:, None, None, None] * torch.randn(mean.shape, generator=g)
    noise = torch.randn(len(sd), draws, 1, 8, 8, generator=g)
    return truth, mean[:, None] + wide * sd[:, None, None, None, None] * noise


@pytest.mark.parametrize("draws", [2, 5])
def test_exchangeable_draws_have_a_ratio_of_one_also_where_one_truth_makes_the_sums(draws):
    sd = torch.full((200,), 0.1)
    sd[0] = 30.0
    ratio, error = distances.mean(distances.log_ratios(*images(sd, draws, 1.0)))
    # 64 values a truth: ln of a χ² of 64 has sd √(2/64); 200 truths
    assert error < math.sqrt(2 / 64) / math.sqrt(200)
    assert abs(ratio) < 4 * error


@pytest.mark.parametrize("wide", [0.5, 2.0])
def test_the_ratio_is_that_of_the_distances(wide):
    ratio, error = distances.mean(distances.log_ratios(*images(torch.full((200,), 0.3), 4, wide)))
    # ‖x_i − x_j‖² ~ 2 w², ‖x_i − x_0‖² ~ 1 + w²
    assert ratio == pytest.approx(math.log(2 * wide**2 / (1 + wide**2)) / 2, abs=4 * error)


def test_draws_that_are_one_image_stay_finite():
    truth = torch.zeros(2, 1, 4, 4)
    ratio = distances.log_ratios(truth, torch.ones(2, 3, 1, 4, 4))
    assert torch.isfinite(ratio).all()
    assert (ratio < -100).all()
