"""The Gauss–Newton kernel in the few coordinates of an image that the data depend on.

Where A(x) = g(F x) with a linear F of small rank r (visibilities behind closure quantities), all
that the data say of x is in p = R x, R an orthonormal combination of F's rows. So the chain runs in
r coordinates, and images are touched three times a level:

    p | x_t ~ N(R m, G), G = R C Rᵀ       w with p = R m + chol(G) w, so that w ~ N(0, I)
    w ~ N(0, I) p(y | g(Q p))             Gauss–Newton, then Crank–Nicolson moves, accepted or not
    x0 = x' + C Rᵀ G⁻¹ (p − R x'), x' ~ N(m, C)     exact given p (Matheron's rule)

Source: the sampler is that of `kernels.newton`; sufficiency of R x is elementary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.kernels.base import Draw
from sciinv.kernels.chain import Chain, Rule
from sciinv.kernels.rows import root_seen
from sciinv.operators.base import Operator
from sciinv.problem import Problem
from sciinv.seeds import Streams

JITTER = 1e-8  # of G's mean
# Crank–Nicolson moves around the mode: 1 would be independent draws of the linearised posterior,
# whose error alone they are accepted on; 0.4 leaves them large where it bends.
ACCEPTANCE = Rule(target=0.4, gain=2.0)
SMALLEST = -5.0  # log b: a lane whose moves are all refused shall still move when it can
HALVINGS = 6  # of a Gauss–Newton step, to 1/32: one that fails then is taken for arrived


class Coordinates:
    """The data seen from w, in double precision: p(y | w), its slope, and images given w.

    Args:
        moments: The model of p(x0 | x_t), Gaussian.
        problem: The data, with `problem.reduced`.
    """

    def __init__(self, moments: Moments, problem: Problem) -> None:
        assert problem.reduced is not None
        self.problem, self.y = problem, problem.y.double()
        self.physics: Operator = problem.physics
        self.q, rows = problem.reduced
        m, self.c = moments.mean, moments.covariance
        self.mean = m
        rows = rows.to(m)
        self.half, self.root = root_seen(self.c, rows, len(m), JITTER)  # R L, chol(G)
        self.start = (m.flatten(1) @ rows.flatten(1).mT).double()  # R m
        self.first = self.start @ self.q.mT  # F m
        self.slope = self.q @ self.root  # ∂(F x)/∂w

    def coordinates(self, w: Tensor) -> Tensor:
        """Return F x, [B, P], of images with these w [B, r]."""
        if len(self.slope) == 1:
            return self.first + w @ self.slope[0].mT
        return self.first + (self.slope @ w[..., None]).squeeze(-1)

    def nll(self, w: Tensor) -> Tensor:
        """Return −log p(y | w), [B]."""
        u = self.physics.of_coordinates(self.coordinates(w))
        return self.problem.likelihood.nll(u, self.y)

    def linearise(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the whitened residual e [B, M] and slope J [B, M, r] with e(w + d) ≈ e − J d.

        J is rounded to single precision: the accept step holds for whatever J the moves are made
        with.
        """
        v = self.coordinates(w)
        u = self.physics.of_coordinates(v)
        likelihood = self.problem.likelihood
        j = self.physics.jacobian_of_coordinates(v.float()) @ self.slope.float()
        b, m, r = j.shape
        columns = j.mT.reshape(b * r, m)
        j = likelihood.whiten(columns, u.float().repeat_interleave(r, 0)).reshape(b, r, m).mT
        return likelihood.whiten(likelihood.difference(self.y, u), u), j.double()

    def image(self, w: Tensor, streams: Streams) -> Tensor:
        """Return x0 ~ p(x0 | x_t, w)."""
        m = self.mean
        shape = self.c.coordinates(m)
        z = streams.randn(shape, m).flatten(1)
        off = w[..., None] - torch.linalg.solve_triangular(
            self.root, (self.half @ z[..., None]).double(), upper=False
        )
        p = torch.linalg.solve_triangular(self.root.mT, off, upper=True).to(m)
        z = z + (self.half.mT @ p).squeeze(-1)
        return m + self.c.sqrt(z.reshape(len(m), *shape))


