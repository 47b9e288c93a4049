"""Draws of x0 where the prior is a mixture and A is not linear: a mixture of modes as proposal.

Of p(x0 | y) ∝ p(x0) p(y | x0) the modes are searched once, from several starts in each component,
and give

    q(x0) = (1 − ε) Σ_j π_j N(ν_j, P_j) + ε p(x0),

ν_j a mode, P_j the inverse of Gauss–Newton's Hessian there, π_j Laplace's evidence. Given x_t,
q(x0) N(x_t; x0, σ² I) is a mixture too and is drawn without error. Such a draw x' is offered to a
Metropolis chain for p(x0 | x_t) p(y | x0), in whose ratio x_t cancels:

    α = min(1, W(x') / W(x)),    W = p(x0) p(y | x0) / q(x0).

The chain goes on from level to level, and every step leaves p(x0 | y) as it is. The share ε of the
prior itself bounds W wherever p(y | x0) is bounded, so that a mode that no start found is rare to
reach but not out of reach.

Sources: Tierney 1994 for the independence chain; Tierney & Kadane 1986 for Laplace's evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Components
from sciinv.errors import ConfigError
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.chain import Chain
from sciinv.problem import Problem, per_lane
from sciinv.seeds import Streams

MOST_PIXELS = 256  # each Newton step applies the derivative to that many images
STARTS = 6  # searches in a component: its mean, and draws of it
SHARE = 0.1  # ε
NEWTON, HALVINGS, ARRIVED = 50, 8, 1e-6  # steps at most, halvings of each, nats that end it
TINY = 1e-300  # variance in place of one that rounding makes negative
SAME = 0.05  # squared distance, in units of P, of two ends of a search that count as one mode


@dataclass(frozen=True)
class Proposal:
    """q, as a mixture of all its parts.

    Attributes:
        log_weights: [J].
        means: ν_j, [J, D].
        vectors: V_j, P_j = V_j diag(ρ_j) V_jᵀ, [J, D, D].
        values: ρ_j, [J, D].
    """

    log_weights: Tensor
    means: Tensor
    vectors: Tensor
    values: Tensor

    def log_density(self, x: Tensor, variance: float = 0.0) -> Tensor:
        """Return log w_j + log N(x; ν_j, P_j + variance · I) without 2π, [B, J]; x [B, D]."""
        away = torch.einsum("bjd,jde->bje", x[:, None] - self.means, self.vectors)
        total = self.values + variance
        return self.log_weights - 0.5 * (away.square() / total + total.log()).sum(2)

    def draw(self, x_t: Tensor, sigma: float, streams: Streams) -> Tensor:
        """Return x0 ∝ q(x0) N(x_t; x0, σ² I), [B, D]."""
        cumulated = torch.softmax(self.log_density(x_t, sigma**2), 1).cumsum(1)
        pick = (cumulated < streams.rand((1,), x_t)).sum(1).clamp_max(cumulated.shape[1] - 1)
        v, rho, mean = self.vectors[pick], self.values[pick], self.means[pick]
        away = (v.mT @ (x_t - mean)[..., None])[..., 0]
        white = streams.randn(x_t.shape[1:], x_t)
        along = rho / (rho + sigma**2) * away + (rho * sigma**2 / (rho + sigma**2)).sqrt() * white
        return mean + (v @ along[..., None])[..., 0]


class Modes(Kernel):
    """Independence Metropolis steps under a mixture of the posterior's modes.

    Args:
        moves: Proposals at each level.
    """

    name = "modes"

    def __init__(self, moves: int = 8) -> None:
        self.moves = moves

    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return the state of one chain per lane, with the share of proposals that it took."""
        given = moments.components
        self._check(given, problem)
        assert given is not None
        x_t = given.x_t.double().flatten(1)
        known = problem.chain.get("modes")
        if known is None:
            like, one = given.x_t, problem.with_data(problem.y[:1])
            q = found(given, one, like)
            prior = Proposal(given.weights.log(), given.means, given.vectors, given.values)
            known = (q, prior, None)
        q, prior, state = known

        def weighed(x: Tensor) -> tuple[Tensor, Tensor]:
            """Return log W and −log p(y | x)."""
            nll = problem.nll(x.to(given.x_t).reshape(given.x_t.shape)).double()
            ratio = prior.log_density(x).logsumexp(1) - q.log_density(x).logsumexp(1)
            return ratio - nll, nll

        if state is None:
            x = q.draw(x_t, given.sigma, streams)
            state = (x, *weighed(x))
        chain = Chain(state[:2], state[2], self.moves)
        for _ in range(self.moves):
            x = q.draw(x_t, given.sigma, streams)
            log_w, nll = weighed(x)
            chain.offer(log_w - chain.state[1], (x, log_w), nll, streams, x)
        problem.chain["modes"] = (q, prior, (*chain.state, chain.nll))
        return Draw(chain.state[0].to(given.x_t).reshape(given.x_t.shape), chain.stats())

    @staticmethod
    def _check(given: Components | None, problem: Problem) -> None:
        """Raise `ConfigError` where there is no one mixture posterior of a small image."""
        if given is None:
            got = "another prior or conditional"
        elif given.x_t[0].numel() > MOST_PIXELS:
            got = f"{given.x_t[0].numel()} pixels"
        elif float(given.values.min()) <= 0:
            got = "a component without width in some direction, which has no density"
        elif problem.nominal is not None:
            got = "noise or instrument drawn with the image"
        elif not bool((problem.y == problem.y[:1]).all()):
            got = "lanes of different data"
        else:
            return
        raise ConfigError(
            "The kernel 'modes' searches the modes of one posterior of a mixture prior",
            where="kernel",
            expected=f"a mixture of full covariances, at most {MOST_PIXELS} pixels, known noise "
            "and instrument, items one at a time",
            got=got,
            remedy="take kernel='auto'",
        )


