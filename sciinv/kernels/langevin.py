"""Langevin kernels: with a step from the curvature and an accept step, and as released."""

from __future__ import annotations

import math

import torch

from sciinv.conditionals import Moments
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import Chain, Rule
from sciinv.kernels.target import Target
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams

# 0.574 is the acceptance at which MALA mixes fastest in many dimensions (Roberts & Rosenthal).
ACCEPTANCE = Rule(target=0.574, gain=1.5, slow=4)
NEAR_ONE = 1.02  # ‖A‖ up to which the released step is taken as it is


class Langevin(Kernel):
    """MALA in whitened coordinates: z' = z − h ∇U + √(2h) ξ, accepted by Metropolis–Hastings.

    h starts at the inverse of the curvature λ (power iteration) over D^{1/3} and follows the
    acceptance towards 0.574 during the first half of the steps; then it stands.

    Args:
        steps: Inner steps per annealing level.

    Source: Roberts & Rosenthal 1998 (optimal scaling); Roberts & Tweedie 1996 (MALA).
    """

    name = "langevin"

    def __init__(self, steps: int = 60) -> None:
        self.steps = steps

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the last state of one chain per lane, started at the mean."""
        target = Target(moments, problem)
        z = moments.covariance.origin(moments.mean)
        nll, g_prior, g_data = target(z)
        dim = z[0].numel()
        # The optimal step falls as D^{-1/3}; the 4 leaves small problems at the curvature's own.
        h = 1.0 / (target.curvature(z, streams) * max(1.0, dim ** (1 / 3) / 4))
        chain = Chain((z, g_prior, g_data), nll, self.steps, ACCEPTANCE, self.steps // 2)
        for _ in range(self.steps):
            z, g_prior, g_data = chain.state
            g = g_prior + g_data
            hh = per_lane(h, z)
            noise = streams.randn(z.shape[1:], z)
            z_new = z - hh * g + (2 * hh).sqrt() * noise
            nll_new, gp_new, gd_new = target(z_new)
            back = z - z_new + hh * (gp_new + gd_new)
            log_q = (0.5 * noise.square() - back.square() / (4 * hh)).flatten(1).sum(1)
            change = target.prior_change(z, z_new, g_prior, gp_new)
            log_a = chain.nll - nll_new - change + log_q
            h = h * chain.offer(log_a, (z_new, gp_new, gd_new), nll_new, streams, z).exp()
        return Draw(target.x(chain.state[0]), chain.stats())


class ReleasedLangevin(Kernel):
    """The inner chain of the released DAPS code, unadjusted, for comparison only.

    x ← x + lr (2 Aᵀ(y − A x)/τ² + (x̂0 − x)/σ_t²) + √(2 lr) ξ: the ½ of ‖·‖²/2τ² is not there, τ
    is not the noise, and lr falls linearly to `ratio` of its start over the levels.

    Args:
        steps: Inner steps per level.
        step_size: lr at the first level, squared units of x.
        tau: τ, units of y.
        ratio: lr at the last level ÷ at the first.
        half: Put the ½ of the likelihood in, to see what it changes.
        unit: Size of the image that the released numbers take for 1: lr is multiplied by its
            square, τ by it. The released code's images lie in [−1, 1].

    The step is stable for 2 lr ‖A‖² ≤ 2 τ², so the released numbers serve operators with ‖A‖ ≤ 1.
    Where ‖A‖ (of a nonlinear A: of its Jacobian at x̂0) is above `NEAR_ONE`, A and y are divided by
    it in the drift, which leaves the released iteration for the scaled problem.

    Source: Zhang et al., CVPR 2025 (arXiv 2407.01521), and its released settings for
    inpainting: 100 steps, lr 1e−4, τ 0.01, ratio 0.01.
    """

    name = "released"

    def __init__(
        self,
        steps: int = 100,
        step_size: float = 1e-4,
        tau: float = 0.01,
        ratio: float = 0.01,
        half: bool = False,
        unit: float = 1.0,
    ) -> None:
        self.steps, self.step_size, self.tau, self.ratio = steps, step_size, tau, ratio
        self.half, self.unit = half, unit

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the last state of one chain per lane, started at x̂0."""
        lr = self.unit**2 * self.step_size * (1.0 + level.progress * (self.ratio - 1.0))
        x_hat, c = moments.mean, moments.covariance
        r2 = c.variance.to(x_hat)  # type: ignore[attr-defined]
        physics, y = problem.physics, problem.y
        norm = _norm(problem, x_hat)
        weight = (1.0 if self.half else 2.0) / (self.tau * self.unit * norm) ** 2
        x = x_hat
        for _ in range(self.steps):
            misfit = y - physics.A(x)
            pull = physics.A_adjoint(misfit) if problem.linear else physics.A_vjp(x, misfit)
            drift = weight * pull + (x_hat - x) / r2
            x = x + lr * drift + math.sqrt(2 * lr) * streams.randn(x.shape[1:], x)
        return Draw(x)


def _norm(problem: Problem, x: torch.Tensor) -> float:
    """Return the largest ‖J‖ of the lanes at x where it is above `NEAR_ONE`, else 1.

    Power iteration from a fixed start: the chain's random numbers stay those of the released code.
    """
    if problem.linear and "released norm" in problem.cache:
        return float(problem.cache["released norm"])
    physics, norm = problem.physics, 0.0
    v = Streams.of_seed(0, len(x)).randn(x.shape[1:], x)
    for _ in range(20):
        v = v / per_lane(v.flatten(1).norm(dim=1).clamp_min(1e-30), v)
        if problem.linear:
            v = physics.A_adjoint(physics.A(v))
        else:
            v = physics.A_vjp(x, torch.func.jvp(physics.A, (x,), (v,))[1])
        norm = float(v.flatten(1).norm(dim=1).max()) ** 0.5
    norm = norm if norm > NEAR_ONE else 1.0
    problem.cache["released norm"] = norm
    return norm
