"""Draws moved onto each other, where the data do not know where the source is.

Closure phases and closure amplitudes are the same for a source anywhere in the field: each draw has
it somewhere, and a pixel-wise mean and sd show that scatter instead of the source. Every draw is
moved by whole pixels, around the edges, to where its correlation with the mean of all draws is
highest, and again with the new mean (at first, with the draw that is most like the mean):

    s_i = arg max_s Σ_p m(p) x_i(p − s),   m = Σ_i x_i(· − s_i) / n

Source: what closure quantities leave open, Thompson, Moran & Swenson 2017, chapter 10; images are
moved to their highest cross-correlation before they are averaged in EHT Collaboration 2019, ApJL
875, L4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 5  # the mean of some tens of draws is at rest after two or three


def align(draws: NDArray[np.floating]) -> None:
    """Move draws [draw, …, H, W] onto each other, in place.

    Args:
        draws: Images of one item, any units; where there are channels they are moved together.
    """
    # Two copies match their mean at either place: the draw most like the mean comes first.
    mean = draws.mean(axis=0, dtype=np.float64)
    norms = [float(np.linalg.norm(d)) or 1.0 for d in draws]
    likeness = [_match(mean, d).max() / n for d, n in zip(draws, norms, strict=True)]
    target = draws[int(np.argmax(likeness))]
    for _ in range(ROUNDS):
        moved = [_move(draw, target) for draw in draws]
        if not any(moved):
            return
        target = draws.mean(axis=0, dtype=np.float64)


def _match(target: NDArray[np.floating], draw: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Σ_p m(p) x(p − s) for every s, [H, W]; channels are summed."""
    product = np.fft.rfft2(target) * np.fft.rfft2(draw).conj()
    return np.fft.irfft2(product.sum(axis=tuple(range(draw.ndim - 2))), draw.shape[-2:])


def _move(draw: NDArray[np.floating], target: NDArray[np.floating]) -> bool:
    """Move a draw to where it matches best; say whether it was moved."""
    match = _match(target, draw)
    shift = np.unravel_index(match.argmax(), match.shape)
    if any(shift):
        draw[...] = np.roll(draw, shift, (-2, -1))
    return any(shift)


def aligned(draws: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return draws [draw, …, H, W] after `align`, as a copy."""
    out = np.array(draws)
    align(out)
    return out
