"""Two operators that any image prior can be tried with: sampled Fourier modes, limited-angle CT."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.errors import ConfigError
from sciinv.operators.ct import CT
from sciinv.priors.learned.network import LearnedPrior

OPERATORS = ("fourier", "ct")


SHARE = 0.26  # of the Fourier modes that are measured


LOWEST = 0.04  # cycles per pixel: every mode below is measured


VIEWS = 15


WEDGE = 60.0  # degrees


class SampledFourier(LinearPhysics):
    """y = M F x: chosen modes of the orthonormal DFT, real and imaginary part, with white noise.

    One-channel images are real, two-channel ones complex. Aᵀ A is diagonal in Fourier for both: on
    real images the two halves of an asymmetric mask act as their mean.
    """

    def __init__(self, shape: tuple[int, int, int], sd: float, seed: int = 0) -> None:
        super().__init__(noise_model=GaussianNoise(sd))
        self.img_size = shape
        _, h, w = shape
        g = torch.Generator().manual_seed(seed)
        ky, kx = torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)[None]
        keep = torch.rand(h, w, generator=g) < SHARE - math.pi * LOWEST**2
        keep |= torch.hypot(ky, kx) < LOWEST
        self.register_buffer("index", keep.flatten().nonzero()[:, 0], persistent=False)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the chosen modes, [B, 2, M]."""
        z = torch.complex(x[:, 0], x[:, 1]) if x.shape[1] == 2 else x[:, 0].to(_complex(x))
        k = torch.fft.fft2(z, norm="ortho").flatten(1)[:, self.index]
        return torch.stack([k.real, k.imag], 1)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Fᴴ Mᵀ y, [B, C, H, W]."""
        c, h, w = self.img_size
        k = torch.zeros(len(y), h * w, dtype=_complex(y), device=y.device)
        k[:, self.index] = torch.complex(y[:, 0], y[:, 1])
        z = torch.fft.ifft2(k.reshape(-1, h, w), norm="ortho")
        return torch.stack([z.real, z.imag], 1) if c == 2 else z.real[:, None]


def operator(kind: str, prior: LearnedPrior, noise: float, seed: int = 0) -> LinearPhysics:
    """Return an operator for the prior's images.

    Args:
        kind: "fourier" or "ct".
        prior: The prior; its unit and image size are taken.
        noise: Noise sd β per real component, in the prior's unit u (for "ct", of the scaled sums).
        seed: Seed of the sampling mask.

    Raises:
        ConfigError: There is no such operator, or it does not fit the prior.
    """
    c, h, w = prior.train_shape
    if kind == "fourier":
        return SampledFourier((c, h, w), noise * prior.scale, seed)
    if kind != "ct" or c != 1 or h != w:
        raise ConfigError(
            "There is no such operator for this prior",
            where=prior.name,
            expected="fourier, or ct for one-channel square images",
            got=f"{kind} for images of {[c, h, w]}",
            remedy="name the other one",
        )
    # Line sums of h pixels over VIEWS angles have norm √(h VIEWS) times the pixel's side.
    side = 1 / math.sqrt(h * VIEWS)
    angles = np.linspace(0.0, WEDGE, VIEWS)
    across = math.ceil(h * math.sqrt(2))
    physics = CT(angles, h, side, across, side, noise_sd=noise * prior.scale)
    physics.image_spec = replace(physics.image_spec, units=prior.units)  # whatever it images
    return physics


def _complex(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64
