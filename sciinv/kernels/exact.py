"""The exact draw where p(x0 | x_t) is Gaussian, A is linear and the noise is Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Covariance, Implicit
from sciinv.errors import ConfigError, DivergenceError
from sciinv.kernels.base import Draw, Kernel
from sciinv.likelihoods import Gaussian
from sciinv.problem import Problem
from sciinv.seeds import Streams
from sciinv.solvers import Linearised, normal_symbol, solve_dual, solve_primal


class Exact(Kernel):
    """Matheron's rule: draw (x', n) from the joint model, then correct x' by the data.

    x' ~ N(m, C), n ~ N(0, R); x0 = x' + C Aᵀ (A C Aᵀ + R)⁻¹ (y − A x' − n). The solve is a
    Cholesky factor where the data are few; conjugate gradients on C⁻¹ + Aᵀ R⁻¹ A with a Fourier
    preconditioner where C is stationary; else conjugate gradients on I + R^{-½} A C Aᵀ R^{-½}
    (for a local width a preconditioner of its mean takes twice as many iterations).

    Args:
        tol: Error of the solve in posterior standard deviations, root mean square over the modes
            (of the dual form: in noise standard deviations, over the data). Reached tenfold on the
            last levels.
        max_iter: Most iterations.
        condition: Where images are large (no direct solve), the noise variance of all but the last
            fifth of the levels is raised by the factor T ≥ 1 that keeps the largest eigenvalue of
            C Aᵀ R⁻¹ A / T at this: an unconverged draw at high noise sends the chain astray, a
            tempered one does not, and T is 1 long before the end.
        accept_error: An error above this on a late level is an error, not a result; the early
            ones are noised anew by far more.
    """

    name = "exact"

    def __init__(
        self,
        tol: float = 0.03,
        max_iter: int = 120,
        accept_error: float = 0.3,
        condition: float = 1000.0,
    ) -> None:
        self.tol, self.max_iter = tol, max_iter
        self.accept_error, self.condition = accept_error, condition

    def __call__(
        self, moments: Moments, problem: Problem, streams: Streams, progress: float
    ) -> Draw:
        """Return one exact draw per lane."""
        if not problem.linear or not isinstance(problem.likelihood, Gaussian):
            raise ConfigError(
                "The exact kernel needs a linear operator and Gaussian noise",
                where=type(problem.physics).__name__,
                got="a nonlinear operator" if not problem.linear else "another likelihood",
                remedy="use kernel='auto', which linearises and corrects by an accept step",
            )
        if moments.gradient is not None:
            raise ConfigError(
                "The exact kernel needs a Gaussian p(x0 | x_t)",
                got="conditional='score'",
                remedy="use kernel='langevin' with the score-based conditional",
            )
        m, c = moments.mean, moments.covariance
        x = m + c.sqrt(streams.randn(m.shape[1:], m))
        lin, u = problem.linearise(x)
        late = progress >= 0.8
        temper = 1.0 if late else self._temperature(lin, c, x, problem)
        noise = streams.randn(u.shape[1:], u)
        r = (problem.likelihood.residual(u, problem.y) + math.sqrt(temper) * noise) / temper
        tol = 0.1 * self.tol if late else self.tol
        d, error, iterations = self._solve(lin, c, r, x, problem, tol, temper)
        if float(error.max()) > self.accept_error and late:
            raise DivergenceError(
                "The linear solve of an exact draw did not converge",
                where=type(problem.physics).__name__,
                expected=f"error < {self.accept_error} (root mean square over the modes)",
                got=f"{float(error.max()):.2g} after {iterations} iterations",
                remedy="check the operator's adjoint with `sciinv check-operator`, its scale, "
                "and the noise level",
            )
        nfe = c.calls if isinstance(c, Implicit) else 0
        stats = {"residual": error}
        for name, value in (("iterations", iterations), ("temperature", temper)):
            stats[name] = error.new_full((len(x),), float(value))
        return Draw(x + d, stats, nfe)

    def _temperature(self, lin: Linearised, c: Covariance, x: Tensor, problem: Problem) -> float:
        """Return the factor on the noise variance that keeps the solve well conditioned."""
        typical = c.typical_spectrum(x)  # a lane's own would tie it to the lanes beside it
        if lin.rows is not None or typical is None:
            return 1.0
        scale, power = typical
        stiffest = scale * float((power * self._symbol(lin, x, problem)).max())
        return max(1.0, stiffest / self.condition)

    @staticmethod
    def _symbol(lin: Linearised, x: Tensor, problem: Problem) -> Tensor:
        if "symbol" not in problem.cache:
            problem.cache["symbol"] = normal_symbol(lin, x[:1])
        return problem.cache["symbol"]

    def _solve(
        self,
        lin: Linearised,
        c: Covariance,
        r: Tensor,
        x: Tensor,
        problem: Problem,
        tol: float,
        temper: float,
    ) -> tuple[Tensor, Tensor, int]:
        """Return (C⁻¹ + Āᵀ Ā/T)⁻¹ Āᵀ r, its error [B], and the iterations."""
        power = c.power_spectrum(x)
        if lin.rows is None and power is not None:
            symbol = self._symbol(lin, x, problem)
            return solve_primal(lin, power, symbol, r, x, tol, self.max_iter, temper)
        # Each product with a network's Jacobian costs a network evaluation.
        if isinstance(c, Implicit):
            u, error, iterations = solve_dual(lin, c, r, x, 0.01 * tol, 12, temper)
            error = torch.zeros_like(error)  # truncated on purpose
        else:
            most = 3 * self.max_iter
            u, error, iterations = solve_dual(lin, c, r, x, tol, most, temper, relative=False)
        return c(lin.adjoint(u, x)), error, iterations


def correct(
    lin: Linearised, c: Covariance, r: Tensor, x: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, int]:
    """Return x + C Āᵀ (I + Ā C Āᵀ)⁻¹ r, the relative residual [B], and the iterations."""
    u, residual, iterations = solve_dual(lin, c, r, x, tol, max_iter)
    return x + c(lin.adjoint(u, x)), residual, iterations
