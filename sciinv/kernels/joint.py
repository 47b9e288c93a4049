"""The block draw of an image and many instrument parameters: v = (z, t), x0 = m + L z, θ = μ + D t.

    p(v | x_t, y) ∝ exp(−½‖v‖²) p(y | A_θ x0)

At the mode v* the data are replaced by e_lin(v) = W(ỹ − J (v − v*)), J = [A_θ L, G D] and
G = ∂A_θ x*/∂θ, whose posterior N(v̄, P) is drawn exactly. Proposals v̄ + √(1−b²)(v − v̄) + b P^½ ξ
leave that posterior as it is, so the accept step sees the bend of the data alone, however many
pixels and parameters there are: log α = Φ(v) − Φ(v'), Φ(v) = −log p(y | v) − ½‖e_lin(v)‖². One
solve serves all parameters, where `parameters` makes one for each.

Source: Cotter et al. 2013, "MCMC methods for functions", for the Crank–Nicolson proposal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Implicit
from sciinv.kernels.chain import Chain
from sciinv.kernels.parameters import need_gaussian
from sciinv.kernels.reduced import ACCEPTANCE, HALVINGS, SMALLEST
from sciinv.problem import per_lane
from sciinv.seeds import Streams
from sciinv.solvers import conjugate_gradient
from sciinv.solvers.whitened import filtered

if TYPE_CHECKING:
    from sciinv.kernels.unknowns import Unknowns

NEWTON = 4  # Gauss–Newton steps to the mode, fewer where the data prove linear to within a nat
MOVES = 3
TOL, ITERATIONS = 1e-2, 150  # of a solve for the step from the mode: an error of about 0.1 nat
NAT = 1.0
SAME = 0.2  # of the image's norm: a block of another image this near preconditions as well


def draw(
    at: Unknowns,
    before: Tensor | None,
    moments: Moments,
    streams: Streams,
    early: bool,
) -> Tensor:
    """Draw the parameters together with an image; `at.theta` becomes the new one.

    Args:
        at: The unknowns at their last values.
        before: The last level's x0; None at the first.
        moments: The model of p(x0 | x_t).
        streams: One random stream per lane.
        early: Whether the chain starts at the mode and its first proposal is taken, as the last
            level's state may be far from it; else it goes on from that state.

    Returns:
        The share of proposals taken, [B]. The image is not handed out: it is drawn anew given θ.

    Raises:
        ConfigError: p(x0 | x_t) is no Gaussian.
    """
    need_gaussian(moments)
    model = mode(at, moments)
    centre = model.physical(model.v + model.step(None))
    early = early or before is None
    start = centre if early or before is None else (before, at.theta.to(before))
    phi, nll = model.phi(*start)
    log_b = torch.zeros_like(nll)
    chain = Chain((*start, phi), nll, MOVES, ACCEPTANCE)
    for number in range(MOVES):
        *old, phi = chain.state
        b = log_b.exp().to(model.v)
        drawn = model.physical(model.v + model.step(streams))
        new = tuple(
            c + (1 - per_lane(b, c).square()).clamp_min(0).sqrt() * (o - c)
            + per_lane(b, c) * (d - c)
            for c, o, d in zip(centre, old, drawn, strict=True)
        )  # fmt: skip
        there, nll = model.phi(*new)
        log_a = phi - there
        if early and number == 0:
            log_a = torch.where(torch.isfinite(there), torch.zeros_like(log_a), log_a)
        change = chain.offer(log_a, (*new, there), nll, streams, old[0])
        log_b = (log_b + change).clamp(SMALLEST, 0.0)
    x, theta, _ = chain.state
    at.theta = theta.to(at.theta)
    return chain.stats()["acceptance"].to(x)


def mode(at: Unknowns, moments: Moments) -> Model:
    """Return the model at the mode of p(x0, θ | x_t, y), found from x0 = m and the last θ.

    Gauss–Newton steps, halved until they descend. A lane that has arrived stands still, whatever
    its neighbours do.
    """
    mean, sd = (part.to(moments.mean) for part in at.prior())
    t = (at.theta.to(moments.mean) - mean) / sd
    v = torch.cat([moments.covariance.origin(moments.mean).flatten(1), t], 1)
    model = Model(at, moments, v)
    best = model.energy(v)
    active = torch.ones_like(best, dtype=torch.bool)
    for _ in range(NEWTON):
        step, start, size = model.step(None), v, 1.0
        expected = model.expected(v) - model.expected(v + step)
        moved, linear, before = ~active, ~active, best
        for _ in range(HALVINGS):
            trial = start + size * step
            value = model.energy(trial)
            better = ~moved & torch.isfinite(value) & (value < best)
            v = torch.where(per_lane(better, v), trial, v)
            best = torch.where(better, value, best)
            moved = moved | better
            if size == 1.0:
                linear = linear | (better & ((before - value - expected).abs() < NAT))
            if bool(moved.all()):
                break
            size *= 0.5
        arrived = linear | ~moved
        model = Model(at, moments, v)
        active = active & ~arrived
        if not bool(active.any()):
            break
    return model


class Model:
    """The data linearised at v* = (z*, t*), [B, D + P], where image and parameters are N(0, I)."""

    def __init__(self, at: Unknowns, moments: Moments, v: Tensor) -> None:
        self.at, self.v = at, v
        self.m, self.c = moments.mean, moments.covariance
        self.mean, self.sd = (part.to(self.m) for part in at.prior())
        self.x, self.theta = self.physical(v)
        problem = at.problem(self.theta)
        self.y, self.likelihood = problem.y, problem.likelihood
        self.lin, self.u = problem.linearise(self.x)
        self.e = self.likelihood.whiten(self.likelihood.difference(self.y, self.u), self.u)
        self._slopes, self._slopes_t = problem.physics.sensitivity(self.x)
        self._dense: tuple[Tensor, Tensor] | None = None
        if self.lin.rows is not None and not isinstance(self.c, Implicit):
            self._dense = self._factored(self.lin.rows)
        typical = self.c.typical_spectrum(self.m)
        self.gain: Tensor | None = None
        pixels = self.c.coordinates(self.m) == self.m.shape[1:]
        if self._dense is None and typical is not None and pixels:
            scale, power = typical
            self.gain = 1.0 / (1.0 + scale * power * problem.symbol(self.lin, self.m))
        self.block: Tensor | None = None
        if self._dense is None:
            self.block = self._information()

    def split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and t."""
        shape = self.c.coordinates(self.m)
        count = math.prod(shape)
        return v[:, :count].reshape(len(v), *shape), v[:, count:]

    def physical(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return x0 = m + L z and θ = μ + D t."""
        z, t = self.split(v)
        return self.m + self.c.sqrt(z), self.mean + self.sd * t

    def forward(self, v: Tensor) -> Tensor:
        """Return J v, whitened."""
        z, t = self.split(v)
        slope = self.likelihood.whiten(self._slopes(self.sd * t), self.u)
        return self.lin.forward(self.c.sqrt(z)) + slope

    def adjoint(self, r: Tensor) -> Tensor:
        """Return Jᵀ r."""
        z = self.c.sqrt_t(self.lin.adjoint(r, self.m))
        t = self.sd * self._slopes_t(self.likelihood.whiten_t(r, self.u))
        return torch.cat([z.flatten(1), t], 1)

    def step(self, streams: Streams | None) -> Tensor:
        """Return v − v* for the mean of the linearised posterior, or for a draw of it."""
        r, pull = self.e, -self.v
        if streams is not None:
            r = r + streams.randn(r.shape[1:], r)
            pull = pull + streams.randn(pull.shape[1:], pull)
        if self._dense is not None:
            rows, factor = self._dense
            off = r.flatten(1).double() - (rows @ pull.double()[..., None]).squeeze(-1)
            w = torch.cholesky_solve(off[..., None], factor)
            return pull + (rows.mT @ w).squeeze(-1).to(pull)
        b = self.adjoint(r) + pull
        return conjugate_gradient(
            lambda v: v + self.adjoint(self.forward(v)), b, TOL, ITERATIONS, self._precondition
        )[0]

    def energy(self, v: Tensor) -> Tensor:
        """Return −log p(v | x_t, y) up to a constant, [B]."""
        return self.nll(*self.physical(v)) + 0.5 * v.double().square().sum(1)

    def expected(self, v: Tensor) -> Tensor:
        """Return what the linearised data make of that, [B]."""
        e = (self.e - self.forward(v - self.v)).double()
        return 0.5 * (e.square().flatten(1).sum(1) + v.double().square().sum(1))

    def nll(self, x: Tensor, theta: Tensor) -> Tensor:
        """Return −log p(y | x0, θ), [B]."""
        u = self.at.physics(theta).A(x)
        return self.likelihood.nll(u.double(), self.y.double())

    def phi(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return Φ and −log p(y | x0, θ), [B]."""
        slope = self.likelihood.whiten(self._slopes(theta - self.theta), self.u)
        e = self.e - self.lin.forward(x - self.x) - slope
        nll = self.nll(x, theta)
        return nll - 0.5 * e.double().square().flatten(1).sum(1), nll

    def _precondition(self, v: Tensor) -> Tensor:
        z, t = self.split(v)
        z = z if self.gain is None else filtered(self.gain, z)
        if self.block is not None:
            t = torch.cholesky_solve(t[..., None], self.block).squeeze(-1)
        return torch.cat([z.flatten(1), t], 1)

    def _information(self) -> Tensor:
        """Return the Cholesky factor of I + D Gᵀ R⁻¹ G D, [B, P, P]: that of the parameters alone.

        It is that of an image near this one until the image has changed.
        """
        kept = self.at.block
        if kept is not None:
            apart = (self.x - kept[0]).flatten(1).norm(dim=1) / kept[0].flatten(1).norm(dim=1)
            if bool((apart < SAME).all()):
                return kept[1]
        # column by column: all of W G D at once may be gigabytes, as of many coils
        rows = [
            self.sd * self._slopes_t(self.likelihood.whiten_t(column, self.u))
            for column in self._columns()
        ]
        information = torch.stack(rows, 1).double()
        eye = torch.eye(len(self.sd), dtype=torch.float64, device=self.x.device)
        block = torch.linalg.cholesky(eye + 0.5 * (information + information.mT)).to(self.x)
        self.at.block = self.x, block
        return block

    def _columns(self) -> Iterator[Tensor]:
        """Yield the columns of W G D, each [B, …]: how the whitened data answer to a parameter."""
        for unit in torch.diag(self.sd):
            yield self.likelihood.whiten(self._slopes(unit.expand_as(self.theta)), self.u)

    def _factored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return J as rows [B, M, D + P] and the factor of I + J Jᵀ, in double precision."""
        rows = rows.expand(len(self.m), *rows.shape[1:])
        half = self.c.rows_root(rows).flatten(2)
        each = [column.flatten(1) for column in self._columns()]
        j = torch.cat([half, torch.stack(each, 2)], 2).double()
        eye = torch.eye(j.shape[1], dtype=j.dtype, device=j.device)
        return j, torch.linalg.cholesky(eye + j @ j.mT)
