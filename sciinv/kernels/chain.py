"""What the Markov kernels share: accepting a move, following the acceptance, effective size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.problem import per_lane
from sciinv.seeds import Streams


@dataclass(frozen=True)
class Rule:
    """How a chain's step follows its acceptance: log step += gain (α − target) / √(1 + n / slow).

    The steps of a level are too few for an adaptation that vanishes slowly, and a gain that does
    not vanish at all would keep the chain from being one: so it falls as 1/√n.

    Attributes:
        target: Acceptance that the step is led to.
        gain: How strongly, at the first move.
        slow: Moves over which the gain stays about what it is.
    """

    target: float
    gain: float
    slow: float = 1.0


class Chain:
    """One Markov chain per lane: its state, what of it is accepted, and what that tells.

    Args:
        state: Tensors [B, …] that a move replaces together.
        nll: −log p(y | state) [B], by whose trace the chain is judged; it moves with the state.
        moves: Moves that will be offered.
        rule: How the step follows the acceptance; None for a fixed step.
        settle: First moves, in which the step adapts and nothing is counted. None: it adapts
            throughout and every move counts, for chains too short to give moves away, which start
            at a draw of the linearised target rather than far from it.

    Source: Robbins & Monro 1951 for the step; Andrieu & Thoms 2008 for its use in Markov chains.
    """

    def __init__(
        self,
        state: tuple[Tensor, ...],
        nll: Tensor,
        moves: int,
        rule: Rule | None = None,
        settle: int | None = None,
    ) -> None:
        self.state, self.nll, self.moves, self.rule = state, nll, moves, rule
        self.adapting = moves if settle is None else settle
        self.unseen = 0 if settle is None else settle
        self.accepted, self.trace = torch.zeros_like(nll), list[Tensor]()
        self.done = 0

    def offer(
        self, log_a: Tensor, state: tuple[Tensor, ...], nll: Tensor, streams: Streams, like: Tensor
    ) -> Tensor:
        """Accept or refuse a move, and return what to add to the log of the step, [B].

        Args:
            log_a: log α of the move, [B].
            state: The proposed state.
            nll: Its −log p(y | state), [B].
            streams: One random stream per lane.
            like: A tensor of the dtype and device of the uniform numbers.
        """
        take, rate = metropolis(log_a, streams, like)
        self.state = tuple(
            torch.where(per_lane(take, old), new, old)
            for new, old in zip(state, self.state, strict=True)
        )
        self.nll = torch.where(take, nll, self.nll)
        move, self.done = self.done, self.done + 1
        if move >= self.unseen:
            self.accepted = self.accepted + take
            self.trace.append(self.nll)
        if self.rule is None or move >= self.adapting:
            return torch.zeros_like(rate)
        rule = self.rule
        return (rate - rule.target) * rule.gain / math.sqrt(1 + move / rule.slow)

    def stats(self) -> dict[str, Tensor]:
        """Return the share of counted moves that were accepted, and their effective size, [B]."""
        acceptance = self.accepted / max(1, self.moves - self.unseen)
        return {"acceptance": acceptance, "ess": effective_size(self.trace or [self.nll])}


def metropolis(log_a: Tensor, streams: Streams, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return which lanes accept [B], and min(1, α) for the adaptation; NaN counts as α = 0.

    Args:
        log_a: log α of the proposals, [B].
        streams: One random stream per lane.
        like: A tensor of the dtype and device of the uniform numbers.
    """
    finite = torch.isfinite(log_a)
    take = finite & (streams.rand((), like).log() < log_a)
    return take, torch.where(finite, log_a.clamp_max(0).exp(), torch.zeros_like(log_a))


def effective_size(trace: list[Tensor]) -> Tensor:
    """Return the effective number of independent states per lane, [B], between 1 and n.

    n / τ with τ = −1 + 2 Σ_m (ρ_{2m} + ρ_{2m+1}) up to the first pair that is not positive. Rough
    for a chain of few states; 1 for one that never moved.

    Args:
        trace: A scalar of each state, n times [B].

    Source: Geyer 1992, "Practical Markov chain Monte Carlo" (initial positive sequence).
    """
    states = torch.stack(trace)
    n = len(states)
    if n < 2:
        return torch.ones_like(states[0], dtype=torch.float64)
    x = states.double() - states.double().mean(0)
    f = torch.fft.rfft(x, n=2 * n, dim=0)
    c = torch.fft.irfft(f.abs().square(), n=2 * n, dim=0)[:n]
    rho = c / c[0].clamp_min(1e-300)
    pairs = rho[: n - n % 2].unflatten(0, (-1, 2)).sum(1)
    tau = 2 * (pairs * (pairs > 0).cumprod(0)).sum(0) - 1
    size = (n / tau.clamp_min(1e-12)).clamp(1.0, float(n))
    moved = states.amax(0) > states.amin(0)
    return torch.where(moved & torch.isfinite(size), size, torch.ones_like(size))
