"""What nobody knows of an array: its stations' gains, and where it pointed.

    V_k → g_a g_b* exp(2πi (u_k l_0 + v_k m_0)) V_k

The phase centre (l_0, m_0) is known to a fraction of the beam at best, and where phases are
referred to another source not even that. A prior that knows where its sources lie in the field then
needs the position as a number of its own. It is not to be told from the gains' phases where these
are unknown too, and closures do not have it at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciinv.operators.base import MODEL_ERROR, Unknown, widths_of
from sciinv.operators.parts.sky_transform import UAS
from sciinv.operators.parts.vlbi_gains import KNOWN, Gains

POSITION = "position"


class ArrayUnknowns:
    """The gains and the position of visibilities, as numbers theta [B, P].

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        stations: See `Gains`; needed where a gain is unknown.
        scans: See `Gains`.
        sds: Prior standard deviation by name: those of `Gains`, "position" (µas: of the phase
            centre to the east and to the north), and "model_error", which is the operator's own.

    Raises:
        OperatorError: Names or arrays that do not fit.
    """

    def __init__(
        self, u: Tensor, v: Tensor, stations: Any, scans: Any, sds: Mapping[str, float] | None
    ) -> None:
        widths = widths_of(sds, (*KNOWN, POSITION, MODEL_ERROR), "visibilities")
        of_gains = {name: sd for name, sd in widths.items() if name in KNOWN}
        self.gains = Gains(stations, scans, of_gains, len(u)) if of_gains else None
        self.unknowns = () if self.gains is None else self.gains.unknowns
        self.count = sum(unknown.size or 1 for unknown in self.unknowns)  # of the gains
        self.turns: Tensor | None = None
        if POSITION in widths:
            self.turns = 2 * math.pi * UAS * torch.stack([u, v])  # rad per µas, [2, N]
            self.unknowns += (
                Unknown(POSITION, 0.0, widths[POSITION], "µas", dim="position_axis", size=2),
            )

    def factors(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary part of what multiplies V at theta [B, P], each [B, N]."""
        gains = theta[:, : self.count]
        if self.turns is None:
            assert self.gains is not None
            return self.gains.factors(gains)
        phase = theta[:, self.count :] @ self.turns.to(theta)
        re, im = phase.cos(), phase.sin()
        if self.gains is None:
            return re, im
        a, b = self.gains.factors(gains)
        return a * re - b * im, a * im + b * re
