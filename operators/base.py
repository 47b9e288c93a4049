"""What every operator says of itself: the image it maps from, the measurement it maps to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
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


class Declared:
    """Mixin for deepinv physics whose domain and codomain are declared and checked.

    A class sets `image_spec` and `measurement_spec` in its constructor. It may also offer
    `classical(y) -> dict[str, Tensor]`, the field's usual reconstructions by name, and
    `likelihood`, a `sciinv.likelihoods` object, where `noise_model` cannot say the noise.

    `float64_parameters` names the constructor's arrays that decide where the samples lie (angles,
    a trajectory): `from_measurement` hands them over in float64 whatever the dtype of the data.
    """

    float64_parameters: ClassVar[tuple[str, ...]] = ()

    image_spec: ImageSpec
    measurement_spec: MeasurementSpec

    def check_image(self, x: Tensor) -> None:
        """Raise `OperatorError` unless x is a finite-dtype batch [B, C, H, W] of this image."""
        _check(self, "image", x, self.image_spec.shape)

    def check_measurement(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch [B, …] of this measurement."""
        _check(self, "measurement", y, self.measurement_spec.shape)

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y can have been measured; not for residuals or gradients.

        Data are finite; an operator that knows more of them extends this.
        """
        self.check_measurement(y)
        refuse_data(self, ~torch.isfinite(y), y, "finite values; infinite noise where no data are")


def refuse_data(physics: object, bad: Tensor, y: Tensor, expected: str) -> None:
    """Raise `OperatorError` where any value of the data y is `bad`."""
    if bool(bad.any()):
        first = [int(i) for i in bad.nonzero()[0]]
        raise OperatorError(
            f"The data cannot be those of {type(physics).__name__}",
            where=f"y at {first}",
            expected=expected,
            got=f"{float(y[tuple(first)]):.6g}, and {int(bad.sum())} of {y.numel()} values like it",
            remedy="check the units and the reader's options",
        )


def _check(physics: object, what: str, value: Tensor, shape: tuple[int, ...]) -> None:
    name = type(physics).__name__
    if not isinstance(value, Tensor):
        raise OperatorError(
            f"The {what} given to {name} is not a tensor",
            expected="torch.Tensor",
            got=type(value).__name__,
            remedy="convert it with torch.as_tensor",
        )
    if tuple(value.shape[1:]) != tuple(shape):
        raise OperatorError(
            f"The {what} does not match the operator {name}",
            expected=f"[B, {', '.join(map(str, shape))}]",
            got=list(value.shape),
            remedy=f"check the parameters of {name} against the data, or reshape the {what}",
        )
    if value.dtype not in (torch.float32, torch.float64):
        raise OperatorError(
            f"The {what} given to {name} has the wrong dtype",
            expected="float32 or float64 (complex values as two real channels)",
            got=value.dtype,
            remedy="convert it with .float(), complex values with torch.view_as_real",
        )


def image_shape(physics: Any) -> tuple[int, int, int]:
    """Return (C, H, W) of an operator's image, from `image_spec` or deepinv's `img_size`.

    Raises:
        OperatorError: The operator says neither.
    """
    spec = getattr(physics, "image_spec", None)
    shape = spec.shape if spec is not None else getattr(physics, "img_size", None)
    if shape is None or len(shape) != 3:
        raise OperatorError(
            "The operator does not say the shape of its image",
            where=type(physics).__name__,
            expected="image_spec, or img_size = (C, H, W)",
            got=shape,
            remedy="set self.image_spec, or img_size, in the operator's constructor",
        )
    return int(shape[0]), int(shape[1]), int(shape[2])
