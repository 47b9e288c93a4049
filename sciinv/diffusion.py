"""The diffusion: noise grids, forward and reverse processes, and their conversions.

Variance exploding (the working form): x_t = x0 + σ ε. Variance preserving (DDPM):
x_t = √ᾱ x0 + √(1−ᾱ) ε = s · x_VE with s = √ᾱ = 1/√(1+σ²), so one denoiser D(x, σ) serves both.

Sources: Song et al. 2021 (arXiv 2011.13456); Karras et al. 2022 (arXiv 2206.00364).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from sciinv.errors import ConfigError
from sciinv.seeds import Streams

if TYPE_CHECKING:
    from sciinv.covariances import Covariance
    from sciinv.priors.base import Prior


def edm_grid(sigma_max: float, sigma_min: float, levels: int, rho: float = 7.0) -> np.ndarray:
    """Return the EDM noise levels, [levels], from sigma_max down to sigma_min.

    σ_i = (σ_max^{1/ρ} + i/(N−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ; ρ = 1 is linear, ρ → ∞ geometric.

    Raises:
        ConfigError: Not 0 < sigma_min < sigma_max, or fewer than one level.
    """
    _check_grid(sigma_max, sigma_min, levels)
    ramp = np.linspace(0.0, 1.0, levels) if levels > 1 else np.zeros(1)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (top + ramp * (bottom - top)) ** rho


def _check_grid(sigma_max: float, sigma_min: float, levels: int) -> None:
    if not (0 < sigma_min < sigma_max and levels >= 1):
        raise ConfigError(
            "The annealing levels are not possible",
            expected="0 < sigma_min < sigma_max and levels ≥ 1",
            got=f"sigma_min={sigma_min}, sigma_max={sigma_max}, levels={levels}",
            remedy="correct sigma_min, sigma_max or levels",
        )


def forward(x0: Tensor, sigma: float, streams: Streams) -> Tensor:
    """Return x_t ~ N(x0, σ² I): the forward process up to noise level σ."""
    return x0 + sigma * streams.randn(x0.shape[1:], x0)


def probability_flow(
    prior: Prior,
    x: Tensor,
    sigmas: Sequence[float] | np.ndarray,
    method: Literal["euler", "heun"] = "euler",
) -> Tensor:
    """Solve the probability-flow ODE dx/dσ = (x − D(x, σ)) / σ along `sigmas`.

    Args:
        prior: The denoiser D.
        x: State at sigmas[0], [B, C, H, W].
        sigmas: Decreasing levels; the last may be 0.
        method: Euler (one call a step) or Heun (two calls, one on a step that ends at 0).

    Returns:
        The state at sigmas[-1].
    """
    for now, then in itertools.pairwise(sigmas):
        slope = (x - prior(x, float(now))) / now
        x_next = x + (then - now) * slope
        if method == "heun" and then > 0:
            slope_next = (x_next - prior(x_next, float(then))) / then
            x_next = x + (then - now) * 0.5 * (slope + slope_next)
        x = x_next
    return x


def reverse_sde(
    prior: Prior,
    x: Tensor,
    sigmas: Sequence[float] | np.ndarray,
    streams: Streams,
    error: Callable[[Tensor, float], Covariance] | None = None,
) -> Tensor:
    """Solve the reverse SDE along `sigmas` by its exact Gaussian bridge to x0 ~ N(D(x, σ), C).

        x_{σ'} ~ N(D + q (x − D), σ'² (1 − q) I + (1 − q)² C),   q = σ'²/σ²

    Without C it is the ancestral step, exact where x0 is known: each step then leaves out the
    spread of x0, and the draws vary too little. With C = Cov[x0 | x_σ] a Gaussian prior's draws
    are exact with any number of steps.

    Args:
        prior: The denoiser D.
        x: State at sigmas[0], [B, C, H, W]; draws of p(x0) from the top, of p(x0 | x_t) from any
            level.
        sigmas: Decreasing levels; the last may be 0.
        streams: Random numbers.
        error: C as a function of D(x, σ) and σ.

    Returns:
        The state at sigmas[-1].
    """
    for now, then in itertools.pairwise(sigmas):
        x_hat = prior(x, float(now))
        ratio = (then / now) ** 2
        if error is not None:
            width = error(x_hat, float(now))
            x_hat = x_hat + width.sqrt(streams.randn(width.coordinates(x), x))
        x = x_hat + ratio * (x - x_hat)
        if then > 0:
            x = x + float(then * np.sqrt(1.0 - ratio)) * streams.randn(x.shape[1:], x)
    return x


def to_zero(sigma: float, steps: int, floor: float, rho: float = 7.0) -> np.ndarray:
    """Return the levels of a `steps`-step solve from σ to 0: EDM grid σ … floor, then 0."""
    if sigma <= floor or steps == 1:
        return np.array([sigma, 0.0])
    return np.append(edm_grid(sigma, floor, steps, rho), 0.0)


@dataclass(frozen=True)
class VariancePreserving:
    """The discrete DDPM process with ᾱ_i, and its place on the σ axis.

    Attributes:
        alpha_bar: ᾱ_i for i = 1 … N, decreasing from near 1 to near 0.
    """

    alpha_bar: np.ndarray

    @classmethod
    def linear(
        cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02
    ) -> VariancePreserving:
        """Return the linear β schedule of DDPM (Ho et al. 2020)."""
        return cls(np.cumprod(1.0 - np.linspace(first, last, steps)))

    @property
    def sigmas(self) -> np.ndarray:
        """σ_i = √((1 − ᾱ_i)/ᾱ_i), the noise level of x_t / √ᾱ_i."""
        return np.sqrt((1.0 - self.alpha_bar) / self.alpha_bar)

    def scale(self, sigma: float) -> float:
        """Return s = 1/√(1+σ²), with x_VP = s · x_VE."""
        return 1.0 / float(np.sqrt(1.0 + sigma**2))
