"""Noise scale and instrument parameters of a chain, drawn at each level beside x0.

Given x_t the level's target is p(x0 | x_t) p(θ) p(s) p(y | x0, θ, s). After x0 | x_t, θ, s, y:

    θ   a move along (x0 + V g(δ), θ + δ), V = −C Āᵀ (I + Ā C Āᵀ)⁻¹ Ḡ, G = ∂A_θ x̂/∂θ, g(δ) ≈ δ
    b   offsets by group, marginalised in x0's draw, from their Gaussian given x0
    s   s² | x0, y ~ Inv-Gamma

V g is how the image that explains the data answers to a change of θ, so in a linear model the move
draws θ with x0 integrated out; θ given x0 alone hardly moves, as the image has absorbed the error.
V comes from another image than x0 (the last level's draw), so that the move is a shift, of Jacobian
1, and any V leaves the target as it is.

Source: Liu & Sabatti 2000, "Generalised Gibbs sampler and multigrid Monte Carlo".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.errors import ConfigError, OperatorError
from sciinv.kernels.base import Draw, Level
from sciinv.kernels.chain import Chain
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.noise import Offsets, Scaled, scaled
from sciinv.operators.base import Operator, Unknown, declared
from sciinv.problem import Problem
from sciinv.seeds import Streams
from sciinv.solvers import solve_dual

STEP = 0.01  # of the prior sd: half the width of a central difference in a parameter
NEWTON, MOVES = 3, 4  # steps to the mode of δ, and proposals around it
NATS = 0.1  # of the error of a solve
EARLY = 0.5  # of the levels: down to there a parameter may still be on its way to where it belongs
FIRST = 0.25  # of the levels, which leave the scale of the noise as it was
# From here on a solve of more than MANY data is good enough for the scale that is handed out;
# before, s is off by what the solve leaves, and later levels forget it. (At every level a brain
# cost four times more, from 0.6 on twice: there the scale came out at 1.0678, 1.0675 in two draws,
# here at 1.0686, 1.0683, where its posterior sd is 0.0025.) With few data s hangs on the image and
# forgets slowly; there it is cheap.
CAREFUL, MANY = 0.8, 4096
TOL, ITERATIONS = 1e-2, 40  # of the solve for V, which need not be exact


@dataclass
class Unknowns:
    """The unknowns of one chain per lane, with the values of the last level.

    Attributes:
        nominal: The problem with the declared noise and instrument.
        shape: (C, H, W) of an image.
        parameters: Unknowns that enter through the operator's `at`.
        theta: Their values, [B, P].
        offsets: Unknowns that are added to groups of data.
        scale: s, [B] or [B, groups]; None where the noise is fixed.
        index: Group of each component where the noise has groups.
        values: What a draw hands out, by name: [B] or [B, groups].
        chi2: χ² of the draw with the declared noise and the instrument as drawn, [B].
    """

    nominal: Problem
    shape: tuple[int, ...]
    parameters: tuple[Unknown, ...]
    theta: Tensor
    offsets: tuple[Unknown, ...]
    scale: Tensor | None
    index: Tensor | None
    values: dict[str, Tensor] = field(default_factory=dict)
    chi2: Tensor | None = None

    @classmethod
    def start(cls, problem: Problem, noise: str, like: Tensor) -> Unknowns | None:
        """Return the unknowns at their prior means, or None where all is known.

        Raises:
            ConfigError: The noise has no scale to draw.
            OperatorError: An unknown is declared that cannot be drawn.
        """
        physics: Operator = problem.physics
        unknowns = physics.unknowns
        if noise != "drawn" and not unknowns:
            return None
        _check(unknowns, physics, problem.likelihood)
        parameters = tuple(u for u in unknowns if u.groups is None)
        # innermost those with several groups: they need noise that no other offset correlates
        offsets = sorted((u for u in unknowns if u.groups is not None), key=_many)
        means = [u.mean for u in parameters]
        theta = torch.tensor(means, dtype=torch.float64, device=like.device).expand(len(like), -1)
        index = physics.noise_groups if noise == "drawn" else None
        scale = None
        if noise == "drawn":
            groups = () if index is None else (int(index.max()) + 1,)
            scale = torch.ones(len(like), *groups, dtype=torch.float64, device=like.device)
            scaled(problem.likelihood, scale, index)  # refuses what has no scale
        return cls(problem, tuple(like.shape[1:]), parameters, theta, tuple(offsets), scale, index)

    def problem(
        self, theta: Tensor | None = None, temper: float = 1.0, *, careful: bool = True
    ) -> Problem:
        """Return the problem at these values, the noise variance times `temper`.

        Args:
            theta: Values of the parameters, [B, P]; the last ones if None.
            temper: Factor on the noise variance.
            careful: Whether the scale of the noise that this level draws may be handed out.
        """
        physics = self.physics(self.theta if theta is None else theta) if self.parameters else None
        problem = self.nominal.altered(self._likelihood(temper), physics)
        # An unfinished solve of N data leaves a misfit that reads as noise: √(2N) is what Σ e²
        # scatters by. A parameter may hang on a single nat.
        n = problem.y[0].numel()
        if self.parameters:
            problem.nats = NATS
        elif self.scale is not None and (careful or n <= MANY):
            problem.nats = NATS * max(1.0, 0.1 * (2 * n) ** 0.5)
        return problem

    def physics(self, theta: Tensor) -> Any:
        """Return the operator at these parameters [B, P]."""
        view = self.nominal.physics.at(theta.to(self.nominal.y))
        return declared(view, self.nominal.y, self.shape)

    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return θ ↦ A_θ x of images [K·B, C, H, W] at parameters [K·B, P]."""
        predict = self.nominal.physics.predictions(x)
        return lambda theta: predict(theta.to(self.nominal.y))

    def _likelihood(self, temper: float = 1.0) -> Likelihood:
        likelihood = self.nominal.likelihood
        if self.scale is not None or temper != 1.0:
            s = self.scale if self.scale is not None else self.theta.new_ones(len(self.theta))
            likelihood = scaled(likelihood, s * temper**0.5, self.index)
        for unknown in self.offsets:
            assert isinstance(likelihood, Gaussian)
            assert unknown.groups is not None
            likelihood = Offsets(likelihood, unknown.groups, unknown.sd, unknown.mean)
        return likelihood

    def step(
        self,
        draw: Draw,
        before: Tensor | None,
        moments: Moments,
        streams: Streams,
        level: Level,
    ) -> Draw:
        """Draw the unknowns beside the level's x0, and return x0 as it moved with them.

        Args:
            draw: The draw of x0, [B, C, H, W], at the unknowns' last values.
            before: The last level's x0, at which the operator is differentiated; None at the first.
            moments: The model of p(x0 | x_t).
            streams: One random stream per lane.
            level: Where the annealing is. In the first half of the levels a parameter goes to
                where the energy is lower, whatever the proposal; then the accept step is exact. In
                the first quarter the noise keeps its scale.
        """
        # A tempered level is drawn with noise that is raised on purpose.
        temper = float(draw.stats["temperature"][0]) if "temperature" in draw.stats else 1.0
        x0, stats = draw.x0, dict(draw.stats)
        if self.parameters:
            at = moments.mean if before is None else before
            early = level.progress < EARLY
            x0, stats["unknowns_acceptance"] = self._move(x0, at, moments, streams, temper, early)
        problem = self.problem()
        y, u = problem.y, problem.physics.A(x0)
        likelihood = problem.likelihood
        for unknown in reversed(self.offsets):  # from the outermost: each given those outside it
            assert isinstance(likelihood, Offsets)
            b = likelihood.draw_offsets(u, y, streams)
            y = y - likelihood.placed(b, y)
            self.values[unknown.name] = b if b.shape[1] > 1 else b[:, 0]
            likelihood = likelihood.base
        if self.scale is not None:
            # A tempered level tells nothing of s, and at early ones x0 fits worse than any draw of
            # the posterior: there s would rise to the misfit, free the image of the data and never
            # come back (closures of M87*: NaN at the second level).
            if temper == 1.0 and level.progress >= FIRST:
                assert isinstance(likelihood, Scaled)
                self.scale = likelihood.draw_scale(u, y, streams)
            self.values["noise_scale"] = self.scale
        for j, parameter in enumerate(self.parameters):
            self.values[parameter.name] = self.theta[:, j]
        self.chi2 = self.nominal.likelihood.chi2(u, y)
        return Draw(x0, stats)

    def _move(
        self,
        x0: Tensor,
        before: Tensor,
        moments: Moments,
        streams: Streams,
        temper: float,
        early: bool,
    ) -> tuple[Tensor, Tensor]:
        """Move (x0, θ) along the image's answer to θ; see the head of this file."""
        if moments.gradient is not None:
            raise ConfigError(
                "Instrument parameters need a Gaussian p(x0 | x_t)",
                got="conditional='score'",
                remedy="use another conditional, or an operator without unknowns",
            )
        line = _Line(self, x0, before, moments, temper)
        delta = torch.zeros_like(self.theta)
        value = line.energy(delta)
        mode, best = delta, value
        for _ in range(NEWTON):
            h, g = line.expansion(mode)
            full = torch.linalg.solve(h, g[..., None]).squeeze(-1)
            size, moved = 1.0, torch.zeros_like(best, dtype=torch.bool)
            start = mode
            for _ in range(4):
                trial = start - size * full
                there = line.energy(trial)
                better = ~moved & (there < best)
                mode = torch.where(better[:, None], trial, mode)
                best = torch.where(better, there, best)
                moved |= better
                if bool(moved.all()):
                    break
                size *= 0.5
        h, _ = line.expansion(mode)
        factor = torch.linalg.cholesky(h)

        def proposal(d: Tensor) -> Tensor:
            """Return −log q(δ) up to a constant, [B]."""
            return 0.5 * (factor.mT @ (d - mode)[..., None]).square().sum((1, 2))

        chain = Chain((delta,), value, MOVES)
        for move in range(MOVES):
            (delta,) = chain.state
            noise = streams.randn(mode.shape[1:], mode)[..., None]
            step = torch.linalg.solve_triangular(factor.mT, noise, upper=True).squeeze(-1)
            walk = move % 2 == 1  # from where it is: leaves places that the mode's width calls far
            new = (delta if walk else mode) + step
            there = line.energy(new)
            log_a = chain.nll - there
            if not walk and not early:
                log_a = log_a - (proposal(delta) - proposal(new))
            chain.offer(log_a, (new,), there, streams, x0)
        (delta,) = chain.state
        x0 = line.image(line.at_delta(delta)[0])
        self.theta = self.theta + delta
        return x0, chain.stats()["acceptance"].to(x0)


