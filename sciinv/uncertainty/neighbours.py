"""Whether residuals that lie side by side know of each other, as those of a right draw do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Both are asked for: many data make the smallest correlation certain, and few make a large one
# by chance. Four simulated discs from 30°, all 32 draws in wrong modes: 0.083 to 0.26 along the
# views (7.6 to 24 standard errors); the truths themselves: at most 0.012 (1 standard error).
LARGE, SURE = 0.05, 5.0


@dataclass(frozen=True)
class Neighbours:
    """The correlation of residuals that lie side by side along one axis of the data.

    Attributes:
        axis: What lies side by side, in the plural: "views".
        correlation: Of neighbours, the mean over draws; 0 is expected, 1 the most there can be.
        error: Its standard error where noise is independent, 1/√pairs.
    """

    axis: str
    correlation: float
    error: float

    @property
    def related(self) -> bool:
        """Whether the correlation is large and no chance."""
        return abs(self.correlation) > max(LARGE, SURE * self.error)


def neighbours(
    residuals: Sequence[NDArray[np.floating]], axes: Mapping[str, int]
) -> tuple[Neighbours, ...]:
    """Return how residuals that lie side by side are correlated.

    A draw of the posterior and the truth have the same joint law with the data, so the residual
    r = (y − A x0)/σ of a draw has the law of the noise. Where that is independent from value to
    value, ⟨r_i r_{i+1}⟩ / ⟨r²⟩ is 0 ± 1/√pairs, whatever the level of the noise: an image in a
    wrong mode, or an operator that misses something, leaves structure that a noise scale drawn with
    the image cannot hide. All draws have one y, so that more of them do not make the error smaller.

    Args:
        residuals: Of each draw, any shape; NaN where no data are.
        axes: By name, the axis along which values lie side by side.

    Returns:
        One for each axis along which there are neighbours.
    """
    out = []
    for name, axis in axes.items():
        found = [_of_one(r, axis) for r in residuals]
        pairs = found[0][1] if found else 0
        if pairs:
            mean = float(np.mean([correlation for correlation, _ in found]))
            out.append(Neighbours(name, mean, 1 / math.sqrt(pairs)))
    return tuple(out)


def _of_one(residual: NDArray[np.floating], axis: int) -> tuple[float, int]:
    """Return the correlation of neighbours along an axis, and the number of pairs."""
    first = np.moveaxis(np.asarray(residual, dtype=np.float64), axis, 0)
    product = first[1:] * first[:-1]
    known = np.isfinite(product)
    power = np.nanmean(first**2) if np.isfinite(first).any() else 0.0
    if not known.any() or not power > 0:
        return 0.0, 0
    return float(product[known].mean() / power), int(known.sum())


def sentence(found: Sequence[Neighbours]) -> tuple[str, bool] | None:
    """Return what the report says of them, and whether it is a doubt; None without neighbours."""
    if not found:
        return None
    each = " and ".join(
        f"{n.correlation:+.2f} ± {n.error:.1g} between neighbouring {n.axis}" for n in found
    ).replace("-", "−")
    start = f"Correlation of the residuals, 0 expected of a right draw: {each}"
    if not any(n.related for n in found):
        return f"{start}.", False
    return (
        f"{start}. What is left of the data has structure, which no noise level explains: the "
        "operator misses an effect, the noise is not independent from value to value, or every "
        "draw stands in a mode that is not the data’s. The intervals do not know of it.",
        True,
    )
