"""Whether draws explain the data as nearly alike as draws of one posterior do.

Let r_i be the residual of a draw in units of the noise and E_i = ½ ‖r_i‖². Draws of one posterior
differ in data space by what the data decide,

    k = ½ E ‖r_i − r_j‖² = Σ g,     Var E_i = Σ (g − ½ g²) ≤ k,

exactly for a Gaussian posterior; g in (0, 1) is the share that the data have in a direction
(A Σ Aᵀ in units of the noise). So misfits of draws that stand in one mode lie within some √k of
each other. Where they differ by far more, the draws stand in modes of which some are worse by
e^−difference, and maps that count all draws alike say so nowhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciinv.metrics import decided_directions

# Range of misfits, in √k, from which they are told. 16 draws of one posterior have a range of at
# most 3.5 ± 0.7 of these; twice that leaves room for a k that is estimated and tails.
FAR = 8.0
LEAST = 3  # draws


@dataclass(frozen=True)
class Misfits:
    """How far draws differ in their misfit.

    Attributes:
        draws: Their number.
        apart: Largest E_i − least E_i, nats.
        directions: k: how many directions of the image the data decide.
    """

    draws: int
    apart: float
    directions: float

    @property
    def expected(self) -> float:
        """The most that draws of one posterior are expected to differ by, nats."""
        return FAR * math.sqrt(max(self.directions, 1.0))

    @property
    def several(self) -> bool:
        """Whether some of the draws stand in modes that others exclude."""
        return self.apart > self.expected


def misfits(residuals: Sequence[NDArray[np.floating]]) -> Misfits | None:
    """Return how far the misfits of draws lie apart; None for fewer than three.

    Args:
        residuals: (y − A x_i) ÷ sd of each draw, in one noise for all; NaN where no data are.
    """
    if len(residuals) < LEAST:
        return None
    flat = np.stack([np.nan_to_num(np.asarray(r, np.float64)).ravel() for r in residuals])
    energy = 0.5 * np.square(flat).sum(1)
    pairs = [0.5 * float(np.square(a - b).sum()) for a, b in itertools.combinations(flat, 2)]
    return Misfits(len(flat), float(np.ptp(energy)), decided_directions(pairs))


def sentence(found: Misfits | None) -> tuple[str, bool] | None:
    """Return what the report says of misfits that lie far apart, a doubt; None of others."""
    if found is None or not found.several:
        return None
    return (
        f"The draws do not explain the data equally well: the worst of {found.draws} is "
        f"{found.apart:.3g} nats below the best, where draws of one posterior that scatter as "
        f"these do differ by at most some {found.expected:.2g}. They stand in modes that the data "
        "prefer unequally, or some are not at the end of their way, and the maps count all alike: "
        "look at single draws.",
        True,
    )
