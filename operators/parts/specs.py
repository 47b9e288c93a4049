"""What an operator declares of itself: its image, its measurement, and what nobody knows of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.registry import close_to


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


def groups_by(spec: MeasurementSpec, dim: str | None) -> Tensor | None:
    """Return an operator's `noise_groups`: one for each place along a dimension of its measurement.

    Args:
        spec: The measurement.
        dim: Name of a dimension, e.g. "coil" or "angle"; None: all data share one scale.

    Raises:
        OperatorError: The measurement has no such dimension, or only one place along it.
    """
    if dim is None:
        return None
    along = {name: n for name, n in zip(spec.dims, spec.shape, strict=True) if n > 1}
    if dim not in along or dim == "part":
        raise OperatorError(
            "The measurement has no such dimension to group its noise by",
            where="noise_by",
            expected=", ".join(name for name in along if name != "part") or "nothing: leave it out",
            got=repr(dim),
            remedy=close_to(str(dim), along) or "name one of these, or leave noise_by out",
        )
    axis = spec.dims.index(dim)
    return torch.arange(spec.shape[axis]).reshape(-1, *(1,) * (len(spec.shape) - axis - 1))


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
        period: For a parameter of `at` whose values count modulo a period, as a phase's do: the
            period. A is then the same at θ and θ + period. 0: none.
    """

    name: str
    mean: float
    sd: float
    units: str = "1"
    groups: Tensor | None = None
    dim: str = "group"
    size: int | None = None
    period: float = 0.0

    def __post_init__(self) -> None:
        if not (_number(self.sd) > 0 and math.isfinite(_number(self.mean))):
            raise OperatorError(
                f"The prior of the unknown {self.name} is no distribution",
                where=f"unknown {self.name}",
                expected="a finite mean and a finite standard deviation above 0, both numbers",
                got=f"mean {self.mean!r}, sd {self.sd!r}",
                remedy="give the standard deviation that is known of it, or leave the unknown out",
            )


def widths_of(sds: Any, known: Iterable[str], where: str) -> dict[str, float]:
    """Return an operator's argument `unknowns`: prior standard deviations by name.

    Args:
        sds: What the user gave; None: all is known.
        known: Names of what the operator can draw.
        where: The operator.

    Raises:
        OperatorError: It is no mapping, names what is not known, or holds what is no finite number
            above 0.
    """
    names = ", ".join(known)
    if sds is None:
        return {}
    if not isinstance(sds, Mapping):
        raise OperatorError(
            "The unknowns of an operator are no names with their prior standard deviations",
            where=f"{where}, unknowns",
            expected=f"a mapping like {{{next(iter(known))}: 0.1}}; known: {names}",
            got=repr(sds),
            remedy="give each unknown its prior standard deviation, or leave unknowns out",
        )
    for name, sd in sds.items():
        if name not in known:
            raise OperatorError(
                "The operator has no unknown of this name",
                where=f"{where}, unknowns",
                expected=names,
                got=repr(name),
                remedy=close_to(name, known) or "name one of these",
            )
        if not _number(sd) > 0:
            dotless = isinstance(sd, str) and "e" in sd.lower() and "." not in sd
            raise OperatorError(
                f"The prior standard deviation of {name} is no number above 0",
                where=f"{where}, unknowns: {name}",
                expected="a finite number above 0",
                got=repr(sd),
                # YAML 1.1 reads 1e-3 as a word
                remedy="write it with a point, like 1.0e-3"
                if dotless
                else f"give the width that is known of {name}, or leave it out",
            )
    return {str(name): float(sd) for name, sd in sds.items()}


def _number(value: Any) -> float:
    """Return a finite number as a float, NaN for anything else: words, booleans, lists."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
