"""The smallest swap: an operator and a reader of one's own, in one file.

The configuration names them as `tiny.py:Blur` and `tiny.py:read`; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec


class Blur(Declared, LinearPhysics):
    """Periodic Gaussian blur, y = F⁻¹ g F x + n, with g = exp(−2π² w² |k|²).

    g is even in k, so that A is its own transpose.

    Args:
        size: Pixels along each side.
        width: w, standard deviation of the blur in pixels.
        noise_sd: Standard deviation of the noise, units of the image.
    """

    def __init__(self, size: int = 16, width: float = 1.5, noise_sd: float = 0.1) -> None:
        super().__init__(noise_model=GaussianNoise(noise_sd), img_size=(1, size, size))
        k = torch.fft.fftfreq(size, dtype=torch.float64)
        k2 = k[:, None] ** 2 + k[None, :] ** 2
        self.register_buffer("gain", torch.exp(-2 * torch.pi**2 * width**2 * k2))
        axis = np.arange(size) - (size - 1) / 2
        self.image_spec = ImageSpec((1, size, size), "1", axis, axis, "px")
        self.measurement_spec = MeasurementSpec(("row", "column"), (size, size), "1")

    def A(self, x: Tensor) -> Tensor:
        """Return the blurred image, [B, H, W]."""
        self.check_image(x)
        return torch.fft.ifft2(torch.fft.fft2(x[:, 0]) * self.gain.to(x)).real

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y, [B, 1, H, W]."""
        self.check_measurement(y)
        return torch.fft.ifft2(torch.fft.fft2(y) * self.gain.to(y)).real[:, None]


def items(items: int = 1) -> int:
    """Return the number of items that `read` can be asked for."""
    return items


def read(
    size: int = 16,
    width: float = 1.5,
    noise_sd: float = 0.1,
    items: int = 1,
    item: Sequence[int] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Return simulated measurements of discs: of all `items`, or of those numbered in `item`."""
    numbers = np.arange(items) if item is None else np.asarray(item)
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    blur = Blur(size, width, noise_sd)
    y = np.empty((len(numbers), size, size), np.float32)
    for k, number in enumerate(numbers):
        rng = np.random.default_rng([seed, int(number)])
        a, b = rng.uniform(-2, 2, 2)
        disc = (np.hypot(row - a, column - b) < size / 4).astype(np.float32)
        y[k] = blur.A(torch.from_numpy(disc)[None, None])[0].numpy()
        y[k] += noise_sd * rng.normal(size=(size, size))
    return xr.Dataset(
        {"y": (("item", "row", "column"), y)},
        coords={"item": numbers},
        attrs={
            "operator": "tiny.py:Blur",
            "params": {"size": size, "width": width, "noise_sd": noise_sd},
            "units": "1",
            "source": "simulated",
            "title": "blurred discs",
        },
    )
