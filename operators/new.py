"""The operator that `sciinv new-operator` writes: a masked blur, to be changed into one's own."""

from __future__ import annotations

import keyword
from pathlib import Path

from sciinv.errors import ConfigError

TEMPLATE = '''"""NAME: replace this by what the instrument measures, e.g. y = A x + n."""

from __future__ import annotations

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec


class NAME(Declared, LinearPhysics):
    """Sums over rows: y[h] = Σ_w x[h, w] + n. Put the physics of your instrument here.

    Args:
        size: Pixels along each side.
        pixel_mm: Size of a pixel in mm.
        noise_sd: Standard deviation of the noise, units of y.
    """

    def __init__(self, size: int = 32, pixel_mm: float = 1.0, noise_sd: float = 0.1) -> None:
        super().__init__(noise_model=GaussianNoise(noise_sd), img_size=(1, size, size))
        axis = pixel_mm * (np.arange(size) - (size - 1) / 2)
        self.pixel_mm = pixel_mm
        # What goes in and what comes out: shapes, units, and the names of the dimensions.
        self.image_spec = ImageSpec((1, size, size), "1/mm", axis, axis, "mm")
        self.measurement_spec = MeasurementSpec(("row",), (size,), "1")
        # Arrays belong into buffers, so that they follow the operator to a GPU.
        self.register_buffer("weight", torch.ones(size))

    def A(self, x: Tensor) -> Tensor:
        """Return the measurement without noise: image [B, 1, H, W] to [B, H]."""
        self.check_image(x)
        return self.pixel_mm * (x[:, 0] * self.weight.to(x)).sum(-1)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y, the exact transpose of `A`: [B, H] to [B, 1, H, W]."""
        self.check_measurement(y)
        return self.pixel_mm * (y[:, None, :, None] * self.weight.to(y))
'''


def write(name: str, path: Path | None = None) -> Path:
    """Write the template with the class called `name`; return the file.

    Raises:
        ConfigError: The name is no class name, or the file is there already or cannot be written.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(
            "This is no name for a class",
            expected="letters, digits and _, e.g. MyScanner",
            got=name,
            remedy="choose a Python name",
        )
    target = path or Path(f"{name.lower()}.py")
    if target.exists():
        raise ConfigError(
            "The file is there already",
            where=target.absolute(),
            expected="a name that is not taken",
            remedy="choose another with --path",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(TEMPLATE.replace("NAME", name), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "The operator's file cannot be written",
            where=target.absolute(),
            expected="a folder that you may write to",
            got=error.strerror or error,
            remedy="choose another place with --path",
        ) from error
    return target
