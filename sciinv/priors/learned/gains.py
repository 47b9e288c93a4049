"""Octave bands of a filtered image, of which a network for strong noise scales each by place.

    D(x, σ) = W x + U Σ_b g_b ⊙ B_b (W x)_c + e U (e^{iφ} a),   φ = arg (W x)_c

(·)_c are means over blocks of c pixels, U brings them back to the pixels, B_b are Gaussian octave
bands that sum to one, e is the filter's error, and g_b are real maps that F makes of the bands'
magnitudes |B_b (W x)_c|. The Wiener filter W takes the class for equally strong everywhere; the
maps make it stronger in the object and silent in the air. With `NetworkSpec.phase` F also sees the
noisy blocks in the frame of the filtered image, e^{−iφ} x_c, and |W x|_c, and adds the complex map
a in that frame, in which an object of slow phase is real and positive; else a = 0. Either way
D(e^{iθ} x) = e^{iθ} D(x) whatever the weights: F never sees where the phase begins.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


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


def begin(unet: nn.Module) -> None:
    """Draw the weights of a `DRUNet` so that what goes through every scale keeps its size.

    The library's own start shrinks the signal five times at each convolution, so that the scales
    which see the whole image are silent for the first hundreds of steps of a short training.
    Normal weights of variance 2/n behind a ReLU and 1/n elsewhere, n inputs of each (He et al.
    2015); the second convolution of a residual block ten times less, as a block begins as nothing.
    """
    with torch.no_grad():
        for name, p in unet.named_parameters():
            inputs = p[0].numel()
            if "m_up" in name and p.shape[-1] == 2:  # transposed: each place has one weight
                inputs = p.shape[0]
            gain = 2.0 if ".res." in name else 1.0
            p.normal_(0, (0.1 if ".res.2." in name else 1.0) * math.sqrt(gain / inputs))
