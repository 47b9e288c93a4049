"""Hamiltonian Monte Carlo: leapfrog, accept step, a step adapted to the acceptance."""

from __future__ import annotations

import math

import torch

from sciinv.conditionals import Moments
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import effective_size, metropolis
from sciinv.kernels.target import Target
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams


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
        z = torch.zeros_like(moments.mean)
        nll, g_prior, g_data = target(z)
        dim = z[0].numel()
        step = 1.0 / (target.curvature(z, streams).sqrt() * max(1.0, dim**0.25 / 2))
        accepted, trace = torch.zeros_like(step), []
        for trajectory in range(self.trajectories):
            jitter = 0.8 + 0.4 * streams.rand((), z)
            e = per_lane(step * jitter, z)
            p = streams.randn(z.shape[1:], z)
            kinetic = 0.5 * p.square().flatten(1).sum(1)
            q, nll_q, gp, gd = z, nll, g_prior, g_data
            change = torch.zeros_like(step)
            for _ in range(self.leapfrog):
                p = p - 0.5 * e * (gp + gd)
                q_new = q + e * p
                nll_q, gp_new, gd = target(q_new)
                change = change + target.prior_change(q, q_new, gp, gp_new)
                q, gp = q_new, gp_new
                p = p - 0.5 * e * (gp + gd)
            log_a = nll - nll_q - change + kinetic - 0.5 * p.square().flatten(1).sum(1)
            take, rate = metropolis(log_a, streams, z)
            keep = per_lane(take, z)
            z = torch.where(keep, q, z)
            nll = torch.where(take, nll_q, nll)
            g_prior = torch.where(keep, gp, g_prior)
            g_data = torch.where(keep, gd, g_data)
            if trajectory < self.trajectories // 2:
                step = step * ((rate - 0.65) * 1.2 / math.sqrt(1 + trajectory)).exp()
            else:
                accepted += take
                trace.append(nll)
        acceptance = accepted / max(1, self.trajectories - self.trajectories // 2)
        stats = {"acceptance": acceptance, "ess": effective_size(trace or [nll])}
        return Draw(target.x(z), stats)
