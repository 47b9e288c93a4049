"""Log evidence log p(y) of a measurement under a prior, from draws of the posterior.

    log p(y) = E[log p(y | x0)] − KL(p(x0 | y) ‖ p(x0))                    x0 ~ p(x0 | y)
    KL = ∫ E‖Δ(x_t, σ)‖² σ⁻³ dσ,   Δ = E[x0 | x_t, y] − D(x_t, σ)          x_t = x0 + σ ε

KL is what the data have taught, nats: over all noise levels, how far the estimate of x0 moves when
it is shown the data. It needs no determinant, so it serves images of any size; D is evaluated once
per draw and level. E[x0 | x_t, y] is that of a conditional N(m, C) and the linearised data.

The noise is added to a draw step by step, and its share of KL is corrected by
M = Σ Δ·(x_{k−1} − E[x_{k−1} | x_k, y]) / σ²_{k−1}, of mean 0: with small steps each draw alone
would give log p(y).

Exact but for the draws' number where the draws are right, the prior is a Gaussian or a mixture (by
the conditional "mixture"), A is linear and the noise Gaussian. Else it is biased:

  - draws that miss a mode of posterior probability q raise or lower it by about −log(1 − q);
  - a Gaussian C that is not Cov[x0 | x_t] gives another Δ: too small an information gain as a
    rule, so too high an evidence (of the order of a nat for small mixtures under "tweedie");
  - a nonlinear A is linearised at D(x_t, σ).

Sources: Guo, Shamai & Verdú 2005 and Verdú 2010 (relative entropy by mismatched estimation);
Girsanov's theorem for the reverse diffusion, of which M is the martingale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import conditionals, likelihoods
from sciinv.errors import DataError
from sciinv.kernels import Level, mixture
from sciinv.kernels.exact import Exact
from sciinv.likelihoods import Gaussian
from sciinv.priors.base import Prior
from sciinv.problem import Problem
from sciinv.seeds import Streams, at_least, whole
from sciinv.solvers import solve_dual

LEVELS = 48


@dataclass(frozen=True)
class Evidence:
    """Log evidence of one measurement under one prior.

    Attributes:
        log_evidence: log p(y), nats; y's density in its own units.
        error: Its standard error over the draws, nats; what is biased is not in it.
        fit: E[log p(y | x0)] over the draws, nats.
        information: KL(p(x0 | y) ‖ p(x0)), nats.
        draws: Number of draws.
    """

    log_evidence: float
    error: float
    fit: float
    information: float
    draws: int


def log_evidence(
    draws: Tensor,
    prior: Prior,
    physics: Physics,
    y: Tensor,
    conditional: str | conditionals.Conditional = "tweedie",
    levels: int = LEVELS,
    sigma_range: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Estimate log p(y) from draws of p(x0 | y).

    Args:
        draws: Independent posterior draws [N ≥ 2, C, H, W].
        prior: The prior that they were drawn under.
        physics: The operator with its noise.
        y: The measurement, [1, …].
        conditional: Model of p(x0 | x_t), as of `samplers.DAPS`; one with moments.
        levels: Noise levels of the integral, evenly in ln σ.
        sigma_range: Least and greatest σ; the prior's own if None. Beyond, ‖Δ‖² is continued as
            g² σ⁴ / (1 + σ²/s²)² below and as a constant above.
        seed: Seed of the noise.
        progress: Called with (draws done, draws).

    Raises:
        DataError: Fewer than two draws.
        OperatorError: The noise's density is not known, see `likelihoods.log_constant`.
    """
    count = len(draws)
    if count < 2:
        raise DataError(
            "The log evidence needs several draws",
            expected="draws [N ≥ 2, C, H, W]",
            got=f"{count}",
            remedy="draw more",
        )
    low, high = sigma_range or (float(prior.sigma_min), float(prior.sigma_max))
    levels = at_least(2, whole(levels, "levels"), "levels")
    sigmas = [float(s) for s in np.geomspace(low, high, levels)]
    model = conditionals.build(conditional, prior)
    likelihood = likelihoods.of(physics)
    one = Problem.of(y, physics, likelihood, draws[:1])
    fits, moves, corrections = [], [], []
    for first in range(0, count, prior.micro_batch):
        x0 = draws[first : first + prior.micro_batch]
        problem = one.with_data(y.expand(len(x0), *y.shape[1:]).contiguous())
        streams = Streams([(seed, "evidence", first + k) for k in range(len(x0))])
        with torch.no_grad():
            constant = likelihoods.log_constant(likelihood, problem.y)
            fits.append(constant - problem.nll(x0).double())
            squares, correction = _moves(x0, sigmas, model, problem, streams)
        moves.append(squares)
        corrections.append(correction)
        if progress is not None:
            progress(first + len(x0), count)
    fit = torch.cat(fits)
    gain = _integral(torch.cat(moves, 1), sigmas) + torch.cat(corrections)
    each = fit - gain
    return Evidence(
        float(each.mean()), float(each.std() / math.sqrt(count)), float(fit.mean()),
        float(gain.mean()), count,
    )  # fmt: skip


