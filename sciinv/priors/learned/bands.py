"""Which of a prior's networks serves a noise level.

With the networks of a prior in rising order and w of the one above,

    D(x, σ) = (1 − w(σ)) D_below(x, σ) + w(σ) D_above(x, σ),   w = t² (3 − 2t),
    t = ln(σ/above) / ln(alone/above), kept in [0, 1],

or a step at `above` where there is no blend. Only networks with a weight are called, so a level
outside the blend costs one call of one network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciinv.priors.learned.specs import HighSpec

Network = Callable[[Tensor, Tensor], Tensor]


def share(sigma: Tensor, spec: HighSpec) -> Tensor:
    """Return the weight w(σ) of the network of `spec`, in [0, 1]; any shape, units of u."""
    if spec.alone <= spec.above:
        return (sigma >= spec.above).to(sigma.dtype)
    t = (sigma / spec.above).log() / math.log(spec.alone / spec.above)
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def served(
    below: Callable[[], Tensor], above: Callable[[], Tensor], sigma: Tensor, seen: Tensor,
    spec: HighSpec,
) -> Tensor:  # fmt: skip
    """Return D of two networks [B, C, H, W], calling only those that the levels need.

    Args:
        below: D of the networks for lower noise.
        above: D of the network of `spec`.
        sigma: σ [B, 1, 1, 1] or one for all, units of u.
        seen: σ too, where it can be looked at without a wait.
        spec: From where the upper network serves.
    """
    weights = share(seen, spec)
    try:
        every, some = bool((weights >= 1).all()), bool((weights > 0).any())
    except RuntimeError:  # under torch.func.vmap there are no values to look at
        every, some = False, True
    if every:
        return above()
    if not some:
        return below()
    w = share(sigma, spec)
    if spec.alone <= spec.above:
        return torch.where(w > 0, above(), below())
    return torch.lerp(below(), above(), w)
