"""What an operator cannot say of its data: its size beside the noise, where an operator knows it.

Maps, gains and spectra that are not quite those of the operator leave errors that grow with what is
measured. So an error of relative size 1 has the size of a value, or of its neighbours. A value that
decides its own weight is taken for too small: an error by a fraction t makes a mean over many
values too small by t², which neighbours avoid. What was measured holds the error too, so that a
size t of more than some 0.2 is found too small: by a factor of √(1 + t²) where neighbours are many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MODEL_ERROR = "model_error"  # among an operator's `unknowns`: the half-width of its size's prior
BESIDE = (1, 2)  # views and detector elements to either side in CT
REACH = 3  # samples of k-space to either side over which errors of smooth coil maps spread


@dataclass(frozen=True)
class ModelError:
    """An error of the operator, n ~ N(0, t² E) beside the noise, of which t is drawn.

    Attributes:
        width: Half-width τ of the prior of t ≥ 0, p(t) ∝ 1/(1 + (t/τ)²).
        sd: Standard deviation of each component at t = 1, units of y, [1 or B, …] of the
            measurement's shape, with E = diag(sd²).
        factor: F instead, [M, K], with E = F Fᵀ, where data share errors.
    """

    width: float
    sd: Tensor | None = None
    factor: Tensor | None = None


def error_width(sds: Mapping[str, float] | None) -> float | None:
    """Return the half-width of the size of a model error among an operator's unknowns, or None."""
    return float(sds[MODEL_ERROR]) if isinstance(sds, Mapping) and MODEL_ERROR in sds else None


def modulus(y: Tensor, variance: Tensor | float = 0.0) -> Tensor:
    """Return √(½ (|y|² − 2σ²)), 0 where that is negative, of values in two parts [B, 2, …].

    The error of a complex value by a fraction t of its modulus is t times this in each part.

    Args:
        y: Real and imaginary parts.
        variance: σ² of a part, which |y|² has twice beside that of what was measured.
    """
    power = 0.5 * (y.square() - variance).sum(1, keepdim=True)
    return power.clamp_min(0.0).sqrt().expand_as(y)


def modulus_around(y: Tensor, variance: Tensor | float, mask: Tensor) -> Tensor:
    """Return the same as the root of the mean power of the samples around each in k-space.

    Errors of smooth maps and scale spread what is measured over the next samples, so that one
    between two lobes of the object's transform errs as its neighbours do.

    Args:
        y: Packed samples, [B, 2, coil, sample].
        variance: σ² of a part.
        mask: Which places of the grid they are, [ky, kx], in row-major order.
    """
    power = (0.5 * (y.square() - variance)).sum(1)
    grid = power.new_zeros(*power.shape[:2], *mask.shape)
    grid[..., mask] = power
    # the mean over a square is that of the sum over the number of samples in it
    size = 2 * REACH + 1
    pool = torch.nn.functional.avg_pool2d
    total = pool(grid, size, 1, REACH)
    count = pool(mask.to(grid)[None, None], size, 1, REACH)
    around = (total / count.clamp_min(1e-9))[..., mask]
    return around.clamp_min(0.0).sqrt()[:, None].expand_as(y)


def mean_around(y: Tensor, variance: Tensor | float) -> Tensor:
    """Return the root mean square of line integrals around each, without their noise's part.

    Args:
        y: A sinogram, [B, 1, angle, detector].
        variance: σ², a number or [angle, detector]; infinite where there are no data.
    """
    carries = torch.isfinite(torch.as_tensor(variance)).to(y).expand_as(y)
    power = torch.where(carries > 0, y.square() - variance, torch.zeros_like(y))
    size, pad = [2 * n + 1 for n in BESIDE], list(BESIDE)
    pool = torch.nn.functional.avg_pool2d
    total, count = (pool(t, size, 1, pad) for t in (power, carries))
    return (total / count.clamp_min(1e-9)).clamp_min(0.0).sqrt()
