"""The exact draw where p(x0 | x_t) is Gaussian, A is linear and the noise is Gaussian."""

from __future__ import annotations

from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Covariance, Implicit
from sciinv.errors import ConfigError, DivergenceError
from sciinv.kernels.base import Draw, Kernel, Problem
from sciinv.kernels.linear import Linearised, solve_dual
from sciinv.likelihoods import Gaussian
from sciinv.seeds import Streams


class Exact(Kernel):
    """Matheron's rule: draw (x', n) from the joint model, then correct x' by the data.

    x' ~ N(m, C), n ~ N(0, R); x0 = x' + C Aᵀ (A C Aᵀ + R)⁻¹ (y − A x' − n). The solve is a
    Cholesky factor where the data are few, else conjugate gradients on I + R^{-½} A C Aᵀ R^{-½}.

    Args:
        tol: Relative residual at which conjugate gradients stop.
        max_iter: Their most iterations.
        accept_residual: A relative residual above this is an error, not a result.
    """

    name = "exact"

    def __init__(
        self, tol: float = 1e-4, max_iter: int = 300, accept_residual: float = 0.3
    ) -> None:
        self.tol, self.max_iter = tol, max_iter
        self.accept_residual = accept_residual

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
        eps = streams.randn(u.shape[1:], u)
        r = problem.likelihood.residual(u, problem.y) + eps
        x0, residual, iterations = correct(lin, c, r, x, self.tol, self._iterations(c))
        if float(residual.max()) > self.accept_residual and not isinstance(c, Implicit):
            raise DivergenceError(
                "The linear solve of an exact draw did not converge",
                where=type(problem.physics).__name__,
                expected=f"relative residual < {self.accept_residual}",
                got=f"{float(residual.max()):.2g} after {iterations} iterations",
                remedy="check the operator's adjoint with `sciinv check-operator`, its scale, "
                "and the noise level; or lower sigma_max",
            )
        nfe = c.calls if isinstance(c, Implicit) else 0
        return Draw(
            x0, {"residual": residual, "iterations": residual.new_full((len(x),), iterations)}, nfe
        )

    def _iterations(self, covariance: Covariance) -> int:
        # Each product with a network's Jacobian costs a network evaluation.
        return 12 if isinstance(covariance, Implicit) else self.max_iter


def correct(
    lin: Linearised, c: Covariance, r: Tensor, x: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, int]:
    """Return x + C Āᵀ (I + Ā C Āᵀ)⁻¹ r, the relative residual [B], and the iterations."""
    u, residual, iterations = solve_dual(lin, c, r, x, tol, max_iter)
    return x + c(lin.adjoint(u, x)), residual, iterations
