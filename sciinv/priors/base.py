"""What every prior is: a denoiser D(x, σ) ≈ E[x0 | x0 + σε = x], and what follows from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from deepinv.models.base import Denoiser
from torch import Tensor

from sciinv.covariances import Components, Covariance, Implicit
from sciinv.errors import PriorError


@runtime_checkable
class Sampled(Protocol):
    """A prior whose own draws are exact."""

    def sample(self, streams: Any, like: Tensor) -> Tensor:
        """Return one draw of p(x0) per lane of `like`."""


@runtime_checkable
class OfComponents(Protocol):
    """A prior under which p(x0 | x_t) is a Gaussian mixture in closed form."""

    def components(self, x_t: Tensor, sigma: float) -> Components:
        """Return the components of p(x0 | x_t)."""


@runtime_checkable
class OfScales(Protocol):
    """A prior under which p(x0 | x_t) is a scale mixture of Gaussians in closed form."""

    def scales(self, x_t: Tensor, sigma: float) -> Any:
        """Return the scale mixture."""


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
        local: Fitted local widths (see `sciinv.priors.widths.local`), or None.
        moves: Fitted displacements of edges beside them (`sciinv.priors.widths.moves`), or None.
        typical: Offset and root mean square of the class, units of x, where they are known.
        largest: Root mean square of an image ÷ that of the class above which a draw is none.
        inflate: Factor on the fitted variances of a stationary width, found by calibration on the
            prior's own draws.
        levels: Annealing levels that suffice: no fewer keep the calibration under the prior itself.
        local_inflate: Factor on the variances of a local width with fresh noise at these levels,
            at which spread and error of draws agree under the prior itself.
        evaluations: Evaluations of D on a batch so far, products with its Jacobian among them.
    """

    channels: int
    shape: tuple[int, int, int] | None = None
    units: str = ""
    sigma_min: float
    sigma_max: float
    micro_batch: int = 4
    widths: Any = None
    local: Any = None
    moves: Any = None
    typical: tuple[float, float] | None = None
    largest: float = 20.0
    inflate: float = 1.0
    levels: int = 50
    local_inflate: float = 3.0
    evaluations: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return D(x, σ), see `forward`, and count it: whoever calls, the count is here."""
        self.evaluations += 1
        return super().__call__(*args, **kwargs)

    @abstractmethod
    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return D(x, σ) = E[x0 | x_t = x]; x [B, C, H, W], σ a number or [B], units of x."""

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return ∇ log p_σ(x) = (D(x, σ) − x) / σ² (Tweedie's formula)."""
        return (self(x, sigma) - x) / sigma_like(sigma, x) ** 2

    def conditional_covariance(self, x_t: Tensor, sigma: float) -> Covariance:
        """Return Cov[x0 | x_t] = σ² ∂D/∂x (second-order Tweedie), here by forward derivatives.

        Source: Meng et al. 2021 (arXiv 2111.04726); moment matching: arXiv 2405.13712.
        """
        s2 = float(sigma) ** 2

        def product(v: Tensor) -> Tensor:
            return s2 * torch.func.jvp(lambda x: self(x, sigma), (x_t,), (v,))[1]

        return Implicit(product)

    def isotropic_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return r(σ)², the mean squared error of D per pixel, squared units of x."""
        return torch.as_tensor(self._fitted().isotropic_at(float(sigma))).to(x_t)

    def spectral_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return r(σ, |k|)², the power of D's error in the orthonormal DFT, [H, W]."""
        return torch.as_tensor(self._fitted().spectral_at(float(sigma), x_t.shape[-2:])).to(x_t)

    def local_covariance(self, x_hat: Tensor, sigma: float, inflate: float = 1.0) -> Covariance:
        """Return the covariance of D's error around x̂ = D(x_t, σ), by the fitted local width."""
        if self.local is None:
            raise PriorError(
                "The prior carries no local widths of p(x0 | x_t)",
                where=type(self).__name__,
                expected="a prior file to which `sciinv fit-widths` has added them",
                got="none",
                remedy="run `sciinv fit-widths` on the file of a trained prior, or take another "
                "conditional (spectral, tweedie)",
            )
        c: Covariance = self.local.covariance(x_hat, float(sigma), inflate)
        return c if self.moves is None else self.moves.covariance(c, x_hat, sigma, inflate)

    def _fitted(self) -> Any:
        if self.widths is None:
            raise PriorError(
                "The prior carries no fitted widths of p(x0 | x_t)",
                where=type(self).__name__,
                expected="widths fitted to the denoiser's error when it was trained",
                got="none",
                remedy="fit them with sciinv.priors.widths, or use conditional='tweedie'",
            )
        return self.widths

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


def check_channels(x: Tensor, channels: int, where: str) -> None:
    """Raise `PriorError` unless x is a batch [B, C, H, W] of `channels` channels."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise PriorError(
            "The image does not fit the prior",
            where=where,
            expected=f"[B, {channels}, H, W]",
            got=list(x.shape),
        )
