"""Models of p(x0 | x_t): what the annealing step takes x0 to be, before it sees the data.

Each is called with the state and its noise level and returns a mean and a covariance (or, for the
score-based one, a gradient). The published choice, N(ODE solution, σ_t² I), counts the noise twice;
it is here so that it can be compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor

from sciinv.covariances import Components, Covariance, Deferred, Fourier, Isotropic
from sciinv.diffusion import probability_flow, reverse_sde, to_zero
from sciinv.errors import ConfigError
from sciinv.priors.base import OfComponents, OfScales, Prior
from sciinv.registry import find
from sciinv.seeds import Streams


@dataclass
class Moments:
    """A model of p(x0 | x_t).

    Attributes:
        mean: Its mean, [B, C, H, W].
        covariance: Its covariance; where `gradient` is given, only a scale for the proposals.
        gradient: ∇ log p(x0 | x_t) where it is not that of the Gaussian.
        components: p(x0 | x_t) itself, where it is a mixture in closed form.
        scales: p(x0 | x_t) itself, where it is a scale mixture of Gaussians.
    """

    mean: Tensor
    covariance: Covariance
    gradient: Callable[[Tensor], Tensor] | None = field(default=None)
    components: Components | None = field(default=None)
    scales: Any = field(default=None)


class Conditional(ABC):
    """A model of p(x0 | x_t) under a prior."""

    name: str

    def __init__(self, prior: Prior) -> None:
        self.prior = prior

    @abstractmethod
    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return the moments of p(x0 | x_t) for x_t [B, C, H, W] at noise level σ."""


class Published(Conditional):
    """N(x̂0, σ_t² I) with x̂0 the probability-flow solution from x_t (Zhang et al. 2025).

    Args:
        prior: The diffusion prior.
        steps: Euler steps of the ODE.
        floor: The lowest noise level that the ODE visits before 0; the prior's units.
    """

    name = "published"

    def __init__(self, prior: Prior, steps: int = 5, floor: float = 0.01) -> None:
        super().__init__(prior)
        self.steps = steps
        self.floor = floor

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (ODE solution, σ² I)."""
        levels = to_zero(sigma, self.steps, min(self.floor, 0.5 * sigma))
        x_hat = probability_flow(self.prior, x_t, levels)
        return Moments(x_hat, Isotropic(float(sigma) ** 2))


class FittedWidth(Conditional):
    """N(D(x_t, σ), κ C) with C fitted to the denoiser's own error.

    Args:
        prior: The diffusion prior, with its fitted widths.
        inflate: κ, the factor on the variance; the prior's own, found by calibration, if None.
    """

    def __init__(self, prior: Prior, inflate: float | None = None) -> None:
        super().__init__(prior)
        self.inflate = float(prior.inflate if inflate is None else inflate)


class IsotropicWidth(FittedWidth):
    """N(D(x_t, σ), r(σ)² I), r fitted to the denoiser's own error, times `inflate` in variance."""

    name = "isotropic"

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (D, κ r² I), capped at σ²."""
        r2 = (self.inflate * self.prior.isotropic_variance(x_t, sigma)).clamp_max(sigma**2)
        return Moments(self.prior(x_t, sigma), Isotropic(r2))


class SpectralWidth(FittedWidth):
    """N(D(x_t, σ), F⁻¹ r(σ, |k|)² F), a width per spatial frequency, times `inflate`."""

    name = "spectral"

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (D, κ r(|k|)² in Fourier), capped at σ²."""
        r2 = (self.inflate * self.prior.spectral_variance(x_t, sigma)).clamp_max(sigma**2)
        return Moments(self.prior(x_t, sigma), Fourier(r2))


class LocalWidth(FittedWidth):
    """N(D(x_t, σ), diag(s) K diag(s)): a width per pixel, fitted, that follows D's picture.

    See `sciinv.priors.widths.local`. It needs no factor where the chain's states are those of the
    fit, as with `renoise="bridge"`.
    """

    name = "local"

    def __init__(self, prior: Prior, inflate: float | None = None) -> None:
        super().__init__(prior, 1.0 if inflate is None else inflate)

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (D, κ diag(s) K diag(s))."""
        x_hat = self.prior(x_t, sigma)
        return Moments(x_hat, self.prior.local_covariance(x_hat, sigma, self.inflate))


class Tweedie(Conditional):
    """N(D(x_t, σ), σ² ∂D/∂x): the exact first two moments of p(x0 | x_t).

    In closed form for Gaussian and mixture priors; by Jacobian products of a network otherwise.
    """

    name = "tweedie"

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (D, σ² ∂D/∂x)."""
        return Moments(self.prior(x_t, sigma), self.prior.conditional_covariance(x_t, float(sigma)))


def _knows(prior: Prior, what: type, told: str, expected: str) -> None:
    """Raise `ConfigError` unless a prior knows its p(x0 | x_t) in this closed form."""
    if not isinstance(prior, what):
        raise ConfigError(
            told,
            where=type(prior).__name__,
            expected=expected,
            got=type(prior).__name__,
            remedy="take another conditional (tweedie, local, spectral)",
        )


