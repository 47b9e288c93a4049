"""Part of a measurement: every second sample, one band, the samples that are left in for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian
from sciinv.operators.base import Declared, MeasurementSpec


class Subsampled(Declared, Physics):
    """y = (A x)[keep], [B, M']: chosen data of an operator, with their own part of its noise.

    Use `subsample`, which takes `SubsampledLinear` where it can.

    Args:
        whole: A declared operator with Gaussian noise, independent from datum to datum.
        keep: Which data of the flattened measurement stay: a mask of the measurement's shape.

    Raises:
        OperatorError: The mask has another shape or keeps nothing, or the noise is not Gaussian
            with one standard deviation per datum.
    """

    def __init__(self, whole: Any, keep: Tensor) -> None:
        super().__init__()
        self._setup(whole, keep)

    def _setup(self, whole: Any, keep: Tensor) -> None:
        shape = tuple(whole.measurement_spec.shape)
        keep = torch.as_tensor(keep, dtype=torch.bool)
        noise = likelihoods.of(whole)
        name = type(whole).__name__
        if tuple(keep.shape) != shape or not bool(keep.any()):
            raise OperatorError(
                "The choice of data does not fit the operator",
                where=name,
                expected=f"a mask of shape {list(shape)} that keeps something",
                got=f"shape {list(keep.shape)}, {int(keep.sum())} kept",
                remedy="make the mask from the measurement, e.g. torch.rand(y.shape[1:]) < 0.5",
            )
        if not isinstance(noise, Gaussian) or noise.sd is None:
            raise OperatorError(
                "Data can be chosen where their noise is independent",
                where=name,
                expected="Gaussian noise with a standard deviation per datum",
                got=type(noise).__name__,
                remedy="choose the data before the operator is built",
            )
        self.whole = whole
        self.register_buffer("index", keep.flatten().nonzero()[:, 0])
        self.image_spec = whole.image_spec
        count = int(keep.sum())
        self.measurement_spec = MeasurementSpec(("datum",), (count,), whole.measurement_spec.units)
        sd = noise.sd if noise.sd.numel() == 1 else noise.sd.expand(shape).flatten()[self.index]
        period = None if noise.period is None else noise.period.expand(shape).flatten()[self.index]
        self.likelihood = Gaussian(sd, period=period)

    def choose(self, y: Tensor) -> Tensor:
        """Return the chosen data [B, M'] of a whole measurement [B, …]."""
        return y.flatten(1)[:, self.index]

    def restore(self, v: Tensor) -> Tensor:
        """Return the data in their places in a whole measurement, zeros elsewhere: `choose`ᵀ."""
        shape = tuple(self.whole.measurement_spec.shape)
        out = v.new_zeros(len(v), int(torch.Size(shape).numel()))
        return out.index_copy(1, self.index, v).reshape(-1, *shape)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the chosen data of A x, [B, M']."""
        return self.choose(self.whole.A(x, **kwargs))

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Jᵀ v, [B, C, H, W]."""
        return self.whole.A_vjp(x, self.restore(v))


class SubsampledLinear(Subsampled, LinearPhysics):
    """`Subsampled` of a linear operator, with the exact adjoint."""

    def __init__(self, whole: Any, keep: Tensor) -> None:
        LinearPhysics.__init__(self)
        self._setup(whole, keep)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Aᵀ of the data in their places."""
        return self.whole.A_adjoint(self.restore(y), **kwargs)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Aᵀ v."""
        return self.A_adjoint(v)


def subsample(whole: Any, keep: Tensor) -> tuple[Subsampled, Callable[[Tensor], Tensor]]:
    """Return the operator of the chosen data, and what takes them from a whole measurement."""
    kind = SubsampledLinear if isinstance(whole, LinearPhysics) else Subsampled
    part = kind(whole, keep)
    return part, part.choose
