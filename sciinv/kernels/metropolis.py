"""Metropolis–Hastings that needs no derivative of the operator."""

from __future__ import annotations

import math

import torch

from sciinv.conditionals import Moments
from sciinv.errors import ConfigError
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import effective_size, metropolis
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams


class Metropolis(Kernel):
    """Preconditioned Crank–Nicolson: z' = √(1−b²) z + b ξ, accepted on the likelihood alone.

    The proposal leaves p(x0 | x_t) invariant, so the acceptance does not fall with the number of
    pixels. b starts at 1 (independent draws) and follows the acceptance towards 0.25 during the
    first half of the steps.

    Args:
        steps: Proposals per annealing level.

    Source: Cotter et al. 2013 (arXiv 1202.0709).
    """

    name = "metropolis"

    def __init__(self, steps: int = 400) -> None:
        self.steps = steps

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the last state of one chain per lane, started at the mean."""
        if moments.gradient is not None:
            raise ConfigError(
                "The Metropolis kernel needs a Gaussian p(x0 | x_t)",
                got="conditional='score'",
                remedy="use kernel='langevin' with the score-based conditional",
            )
        m, c = moments.mean, moments.covariance
        z = torch.zeros_like(m)
        nll = problem.nll(m)
        log_b = torch.zeros_like(nll)
        accepted, trace = torch.zeros_like(nll), []
        for step in range(self.steps):
            b = log_b.clamp_max(0).exp()
            bb = per_lane(b, z)
            z_new = (1 - bb.square()).clamp_min(0).sqrt() * z + bb * streams.randn(z.shape[1:], z)
            nll_new = problem.nll(m + c.sqrt(z_new))
            log_a = nll - nll_new
            take, rate = metropolis(log_a, streams, z)
            z = torch.where(per_lane(take, z), z_new, z)
            nll = torch.where(take, nll_new, nll)
            if step < self.steps // 2:
                log_b = (log_b + (rate - 0.25) * 2.0 / math.sqrt(1 + step / 8)).clamp_max(0)
            else:
                accepted += take
                trace.append(nll)
        acceptance = accepted / max(1, self.steps - self.steps // 2)
        stats = {"acceptance": acceptance, "ess": effective_size(trace or [nll])}
        return Draw(m + c.sqrt(z), stats)
