"""Metropolis–Hastings that needs no derivative of the operator."""

from __future__ import annotations

import torch

from sciinv.conditionals import Moments
from sciinv.errors import ConfigError
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import Chain, Rule
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams

# 0.25: near the 0.234 of a random walk in many dimensions, which this is where the data say much.
ACCEPTANCE = Rule(target=0.25, gain=2.0, slow=8)


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
        nll = problem.nll(m)
        log_b = torch.zeros_like(nll)
        chain = Chain((c.origin(m),), nll, self.steps, ACCEPTANCE, self.steps // 2)
        for _ in range(self.steps):
            (z,) = chain.state
            bb = per_lane(log_b.exp(), z)
            z_new = (1 - bb.square()).clamp_min(0).sqrt() * z + bb * streams.randn(z.shape[1:], z)
            nll_new = problem.nll(m + c.sqrt(z_new))
            change = chain.offer(chain.nll - nll_new, (z_new,), nll_new, streams, z)
            log_b = (log_b + change).clamp_max(0)
        return Draw(m + c.sqrt(chain.state[0]), chain.stats())