class _Line:
    """The target along (x0 + V g(δ), θ + δ), as a function of δ [B, P], in double precision."""

    def __init__(
        self, at: Unknowns, x0: Tensor, before: Tensor, moments: Moments, temper: float
    ) -> None:
        self.at, self.x0 = at, x0
        c = moments.covariance
        problem = at.problem(temper=temper)
        self.likelihood, self.y = problem.likelihood, problem.y
        lin, u = problem.linearise(before)
        self.sd = at.theta.new_tensor([p.sd for p in at.parameters])
        self.off = at.theta - at.theta.new_tensor([p.mean for p in at.parameters])
        predict = at.predictions(before)
        slopes = differences(lambda d: (predict(at.theta + d),), self.sd, at.theta)[0]
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
        self.u = u
        # x̂, x0 and V meet the operator together; what of A does not depend on θ meets them once
        self.images = 2 + len(v)
        self.predict = at.predictions(torch.cat([before, x0, *v])) if problem.linear else None

    def at_delta(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return g(δ), [B, P], how far along V the image goes, and A x there, [B, …].

        argmin_g ‖W (A_{θ+δ} (x̂ + V g) − A_θ x̂)‖² + gᵀ Vᵀ C⁻¹ V g: what keeps the prediction where
        A bends with θ, as a factor of A does. It is near δ where that is small, and does not depend
        on x0, so the move stays a shift. Of a nonlinear A it is δ.
        """
        theta = self.at.theta + delta
        if self.predict is None:
            return delta, self.at.physics(theta).A(self.image(delta))
        out = self.predict(theta.repeat(self.images, 1))
        hat, u, *v = out.chunk(self.images)
        off = self._white(hat - self.u)
        j = torch.stack([self._white(a) for a in v], 2)
        g = -torch.linalg.solve(j.mT @ j + self.bend, j.mT @ off[..., None]).squeeze(-1)
        along = torch.einsum("bp,bp...->b...", g.to(u), torch.stack(v, 1))
        return g, u + along

    def _white(self, r: Tensor) -> Tensor:
        return self.likelihood.whiten(r, self.u).flatten(1).double()

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

    def expansion(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gauss–Newton curvature [B, P, P] and the slope [B, P] of the energy at δ."""
        g, u = self.at_delta(delta)
        likelihood = self.likelihood
        gaussian = isinstance(likelihood, Gaussian)
        r = likelihood.difference(self.y, u) if gaussian else self.y - u
        e = likelihood.whiten(r, u).flatten(1).double()
        turns, slopes = differences(lambda d: self.at_delta(delta + d), self.sd, delta)
        j = torch.stack([likelihood.whiten(s, u).flatten(1).double() for s in slopes], 2)
        t = torch.stack(turns, 2)  # ∂g/∂δ
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


def _many(unknown: Unknown) -> bool:
    """Order offsets: those with several groups first, innermost."""
    assert unknown.groups is not None
    return int(unknown.groups.max()) == 0


def _check(unknowns: tuple[Unknown, ...], physics: Operator, likelihood: Likelihood) -> None:
    """Refuse unknowns that cannot be drawn."""
    name = type(physics).__name__
    if any(u.groups is None for u in unknowns) and physics.at is None:
        raise OperatorError(
            "The operator declares an unknown but not how it depends on it",
            where=name,
            expected="at(theta: Tensor [B, P]) -> Physics",
            got=", ".join(u.name for u in unknowns if u.groups is None),
            remedy="give the operator the method at, or the unknown its groups of data",
        )
    if any(u.groups is not None for u in unknowns) and not isinstance(likelihood, Gaussian):
        raise OperatorError(
            "An offset by group needs Gaussian noise",
            where=name,
            expected="Gaussian noise",
            got=type(likelihood).__name__,
            remedy="let the unknown enter through at",
        )
