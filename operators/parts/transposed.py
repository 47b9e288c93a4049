"""A linear product with its transpose, as a function that can be differentiated and mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


class Linear(torch.autograd.Function):
    """A x with Aᵀ for its gradient, any number of times: torch.func sees no loop of either.

    `Linear.apply(value, product, transpose)` takes x [B, …] and the two products; for a symmetric
    A the same one twice.
    """

    @staticmethod
    def forward(value: Tensor, product: Product, transpose: Product) -> Tensor:  # noqa: D102
        # A product's threads have a gradient mode of their own: NumPy refuses what it tracks.
        return product(value.detach())

    @staticmethod
    def setup_context(  # noqa: D102
        ctx: Any, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        _, ctx.product, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: D102
        return Linear.apply(grad[0], ctx.transpose, ctx.product), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # noqa: D102
        return Linear.apply(tangent, ctx.product, ctx.transpose)

    @staticmethod
    def vmap(  # noqa: D102
        info: Any, in_dims: tuple[Any, ...], value: Tensor, product: Product, transpose: Product
    ) -> tuple[Tensor, int]:
        value = value.movedim(in_dims[0], 0)
        out = Linear.apply(value.flatten(0, 1), product, transpose)
        return out.unflatten(0, value.shape[:2]), 0
