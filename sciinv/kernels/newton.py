"""The kernel for nonlinear operators: draws of the linearised model, corrected by acceptance."""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Implicit
from sciinv.errors import ConfigError
from sciinv.kernels import reduced
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import Chain
from sciinv.kernels.exact import correct
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams
from sciinv.solvers import Linearised, solve_dual


class GaussNewton(Kernel):
    """Gauss–Newton to the mode, then Crank–Nicolson moves around it with a Metropolis step.

    At the mode x* the data are replaced by e_lin(x) = W(ỹ − J x), whose posterior N(μ, P) is drawn
    exactly (Matheron's rule). A proposal x' = μ + √(1−b²)(x − μ) + b P^{1/2} ξ keeps that posterior
    invariant, so the acceptance ratio holds only the linearisation error, whatever the number of
    pixels: log α = Φ(x) − Φ(x'), Φ(x) = −log p(y | x) − ½‖e_lin(x)‖². b follows the acceptance.

    Args:
        newton: Gauss–Newton steps, each with a step halved until the objective falls.
        moves: Crank–Nicolson proposals per annealing level; twice as many where the data depend on
            few coordinates (`kernels.reduced`), in which they cost next to nothing.
        tol: Relative residual of the linear solves.
        max_iter: Iterations of the linear solves.
    """

    name = "newton"

    def __init__(
        self, newton: int = 4, moves: int = 8, tol: float = 1e-3, max_iter: int = 100
    ) -> None:
        self.newton, self.moves = newton, moves
        self.tol, self.max_iter = tol, max_iter
        self.enough = 0.1  # nats; the accept step sees to what is left

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the last state of one chain per lane."""
        if moments.gradient is not None:
            raise ConfigError(
                "The Gauss–Newton kernel needs a Gaussian p(x0 | x_t)",
                got="conditional='score'",
                remedy="use kernel='langevin' with the score-based conditional",
            )
        if problem.reduced is not None and not isinstance(moments.covariance, Implicit):
            return reduced.draw(
                moments, problem, streams, self.newton, 2 * self.moves, 5 * self.enough
            )
        z_star, residual = self._mode(moments, problem)
        m, c = moments.mean, moments.covariance
        x_star = m + c.sqrt(z_star)
        lin, u_star = problem.linearise(x_star)
        e_star = self._whitened(problem, lin, u_star)

        def e_lin(x: Tensor) -> Tensor:
            return e_star - lin.forward(x - x_star)

        def draw(noise: bool) -> Tensor:
            """Return a draw of the linearised posterior, or its mean."""
            x = m + c.sqrt(streams.randn(c.coordinates(m), m)) if noise else m
            r = e_lin(x)
            r = r + streams.randn(r.shape[1:], r) if noise else r
            return correct(lin, c, r, x, self.tol, self.max_iter)[0]

        def phi(x: Tensor) -> tuple[Tensor, Tensor]:
            """Return Φ(x) and −log p(y | x)."""
            nll = problem.nll(x)
            return nll - 0.5 * e_lin(x).square().flatten(1).sum(1), nll

        mu = draw(noise=False)
        value, nll = phi(mu)
        log_b = torch.zeros_like(value)
        chain = Chain((mu, value), nll, self.moves, reduced.ACCEPTANCE)
        for _ in range(self.moves):
            x, value = chain.state
            bb = per_lane(log_b.exp(), x)
            step = draw(noise=True) - mu
            x_new = mu + (1 - bb.square()).clamp_min(0).sqrt() * (x - mu) + bb * step
            value_new, nll_new = phi(x_new)
            change = chain.offer(value - value_new, (x_new, value_new), nll_new, streams, x)
            log_b = (log_b + change).clamp(reduced.SMALLEST, 0.0)
        return Draw(chain.state[0], chain.stats() | {"residual": residual})

    @staticmethod
    def _whitened(problem: Problem, lin: Linearised, u: Tensor) -> Tensor:
        """Return e = W(y − u) with the W of the linearisation."""
        likelihood = problem.likelihood
        return likelihood.whiten(likelihood.difference(problem.y, u), lin.u)

    def _mode(self, moments: Moments, problem: Problem) -> tuple[Tensor, Tensor]:
        """Return z* with x* = m + L z* near the mode, and the last solve's residual."""
        m, c = moments.mean, moments.covariance
        z = c.origin(m)
        best = problem.nll(m)
        residual = torch.zeros_like(best)
        active = torch.ones_like(best, dtype=torch.bool)
        for _ in range(self.newton):
            x = m + c.sqrt(z)
            lin, u = problem.linearise(x)
            r = self._whitened(problem, lin, u) + lin.forward(x - m)
            w, residual, _ = solve_dual(lin, c, r, x, self.tol, self.max_iter)
            z_full = c.sqrt_t(lin.adjoint(w, x))
            step = torch.ones_like(best)
            moved = ~active  # a lane that has arrived stands still, whatever its neighbours do
            before, z_next = best, z
            for _ in range(reduced.HALVINGS):
                z_try = z + per_lane(step, z) * (z_full - z)
                value = problem.nll(m + c.sqrt(z_try)) + 0.5 * z_try.square().flatten(1).sum(1)
                better = ~moved & torch.isfinite(value) & (value < best)
                z_next = torch.where(per_lane(better, z), z_try, z_next)
                best = torch.where(better, value, best)
                moved |= better
                if bool(moved.all()):
                    break
                step = 0.5 * step
            z = z_next
            active = before - best > self.enough
            if not bool(active.any()):
                break
        return z, residual
