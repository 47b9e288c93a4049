"""The move of image and instrument parameters together.

    (x0 + V g(δ), θ + δ),   V = −C Āᵀ (I + Ā C Āᵀ)⁻¹ Ḡ,   G = ∂A_θ x̂/∂θ,   g(δ) ≈ δ

V g is how the image that explains the data answers to a change of θ, so in a linear model the move
draws θ with x0 integrated out; θ given x0 alone hardly moves, as the image has absorbed the error.
V and g are taken at a reference (x̂, θ̂) that does not follow the state, so that the move is a shift,
of Jacobian 1, along a line that every point of it would choose again. The reference is the last
level's image and parameters at the mode of that level's line; where they were the last draw itself,
V followed θ, and counts with a dark level of 40 % had means 0.3 posterior sd off.

Source: Liu & Sabatti 2000, "Generalised Gibbs sampler and multigrid Monte Carlo"; Roberts, Gelman &
Gilks 1997, "Weak convergence and optimal scaling of random walk Metropolis algorithms".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.errors import ConfigError
from sciinv.kernels.chain import Chain
from sciinv.likelihoods import Gaussian
from sciinv.seeds import Streams
from sciinv.solvers import solve_dual

if TYPE_CHECKING:
    from sciinv.kernels.unknowns import Unknowns

STEP = 0.01  # of the prior sd: half the width of a central difference in a parameter
NEWTON, MOVES = 3, 4  # steps to the mode of δ, and proposals around it
# Of many parameters proposals are seldom taken, and cost little beside their solves for V.
FEW, MANY_MOVES = 4, 32
WALK = 2.4  # ÷ √P: the best step of a random walk in units of the target's width
TOL, ITERATIONS = 1e-2, 40  # of the solve for V, which need not be exact


def need_gaussian(moments: Moments) -> None:
    """Raise `ConfigError` where p(x0 | x_t) is known by its score alone."""
    if moments.gradient is not None:
        raise ConfigError(
            "Instrument parameters need a Gaussian p(x0 | x_t)",
            got="conditional='score'",
            remedy="use another conditional, or an operator without unknowns",
        )


def move(
    at: Unknowns,
    x0: Tensor,
    moments: Moments,
    streams: Streams,
    temper: float,
    early: bool,
) -> tuple[Tensor, Tensor]:
    """Move (x0, θ) along the image's answer to θ; see the head of this file.

    Args:
        at: The unknowns at their last values; `theta` and `reference` become the new ones.
        x0: The level's draw of the image at these values.
        moments: The model of p(x0 | x_t).
        streams: One random stream per lane.
        temper: The factor on the noise variance with which x0 was drawn.
        early: Whether θ may still be on its way; see `Unknowns.step`.

    Returns:
        x0 as it moved, and the share of proposals taken, [B].

    Raises:
        ConfigError: p(x0 | x_t) is no Gaussian.
    """
    need_gaussian(moments)
    reference = at.reference or (moments.mean, at.prior()[0].expand_as(at.theta))
    line = Line(at, x0, reference, moments, temper)
    delta = torch.zeros_like(at.theta)
    value = line.energy(delta)
    mode, _ = line.descend(delta, value, NEWTON)
    h, _ = line.expansion(mode)
    factor = torch.linalg.cholesky(h)

    def proposal(d: Tensor) -> Tensor:
        """Return −log q(δ) up to a constant, [B]."""
        return 0.5 * (factor.mT @ (d - mode)[..., None]).square().sum((1, 2))

    count = mode.shape[1]
    moves = MOVES if count <= FEW else MANY_MOVES
    chain = Chain((delta,), value, moves)
    for number in range(moves):
        (delta,) = chain.state
        noise = streams.randn(mode.shape[1:], mode)[..., None]
        step = torch.linalg.solve_triangular(factor.mT, noise, upper=True).squeeze(-1)
        walk = number % 2 == 1  # from where it is: leaves places that the mode's width calls far
        new = delta + min(1.0, WALK / count**0.5) * step if walk else mode + step
        there = line.energy(new)
        log_a = chain.nll - there
        if not walk and not early:
            log_a = log_a - (proposal(delta) - proposal(new))
        chain.offer(log_a, (new,), there, streams, x0)
    (delta,) = chain.state
    at.reference = (line.image(line.at_delta(mode)[0]), at.theta + mode)
    x0 = line.image(line.at_delta(delta)[0])
    at.theta = at.theta + delta
    return x0, chain.stats()["acceptance"].to(x0)


class Line:
    """The target along (x0 + V g(δ), θ + δ), as a function of δ [B, P], in double precision."""

    def __init__(
        self,
        at: Unknowns,
        x0: Tensor,
        reference: tuple[Tensor, Tensor],
        moments: Moments,
        temper: float,
    ) -> None:
        self.at, self.x0 = at, x0
        before, there = reference
        c = moments.covariance
        problem = at.problem(there, temper)
        self.likelihood, self.y = problem.likelihood, problem.y
        lin, u = problem.linearise(before)
        mean, self.sd = at.prior()
        self.off = at.theta - mean
        predict = at.predictions(before)
        slopes = differences(lambda d: (predict(there + d),), self.sd, there)[0]
        q, v = [], []
        for slope in slopes:
            r = -self.likelihood.whiten(slope, u)
            w, _, _ = solve_dual(lin, c, r, before, TOL, ITERATIONS)
            q.append(lin.adjoint(w, before))
            v.append(c(q[-1]))
        self.v = torch.stack(v, 1)  # [B, P, C, H, W]
        rows = torch.stack(q, 1).flatten(2)
        # −log p(x0 + V g | x_t) needs no inverse of C, as V = C Q
        self.slope = (rows @ (x0 - moments.mean).flatten(1)[..., None]).squeeze(-1).double()
        bend = (rows @ self.v.flatten(2).mT).double()
        self.bend = 0.5 * (bend + bend.mT)
        self.u, self.before = u, before
        # x̂, x0 and V meet the operator together; what of A does not depend on θ meets them once
        self.images = 2 + len(v)
        self.predict = at.predictions(torch.cat([before, x0, *v])) if problem.linear else None
        self.start = torch.zeros_like(at.theta)  # h(θ)
        if self.predict is not None:
            self.start = self._along(self.start)[0]

    def at_delta(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return g(δ), [B, P], how far along V the image goes, and A x there, [B, …].

        g(δ) = h(θ + δ) − h(θ), h(θ) = argmin_h ‖W (A_θ (x̂ + V h) − A_θ̂ x̂)‖² + hᵀ Vᵀ C⁻¹ V h: what
        keeps the prediction where A bends with θ, as a factor of A does. It is near δ where that is
        small, and does not depend on x0, so the move stays a shift. Of a nonlinear A it is δ.
        """
        if self.predict is None:
            return delta, self.at.physics(self.at.theta + delta).A(self.image(delta))
        h, u, v = self._along(delta)
        g = h - self.start
        return g, u + torch.einsum("bp,bp...->b...", g.to(u), v)

    def _along(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return h(θ + δ), A x0 and A V [B, P, …] there."""
        hat, u, v, j = self._seen(delta)
        off = j.mT @ self._white(hat - self.u)[..., None]
        return -torch.linalg.solve(j.mT @ j + self.bend, off).squeeze(-1), u, v

    def _seen(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return A x̂, A x0, A V [B, P, …] and W A V [B, M, P] at δ."""
        assert self.predict is not None
        out = self.predict((self.at.theta + delta).repeat(self.images, 1))
        hat, u, *v = out.chunk(self.images)
        return hat, u, torch.stack(v, 1), torch.stack([self._white(a) for a in v], 2)

    def _white(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        return self.likelihood.whiten(r, self.u if u is None else u).flatten(1).double()

    def image(self, g: Tensor) -> Tensor:
        """Return x0 + V g."""
        return self.x0 + torch.einsum("bp,bpchw->bchw", g.to(self.x0), self.v)

    def energy(self, delta: Tensor) -> Tensor:
        """Return −log of the target at δ up to a constant, [B]."""
        g, u = self.at_delta(delta)
        nll = self.likelihood.nll(u.double(), self.y.double())
        prior = ((self.off + delta) / self.sd).square().sum(1)
        bend = (g[:, None] @ self.bend @ g[..., None]).flatten()
        return nll + (self.slope * g).sum(1) + 0.5 * (bend + prior)

    def descend(self, delta: Tensor, value: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return δ and its energy after so many Gauss–Newton steps, halved until they descend."""
        for _ in range(steps):
            h, g = self.expansion(delta)
            full = torch.linalg.solve(h, g[..., None]).squeeze(-1)
            size, moved, start = 1.0, torch.zeros_like(value, dtype=torch.bool), delta
            for _ in range(4):
                trial = start - size * full
                there = self.energy(trial)
                better = ~moved & (there < value)
                delta = torch.where(better[:, None], trial, delta)
                value = torch.where(better, there, value)
                moved |= better
                if bool(moved.all()):
                    break
                size *= 0.5
        return delta, value

    def _slopes(self, delta: Tensor, g: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∂g/∂δ [B, P, P] and W ∂u/∂δ [B, M, P].

        ∂g/∂δ leaves out what is proportional to the misfit that g has left. They only propose.
        """
        x0 = self.image(g)
        if self.predict is None:
            slopes = differences(
                lambda d: (self.at.physics(self.at.theta + delta + d).A(self.image(delta + d)),),
                self.sd, delta,
            )[0]  # fmt: skip
            j = torch.stack([self._white(s, u) for s in slopes], 2)
            return torch.eye(g.shape[1]).to(g).expand(len(g), -1, -1), j
        hat = self.before + torch.einsum("bp,bpchw->bchw", (g + self.start).to(x0), self.v)
        predict = self.at.predictions(torch.cat([hat, x0]))
        theta = self.at.theta + delta
        hats, slopes = differences(
            lambda d: tuple(predict((theta + d).repeat(2, 1)).chunk(2)), self.sd, delta
        )
        _, _, v, j = self._seen(delta)
        turned = j.mT @ torch.stack([self._white(a) for a in hats], 2)
        t = -torch.linalg.solve(j.mT @ j + self.bend, turned)
        direct = torch.stack([self._white(s, u) for s in slopes], 2)
        along = torch.stack([self._white(a, u) for a in v.unbind(1)], 2)
        return t, direct + along @ t

    def expansion(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gauss–Newton curvature [B, P, P] and the slope [B, P] of the energy at δ."""
        g, u = self.at_delta(delta)
        likelihood = self.likelihood
        gaussian = isinstance(likelihood, Gaussian)
        r = likelihood.difference(self.y, u) if gaussian else self.y - u
        e = likelihood.whiten(r, u).flatten(1).double()
        t, j = self._slopes(delta, g, u)
        h = j.mT @ j + t.mT @ self.bend @ t + torch.diag(self.sd**-2)
        pull = self.slope[..., None] + self.bend @ g[..., None]
        slope = -(j.mT @ e[..., None]) + t.mT @ pull
        return h, slope.squeeze(-1) + (self.off + delta) / self.sd**2


def differences(
    a: Callable[[Tensor], tuple[Tensor, ...]], sd: Tensor, like: Tensor
) -> list[list[Tensor]]:
    """Return ∂a/∂δ_j at δ = 0 by central differences over a small share of sd, of each part of a.

    Returns:
        For each tensor that `a` returns, its derivatives in δ_1 … δ_P.
    """
    out = []
    for j, h in enumerate((STEP * sd).tolist()):
        step = torch.zeros_like(like)
        step[:, j] = h
        pairs = zip(a(step), a(-step), strict=True)
        out.append([(up - down) / (2 * h) for up, down in pairs])
    return [list(part) for part in zip(*out, strict=True)]
