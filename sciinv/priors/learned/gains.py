"""Octave bands of a filtered image, of which a network for strong noise scales each by place.

    D(x, σ) = W x + U Σ_b g_b ⊙ B_b (W x)_c

(·)_c are means over blocks of c pixels, U brings them back to the pixels, B_b are Gaussian octave
bands that sum to one, and g_b are real maps that F makes of the bands' magnitudes |B_b (W x)_c|.
The Wiener filter W takes the class for equally strong everywhere; the maps make it stronger in the
object and silent in the air. F never sees a phase, so that D(e^{iθ} x) = e^{iθ} D(x) whatever the
weights, and a slow phase is kept as the lowest bands have it.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def octaves(shape: tuple[int, int], count: int, like: Tensor) -> Tensor:
    """Return the bands' weights on the waves [count, H, W], unshifted, widest structure first.

    Low passes exp(−(2 |k| L)²) with L = 2, 4, 8, … grid points and their differences.
    """
    ky = torch.fft.fftfreq(shape[0], device=like.device, dtype=like.dtype)
    kx = torch.fft.fftfreq(shape[1], device=like.device, dtype=like.dtype)
    r2 = ky[:, None].square() + kx.square()
    low = [torch.exp(-4 * r2 * 4.0**j) for j in range(count - 1, 0, -1)]
    edges = [torch.zeros_like(r2), *low, torch.ones_like(r2)]
    return torch.stack([b - a for a, b in itertools.pairwise(edges)])


def bands(y: Tensor, weights: Tensor) -> Tensor:
    """Return the bands [B, n, C, H, W] of y [B, C, H, W]."""
    waves = torch.fft.fft2(y)[:, None] * weights[:, None]
    return torch.fft.ifft2(waves).real


def sizes(power: Tensor, weights: Tensor) -> Tensor:
    """Return the bands' root mean squares [B, n, 1, 1] for a class of power [B, 1, H, W]."""
    return (power * weights.square()).mean((-2, -1), keepdim=True).sqrt()