def of_groups(values: Sequence[float], group: int) -> tuple[float, float]:
    """Return log p(y) and its error from the "log_evidence" of `Particles`, one value per draw.

    The mean is over p(y) itself, since each group's estimate of it is unbiased; the error, over
    the groups, is infinite for one group.
    """
    each = np.asarray(values, np.float64)[::group]
    top = each.max()
    p = np.exp(each - top)
    error = p.std(ddof=1) / p.mean() / math.sqrt(len(p)) if len(p) > 1 else math.inf
    return float(top + np.log(p.mean())), float(error)


def _moves(
    x0: Tensor,
    sigmas: Sequence[float],
    conditional: conditionals.Conditional,
    problem: Problem,
    streams: Streams,
) -> tuple[Tensor, Tensor]:
    """Return ‖Δ‖² along each draw's noise, [levels, B], and the corrections M [B]; σ rising."""
    squares, correction = [], torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    x, before = x0, 0.0
    for k, sigma in enumerate(sigmas):
        step = math.sqrt(sigma**2 - before**2)
        x_t = x + step * streams.randn(x0.shape[1:], x0)
        level = Level(len(sigmas) - 1 - k, len(sigmas), sigma, before)
        prior_mean, mean = _means(x_t, sigma, conditional, problem, streams, level)
        delta = (mean - prior_mean).double().flatten(1)
        squares.append(delta.square().sum(1))
        # The first step is from x0 itself: there the error of x0, in units of σ, stands for it.
        q = (before / sigma) ** 2
        left = (x - q * x_t - (1 - q) * mean).double().flatten(1)
        correction += (delta * left).sum(1) / (before or sigma) ** 2
        x, before = x_t, sigma
    return torch.stack(squares), correction


def _integral(squares: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return ∫ ‖Δ‖² σ⁻³ dσ of each draw [B], by trapezia in ln σ and what lies beyond the ends.

    Below the least σ the gradient ‖Δ‖/σ² = g / (1 + σ²/s²), which is exact for one mode that the
    data fix to s: its reciprocal is a line in σ², taken through the two lowest levels.
    """
    s = torch.tensor(sigmas, dtype=squares.dtype, device=squares.device)
    half = 0.5 * s.log().diff()
    weights = torch.zeros_like(s)
    weights[1:] += half
    weights[:-1] += half
    weights[-1] += 0.5
    slope = s[:2].square() / squares[:2].mean(1).sqrt().clamp_min(1e-300)
    at_zero = slope[0] - (slope[1] - slope[0]) * s[0] ** 2 / (s[1] ** 2 - s[0] ** 2)
    rise = float((slope[0] / at_zero.clamp_min(1e-300)).clamp(1.0, 10.0))
    weights[0] += 0.5 * rise
    return (weights / s.square()) @ squares


class _Still(Streams):
    """Streams of zeros: a draw that is linear in its random numbers is then its mean."""

    def randn(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return torch.zeros(len(self), *shape, dtype=like.dtype, device=like.device)


def _means(
    x_t: Tensor,
    sigma: float,
    conditional: conditionals.Conditional,
    problem: Problem,
    streams: Streams,
    level: Level,
) -> tuple[Tensor, Tensor]:
    """Return E[x0 | x_t] and E[x0 | x_t, y], each [B, C, H, W]."""
    moments = conditional(x_t, sigma, streams)
    m = moments.mean
    if not (problem.linear and isinstance(problem.likelihood, Gaussian)):
        lin, u = problem.linearise(m)
        r = problem.likelihood.residual(u, problem.y)
        w, _, _ = solve_dual(lin, moments.covariance, r, m, 1e-3, 60)
        return m, m + moments.covariance(lin.adjoint(w, m))
    if moments.components is not None and m[0].numel() <= mixture.MOST_PIXELS:
        return m, mixture.mean(moments.components, problem)
    return m, Exact()(moments, problem, _Still(streams.keys), level).x0
