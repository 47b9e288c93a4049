"""Likelihoods p(y | x0) with the real noise: white, weighted, full covariance, periodic, Poisson.

Each is a deepinv `DataFidelity` whose value is exactly −log p(y | A x) up to a constant of y, so
that its gradient is the gradient of a log-likelihood: the ½ and the noise level are in it.
All measurements are real tensors [B, …]; a complex value is two real components, and every
standard deviation is that of one real component.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from deepinv.optim import DataFidelity
from deepinv.physics import GaussianNoise, NoiseModel, Physics, PoissonNoise
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.seeds import Streams


def _per_item(value: Tensor) -> Tensor:
    return value.flatten(1).sum(1)


class Likelihood(DataFidelity, ABC):
    """Base: −log p(y | u) of a prediction u = A(x0), its curvature, and simulated data.

    `lanes` is 1 where the noise is the same for every lane of a batch, else their number.
    """

    lanes: int = 1

    def of_lane(self, lane: int) -> Likelihood:
        """Return the likelihood of one lane."""
        return self

    def precision(self, like: Tensor) -> Tensor | None:
        """Return 1/sd², of the dtype of `like`, where a lane's noise is white, else None."""
        return None

    def weights(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return (w, f) with f w = 1/sd² where data are independent and lanes differ by a factor.

        w is [1, …], of the shape of a measurement `like`; f a number, or [B, 1, 1, 1] for images.
        None for any other noise.
        """
        return None

    @abstractmethod
    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return −log p(y | u) up to a constant, [B]."""

    def difference(self, y: Tensor, u: Tensor) -> Tensor:
        """Return y − u, as the likelihood measures it; shape of y."""
        return y - u

    @abstractmethod
    def whiten(self, r: Tensor, u: Tensor) -> Tensor:
        """Return W r with Wᵀ W the Fisher information of the data at u; same shape as r."""

    @abstractmethod
    def whiten_t(self, r: Tensor, u: Tensor) -> Tensor:
        """Return Wᵀ r."""

    @abstractmethod
    def residual(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the whitened residual whose mean square is near 1 at the truth, as y − u."""

    @abstractmethod
    def simulate(self, u: Tensor, streams: Streams) -> Tensor:
        """Return data y ~ p(y | u), one random stream per item."""

    def chi2(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the reduced χ²: the mean squared whitened residual, [B]."""
        return self.residual(u, y).flatten(1).square().mean(1)

    def fn(self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any) -> Tensor:
        """Return −log p(y | A x) up to a constant, [B] (deepinv's DataFidelity call)."""
        return self.nll(physics.A(x), y)

    def grad(self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any) -> Tensor:
        """Return ∇_x of −log p(y | A x) by the operator's vjp; shape of x."""
        u = physics.A(x)
        with torch.enable_grad():
            leaf = u.detach().requires_grad_(True)
            (g,) = torch.autograd.grad(self.nll(leaf, y).sum(), leaf)
        return physics.A_vjp(x, g)


class Gaussian(Likelihood):
    """Gaussian noise: y = u + n, n ~ N(0, R), −log p = ½ (y − u)ᵀ R⁻¹ (y − u).

    Args:
        sd: Standard deviation of each real component in the units of y: a number, or a tensor
            that broadcasts to y. An infinite value marks a sample that carries no data.
        cholesky: Instead of `sd`, the lower Cholesky factor L of R = L Lᵀ, [M, M] (M: number of
            components of y without the batch), or [B, M, M].
        period: Components that live on a circle: their period (2π for a phase), 0 elsewhere;
            broadcasts to y. Residuals of these are wrapped to the nearest turn.

    Raises:
        OperatorError: Not exactly one of `sd` and `cholesky`, or a standard deviation that is not
            positive.
    """

    def __init__(
        self,
        sd: float | Tensor | None = None,
        *,
        cholesky: Tensor | None = None,
        period: Tensor | None = None,
    ) -> None:
        super().__init__(d=None)
        if (sd is None) == (cholesky is None):
            raise OperatorError(
                "The noise must be given once",
                expected="either sd or cholesky",
                got="both" if sd is not None else "neither",
                remedy="give the standard deviation, or the covariance's Cholesky factor",
            )
        if sd is not None:
            sd = torch.as_tensor(sd)
            sd = sd if sd.is_floating_point() else sd.float()
            if bool((sd <= 0).any()) or bool(sd.isnan().any()):
                raise OperatorError(
                    "The noise's standard deviation must be positive",
                    expected="sd > 0 (infinite for a sample without data)",
                    got=f"minimum {float(sd.min())}",
                    remedy="check the weights; mask samples without data instead of sd = 0",
                )
        self.register_buffer("sd", sd)
        self.register_buffer("cholesky", cholesky)
        self.register_buffer("period", period)

    @property
    def is_white(self) -> bool:
        """Whether one number is the noise of every component."""
        return self.sd is not None and self.sd.numel() == 1

    def precision(self, like: Tensor) -> Tensor | None:
        """Return 1/sd² where one number is the noise of every component, else None."""
        return 1.0 / self.sd.to(like).square() if self.is_white else None

    def weights(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return (1/sd², 1), 0 where the noise is infinite; None for correlated noise."""
        if self.sd is None:
            return None
        sd = self.sd.to(like).expand(1, *like.shape[1:])
        return sd.square().reciprocal(), like.new_ones(())

    def deviations(self, like: Tensor) -> Tensor | None:
        """Return the standard deviation of each component, [1, …] of a measurement [B, …].

        None where each lane has a covariance of its own.
        """
        shape = (1, *like.shape[1:])
        if self.sd is not None:
            return self.sd.to(like).expand(shape)
        if self.cholesky is None or self.cholesky.ndim != 2:
            return None
        return self.cholesky.to(like).square().sum(1).sqrt().reshape(shape)

    def difference(self, y: Tensor, u: Tensor) -> Tensor:
        """Return y − u, wrapped to the nearest turn where components live on a circle."""
        r = y - u
        if self.period is None:
            return r
        turn = self.period.to(r)
        safe = torch.where(turn > 0, turn, torch.ones_like(turn))
        return torch.where(turn > 0, r - safe * torch.round(r / safe), r)

    def whiten(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return R^{-1/2} r."""
        if self.sd is not None:
            return r / self.sd.to(r)
        return self._solve(r, upper=False)

    def whiten_t(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return R^{-T/2} r."""
        if self.sd is not None:
            return r / self.sd.to(r)
        return self._solve(r, upper=True)

    def _solve(self, r: Tensor, upper: bool) -> Tensor:
        factor = self.cholesky.to(r)
        factor = factor.mT if upper else factor
        if factor.ndim == 2:  # one factor for all lanes: their residuals are its columns
            columns = r.flatten(1).mT
            return torch.linalg.solve_triangular(factor, columns, upper=upper).mT.reshape(r.shape)
        flat = r.flatten(1).unsqueeze(-1)
        return torch.linalg.solve_triangular(factor, flat, upper=upper).reshape(r.shape)

    def residual(self, u: Tensor, y: Tensor) -> Tensor:
        """Return R^{-1/2} (y − u), wrapped where periodic."""
        return self.whiten(self.difference(y, u))

    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return ½ ‖R^{-1/2} (y − u)‖², [B]."""
        return 0.5 * _per_item(self.residual(u, y).square())

    def chi2(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared whitened residual over the components that carry data, [B]."""
        total = self.residual(u, y).square()
        if self.sd is None:
            return total.flatten(1).mean(1)
        valid = torch.isfinite(self.sd).to(total).expand_as(total)
        return _per_item(total) / _per_item(valid)

    def noise(self, like: Tensor, streams: Streams) -> Tensor:
        """Return n ~ N(0, R) of the shape of `like`; 0 where the standard deviation is infinite."""
        return self.colour(streams.randn(like.shape[1:], like))

    def colour(self, white: Tensor) -> Tensor:
        """Return R^{1/2} white; 0 where the standard deviation is infinite."""
        if self.sd is not None:
            sd = self.sd.to(white)
            return white * torch.where(torch.isfinite(sd), sd, torch.zeros_like(sd))
        return (self.cholesky.to(white) @ white.flatten(1).unsqueeze(-1)).reshape(white.shape)

    def simulate(self, u: Tensor, streams: Streams) -> Tensor:
        """Return y = u + n, n ~ N(0, R)."""
        return u + self.noise(u, streams)


class Poisson(Likelihood):
    """Counts: y ~ Poisson(u), −log p = Σ u − y log u + const; u > 0 in expected counts.

    Source: Fessler, "Statistical image reconstruction methods", Handbook of Medical Imaging 2000.
    """

    floor = 1e-6  # expected counts; keeps log and 1/u finite where a prediction reaches 0

    def __init__(self) -> None:
        super().__init__(d=None)

    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return Σ u − y + y log(y / u) (the Kullback–Leibler divergence), [B]."""
        u = u.clamp_min(self.floor)
        return _per_item(u - y + torch.xlogy(y, y.clamp_min(self.floor) / u))

    def whiten(self, r: Tensor, u: Tensor) -> Tensor:
        """Return r / √u: the Fisher information of a Poisson mean is 1/u."""
        return r / u.clamp_min(self.floor).sqrt()

    def whiten_t(self, r: Tensor, u: Tensor) -> Tensor:
        """Return r / √u."""
        return self.whiten(r, u)

    def residual(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the Pearson residual (y − u) / √u."""
        return self.whiten(y - u, u)

    def simulate(self, u: Tensor, streams: Streams) -> Tensor:
        """Return y ~ Poisson(u)."""
        return streams.poisson(u.clamp_min(0))


class WeightedNoise(NoiseModel):
    """A deepinv noise model with a standard deviation per measured component.

    Args:
        sd: Standard deviation per real component, units of y; broadcasts to y; inf: no data.
        rng: deepinv's generator for `physics(x)`.
    """

    def __init__(self, sd: Tensor | float, rng: torch.Generator | None = None) -> None:
        super().__init__(rng=rng)
        self.register_buffer("sigma", torch.as_tensor(sd))

    def forward(self, x: Tensor, seed: int | None = None, **kwargs: Any) -> Tensor:
        """Return x plus noise; components with infinite sd become 0."""
        self.rng_manual_seed(seed)
        sd = self.sigma.to(x)
        noise = torch.empty_like(x).normal_(generator=self.rng)
        finite = torch.isfinite(sd)
        return torch.where(finite, x + noise * torch.where(finite, sd, 0.0 * sd), 0.0 * x)


def log_constant(likelihood: Likelihood, y: Tensor) -> Tensor:
    """Return c(y) with log p(y | u) = c(y) − nll(u, y), [B]; values without data do not count.

    Gaussian: −½ M log 2π − ½ log det R; Poisson: Σ y log y − y − log y!.

    Raises:
        OperatorError: The likelihood is another one, whose constant is not known here.
    """
    y = y.double()
    if isinstance(likelihood, Poisson):
        return _per_item(torch.xlogy(y, y.clamp_min(likelihood.floor)) - y - torch.lgamma(y + 1))
    if not isinstance(likelihood, Gaussian):
        raise OperatorError(
            "The likelihood does not say its constant",
            where=type(likelihood).__name__,
            expected="Gaussian or Poisson",
            got=type(likelihood).__name__,
            remedy="compare priors by left-out data instead (`sciinv check-prior`)",
        )
    half_log = 0.5 * math.log(2 * math.pi)
    if likelihood.sd is not None:
        sd = likelihood.sd.double().to(y.device)
        sd = torch.where(torch.isfinite(sd), sd, torch.full_like(sd, math.exp(-half_log)))
        return -_per_item((sd.log() + half_log).expand_as(y))
    assert likelihood.cholesky is not None
    diagonal = likelihood.cholesky.double().diagonal(dim1=-2, dim2=-1)
    return -(diagonal.log() + half_log).sum(-1).expand(len(y)).to(y.device)


def _said(physics: Physics) -> tuple[Likelihood | None, NoiseModel | None]:
    """Return what an operator, declared or not, says of its noise."""
    own = getattr(physics, "likelihood", None)
    return own if isinstance(own, Likelihood) else None, getattr(physics, "noise_model", None)


def per_row(physics: Physics) -> bool:
    """Whether the operator's noise has a level for each row of a measurement (deepinv's may)."""
    own, model = _said(physics)
    return (
        own is None
        and isinstance(model, GaussianNoise)
        and torch.as_tensor(model.sigma).numel() > 1
    )


def of(physics: Physics, item: int = 0, items: int = 1) -> Likelihood:
    """Return the likelihood of an operator: its own, or the one its noise model implies.

    Args:
        physics: The operator.
        item: Which row of the measurement, where deepinv's noise holds one level per row.
        items: Rows of the measurement.

    Raises:
        OperatorError: The operator carries no noise, or a noise that is not supported, or levels
            that are not one per row.
    """
    own, model = _said(physics)
    if own is not None:
        return own
    if isinstance(model, WeightedNoise):
        return Gaussian(model.sigma)
    if isinstance(model, GaussianNoise):
        sigma = torch.as_tensor(model.sigma).flatten()
        if sigma.numel() not in (1, items):  # deepinv's levels belong to rows, not to components
            raise OperatorError(
                "The noise model has a level per row, and not as many as the measurement has rows",
                where=type(physics).__name__,
                expected=f"one level, or {items}",
                got=f"sigma of shape {list(torch.as_tensor(model.sigma).shape)}",
                remedy="give one level per item; for levels that differ between the parts of a "
                "measurement take sciinv.likelihoods.WeightedNoise",
            )
        if float(sigma.min()) > 0:
            return Gaussian(sigma[item] if sigma.numel() > 1 else sigma.reshape(()))
    if isinstance(model, PoissonNoise) and math.isclose(float(torch.as_tensor(model.gain)), 1.0):
        return Poisson()
    raise OperatorError(
        "The operator does not say its noise",
        where=type(physics).__name__,
        expected="noise_model = GaussianNoise(sigma > 0), or a sciinv.likelihoods object in "
        "its attribute `likelihood`",
        got=type(model).__name__ if model is not None else "no noise model",
        remedy="give the operator the noise's standard deviation in the units of y",
    )
