"""Are draws as far from each other as from the truth? A ratio that no single truth decides.

A truth x₀ and draws x₁ … x_K of its posterior are exchangeable, so that any two of them are as far
apart as any other two, in every mean; in that of the logarithm

    ln ρ = ½ (mean over pairs of draws of ln ‖x_i − x_j‖² − mean over draws of ln ‖x_i − x₀‖²)

has the expectation 0 for each truth, whatever the size of its errors. The ratio of sums, spread ÷
RMSE, is 1 in the mean as well, but of 16 brains two or three make most of its sums, and a factor
that was found by it missed by 16 % on others (docs/evidence/settings.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-300  # two images that are the same: ln of it stays finite


def log_ratios(truths: Tensor, draws: Tensor) -> Tensor:
    """Return ln ρ of each truth, [N].

    Args:
        truths: [N, …], any unit.
        draws: [N, K, …], K ≥ 2, in the same unit.
    """
    x, t = draws.double().flatten(2), truths.double().flatten(1)
    k = x.shape[1]
    apart = torch.stack(
        [_log((x[:, i] - x[:, j]).square().sum(1)) for i in range(k) for j in range(i)]
    )
    off = _log((x - t[:, None]).square().sum(2))
    return 0.5 * (apart.mean(0) - off.mean(1))


def mean(ratios: Tensor) -> tuple[float, float]:
    """Return the mean of ln ρ over the truths and its standard error."""
    return float(ratios.mean()), float(ratios.std()) / math.sqrt(len(ratios))


def _log(squares: Tensor) -> Tensor:
    return squares.clamp_min(TINY).log()
