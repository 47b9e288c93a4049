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

The mean weights multiply to an unbiased estimate of p(y): "log_evidence" is its logarithm, nats,
one for the whole group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciinv import conditionals, likelihoods
from sciinv.diffusion import edm_grid
from sciinv.errors import ConfigError
from sciinv.kernels import Level
from sciinv.likelihoods import Gaussian
from sciinv.priors.base import Prior
from sciinv.problem import Problem
from sciinv.samplers.base import Sampler, Step
from sciinv.samplers.linear_model import LinearModel, regressed, tangent
from sciinv.seeds import Streams, at_least, positive, whole

# Beyond this many unknowns regressing A costs more than it gives: a tangent serves.
_REGRESSION_LIMIT = 128


MOST_PIXELS, MOST_DATA = 4096, 2048  # dense matrices of that size per draw


@dataclass
class Group:
    """The particles of one group between two levels.

    Attributes:
        model: The linear model of the data at each particle.
        log_w: Log weights, [B].
        own: The stream that the lanes share.
        like: An image batch.
        log_z: Log evidence of the data up to the last resampling, without the noise's constant.
        resampled: How often the group was resampled.
        lowest: The lowest effective share so far.
    """

    model: LinearModel
    log_w: Tensor
    own: Streams
    like: Tensor
    log_z: float = 0.0
    resampled: int = 0
    lowest: float = 1.0


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
        super().__init__(prior, at_least(1, whole(group, "group"), "group"))
        self.conditional = conditionals.build(conditional, prior)
        if isinstance(self.conditional, conditionals.Score | conditionals.ReverseDraw):
            raise ConfigError(
                "The particle sampler needs a Gaussian conditional",
                expected="tweedie, local, spectral, isotropic or published",
                got=self.conditional.name,
                remedy="take tweedie",
            )
        self.sigmas = edm_grid(
            positive(prior.sigma_max if sigma_max is None else sigma_max, "sigma_max"),
            positive(prior.sigma_min if sigma_min is None else sigma_min, "sigma_min"),
            at_least(1, whole(levels, "levels"), "levels"),
        )
        if not 0 <= threshold <= 1:
            raise ConfigError("The threshold is a share of the group", expected="0 … 1",
                              got=threshold, remedy="take 0.5")  # fmt: skip
        self.threshold, self.points = threshold, at_least(0, whole(points, "points"), "points")

    def levels_of_noise(self) -> Sequence[float]:
        """Return the noise levels."""
        return [float(s) for s in self.sigmas]

    def start(self, problem: Problem, streams: Streams, like: Tensor) -> Group:
        """Return the group at the highest level."""
        d = like[0].numel()
        if d > MOST_PIXELS or problem.y[0].numel() > MOST_DATA:
            raise ConfigError(
                "The particle sampler is for small problems",
                expected=f"up to {MOST_PIXELS:,} pixels and {MOST_DATA:,} data",
                got=f"{d} pixels, {problem.y[0].numel()} data",
                remedy="use samplers.DAPS",
            )
        own = Streams([(*streams.keys[0], "group")])  # what the lanes of a group share
        x = float(self.sigmas[0]) * streams.randn((d,), like)
        model = self._model(x, float(self.sigmas[0]), problem, like, streams)
        return Group(model, model.evidence(), own, like)

    def step(self, state: Group, level: Level, problem: Problem, streams: Streams) -> Step:
        """x_{t−1} by the reverse bridge to x0 ~ p(x0 | x_t, y); weights by what it left out."""
        model, log_w = state.model, state.log_w
        state.lowest = min(state.lowest, self._share(log_w))
        if not level.sigma_next:
            return Step(model.draw(streams).reshape(state.like.shape), state)
        if self._share(log_w) < self.threshold:
            state.log_z += _log_mean(log_w)
            model, state.resampled = (
                model.pick(self._resample(log_w, state.own)),
                state.resampled + 1,
            )
            log_w = torch.zeros_like(log_w)
        q = (level.sigma_next / level.sigma) ** 2
        s2 = level.sigma_next**2 * (1 - q)
        x0 = model.draw(streams)
        x = q * model.x + (1 - q) * x0 + math.sqrt(s2) * streams.randn(x0.shape[1:], x0)
        predicted = model.predicted(x, q, s2)
        model = self._model(x, level.sigma_next, problem, state.like, streams)
        log_w = log_w + model.evidence() - predicted
        if not bool(torch.isfinite(log_w).any()):
            raise self.diverged(problem.physics, level.index + 1, level.sigma_next)
        state.model, state.log_w = model, log_w
        return Step(x0.reshape(state.like.shape), state)

    def finish(self, last: Step, problem: Problem, streams: Streams) -> Step:
        """Resample once more, by the true likelihood, in an order of the group's own stream."""
        state: Group = last.state
        x0, log_w = last.x0, state.log_w
        if not (problem.linear and isinstance(problem.likelihood, Gaussian)):
            # The last draw is of the linearised data: weigh by what the true likelihood says.
            log_w = log_w - problem.nll(x0) - state.model.log_likelihood(x0.flatten(1))
        lowest = min(state.lowest, self._share(log_w))
        pick = self._resample(log_w, state.own)
        number = float(len(log_w))
        constant = float(likelihoods.log_constant(problem.likelihood, problem.y[:1]))
        stats = {
            "log_evidence": state.log_z + _log_mean(log_w) + constant,
            "ess": lowest * number,
            "effective_share": lowest,
            "resampled": float(state.resampled),
            "distinct": float(len(torch.unique(pick))) / number,
        }
        full = log_w.double()
        return Step(x0[pick], state, {k: full.new_full((len(x0),), v) for k, v in stats.items()})

    def _model(
        self, x: Tensor, sigma: float, problem: Problem, like: Tensor, streams: Streams
    ) -> LinearModel:
        """Return the linear model of the data at x_t."""
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
        index = torch.searchsorted(w.cumsum(0), points.to(w)).clamp_max(n - 1)
        # Systematic resampling sorts: without this, neighbouring draws would be relatives.
        return index[own.rand((n,), w)[0].argsort()]

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


def _log_mean(log_w: Tensor) -> float:
    """Return the log of the mean weight."""
    finite = torch.nan_to_num(log_w.double(), nan=-math.inf)
    return float(torch.logsumexp(finite, 0)) - math.log(len(log_w))