def draw(
    moments: Moments, problem: Problem, streams: Streams, newton: int, moves: int, enough: float
) -> Draw:
    """Return the last state of one chain per lane; see `kernels.newton.GaussNewton`."""
    data = Coordinates(moments, problem)
    top = mode(data, newton, enough)
    e, j = data.linearise(top)
    factor = factored(j)
    e_top = e + (j @ top[..., None]).squeeze(-1)
    mu = torch.cholesky_solve(j.mT @ e_top[..., None], factor).squeeze(-1)

    def phi(w: Tensor) -> tuple[Tensor, Tensor]:
        """Return Φ(w) = −log p(y | w) − ½‖e − J w‖², and −log p(y | w)."""
        nll = data.nll(w)
        left = e_top - (j @ w[..., None]).squeeze(-1)
        return nll - 0.5 * left.square().sum(1), nll

    value, nll = phi(mu)
    log_b = torch.zeros_like(value)
    chain = Chain((mu, value), nll, moves, ACCEPTANCE)
    for _ in range(moves):
        w, value = chain.state
        b = log_b.exp()[:, None]
        noise = streams.randn(w.shape[1:], w)[..., None]
        step = torch.linalg.solve_triangular(factor.mT, noise, upper=True).squeeze(-1)
        w_new = mu + (1 - b.square()).clamp_min(0).sqrt() * (w - mu) + b * step
        value_new, nll_new = phi(w_new)
        change = chain.offer(value - value_new, (w_new, value_new), nll_new, streams, w)
        log_b = (log_b + change).clamp(SMALLEST, 0.0)
    residual = torch.zeros_like(value)  # nothing is left of a solve by Cholesky
    return Draw(data.image(chain.state[0], streams), chain.stats() | {"residual": residual})


def gram(j: Tensor) -> Tensor:
    """Return Jᵀ J, [B, r, r], from single-precision products."""
    single = j.float()
    return (single.mT @ single).double()


def factored(j: Tensor) -> Tensor:
    """Return the Cholesky factor of I + Jᵀ J, [B, r, r].

    Near a visibility of 0 a log amplitude is so steep that single precision loses the I.
    """
    eye = torch.eye(j.shape[-1], dtype=j.dtype, device=j.device)
    factor, failed = torch.linalg.cholesky_ex(eye + gram(j))
    if not bool(failed.any()):
        return factor
    # of those lanes alone: a lane's bits are its own
    return torch.where(failed[:, None, None] > 0, torch.linalg.cholesky(eye + j.mT @ j), factor)


def mode(data: Coordinates, steps: int, enough: float) -> Tensor:
    """Return w near the mode of N(w; 0, I) p(y | w): damped Gauss–Newton, [B, r]."""
    w = torch.zeros_like(data.start)
    best = data.nll(w)
    active = torch.ones_like(best, dtype=torch.bool)
    for _ in range(steps):
        e, j = data.linearise(w)
        right = j.mT @ (e[..., None] + j @ w[..., None])
        full = torch.cholesky_solve(right, factored(j)).squeeze(-1)
        size, moved, before, w_next = 1.0, ~active, best, w
        for _ in range(HALVINGS):
            trial = w + size * (full - w)
            value = data.nll(trial) + 0.5 * trial.square().sum(1)
            better = ~moved & torch.isfinite(value) & (value < best)
            w_next = torch.where(better[:, None], trial, w_next)
            best = torch.where(better, value, best)
            moved |= better
            if bool(moved.all()):
                break
            size *= 0.5
        w, active = w_next, before - best > enough
        if not bool(active.any()):
            break
    return w
