"""Hamiltonian Monte Carlo: leapfrog, accept step, a step adapted to the acceptance."""

from __future__ import annotations

import torch

from sciinv.conditionals import Moments
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import Chain, Rule
from sciinv.kernels.target import Target
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams

# 0.65 is the acceptance at which a leapfrog chain of many dimensions costs least (Beskos et al.).
ACCEPTANCE = Rule(target=0.65, gain=1.2)
JITTER = 0.2  # of the step, either way: a fixed length closes on itself in a near-Gaussian target


class HMC(Kernel):
    """HMC in whitened coordinates with H(z, p) = U(z) + ½‖p‖².

    The step starts at 1/√λ with λ the curvature (power iteration), follows the acceptance towards
    0.65 during the first half of the trajectories, and is jittered by ±20 % so that no trajectory
    closes on itself.

    Args:
        trajectories: Trajectories per annealing level.
        leapfrog: Leapfrog steps per trajectory.

    Source: Neal 2011, "MCMC using Hamiltonian dynamics"; Beskos et al. 2013 for the rate.
    """

    name = "hmc"

    def __init__(self, trajectories: int = 10, leapfrog: int = 8) -> None:
        self.trajectories, self.leapfrog = trajectories, leapfrog

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the last state of one chain per lane, started at the mean."""
        target = Target(moments, problem)
        z = moments.covariance.origin(moments.mean)
        nll, g_prior, g_data = target(z)
        dim = z[0].numel()
        # The stable step falls as D^{-1/4} at a fixed acceptance; small problems take 1/√λ whole.
        step = 1.0 / (target.curvature(z, streams).sqrt() * max(1.0, dim**0.25 / 2))
        chain = Chain(
            (z, g_prior, g_data), nll, self.trajectories, ACCEPTANCE, self.trajectories // 2
        )
        for _ in range(self.trajectories):
            z, g_prior, g_data = chain.state
            jitter = 1.0 - JITTER + 2 * JITTER * streams.rand((), z)
            e = per_lane(step * jitter, z)
            p = streams.randn(z.shape[1:], z)
            kinetic = 0.5 * p.square().flatten(1).sum(1)
            q, nll_q, gp, gd = z, chain.nll, g_prior, g_data
            change = torch.zeros_like(step)
            for _ in range(self.leapfrog):
                p = p - 0.5 * e * (gp + gd)
                q_new = q + e * p
                nll_q, gp_new, gd = target(q_new)
                change = change + target.prior_change(q, q_new, gp, gp_new)
                q, gp = q_new, gp_new
                p = p - 0.5 * e * (gp + gd)
            log_a = chain.nll - nll_q - change + kinetic - 0.5 * p.square().flatten(1).sum(1)
            step = step * chain.offer(log_a, (q, gp, gd), nll_q, streams, z).exp()
        return Draw(target.x(chain.state[0]), chain.stats())
