"""The exact draw where p(x0 | x_t) is Gaussian, A is linear and the noise is Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Covariance, Implicit
from sciinv.displaced import Displaced
from sciinv.errors import ConfigError, DivergenceError
from sciinv.kernels import mixture, scales
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.likelihoods import Gaussian
from sciinv.problem import Problem
from sciinv.seeds import Streams
from sciinv.solvers import Linearised, Whitened, solve_dual

# The share of the next level's noise that the error of a solve may be, in the worst octave of
# spatial frequency. Tried on a brain and a disc: 0.2 and 0.4 give draws of the same χ² and score;
# the last fifth of the levels costs little to solve well.
EARLY, LATE, LATE_FROM = 0.4, 0.1, 0.8
LAST = 0.3  # at the last level there is no next one: this share of its own noise stands for it
TRIAL = 8  # iterations after which the better of two preconditioners shows
# Steps of an early solve under a model that knows of displaced edges. Simulated discs from 30°,
# mean rms of 16 draws: 0.33, 0.28 u for 20, 40; 80 as 40; solves as for other models 0.35. In the
# first third of the levels 10 do as well as 40.
FIRST_STEPS, STEPS = 10, 40
FIRST = 1 / 3


class Exact(Kernel):
    """Matheron's rule: draw (x', n) from the joint model, then correct x' by the data.

    x' ~ N(m, C), n ~ N(0, R); x0 = x' + C Aᵀ (A C Aᵀ + R)⁻¹ (y − A x' − n). The solve is a
    Cholesky factor where the data are few; else conjugate gradients in coordinates where C is I
    (`solvers.Whitened`), with the operator's Fourier symbol as preconditioner where a trial at the
    chain's first level shows that it pays, until the error is small beside what the next level
    adds.

    Args:
        max_iter: Most iterations.
        accept_error: An error above this share of the next level's noise on a late level is an
            error, not a result; the early ones are noised anew by far more.
        condition: Where nothing preconditions the solve of a large image, the noise variance is
            raised by the factor T ≥ 1 that keeps the largest eigenvalue of C Aᵀ R⁻¹ A / T at this:
            an unconverged draw at high noise sends the chain astray, a tempered one does not, and T
            is 1 long before the end. A model of p(x0 | x_t) that knows of displaced edges needs no
            T: there early solves take a fixed number of steps (`Whitened.some`).
    """

    name = "exact"

    def __init__(
        self, max_iter: int = 150, accept_error: float = 1.0, condition: float = 1000.0
    ) -> None:
        self.max_iter, self.accept_error, self.condition = max_iter, accept_error, condition

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return one exact draw per lane."""
        self._check(moments, problem)
        if moments.scales is not None:
            return Draw(scales.draw(moments.scales, problem, streams))
        given = moments.components
        if given is not None and given.x_t[0].numel() <= mixture.MOST_PIXELS:
            return Draw(mixture.draw(given, problem, streams))
        m, c = moments.mean, moments.covariance
        x = m + c.sqrt(streams.randn(c.coordinates(m), m))
        lin, u = problem.linearise(x)
        noise = streams.randn(u.shape[1:], u)
        residual = problem.likelihood.residual(u, problem.y)
        late = level.progress >= LATE_FROM
        temper, iterations = 1.0, 0
        if isinstance(c, Implicit):  # each product costs a network evaluation: truncated on purpose
            w, error, iterations = solve_dual(lin, c, residual + noise, x, 3e-4, 12)
            d = c(lin.adjoint(w, x))
        elif lin.rows is not None:
            w, error, _ = solve_dual(lin, c, residual + noise, x, 0.0, 0)
            d = c(lin.adjoint(w, x))
        else:
            solve = self._prepared(lin, c, x, problem, late)
            temper = solve.temper
            r = (residual + math.sqrt(temper) * noise) / temper
            scale = level.sigma_next or LAST * level.sigma
            tol = LATE if late else EARLY
            chain = problem.chain
            if self._some(c, problem) and not late:
                d, error, iterations = solve.some(
                    r, FIRST_STEPS if level.progress < FIRST else STEPS
                )
            else:
                d, error, iterations = solve.solve(
                    r, scale, tol, self.max_iter, problem.nats, chain.get("iterations", 0)
                )
            chain["iterations"] = iterations
            if late and not bool((error <= self.accept_error).all()):
                raise self._unconverged(problem, error, iterations)
        stats = {"residual": error}
        for name, value in (("iterations", iterations), ("temperature", temper)):
            stats[name] = error.new_full((len(x),), float(value))
        return Draw(x + d, stats, temper)

    def unfinished(self, moments: Moments, problem: Problem, level: Level) -> bool:
        """Return whether this level's solve takes a few steps only, or raises the noise."""
        m, c = moments.mean, moments.covariance
        if moments.scales is not None or moments.components is not None or isinstance(c, Implicit):
            return False
        lin, _ = problem.linearise(m)
        typical = c.typical_spectrum(m)
        if lin.rows is not None or typical is None or c.power_spectrum(m) is not None:
            return False
        symbol = problem.symbol(lin, m)
        if self._pays(lin, c, m, problem, symbol):
            return False
        if isinstance(c, Displaced):
            return level.progress < LATE_FROM
        return self._temper(typical, symbol) > 1.0

    def _prepared(
        self, lin: Linearised, c: Covariance, x: Tensor, problem: Problem, late: bool
    ) -> Whitened:
        """Return the solve, preconditioned by the operator's symbol or tempered."""
        typical = c.typical_spectrum(x)
        if typical is None:
            return Whitened(lin, c, x)
        symbol = problem.symbol(lin, x)
        if c.power_spectrum(x) is not None:  # C and the preconditioner are diagonal together
            return Whitened(lin, c, x, symbol=symbol)
        if self._pays(lin, c, x, problem, symbol):
            return Whitened(lin, c, x, symbol=symbol)
        if self._some(c, problem):
            return Whitened(lin, c, x, rough=symbol if late else None)
        return Whitened(lin, c, x, self._temper(typical, symbol), rough=symbol)

    def _temper(self, typical: tuple[float, Tensor], symbol: Tensor) -> float:
        """Return T; see `condition`."""
        scale, power = typical
        return max(1.0, scale * float((power * symbol).max()) / self.condition)

    @staticmethod
    def _pays(lin: Linearised, c: Covariance, x: Tensor, problem: Problem, symbol: Tensor) -> bool:
        """Return whether the operator's symbol preconditions better than nothing; tried once."""
        choice = problem.chain
        if "preconditioned" not in choice:
            # Tried as it would be used, at T = 1: tempered, the symbol of a missing wedge looked
            # well, and untempered its draws grew to four times the truth while P r said 2 % of
            # error (generic prior, 90° of views; tests/samplers/test_missing_wedge.py).
            # The data are those that the model expects, the same for all lanes: what is chosen for
            # a lane then depends neither on its data nor on the items beside it.
            r = _expected(lin, c, x)
            energy = [Whitened(lin, c, x, symbol=s).energy(r, TRIAL) for s in (symbol, None)]
            choice["preconditioned"] = energy[0] < energy[1]
        return choice["preconditioned"]

    @staticmethod
    def _some(c: Covariance, problem: Problem) -> bool:
        """Whether early solves take few steps at T = 1: no preconditioner, and edges that move.

        Not where noise or instrument hang on what is left of a solve.
        """
        plain = not problem.chain.get("preconditioned", True)
        return plain and isinstance(c, Displaced) and problem.nats is None

    @staticmethod
    def _check(moments: Moments, problem: Problem) -> None:
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

    def _unconverged(self, problem: Problem, error: Tensor, iterations: int) -> DivergenceError:
        y, likelihood = problem.y, problem.likelihood
        assert isinstance(likelihood, Gaussian)
        sd = likelihood.sd
        noise = "a full covariance" if sd is None else f"a noise sd down to {float(sd.min()):.2g}"
        return DivergenceError(
            "The linear solve of an exact draw did not converge",
            where=type(problem.physics).__name__,
            expected=f"an error below {self.accept_error:g} of the next level's noise in every "
            "octave of spatial frequency",
            got=f"{float(error.max()):.2g} after {iterations} iterations, with data up to "
            f"{float(torch.where(torch.isfinite(y), y.abs(), y.new_zeros(())).max()):.3g} and "
            f"{noise}",
            remedy="where data and noise are many decades apart, check the noise's units; "
            "else check the operator's adjoint and scale with `sciinv check-operator`",
        )


def _expected(lin: Linearised, c: Covariance, x: Tensor) -> Tensor:
    """Return a residual Ā √C ξ + n as the model expects it, ξ and n of one lane for all."""
    one = Streams.of_seed(0, 1)
    z = one.randn(c.coordinates(x), x)
    r = lin.forward(c.sqrt(z.expand(len(x), *z.shape[1:])))
    return r + one.randn(r.shape[1:], r).expand_as(r)


def correct(
    lin: Linearised, c: Covariance, r: Tensor, x: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, int]:
    """Return x + C Āᵀ (I + Ā C Āᵀ)⁻¹ r, the relative residual [B], and the iterations."""
    u, residual, iterations = solve_dual(lin, c, r, x, tol, max_iter)
    return x + c(lin.adjoint(u, x)), residual, iterations