def found(given: Components, problem: Problem, like: Tensor) -> Proposal:
    """Return q of one item.

    Args:
        given: The prior's components; x_t is not looked at.
        problem: With the data of one lane.
        like: An image batch for shape, dtype and device.
    """
    root = given.vectors * given.values.sqrt()[:, None, :]  # L_k, C_k = L_k L_kᵀ
    k = torch.arange(len(root), device=root.device).repeat_interleave(STARTS)
    z = Streams.of_seed(0, len(k)).randn(root.shape[1:2], root)
    z[::STARTS] = 0
    search = _Search(given.means[k], root[k], problem, like)
    z, value = search.ends(z)
    hessian = search.hessian(z)
    keep: list[int] = []
    for i in range(len(z)):
        apart = z[i] - z[keep]
        far = torch.einsum("jd,jde,je->j", apart, hessian[keep], apart) > SAME
        if bool((far | (k[keep] != k[i])).all()) and math.isfinite(float(value[i])):
            keep.append(i)
    z, value, hessian, k = z[keep], value[keep], hessian[keep], k[keep]
    # Of the density without its 2π, as in `Proposal`: that of p(x0) p(y | x0) is everywhere alike.
    evidence = given.weights.log()[k] - value - 0.5 * torch.linalg.slogdet(hessian)[1]
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(hessian), root[k].mT, upper=False)
    rho, vectors = torch.linalg.eigh(half.mT @ half)
    weights = [math.log(1 - SHARE) + evidence.log_softmax(0), math.log(SHARE) + given.weights.log()]
    means = [given.means[k] + (root[k] @ z[..., None])[..., 0], given.means]
    rho, vectors = torch.cat([rho, given.values]), torch.cat([vectors, given.vectors])
    return Proposal(torch.cat(weights), torch.cat(means), vectors, rho.clamp_min(TINY))


class _Search:
    """Searches of minima of ½ ‖z‖² − log p(y | μ + L z), one per lane."""

    def __init__(self, means: Tensor, root: Tensor, problem: Problem, like: Tensor) -> None:
        self.means, self.root, self.problem, self.like = means, root, problem, like

    def image(self, z: Tensor) -> Tensor:
        x = self.means + (self.root @ z[..., None])[..., 0]
        return x.to(self.like).reshape(-1, *self.like.shape[1:])

    def value(self, z: Tensor) -> Tensor:
        return self.problem.nll(self.image(z)).double() + 0.5 * z.square().sum(1)

    def hessian(self, z: Tensor) -> Tensor:
        """Return I + Lᵀ Jᵀ W J L, [lanes, D, D]."""
        x = self.image(z)
        lin, _ = self.problem.linearise(x)
        columns = []
        for d in range(z.shape[1]):
            v = self.root[:, :, d].to(x).reshape(x.shape)
            slope = lin.adjoint(lin.forward(v), x).flatten(1).double()
            columns.append((self.root.mT @ slope[..., None])[..., 0])
        h = torch.stack(columns, 2)
        return 0.5 * (h + h.mT) + torch.eye(z.shape[1], dtype=z.dtype, device=z.device)

    def ends(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return where Newton's steps with halving end, and the value there."""
        best = self.value(z)
        for _ in range(NEWTON):
            _, g = self.problem.nll_and_gradient(self.image(z))
            slope = (self.root.mT @ g.flatten(1).double()[..., None])[..., 0] + z
            step = torch.linalg.solve(self.hessian(z), slope)
            before, moved, size = best, torch.zeros_like(best, dtype=torch.bool), 1.0
            for _ in range(HALVINGS):
                there = z - size * step
                value = self.value(there)
                better = ~moved & torch.isfinite(value) & (value < best)
                z = torch.where(per_lane(better, z), there, z)
                best = torch.where(better, value, best)
                moved |= better
                size *= 0.5
            if float((before - best).max()) < ARRIVED:
                break
        return z, best
