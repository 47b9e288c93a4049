"""Which coefficients of a sparse law are there: a draw of (z, v) with all u integrated out.

Of u | v, z ~ N(0, diag(v z)) under data of precision G and pull b,

    log p(z, v | data) = log p(z) p(v) + ½ bᵀ E r − ½ log det(I + G E),    E = diag(v z),
    r = (I + G E)⁻¹ b,    Q = (I + G E)⁻¹ G,

and a change δ of E_kk adds ½ δ r_k² / (1 + δ Q_kk) − ½ log(1 + δ Q_kk): with r and Q at hand a
coefficient can be tried at no price, and one that changes costs a rank-one update of both.

Two moves. A jump goes to any free place, drawn among all of them (its variance goes with it). Each
coefficient is drawn anew: absent, or present with one of a few variances. With the others' u held
where they are, as in a sweep of pairs, both are all but impossible under data that mix many
coefficients, such as Fourier's: what one jump leaves has to be taken up by all others at once.

In NumPy and on the CPU: one coefficient follows another, a few numbers of each lane at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.priors.scales.laws import Law
from sciinv.seeds import Streams

TRIED = 4  # variances that a coefficient is tried with
TINY = float(np.finfo(float).tiny)  # for a uniform 0: what has no probability is not picked
Array = np.ndarray[Any, Any]


def draw(
    v: Tensor, z: Tensor, law: Law, gram: Tensor, pull: Tensor, streams: Streams
) -> tuple[Tensor, Tensor]:
    """Return (v, z) after every jump was moved and every coefficient drawn anew.

    Args:
        v: Variances, [B, D]; of no meaning where z is 0.
        z: 1 where a coefficient is present, else 0, [B, D].
        law: With `present` < 1.
        gram: G, [D, D].
        pull: b, [B, D].
        streams: One per lane.

    Returns:
        v and z, [B, D].
    """
    d = v.shape[1]
    tried = law.prior_variances(streams, TRIED * d, v).reshape(-1, TRIED, d).cpu().numpy()
    order, goes, stays = streams.rand((3, d), v).cpu().numpy().swapaxes(0, 1)
    now = _Integrated(gram.cpu().numpy(), pull.cpu().numpy())
    _moved(now, (v * z).cpu().numpy(), order, goes)
    tried[:, 0] = np.where(now.e > 0, now.e, tried[:, 0])  # where they are now, not before
    _drawn_anew(now, tried, math.log(law.present) - math.log1p(-law.present), stays)
    return torch.as_tensor(now.e).to(v), torch.as_tensor(now.e > 0).to(z)


class _Integrated:
    """E, r and Q of each lane, Q as G less the rank-one terms f w wᵀ of all changes so far.

    Few coefficients are present and few change: their terms are fewer numbers than Q.

    Attributes:
        e: Diagonal of E, [B, D], all 0 at the start.
        r: [B, D].
        q: Diagonal of Q, [B, D].
    """

    def __init__(self, gram: Array, pull: Array) -> None:
        self.e = np.zeros_like(pull)
        self.r = pull.copy()
        self.q = np.broadcast_to(np.diagonal(gram), pull.shape).copy()
        self._gram, self._terms = gram, np.zeros(len(pull), int)
        self._f, self._w = np.zeros((len(pull), 16)), np.zeros((len(pull), 16, len(gram)))

    def rows(self, lanes: Array, k: Array) -> Array:
        """Return row k of Q, one k of each of these lanes, [lanes, D]."""
        terms = self._terms[lanes].max(initial=0)
        w, f = self._w[lanes, :terms], self._f[lanes, :terms]
        at = f * w[np.arange(len(lanes)), :, k]
        return self._gram[k] - (at[:, None, :] @ w)[:, 0]  # type: ignore[no-any-return]

    def change(self, lanes: Array, k: Array, delta: Array, row: Array | None = None) -> None:
        """Add δ ≥ −E_kk to E_kk, one k of each of these lanes; `row` is row k of Q, if known."""
        row = self.rows(lanes, k) if row is None else row
        term = self._terms[lanes]
        if term.max(initial=0) == self._f.shape[1]:
            self._f = np.concatenate([self._f, np.zeros_like(self._f)], 1)
            self._w = np.concatenate([self._w, np.zeros_like(self._w)], 1)
        factor = delta / (1 + delta * self.q[lanes, k])
        self._f[lanes, term], self._w[lanes, term] = factor, row
        self._terms[lanes] += 1
        self.r[lanes] -= (factor * self.r[lanes, k])[:, None] * row
        self.q[lanes] -= factor[:, None] * row**2
        self.e[lanes, k] += delta


def _gain(delta: Array, r: Array, q: Array) -> Array:
    """Return the change of log p(data | E) with δ of one coefficient, from its r and Q."""
    one = 1 + delta * q
    return 0.5 * (delta * r**2 / one - np.log(one))  # type: ignore[no-any-return]


def _picked(log_p: Array, uniform: Array) -> Array:
    """Return an index of the last axis, ∝ exp(log p), from a uniform number of each row."""
    total = np.exp(log_p - log_p.max(-1, keepdims=True)).cumsum(-1)
    return (total < np.maximum(uniform, TINY)[:, None] * total[:, -1:]).sum(-1)  # type: ignore[no-any-return]


def _moved(now: _Integrated, e: Array, order: Array, uniform: Array) -> None:
    """Put the jumps of E = diag(e) in and draw the place of each among the free ones.

    They take turns in an order that is drawn: by place, a jump that went behind the others would
    have another turn, and the way back would not be as likely as the way there.
    """
    there = e > 0
    turns = np.where(there, order, np.inf).argsort(1)
    counts = there.sum(1)
    for m in range(counts.max(initial=0)):
        lanes = np.flatnonzero(counts > m)
        now.change(lanes, turns[lanes, m], e[lanes, turns[lanes, m]])
    for m in range(counts.max(initial=0)):
        lanes = np.flatnonzero(counts > m)
        k, rows = turns[lanes, m], np.arange(len(lanes))
        own, row = now.e[lanes, k], now.rows(lanes, k)
        scale = own / (1 - own * now.q[lanes, k])  # r and Q without the jump
        r = now.r[lanes] + (scale * now.r[lanes, k])[:, None] * row
        q = now.q[lanes] + scale[:, None] * row**2
        gain = _gain(own[:, None], r, q)
        free = now.e[lanes] == 0
        free[rows, k] = True
        to = _picked(np.where(free, gain, -np.inf), uniform[lanes, m])
        gone = to != k
        now.change(lanes[gone], k[gone], -own[gone], row[gone])
        now.e[lanes[gone], k[gone]] = 0.0  # to the last bit: 0 means absent
        now.change(lanes[gone], to[gone], own[gone])


def _drawn_anew(now: _Integrated, tried: Array, odds: float, uniform: Array) -> None:
    """Draw each coefficient given all others: absent, or present with one of the variances tried.

    With the variances as so many draws of p(v), the coefficient's own among them, every one is as
    likely before the data: each has the odds of being present divided by their number.
    """
    everyone = np.arange(len(now.e))
    each = odds - math.log(tried.shape[1])
    log_p = np.zeros((len(now.e), 1 + tried.shape[1]))
    values = np.concatenate([np.zeros_like(tried[:, :1]), tried], 1)
    for k in range(now.e.shape[1]):
        own = now.e[:, k]
        left = 1 - own * now.q[:, k]
        r, q = now.r[:, k] / left, now.q[:, k] / left
        log_p[:, 1:] = each + _gain(tried[:, :, k], r[:, None], q[:, None])
        new = values[everyone, _picked(log_p, uniform[:, k]), k]
        lanes = np.flatnonzero(new != own)
        now.change(lanes, np.full(len(lanes), k), (new - own)[lanes])
        now.e[lanes, k] = new[lanes]
