"""The products of a projector as a function that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciinv.operators.parts.ct_projector import Projector


class Product(torch.autograd.Function):
    """A x or Aᵀ y with each other as gradient; differentiable any number of times."""

    @staticmethod
    def forward(value: Tensor, projector: Projector, transpose: bool) -> Tensor:  # noqa: D102
        # The projector's threads have a gradient mode of their own: NumPy refuses what it tracks.
        value = value.detach()
        return projector.adjoint(value) if transpose else projector.forward(value)

    @staticmethod
    def setup_context(  # noqa: D102
        ctx: Any, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        _, ctx.projector, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: D102
        return Product.apply(grad[0], ctx.projector, not ctx.transpose), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # noqa: D102
        return Product.apply(tangent, ctx.projector, ctx.transpose)

    @staticmethod
    def vmap(  # noqa: D102
        info: Any, in_dims: tuple[Any, ...], value: Tensor, projector: Projector, transpose: bool
    ) -> tuple[Tensor, int]:
        # The products take any leading dimensions, so the mapped one is just another.
        return Product.apply(value.movedim(in_dims[0], 0), projector, transpose), 0


class Normal(torch.autograd.Function):
    """Aᵀ diag(w) A x, its own gradient; differentiable any number of times."""

    @staticmethod
    def forward(value: Tensor, projector: Projector, weights: list[Tensor]) -> Tensor:  # noqa: D102
        return projector.normal(value.detach(), weights)

    @staticmethod
    def setup_context(  # noqa: D102
        ctx: Any, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        _, ctx.projector, ctx.weights = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: D102
        return Normal.apply(grad[0], ctx.projector, ctx.weights), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # noqa: D102
        return Normal.apply(tangent, ctx.projector, ctx.weights)

    @staticmethod
    def vmap(  # noqa: D102
        info: Any,
        in_dims: tuple[Any, ...],
        value: Tensor,
        projector: Projector,
        weights: list[Tensor],
    ) -> tuple[Tensor, int]:
        return Normal.apply(value.movedim(in_dims[0], 0), projector, weights), 0


def product(projector: Projector, weights: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return x ↦ Aᵀ diag(w) A x of arranged weights; what autograd adds costs where it is on."""

    def normal(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return Normal.apply(x, projector, weights)
        return projector.normal(x, weights)

    return normal
