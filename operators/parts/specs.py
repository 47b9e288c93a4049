"""What an operator declares of itself: its image, its measurement, and what nobody knows of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sciinv.errors import OperatorError


@dataclass(frozen=True)
class ImageSpec:
    """The image (domain) of an operator.

    Attributes:
        shape: (C, H, W).
        units: Physical unit of a pixel value, e.g. "1/mm".
        y: Coordinate of each row, [H], in `axis_units`.
        x: Coordinate of each column, [W], in `axis_units`.
        axis_units: Unit of both coordinates, e.g. "mm" or "µas".
        channels: Name of each channel; ("real", "imag") for a complex image.
        axis_names: What the two axes are called in a figure, (vertical, horizontal).
    """

    shape: tuple[int, int, int]
    units: str
    y: np.ndarray
    x: np.ndarray
    axis_units: str
    channels: tuple[str, ...] = ("intensity",)
    axis_names: tuple[str, str] = ("y", "x")

    def __post_init__(self) -> None:
        c, h, w = self.shape
        if (len(self.channels), len(self.y), len(self.x)) != (c, h, w):
            raise OperatorError(
                "The image's coordinates do not match its shape",
                expected=f"{c} channels, {h} rows, {w} columns",
                got=f"{len(self.channels)} channels, {len(self.y)} rows, {len(self.x)} columns",
                remedy="give one channel name, y and x coordinate per channel, row and column",
            )

    @property
    def is_complex(self) -> bool:
        """Whether the two channels are the real and imaginary parts of one image."""
        return self.channels == ("real", "imag")


@dataclass(frozen=True)
class MeasurementSpec:
    """The measurement (codomain) of an operator, without its batch dimension.

    Attributes:
        dims: Name of each dimension in the field's words, e.g. ("part", "coil", "ky", "kx").
        shape: Length of each.
        units: Physical unit of a value.
        coords: Coordinate values by dimension name, where there are any.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    units: str
    coords: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """A number of the instrument that nobody knows exactly; the sampler draws it with the image.

    Either `groups` says which data it is added to, or it enters through the operator's `at`.

    Attributes:
        name: Its variable in the result, e.g. "detector_shift".
        mean: Prior mean.
        sd: Prior standard deviation, above 0; the prior is a Gaussian.
        units: Physical unit.
        groups: For an offset: the group of each component of the measurement (integers from 0, −1
            for none) that broadcasts to the measurement without its batch. Each group has its own
            value. None for a parameter of `at`.
        dim: Where there are several values: what one belongs to, e.g. "detector".
        size: For a parameter of `at` with several values, all of this prior: their number; they
            are neighbouring columns of theta. None: one value.
    """

    name: str
    mean: float
    sd: float
    units: str = "1"
    groups: Tensor | None = None
    dim: str = "group"
    size: int | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.sd) and self.sd > 0):
            raise OperatorError(
                f"The prior of the unknown {self.name} is no distribution",
                expected="a finite mean and a finite standard deviation above 0",
                got=f"mean {self.mean}, sd {self.sd}",
                remedy="give the standard deviation that is known of it, or leave the unknown out",
            )
