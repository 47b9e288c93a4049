"""What every prior is: a denoiser D(x, σ) ≈ E[x0 | x0 + σε = x], and what follows from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from deepinv.models.base import Denoiser
from torch import Tensor

from sciinv.errors import PriorError


def sigma_like(sigma: float | Tensor, x: Tensor) -> Tensor:
    """Return σ as a tensor that broadcasts over a batch x [B, …]: [B, 1, …]."""
    s = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return s.expand(x.shape[0]).reshape(-1, *(1 for _ in x.shape[1:]))


class Prior(Denoiser):
    """A diffusion prior p(x0), known through its denoiser; values in physical units.

    Attributes:
        channels: Number of image channels.
        shape: (C, H, W) where the prior holds for one size only, else None.
        units: Unit of a pixel value.
        sigma_min: Smallest σ at which the denoiser is to be used, units of x.
        sigma_max: Largest σ, where x_t is noise to the eye, units of x.
        micro_batch: Lanes that one call handles: fixed, since rounding depends on it.
        widths: Fitted widths of p(x0 | x_t) (see `sciinv.priors.widths`), or None.
    """

    channels: int
    shape: tuple[int, int, int] | None = None
    units: str = ""
    sigma_min: float
    sigma_max: float
    micro_batch: int = 4
    widths: Any = None

    @abstractmethod
    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return D(x, σ) = E[x0 | x_t = x]; x [B, C, H, W], σ a number or [B], units of x."""

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return ∇ log p_σ(x) = (D(x, σ) − x) / σ² (Tweedie's formula)."""
        return (self(x, sigma) - x) / sigma_like(sigma, x) ** 2

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `PriorError` unless the prior serves images of this (C, H, W)."""
        fits = shape[0] == self.channels if self.shape is None else tuple(shape) == self.shape
        if not fits:
            own = self.shape or (self.channels, "any", "any")
            raise PriorError(
                "The prior does not fit the operator's image",
                where=type(self).__name__,
                expected=f"images of (C, H, W) = {tuple(own)}",
                got=tuple(shape),
                remedy="choose a prior of this image size, or the operator's pixel grid",
            )
