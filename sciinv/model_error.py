"""What an operator cannot say of its data: an error beside the noise, whose size is drawn.

    y = u + n,   n ~ N(0, s² R + t² E)

R is the declared noise, E the covariance of an error of relative size 1, as the operator says it
(see `ModelError`). With R^{-1/2} E R^{-T/2} = Q diag(λ) Qᵀ the noise is white after
W = diag(s² + t² λ)^{-1/2} Qᵀ R^{-1/2}; where both are diagonal Q = I and λ = (sd_E/sd_R)².

Size and scale are drawn by slice sampling (Neal 2003, "Slice sampling", Annals of Statistics 31),
one given the other: their law is no inverse gamma, and with t near 0 splitting the residual into
its two parts moves by 1/√N a step only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian
from sciinv.noise import PRIOR_RATE, PRIOR_SHAPE, Scaled, carries_data, group_sum, per_row
from sciinv.operators.base import ModelError, Operator
from sciinv.seeds import Streams

DRAWN = ("noise_scale", "model_error")  # variables of a result that are of the noise: s and t
SWEEPS = 3  # of size and scale at a level, each given the other
SHRINKS = 64  # of a slice, to e⁻⁶⁴ of where it began at the mean: beyond any width
DECADES = 4.0  # of the size to either side of its prior's half-width; beyond, its prior is 0
SCALES = math.log(1e-3), math.log(1e3)  # of the noise's scale beside it, far beyond its prior


@dataclass(frozen=True)
class Split:
    """An error beside the noise R, where both are diagonal.

    Attributes:
        ratio: λ, [1 or B, …] of the measurement's shape.
        turn: Q, [M, M]; None: the identity.
    """

    ratio: Tensor
    turn: Tensor | None = None

    @classmethod
    def of(cls, base: Gaussian, error: ModelError, y: Tensor) -> Split:
        """Return the split of an error of the data y beside the noise `base`.

        Raises:
            OperatorError: The error is given neither by `sd` nor by `factor`, or by one that is
                not of the measurement's shape.
        """
        if error.sd is not None and base.sd is not None:
            sd = error.sd.double().expand(len(error.sd), *y.shape[1:])
            return cls((sd / base.sd.to(sd)).square())
        m = y[0].numel()
        if error.factor is not None and error.factor.shape[0] == m:
            factor = error.factor.double()
        elif error.sd is not None and len(error.sd) == 1:
            factor = torch.diag(error.sd.double().expand(1, *y.shape[1:]).flatten())
        else:
            raise OperatorError(
                "The operator's model error does not fit its measurement",
                where="model_error",
                expected=f"sd [1, …] of the measurement's shape, or a factor [{m}, K]",
                got=f"factor {None if error.factor is None else list(error.factor.shape)}",
                remedy="return one of the two from the operator's method error_of",
            )
        columns = factor.mT.reshape(-1, *y.shape[1:]).to(y.device)
        white = base.whiten(columns).flatten(1)  # R^{-1/2} F, transposed
        values, turn = torch.linalg.eigh(white.mT @ white)
        return cls(values.clamp_min(0).reshape(1, *y.shape[1:]), turn)

    def of_lane(self, lane: int) -> Split:
        """Return the split of one lane."""
        ratio = self.ratio if len(self.ratio) == 1 else self.ratio[lane : lane + 1]
        return Split(ratio, self.turn)


class WithModelError(Scaled):
    """Gaussian noise with an error of the operator beside it, n ~ N(0, s² R + t² E).

    Args:
        base: The declared noise, R.
        scale: s, [B], or [B, groups].
        index: Group of each component of y where the noise has groups.
        split: The error beside the noise.
        size: t, [B].
        width: Half-width τ of the prior of t, p(t) ∝ 1/(1 + (t/τ)²).
    """

    def __init__(
        self,
        base: Gaussian,
        scale: Tensor,
        index: Tensor | None,
        split: Split,
        size: Tensor,
        width: float,
    ) -> None:
        super().__init__(base, scale, index)
        self.split, self.width = split, width
        self.register_buffer("size", size)

    def of_lane(self, lane: int) -> WithModelError:
        """Return the likelihood of one lane."""
        one = slice(lane, lane + 1)
        return WithModelError(
            self.base, self.scale[one], self.index, self.split.of_lane(lane), self.size[one],
            self.width,
        )  # fmt: skip

    def precision(self, like: Tensor) -> None:
        """Return None: data differ in their noise."""
        return

    def weights(self, like: Tensor) -> None:
        """Return None: lanes differ by more than a factor."""
        return

    def factor(self, r: Tensor) -> Tensor:
        """Return √(s² + t² λ) to broadcast over r, whose rows may be several per lane."""
        ratio = per_row(self.split.ratio.to(r), r)
        size = per_row(self.size.to(r), r).reshape(-1, *(1,) * (r.ndim - 1))
        return (super().factor(r).square() + size.square() * ratio).sqrt()

    def whiten(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return W r."""
        return self._turned(self.base.whiten(r)) / self.factor(r)

    def whiten_t(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return Wᵀ r."""
        return self.base.whiten_t(self._turned(r / self.factor(r), back=True))

    def _turned(self, r: Tensor, back: bool = False) -> Tensor:
        """Return Qᵀ r, or Q r."""
        if self.split.turn is None:
            return r
        q = self.split.turn.to(r)
        return (r.flatten(1) @ (q.mT if back else q)).reshape(r.shape)

    def noise(self, like: Tensor, streams: Streams) -> Tensor:
        """Return n ~ N(0, s² R + t² E)."""
        white = streams.randn(like.shape[1:], like) * self.factor(like)
        return self.base.colour(self._turned(white, back=True))

    @property
    def logs(self) -> tuple[float, float]:
        """Means of log s and log t over the lanes."""
        return float(self.scale.log().mean()), float(self.size.log().mean())

    def log_volume(self, y: Tensor) -> Tensor:
        """Return ½ Σ log(s² + t² λ) over the components that carry data, [B]."""
        logs = self.factor(y.double()).log() * carries_data(self, y)
        return logs.flatten(1).sum(1).to(y)

    def relative_precision(self) -> Tensor:
        """Return the mean of 1/(s² + t² λ) per lane, [B]."""
        lanes = max(len(self.split.ratio), self.lanes)
        like = self.split.ratio.expand(lanes, *self.split.ratio.shape[1:])
        return self.factor(like).square().reciprocal().flatten(1).mean(1)

    def deviations(self, like: Tensor) -> Tensor | None:
        """Return the standard deviation of each component, [B, …]."""
        declared = self.base.deviations(like)
        q = self.split.turn
        if declared is None or q is None:
            return super().deviations(like)
        root = (q * self.split.ratio.flatten().sqrt()).mT.reshape(-1, *like.shape[1:])
        root = self.base.colour(root)
        error = root.square().sum(0, keepdim=True).to(like)
        size = self.size.to(like).reshape(-1, *(1,) * (like.ndim - 1))
        lanes = like[:1].expand(self.lanes, *like.shape[1:])
        scale = Scaled.factor(self, lanes)
        return ((scale * declared).square() + size.square() * error).sqrt()

    def draw(self, u: Tensor, y: Tensor, streams: Streams, fixed: bool) -> tuple[Tensor, Tensor]:
        """Return s and t drawn given the residual of u, p(s, t | u, y); of the shapes of both.

        Args:
            u: Predictions, [B, …].
            y: The data.
            streams: One random stream per lane.
            fixed: Whether s stays as it is.
        """
        e = self._turned(self.base.residual(u, y)).double().square()
        carries = carries_data(self, y)
        ratio = self.split.ratio.to(e)

        def nll(s: Tensor, t: Tensor) -> Tensor:
            """Return ½ Σ (e²/v + log v) by group, [B, groups], of v = s² + t² λ."""
            t = t.reshape(-1, *(1,) * (e.ndim - 1))
            v = Scaled(self.base, s, self.index).factor(e).square() + t.square() * ratio
            return 0.5 * group_sum((e / v + v.log()) * carries, self.index, self.groups)

        s, t = self.scale.double(), self.size.double()
        bound = DECADES * math.log(10.0)
        about = math.log(self.width)
        for _ in range(SWEEPS):

            def of_size(log_t: Tensor, s: Tensor = s) -> Tensor:
                t = log_t.exp()[:, 0]
                prior = t.log() - torch.log1p((t / self.width).square())  # of log t
                return (prior - nll(s, t).sum(1))[:, None]

            log_t = sliced(of_size, t.log()[:, None], about - bound, about + bound, streams)
            t = log_t.exp()[:, 0]
            if fixed:
                continue

            def of_scale(log_s: Tensor, t: Tensor = t) -> Tensor:
                prior = -2 * PRIOR_SHAPE * log_s - PRIOR_RATE * (-2 * log_s).exp()
                return prior - nll(log_s.exp().reshape(s.shape), t)  # noqa: B023

            log_s = sliced(of_scale, s.log().reshape(len(s), -1), *SCALES, streams)
            s = log_s.exp().reshape(s.shape)
        return s.to(self.scale), t.to(self.size)


def as_drawn(physics: Operator, base: Gaussian, drawn: Mapping[str, Tensor], u: Tensor) -> Gaussian:
    """Return the noise of draws as it was drawn with them.

    Args:
        physics: The operator.
        base: The declared noise.
        drawn: The draws' values by name, [draw] or [draw, group]: of "noise_scale" and
            "model_error", where they were drawn.
        u: What the draws predict, [draw, …]: a model error is a share of it.
    """
    scale, size = (drawn.get(name) for name in DRAWN)
    if scale is None and size is None:
        return base
    scale = torch.ones(len(u)) if scale is None else scale
    index = physics.noise_groups if scale.ndim > 1 else None
    index = None if index is None else index.to(u.device).expand(u.shape[1:])
    error = None if size is None else physics.error_of(u)
    if size is None or error is None:
        return Scaled(base, scale.to(u), index)
    split = Split.of(base, error, u)
    return WithModelError(base, scale.to(u), index, split, size.to(u), error.width)


def sliced(
    log_p: Callable[[Tensor], Tensor], at: Tensor, low: float, high: float, streams: Streams
) -> Tensor:
    """Return a step of slice sampling in a bounded interval, for independent values [B, K].

    Args:
        log_p: Log densities of values [B, K], each of its own value alone.
        at: Where each chain is.
        low: The interval's lower end.
        high: Its upper end.
        streams: One random stream per lane.
    """
    at = at.clamp(low, high)
    numbers = streams.rand((SHRINKS + 1, at.shape[1]), at)
    floor = log_p(at) + numbers[:, 0].clamp_min(torch.finfo(at.dtype).tiny).log()
    lower, upper = torch.full_like(at, low), torch.full_like(at, high)
    found, done = at.clone(), torch.zeros_like(at, dtype=torch.bool)
    for k in range(1, SHRINKS + 1):
        trial = lower + (upper - lower) * numbers[:, k]
        inside = ~done & (log_p(torch.where(done, found, trial)) >= floor)
        found = torch.where(inside, trial, found)
        done = done | inside
        if bool(done.all()):
            break
        lower = torch.where(~done & (trial < at), trial, lower)
        upper = torch.where(~done & (trial >= at), trial, upper)
    return found
