"""Laws of a coefficient u that are scale mixtures of Gaussians: u | v ~ N(0, v), v ~ p(v).

Each draws v given u in closed form, the half of a Gibbs sweep that is its own; the other half, u
given v and the data, is Gaussian whatever the law (`sciinv.priors.scales.gibbs`).

Sources: Andrews & Mallows 1974 (scale mixtures); Park & Casella 2008 (Laplace); Michael, Schucany &
Haas 1976 (inverse Gaussian numbers).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sciinv.errors import PriorError
from sciinv.seeds import Streams, at_least, positive, whole


class Law(ABC):
    """A symmetric law of one coefficient.

    Attributes:
        scale: Its size, units of the coefficient.
        present: Probability that a coefficient is not zero.
        mixes: Whether v varies at all.
    """

    scale: float
    present: float = 1.0
    mixes: bool = True

    @abstractmethod
    def prior_variances(self, streams: Streams, count: int, like: Tensor) -> Tensor:
        """Return v ~ p(v), [B, count]."""

    @abstractmethod
    def variances(self, u: Tensor, streams: Streams) -> Tensor:
        """Return v ~ p(v | u) of coefficients u [B, D] that are not zero by law."""

    @abstractmethod
    def log_density(self, u: Tensor) -> Tensor:
        """Return log p(u) elementwise; for a law with zeros, of the part that is present."""

    def sample(self, streams: Streams, count: int, like: Tensor) -> Tensor:
        """Return coefficients of the law, [B, count]."""
        u = self.prior_variances(streams, count, like).sqrt() * streams.randn((count,), like)
        if self.present < 1:
            u = u * (streams.rand((count,), like) < self.present)
        return u


class Normal(Law):
    """u ~ N(0, scale²)."""

    mixes = False

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = positive(scale, "scale")

    def prior_variances(self, streams: Streams, count: int, like: Tensor) -> Tensor:
        """Return scale²."""
        return like.new_full((len(streams), count), self.scale**2)

    def variances(self, u: Tensor, streams: Streams) -> Tensor:
        """Return scale²."""
        return torch.full_like(u, self.scale**2)

    def log_density(self, u: Tensor) -> Tensor:
        """Return log N(u; 0, scale²)."""
        return -0.5 * (u / self.scale).square() - math.log(self.scale * math.sqrt(2 * math.pi))


class Laplace(Law):
    """p(u) = exp(−|u| / scale) / (2 scale): v is exponential of mean 2 scale²."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = positive(scale, "scale")

    def prior_variances(self, streams: Streams, count: int, like: Tensor) -> Tensor:
        """Return v ~ Exp(mean 2 scale²)."""
        return -2 * self.scale**2 * torch.log1p(-streams.rand((count,), like))

    def variances(self, u: Tensor, streams: Streams) -> Tensor:
        """Return v with 1/v inverse Gaussian of mean 1/(scale |u|) and shape 1/scale².

        Written in v and a = scale |u|, so that nothing cancels or divides by zero as u → 0.
        """
        a = self.scale * u.abs()
        half = 0.5 * (self.scale * streams.randn(u.shape[1:], u)).square()
        v = a + half + (2 * a * half + half.square()).sqrt()
        first = streams.rand(u.shape[1:], u) * (v + a) < v
        return torch.where(first, v, a.square() / v)

    def log_density(self, u: Tensor) -> Tensor:
        """Return −|u| / scale − log 2 scale."""
        return -u.abs() / self.scale - math.log(2 * self.scale)


class StudentT(Law):
    """Student's t: v = ν scale² / χ²_ν.

    Args:
        degrees: ν, a whole number ≥ 1; 1 is Cauchy's law.
        scale: Units of the coefficient.
    """

    def __init__(self, degrees: int, scale: float = 1.0) -> None:
        self.degrees = at_least(1, whole(degrees, "degrees"), "degrees")
        self.scale = positive(scale, "scale")

    def prior_variances(self, streams: Streams, count: int, like: Tensor) -> Tensor:
        """Return ν scale² / χ²_ν."""
        chi2 = streams.randn((self.degrees, count), like).square().sum(1)
        return self.degrees * self.scale**2 / chi2

    def variances(self, u: Tensor, streams: Streams) -> Tensor:
        """Return (ν scale² + u²) / χ²_{ν+1}."""
        chi2 = streams.randn((self.degrees + 1, *u.shape[1:]), u).square().sum(1)
        return (self.degrees * self.scale**2 + u.square()) / chi2

    def log_density(self, u: Tensor) -> Tensor:
        """Return log p(u)."""
        n = self.degrees
        constant = math.lgamma(0.5 * (n + 1)) - math.lgamma(0.5 * n)
        constant -= 0.5 * math.log(n * math.pi) + math.log(self.scale)
        return constant - 0.5 * (n + 1) * torch.log1p((u / self.scale).square() / n)


class BernoulliLaplace(Laplace):
    """u = 0 with probability 1 − present, else Laplace.

    Args:
        present: Probability that a coefficient is not zero, in (0, 1).
        scale: Of the Laplace law, units of the coefficient.
    """

    def __init__(self, present: float, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.present = positive(present, "present")
        if self.present >= 1:
            raise PriorError(
                "The probability that a coefficient is not zero is none",
                expected="0 < present < 1",
                got=present,
                remedy="give a probability below 1, or take Laplace",
            )


__all__ = ["BernoulliLaplace", "Laplace", "Law", "Normal", "StudentT"]
