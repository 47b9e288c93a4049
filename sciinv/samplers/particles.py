"""Particles: the reverse diffusion guided by the data, its draws weighted and resampled.

Each level takes p(x0 | x_t) ≈ N(m, C) (the conditional) and a linear model of the measurement
(`sciinv.samplers.linear_model`), and

    proposes  x_{t−1} ~ q(x_{t−1} | x_t, y): x0|x_t, y drawn exactly, then bridged to σ_{t−1};
    weights   by ψ(x_{t−1}) / ψ(x_{t−1}; x_t), where ψ(x_{t−1}) = N(y; h, J C Jᵀ + R + Ω) is the
              evidence with the moments at x_{t−1}, Ω the scatter of A about the linear model, and
              ψ(x_{t−1}; x_t) the same evidence as the moments at x_t predicted it.

Draws of a group are resampled together when the effective number falls below half. The weights
correct what a Gaussian p(x0 | x_t) misses, above all the probability of each mode. Draws of one
group share ancestors, so the group, not the draw, is the unit of independence.

Sources: Wu et al. 2023, twisted diffusion sampler (arXiv 2306.17775); moment matching, Rozet et
al. 2024 (arXiv 2405.13712). The predicted evidence in the denominator is ours: it makes the weights
exactly 1 for a Gaussian prior with a linear operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciinv import conditionals
from sciinv.diffusion import edm_grid
from sciinv.errors import ConfigError
from sciinv.likelihoods import Gaussian
from sciinv.priors.base import Prior
from sciinv.problem import Problem
from sciinv.samplers.base import Sampler
from sciinv.samplers.linear_model import Picture, regressed, tangent
from sciinv.seeds import Streams

# Beyond this many unknowns regressing A costs more than it gives: a tangent serves.
_REGRESSION_LIMIT = 128


class Particles(Sampler):
    """Guided reverse diffusion as a twisted particle filter over the draws of a group.

    For problems of up to a few hundred unknowns and data, where it is asymptotically exact: many
    modes, nonlinear operators. For images use DAPS: weights degenerate in high dimension.

    Args:
        prior: The diffusion prior.
        conditional: Model of p(x0 | x_t), Gaussian.
        levels: Noise levels.
        sigma_max: Highest level; the prior's own if None.
        sigma_min: Lowest level; the prior's own if None.
        group: Draws of one group, the micro-batch.
        threshold: Resample when the effective number falls below this share of the group.
        points: Evaluations of a nonlinear operator per draw and level that its linear model is
            regressed on (at least 4 D; up to 128 unknowns); 0: a tangent at the mean.
    """

    name = "particles"

    def __init__(
        self,
        prior: Prior,
        conditional: str | conditionals.Conditional = "tweedie",
        levels: int = 50,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        group: int = 256,
        threshold: float = 0.5,
        points: int = 64,
    ) -> None:
        super().__init__(prior, group)
        self.conditional = conditionals.build(conditional, prior)
        self.sigmas = edm_grid(sigma_max or prior.sigma_max, sigma_min or prior.sigma_min, levels)
        self.threshold, self.points = threshold, points

    @property
    def steps(self) -> int:
        """Number of noise levels."""
        return len(self.sigmas)

    def chain(
        self, problem: Problem, streams: Streams, like: Tensor, report: Callable[[int], None]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Run one group of particles."""
        done = 0

        def count(level: int) -> None:
            nonlocal done
            done = level
            report(level)

        try:
            return self._run(problem, streams, like, count)
        except torch.linalg.LinAlgError as error:
            raise self.diverged(problem.physics, done, float(self.sigmas[done])) from error

    def _run(
        self, problem: Problem, streams: Streams, like: Tensor, report: Callable[[int], None]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        b, d = len(like), like[0].numel()
        if d > 4096 or problem.y[0].numel() > 2048:
            raise ConfigError(
                "The particle sampler is for small problems",
                expected="up to 4,096 pixels and 2,048 data",
                got=f"{d} pixels, {problem.y[0].numel()} data",
                remedy="use samplers.DAPS",
            )
        own = Streams([(*streams.keys[0], "group")])  # what the lanes of a group share
        x = self.sigmas[0] * streams.randn((d,), like)
        picture = self._look(x, float(self.sigmas[0]), problem, like, streams)
        log_w = picture.evidence()
        resampled, lowest = 0, 1.0
        nfe = 1
        for i in range(len(self.sigmas) - 1):
            now, then = float(self.sigmas[i]), float(self.sigmas[i + 1])
            share = self._share(log_w)
            lowest = min(lowest, share)
            if share < self.threshold:
                picture, resampled = picture.pick(self._resample(log_w, own)), resampled + 1
                log_w = torch.zeros_like(log_w)
            q = (then / now) ** 2
            s2 = then**2 * (1 - q)
            x0 = picture.draw(streams)
            x = q * picture.x + (1 - q) * x0 + math.sqrt(s2) * streams.randn((d,), like)
            predicted = picture.predicted(x, q, s2)
            picture = self._look(x, then, problem, like, streams)
            nfe += 1
            log_w = log_w + picture.evidence() - predicted
            if not bool(torch.isfinite(log_w).any()):
                raise self.diverged(problem.physics, i + 1, then)
            report(i + 1)
        x0 = picture.draw(streams)
        if not (problem.linear and isinstance(problem.likelihood, Gaussian)):
            # The last draw is of the linearised data: weigh by what the true likelihood says.
            log_w = log_w - problem.nll(x0.reshape(like.shape)) - picture.log_likelihood(x0)
        lowest = min(lowest, self._share(log_w))
        pick = self._resample(log_w, own)
        x0 = x0[pick]
        report(len(self.sigmas))
        ancestors = float(len(torch.unique(pick))) / b
        return x0.reshape(like.shape), {
            "nfe": float(nfe),
            "ess": lowest * b,
            "effective_share": lowest,
            "resampled": float(resampled),
            "distinct": ancestors,
        }

    def _look(
        self, x: Tensor, sigma: float, problem: Problem, like: Tensor, streams: Streams
    ) -> Picture:
        """Return the picture at x_t."""
        moments = self.conditional(x.reshape(like.shape), sigma, streams)
        exact = problem.linear and isinstance(problem.likelihood, Gaussian)
        if exact or not self.points or x.shape[1] > _REGRESSION_LIMIT:
            return tangent(x, moments, problem)
        return regressed(x, moments, problem, self.points)

    @staticmethod
    def _share(log_w: Tensor) -> float:
        w = torch.softmax(log_w, 0)
        return float(1.0 / w.square().sum()) / len(w)

    @staticmethod
    def _resample(log_w: Tensor, own: Streams) -> Tensor:
        """Return the indices of a systematic resampling."""
        n = len(log_w)
        w = torch.softmax(torch.nan_to_num(log_w, nan=-math.inf), 0)
        points = (torch.arange(n, device=w.device) + own.rand((), w)) / n
        return torch.searchsorted(w.cumsum(0), points.to(w)).clamp_max(n - 1)

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {
            "sampler": self.name,
            "conditional": self.conditional.name,
            "levels": len(self.sigmas),
            "group": self.micro_batch,
            "sigma_max": float(self.sigmas[0]),
            "sigma_min": float(self.sigmas[-1]),
        }
