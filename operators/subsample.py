"""Part of a measurement: every second sample, one band, the samples that are left in for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.operators.base import Declared, MeasurementSpec, ModelError

NEGLIGIBLE = 1e-6  # of a correlation


class Subsampled(Declared, Physics):
    """y = (A x)[keep], [B, M']: chosen data of an operator, with their own part of its noise.

    Use `subsample`, which takes `SubsampledLinear` where it can.

    Args:
        whole: A declared operator with Gaussian noise.
        keep: Which data of the flattened measurement stay: a mask of the measurement's shape. Where
            noise is correlated, whole blocks of it stay or go (`independent_blocks`).

    Raises:
        OperatorError: The mask has another shape or keeps nothing, the noise is not Gaussian, or
            data that stay are correlated with data that go.
    """

    def __init__(self, whole: Any, keep: Tensor) -> None:
        super().__init__()
        self._setup(whole, keep)

    def _setup(self, whole: Any, keep: Tensor) -> None:
        keep = torch.as_tensor(keep, dtype=torch.bool)
        spec = whole.measurement_spec
        shape = tuple(keep.shape) if spec is None else tuple(spec.shape)
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
        self.whole = whole
        self.model_error = whole.model_error
        self.register_buffer("index", keep.flatten().nonzero()[:, 0])
        self.image_spec, self.img_size = whole.image_spec, whole.img_size
        count = int(keep.sum())
        units = "1" if spec is None else spec.units
        self.whole_shape = shape
        self.measurement_spec = MeasurementSpec(("datum",), (count,), units)
        self.likelihood = part_of(noise, keep, name)
        groups = whole.noise_groups
        self.noise_groups = None if groups is None else groups.expand(shape).flatten()[self.index]

    @property
    def coordinates(self) -> Tensor | None:
        """F with A(x) = g(F x), that of the whole operator."""
        rows: Tensor | None = getattr(self.whole, "coordinates", None)
        return rows

    def of_coordinates(self, v: Tensor) -> Tensor:
        """Return the chosen data [B, M'] of coordinates v = F x."""
        return self.choose(self.whole.of_coordinates(v))

    def jacobian_of_coordinates(self, v: Tensor) -> Tensor:
        """Return ∂g/∂v of the chosen data, [B, M', P]."""
        slope: Tensor = self.whole.jacobian_of_coordinates(v)
        return slope[:, self.index]

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return the chosen data's part of the whole operator's error beside the noise."""
        error: ModelError | None = self.whole.error_of(self.restore(y))
        if error is None:
            return None
        sd = None if error.sd is None else self.choose(error.sd)
        factor = None if error.factor is None else error.factor[self.index]
        return ModelError(error.width, sd, factor)

    def choose(self, y: Tensor) -> Tensor:
        """Return the chosen data [B, M'] of a whole measurement [B, …]."""
        return y.flatten(1)[:, self.index]

    def restore(self, v: Tensor) -> Tensor:
        """Return the data in their places in a whole measurement, zeros elsewhere: `choose`ᵀ."""
        out = v.new_zeros(len(v), int(torch.Size(self.whole_shape).numel()))
        return out.index_copy(1, self.index, v).reshape(-1, *self.whole_shape)

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


def choosable(noise: Likelihood, name: str, remedy: str) -> Gaussian:
    """Return a noise of which some data can be taken.

    Raises:
        OperatorError: It is not Gaussian, or each lane has a covariance of its own.
    """
    if isinstance(noise, Gaussian) and (
        noise.sd is not None or (noise.cholesky is not None and noise.cholesky.ndim == 2)
    ):
        return noise
    raise OperatorError(
        "Data can be chosen where their noise is Gaussian and the same for all lanes",
        where=name,
        expected="a standard deviation per datum, or one covariance",
        got=type(noise).__name__,
        remedy=remedy,
    )


def independent_blocks(noise: Gaussian) -> Tensor:
    """Return the number of each datum's block, [M]: data of different blocks are independent.

    Blocks are the connected components of the covariance R = L Lᵀ, one for all lanes: the closures
    of one scan of an array, say, whose gains they share.
    """
    assert noise.cholesky is not None
    factor = noise.cholesky.double().cpu()
    r = factor @ factor.mT
    sd = r.diagonal().sqrt()
    # Correlations that rounding makes in single precision are none.
    linked = (r.abs() > NEGLIGIBLE * sd[:, None] * sd).numpy()
    return torch.from_numpy(connected_components(linked, directed=False)[1]).long()


def part_of(noise: Likelihood, keep: Tensor, name: str) -> Gaussian:
    """Return the noise of chosen data, by a mask of the measurement's shape.

    Raises:
        OperatorError: The noise is not Gaussian, or data that stay are correlated with others.
    """
    shape = keep.shape
    index = keep.flatten().nonzero()[:, 0]
    noise = choosable(noise, name, "choose the data before the operator is built")
    period = None if noise.period is None else noise.period.expand(shape).flatten()[index]
    if noise.sd is not None:
        sd = noise.sd if noise.sd.numel() == 1 else noise.sd.expand(shape).flatten()[index]
        return Gaussian(sd, period=period)
    assert noise.cholesky is not None
    blocks = independent_blocks(noise)
    torn = set(blocks[keep.flatten().cpu()].tolist()) & set(blocks[~keep.flatten().cpu()].tolist())
    if torn:
        raise OperatorError(
            "Data that stay are correlated with data that go",
            where=name,
            expected="whole blocks, see `sciinv.operators.subsample.independent_blocks`",
            got=f"{len(torn)} blocks of which a part stays",
            remedy="choose all data of a block, e.g. of a scan of an array",
        )
    return Gaussian(cholesky=noise.cholesky[index][:, index], period=period)


def subsample(whole: Any, keep: Tensor) -> tuple[Subsampled, Callable[[Tensor], Tensor]]:
    """Return the operator of the chosen data, and what takes them from a whole measurement."""
    kind = SubsampledLinear if isinstance(whole, LinearPhysics) else Subsampled
    part = kind(whole, keep)
    return part, part.choose
