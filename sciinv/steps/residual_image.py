"""What a draw leaves of its k-space, seen in the image: where the operator fails."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sciinv.plots.residuals import Folded

FULL = 0.9  # of the points within a radius are measured: the region is then taken for full
LEAST = 4  # samples of radius: fewer show no place


def sampled_radius(mask: NDArray[np.bool_]) -> int:
    """Return the radius in samples about the centre of k-space, [ky, kx], that is measured."""
    distance = _distance(mask)
    radius = 0
    while radius + 1 < min(mask.shape) / 2 and mask[distance <= radius + 1].mean() >= FULL:
        radius += 1
    return radius


def on_grid(
    mask: NDArray[np.bool_], residual: NDArray[np.floating], empty: float = np.nan
) -> NDArray[np.float64]:
    """Return residuals […, sample] on the grid of k-space, `empty` where no sample is."""
    out = np.full((*residual.shape[:-1], *mask.shape), empty)
    out[..., mask] = residual
    return out


def folded(mask: NDArray[np.bool_], residual: NDArray[np.floating]) -> Folded | None:
    """Return √(Σ_coils |F⁻¹ r|² ÷ its expectation) of the middle of k-space; None without one.

    r are residuals in units of the noise, of the full centre alone: elsewhere in k-space samples
    are missing, so that structure would be folded over the whole image. What a right draw leaves
    has the size 1 at every place; what stands out is where coil maps, motion or another effect
    leave what the operator cannot say.

    Args:
        mask: Which points are measured, [ky, kx].
        residual: Of one draw, [part, coil, sample].
    """
    radius = sampled_radius(mask)
    if residual.ndim != 3 or len(residual) != 2 or radius < LEAST:
        return None
    kept = _distance(mask)[mask] <= radius
    real, imaginary = on_grid(mask, np.where(kept & np.isfinite(residual), residual, 0.0), 0.0)
    grid = real + 1j * imaginary
    shifted = np.fft.ifftshift(grid, axes=(-2, -1))
    image = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
    expected = 2 * len(grid) * kept.sum() / mask.size
    size = np.sqrt((np.abs(image) ** 2).sum(0) / expected)
    return Folded(size, radius, _bound(len(grid), int(kept.sum())))


def _bound(coils: int, samples: int) -> float:
    """Return what noise alone passes at any place in at most one image of a hundred.

    Its square is a mean of 2 × coils squared normal numbers; a band of so many samples has about as
    many independent places. P(χ²_k ≥ k + 2√(k t) + 2 t) ≤ e⁻ᵗ (Laurent & Massart 2000, lemma 1).
    """
    t = math.log(100 * samples) / coils
    return math.sqrt(1 + math.sqrt(2 * t) + t)


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.indices(mask.shape)
    return np.hypot(rows - mask.shape[0] // 2, columns - mask.shape[1] // 2)
