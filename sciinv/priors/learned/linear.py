"""The best linear denoiser of a class as the skip connection of its network.

In strong noise a fresh network is worse than a linear filter, and long stays so. With

    D(x, σ) = W x + e F,   W = S/(S + σ²) on the waves of x,   e² = mean of S σ²/(S + σ²),

S the class's power spectrum, it starts from the filter (F = 0) and learns what is left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RINGS = 48


class LinearSkip(nn.Module):
    """Wiener filter of a class with an isotropic power spectrum, for images of any size.

    Attributes:
        spectrum: ln S [RINGS] on rings of |k| from 0 to 0.5 √2 cycles per pixel, orthonormal DFT.
    """

    spectrum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spectrum", torch.zeros(RINGS))

    def fit(self, images: Tensor) -> None:
        """Take the spectrum of clean images [N, C, H, W]; rings are equally wide in √|k|."""
        power = torch.fft.fft2(images, norm="ortho").abs().square().mean((0, 1))
        at = _rings(images.shape[-2], images.shape[-1], images)
        ring = at.round().long().clamp(0, RINGS - 1).flatten()
        total = torch.zeros(RINGS).index_add_(0, ring, power.flatten())
        count = torch.zeros(RINGS).index_add_(0, ring, torch.ones_like(power.flatten()))
        known = (count > 0).nonzero()[:, 0]
        logs = (total[known] / count[known]).clamp_min(1e-12).log()
        # rings without a wave take their nearest neighbours' value
        nearest = (torch.arange(RINGS)[:, None] - known).abs().argmin(1)
        self.spectrum.copy_(logs[nearest])

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return W x, its root mean square over the class, and e; σ [B, 1, 1, 1]."""
        power = self.power((x.shape[-2], x.shape[-1]), x)
        gain = power / (power + sigma**2)  # [B, 1, H, W]
        filtered = torch.fft.ifft2(torch.fft.fft2(x) * gain).real
        size = (power * gain).mean((-2, -1), keepdim=True).sqrt()
        error = (gain * sigma**2).mean((-2, -1), keepdim=True).sqrt()
        return filtered, size, error

    def power(self, shape: tuple[int, int], like: Tensor, coarse: int = 1) -> Tensor:
        """Return S [H, W] on the waves of a grid, of the whole pixels or of blocks of `coarse`."""
        at = _rings(shape[0], shape[1], like, coarse)
        low = at.floor().long().clamp(0, RINGS - 2)
        share = (at - low).clamp(0, 1)
        logs = self.spectrum.to(like.dtype)
        return (logs[low] * (1 - share) + logs[low + 1] * share).exp()


def _rings(height: int, width: int, like: Tensor, coarse: int = 1) -> Tensor:
    """Return the ring of each wave as a real number [H, W]."""
    ky = torch.fft.fftfreq(height, device=like.device, dtype=like.dtype)
    kx = torch.fft.fftfreq(width, device=like.device, dtype=like.dtype)
    radius = (ky[:, None].square() + kx.square()).sqrt() / 0.5**0.5 / coarse
    return radius.sqrt() * (RINGS - 1)
