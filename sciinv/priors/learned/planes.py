"""Slow and constant phases of complex images, blur and padding around the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def slow_phase(x: Tensor) -> Tensor:
    """Return the unit complex numbers [B, 2, H, W] of x blurred over about 7 pixels (sd)."""
    coarse = F.avg_pool2d(x, 8)
    coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    slow = F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return unit(slow)


def unit(z: Tensor) -> Tensor:
    """Return z/|z| of complex numbers in two channels."""
    return z / (z.square().sum(1, keepdim=True) + 1e-12).sqrt()


def constant_phase(x: Tensor) -> Tensor:
    """Return the unit complex number [B, 2, 1, 1] of Σ |X_k|² X_k over the slowest waves k."""
    coarse = F.avg_pool2d(x, 8)
    waves = torch.fft.fft2(torch.complex(coarse[:, 0], coarse[:, 1]), norm="ortho")
    for axis in (-2, -1):
        size = waves.shape[axis]
        near = torch.arange(-min(3, size // 2), min(3, (size - 1) // 2) + 1, device=x.device)
        waves = waves.index_select(axis, near % size)
    total = (waves * waves.abs().square()).sum((-2, -1))
    return unit(torch.stack([total.real, total.imag], 1))[..., None, None]


def turn(x: Tensor, by: Tensor) -> Tensor:
    """Return the complex product of two-channel images."""
    re, im = x[:, :1], x[:, 1:]
    c, s = by[:, :1], by[:, 1:]
    return torch.cat([c * re - s * im, c * im + s * re], 1)


def conjugate(z: Tensor) -> Tensor:
    """Return the complex conjugate of two-channel images."""
    return z * z.new_tensor([1.0, -1.0]).reshape(1, 2, 1, 1)


def blur(x: Tensor) -> Tensor:
    """Binomial blur over 5 × 5 pixels; the edges are repeated."""
    for axis in (-1, -2):
        size = x.shape[axis]
        here = torch.arange(size, device=x.device)
        moved = [x.index_select(axis, (here + k).clamp(0, size - 1)) for k in (-2, -1, 1, 2)]
        x = (6 * x + 4 * (moved[1] + moved[2]) + moved[0] + moved[3]) / 16
    return x


def pad(x: Tensor, multiple: int) -> Tensor:
    """Mirror x at the bottom and right edges up to the next multiple."""
    H, W = x.shape[-2:]
    for axis, size in ((-1, W), (-2, H)):
        more = -size % multiple
        if more:
            # Mirror as often as needed, also where the image is smaller than the padding.
            period = max(2 * size - 2, 1)
            index = torch.arange(size + more, device=x.device) % period
            index = torch.where(index < size, index, period - index)
            x = x.index_select(axis, index)
    return x
