"""The size of an image, and of a solve's error, in octaves of spatial frequency."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


class Bands:
    """Root mean squares of images in octaves of spatial frequency, cycles per field."""

    def __init__(self, like: Tensor) -> None:
        h, w = like.shape[-2:]
        ky = torch.fft.fftfreq(h)[:, None] * h
        kx = torch.fft.rfftfreq(w)[None] * w
        k = torch.hypot(ky, kx)
        weight = half_plane(w).expand_as(k)
        edges = [0.0, *(2.0**j for j in range(1, 20) if 2.0**j < max(h, w)), math.inf]
        masks = [weight * ((k >= a) & (k < b)) for a, b in itertools.pairwise(edges)]
        masks = [m / m.sum() for m in masks if bool(m.any())]
        self.masks = torch.stack(masks).flatten(1).to(like)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [B, bands] of images [B, C, H, W]."""
        power = torch.fft.rfft2(x, norm="ortho").abs().square().mean(1).flatten(1)
        return (power @ self.masks.mT).sqrt()


def half_plane(w: int) -> Tensor:
    """Return for how many columns of a transform [..., w] each of its half plane stands."""
    weight = torch.full((w // 2 + 1,), 2.0)
    weight[0] = 1.0
    if w % 2 == 0:
        weight[-1] = 1.0
    return weight


def remaining(change: Tensor, last: Tensor | None) -> Tensor:
    """Return what a series whose terms fell from `last` to `change` has left: a geometric one's.

    Args:
        change: The newest term, ≥ 0.
        last: The one before; None for a first term, which is taken to have fallen by half.
    """
    ratio = 0.5 * torch.ones_like(change) if last is None else change / last.clamp_min(1e-30)
    ratio = ratio.clamp(0.0, 0.9)
    return change * ratio / (1 - ratio)
