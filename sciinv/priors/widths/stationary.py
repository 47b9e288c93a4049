"""The width of p(x0 | x_t), fitted to the denoiser's own error.

    isotropic   r(σ)²      = E ‖x0 − D(x0 + σε, σ)‖² / d
    spectral    r(σ, |k|)² = E |F(x0 − D)(k)|², averaged over rings of the radial frequency |k|

with the orthonormal DFT F, so that white noise of variance v has v in every ring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 32
HIGHEST = 0.5 * 2**0.5  # cycles per pixel in the corner of the Fourier plane


def radial_bins(shape: tuple[int, int], bins: int = BINS) -> Tensor:
    """Return the ring number [H, W] of each mode in unshifted FFT order."""
    ky = torch.fft.fftfreq(shape[0], dtype=torch.float64)
    kx = torch.fft.fftfreq(shape[1], dtype=torch.float64)
    k = torch.hypot(ky[:, None], kx[None])
    return (k / HIGHEST * bins).long().clamp(max=bins - 1)


def radial_power(x: Tensor, bins: int = BINS) -> Tensor:
    """Return E |F x|² per ring [bins], over batch and channels; x [B, C, H, W]."""
    power = torch.fft.fft2(x.double(), norm="ortho").abs().square().mean((0, 1))
    ring = radial_bins((x.shape[-2], x.shape[-1]), bins).flatten()
    total = torch.zeros(bins, dtype=torch.float64).index_add(0, ring, power.flatten())
    count = torch.bincount(ring, minlength=bins).double()
    filled = count > 0
    mean = torch.where(filled, total / count.clamp(min=1), 0.0)
    if not bool(filled.all()):  # rings without a mode take the value of their neighbours
        where = torch.arange(bins, dtype=torch.float64)
        mean = torch.from_numpy(
            np.interp(where.numpy(), where[filled].numpy(), mean[filled].numpy())
        )
    return mean


def ring_centres(bins: int = BINS) -> Tensor:
    """Return the middle of each ring of |k|, [bins], cycles per pixel."""
    return (torch.arange(bins, dtype=torch.float64) + 0.5) / bins * HIGHEST


def on_plane(logs: np.ndarray, frequencies: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Return values known by their logarithm per ring at every mode, unshifted order [H, W]."""
    k = np.hypot(np.fft.fftfreq(shape[-2])[:, None], np.fft.fftfreq(shape[-1])[None])
    return torch.from_numpy(np.exp(np.interp(k, frequencies, logs)))


def variance_at(sigmas: Tensor, table: Tensor, sigma: float) -> np.ndarray:
    """Return r² [K] at σ from a table [S, K] over rising σ [S].

    ln(r²/σ²) is interpolated in ln σ: below the grid r² ∝ σ², above it r² stays at its last; it
    never exceeds σ².
    """
    grid = sigmas.numpy()
    share = np.log(np.maximum((table / sigmas[:, None] ** 2).numpy(), 1e-300))
    at = np.log(sigma)
    ratio = np.array([np.interp(at, np.log(grid), column) for column in share.T])
    if sigma > grid[-1]:
        ratio = ratio - 2 * (at - np.log(grid[-1]))
    return np.exp(np.minimum(ratio, 0.0)) * sigma**2


@dataclass(frozen=True)
class FittedWidths:
    """Widths on a grid of noise levels.

    Attributes:
        sigmas: [S], rising, in the unit of the image.
        isotropic: r(σ)² [S], that unit squared.
        spectral: r(σ, |k|)² [S, K].
        frequencies: Centres of the rings [K], cycles per pixel.
    """

    sigmas: Tensor
    isotropic: Tensor
    spectral: Tensor
    frequencies: Tensor

    def isotropic_at(self, sigma: float) -> float:
        """Return r(σ)², interpolated in the logarithms and never above σ²."""
        return float(variance_at(self.sigmas, self.isotropic[:, None], sigma)[0])

    def spectral_at(self, sigma: float, shape: tuple[int, int]) -> Tensor:
        """Return r(σ, |k|)² [H, W] float64 in unshifted FFT order, never above σ²."""
        rings = variance_at(self.sigmas, self.spectral, sigma)
        return on_plane(np.log(rings), self.frequencies.numpy(), shape)

    def to(self, scale: float) -> FittedWidths:
        """Return the widths in a unit in which every value is `scale` times as large."""
        return FittedWidths(
            self.sigmas * scale,
            self.isotropic * scale**2,
            self.spectral * scale**2,
            self.frequencies,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by the names that files use."""
        return {
            "widths.sigma": self.sigmas,
            "widths.isotropic": self.isotropic,
            "widths.spectral": self.spectral,
            "widths.frequency": self.frequencies,
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> FittedWidths:
        """Return the widths from tensors named as by `tensors`."""
        names = ("sigma", "isotropic", "spectral", "frequency")
        return cls(*(tensors[f"widths.{n}"].double() for n in names))


def measure(
    denoise: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    sigmas: Tensor,
    *,
    seed: int = 0,
    repeats: int = 1,
    batch: int = 32,
    bins: int = BINS,
) -> FittedWidths:
    """Return the widths of a denoiser measured on images it has not seen.

    Args:
        denoise: D(x, σ) with x [B, C, H, W] and σ [B].
        images: Clean images [N, C, H, W].
        sigmas: Noise levels [S], rising.
        seed: Seed of the noise; each level draws its own.
        repeats: Noise draws per image and level.
        batch: Images per call.
        bins: Number of frequency rings.
    """
    isotropic, spectral = [], []
    with torch.no_grad():
        for n, sigma in enumerate(sigmas.tolist()):
            noise = torch.Generator().manual_seed(seed * 1000 + n)
            total, rings, count = 0.0, torch.zeros(bins, dtype=torch.float64), 0
            for x0 in images.repeat(repeats, 1, 1, 1).split(batch):
                eps = torch.randn(x0.shape, generator=noise)
                error = x0 - denoise(x0 + sigma * eps, torch.full((len(x0),), sigma))
                total += float(error.double().square().mean()) * len(x0)
                rings += radial_power(error, bins) * len(x0)
                count += len(x0)
            isotropic.append(total / count)
            spectral.append(rings / count)
    return FittedWidths(
        sigmas.double(),
        torch.tensor(isotropic, dtype=torch.float64),
        torch.stack(spectral),
        ring_centres(bins),
    )


def remeasured(
    widths: FittedWidths,
    denoise: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    above: float,
    *,
    seed: int = 0,
) -> FittedWidths:
    """Return the widths with the levels at and above a σ measured anew; the others stay."""
    upper = widths.sigmas >= above
    if not bool(upper.any()):
        return widths
    found = measure(denoise, images, widths.sigmas[upper], seed=seed, bins=widths.spectral.shape[1])
    isotropic, spectral = widths.isotropic.clone(), widths.spectral.clone()
    isotropic[upper], spectral[upper] = found.isotropic, found.spectral
    return FittedWidths(widths.sigmas, isotropic, spectral, widths.frequencies)
