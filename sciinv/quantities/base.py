"""What a quantity is: one number per draw, with its unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Quantity:
    """One number per draw.

    Attributes:
        values: [draw]; NaN in a draw where it cannot be measured.
        units: Its unit.
        period: 360 for an angle in degrees; 0 for a number on the line.
    """

    values: NDArray[np.float64]
    units: str = ""
    period: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return mean, sd, quantiles and values; circular mean and sd for an angle."""
        known = self.values[np.isfinite(self.values)]
        out: dict[str, Any] = {
            "units": self.units,
            "draws": len(self.values),
            "measured": len(known),
            "values": [float(v) if np.isfinite(v) else None for v in self.values],
        }
        if not len(known):
            return out | {"mean": None, "sd": None}
        if self.period:
            turn = 2 * math.pi / self.period
            vector = np.exp(1j * turn * known).mean()
            length = max(abs(vector), np.finfo(float).tiny)
            sd = math.sqrt(max(-2 * math.log(length), 0.0)) / turn
            return out | {"mean": float(np.angle(vector) / turn % self.period), "sd": sd}
        spread = float(known.std(ddof=1)) if len(known) > 1 else None
        levels = {f"q{100 * q:02.0f}": float(np.quantile(known, q)) for q in QUANTILES}
        return out | {"mean": float(known.mean()), "sd": spread, **levels}


Found = dict[str, Quantity]


def _pixel(image: xr.DataArray) -> float:
    """Return the side of a pixel in the coordinate's unit."""
    x = np.asarray(image["x"].values, dtype=float)
    return float(abs(x[-1] - x[0]) / (len(x) - 1))