class Mixture(Conditional):
    """p(x0 | x_t) as the mixture that it is under a Gaussian-mixture prior.

    For a linear operator with Gaussian noise the draw of x0 given x_t and y is then exact, and with
    it the chain at every level. Kernels that need one Gaussian take the first two moments.
    """

    name = "mixture"

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior)
        _knows(prior, OfComponents, "Only a mixture prior knows p(x0 | x_t) as a mixture",
               "priors.GaussianMixture")  # fmt: skip

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return the components, with their moments behind them."""
        return _Late(self.prior, x_t, sigma, components=self.prior.components(x_t, float(sigma)))


class ScaleMixture(Conditional):
    """p(x0 | x_t) as the scale mixture of Gaussians that it is under such a prior.

    For a linear operator with Gaussian noise x0 is drawn given x_t and y by Gibbs sweeps. Other
    kernels take the first two moments, which are computed when they are asked for.
    """

    name = "scales"

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior)
        _knows(prior, OfScales, "Only a scale mixture knows p(x0 | x_t) as one",
               "priors.ScaleMixture")  # fmt: skip

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return the scale mixture, with its moments behind it."""
        return _Late(self.prior, x_t, sigma, scales=self.prior.scales(x_t, float(sigma)))


class _Late(Moments):
    """Moments that are computed when they are asked for: a draw of the whole law needs none."""

    def __init__(
        self,
        prior: Any,
        x_t: Tensor,
        sigma: float,
        components: Components | None = None,
        scales: Any = None,
    ) -> None:
        # `forward`, not a call: the components or scales are of the same evaluation.
        self._mean: Callable[[], Tensor] = cache(lambda: prior.forward(x_t, sigma))
        self.covariance = Deferred(lambda: prior.conditional_covariance(x_t, float(sigma)))
        self.gradient, self.components, self.scales = None, components, scales

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """E[x0 | x_t], [B, C, H, W]."""
        return self._mean()


class Score(Conditional):
    """∇ log p(x0 | x_t) = (x_t − x0)/σ_t² + s(·): the likelihood of x_t times a prior score.

    Args:
        prior: The diffusion prior.
        at: "x0": s(x0, σ_min), one network evaluation per inner step; "x_hat": s(x̂0, σ_min),
            frozen; "x_t": s(x_t, σ_t), frozen (which makes the mean exactly D(x_t, σ_t)).
    """

    name = "score"

    def __init__(self, prior: Prior, at: str = "x0") -> None:
        super().__init__(prior)
        if at not in ("x0", "x_hat", "x_t"):
            raise ConfigError(
                "The score-based conditional does not know this point",
                expected="x0, x_hat or x_t",
                got=at,
                remedy="name one of these",
            )
        self.at = at

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return the denoised start, a proposal scale, and the gradient."""
        s2, floor = float(sigma) ** 2, float(self.prior.sigma_min)
        x_hat = self.prior(x_t, sigma)
        if self.at == "x0":

            def gradient(x0: Tensor) -> Tensor:
                return (x_t - x0) / s2 + self.prior.score(x0, floor)

            # The score at σ_min has curvature up to 1/σ_min²: that bounds the proposal's scale.
            scale = Isotropic(1.0 / (1.0 / s2 + 1.0 / floor**2))
            return Moments(x_hat, scale, gradient)
        fixed = (x_hat - x_t) / s2 if self.at == "x_t" else self.prior.score(x_hat, floor)

        def frozen(x0: Tensor) -> Tensor:
            return (x_t - x0) / s2 + fixed

        return Moments(x_t + s2 * fixed, Isotropic(s2), frozen)


class ReverseDraw(Conditional):
    """N(a draw of p(x0 | x_t), σ² I): the mean is one draw by the reverse SDE from x_t to 0.

    PnP-DM (arXiv 2405.18782) uses such a draw as the prior step of a split Gibbs sampler.
    """

    name = "reverse"

    def __init__(self, prior: Prior, steps: int = 5) -> None:
        super().__init__(prior)
        self.steps = steps

    def __call__(self, x_t: Tensor, sigma: float, streams: Streams) -> Moments:
        """Return (a reverse-SDE draw, σ² I)."""
        levels = to_zero(sigma, self.steps, min(float(self.prior.sigma_min), 0.5 * sigma))
        x_hat = reverse_sde(self.prior, x_t, levels, streams)
        return Moments(x_hat, Isotropic(float(sigma) ** 2))


_ALL: tuple[type[Conditional], ...] = (
    Published, IsotropicWidth, SpectralWidth, LocalWidth, Tweedie, Mixture, ScaleMixture, Score,
    ReverseDraw,
)  # fmt: skip
CONDITIONALS: dict[str, type[Conditional]] = {c.name: c for c in _ALL}


def build(conditional: str | Conditional, prior: Prior) -> Conditional:
    """Return the conditional of this name under `prior`, or the object given; "auto" chooses.

    Raises:
        ConfigError: There is no conditional of this name.
    """
    if isinstance(conditional, Conditional):
        return conditional
    if conditional == "auto":
        return CONDITIONALS[best(prior)](prior)
    return find("conditional", conditional, CONDITIONALS, also="auto")(prior)


def best(prior: Prior) -> str:
    """Return the name of the best model of p(x0 | x_t) that a prior carries.

    The mixture or scale mixture itself, or exact moments, where they are known in closed form; else
    the fitted widths: local ones before stationary ones. Where a prior carries none, its stationary
    widths are fitted to its own draws when the first chain starts: a network's Jacobian products
    are no default, as they need not be symmetric or positive, and a chain on them can explode.
    """
    if isinstance(prior, OfComponents):
        return Mixture.name
    if isinstance(prior, OfScales):
        return ScaleMixture.name
    if type(prior).conditional_covariance is not Prior.conditional_covariance:
        return Tweedie.name
    return LocalWidth.name if prior.local is not None else SpectralWidth.name


__all__ = [
    "CONDITIONALS",
    "Components",
    "Conditional",
    "FittedWidth",
    "IsotropicWidth",
    "LocalWidth",
    "Mixture",
    "Moments",
    "Published",
    "ReverseDraw",
    "ScaleMixture",
    "Score",
    "SpectralWidth",
    "Tweedie",
    "best",
    "build",
]
