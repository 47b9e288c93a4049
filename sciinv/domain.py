"""Quantities of the fields, derived from every draw: so each carries its posterior uncertainty."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from sciinv.errors import ConfigError
from sciinv.store.atomic import write_file

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


def ring(image: xr.DataArray) -> Found:
    """Measure the ring of a black-hole image: see `sciinv.ringfit`; image [draw, channel, y, x]."""
    from sciinv.ringfit import ring_parameters

    rings = ring_parameters(image.isel(channel=0).values, _pixel(image))
    return {
        "Ring diameter": Quantity(rings.diameter, "µas"),
        "Ring width": Quantity(rings.width, "µas"),
        "Brightest at (east of north)": Quantity(rings.position_angle, "°", 360.0),
        "Asymmetry": Quantity(rings.asymmetry),
        "Centre ÷ ring brightness": Quantity(rings.central_fraction),
    }


def holes(image: xr.DataArray) -> Found:
    """Count holes in a slice of one material; image [draw, channel, y, x].

    The value of the material is the median of the pixels above half of the draw's 99th percentile;
    material is where a pixel is above half of that value. A hole is a connected region (by sides)
    without material, of at least 4 pixels, that does not touch the edge of the image.
    """
    area = _pixel(image) ** 2
    found = np.array([_holes(draw, area) for draw in image.isel(channel=0).values])
    units = str(image["x"].attrs.get("units", "px"))
    return {
        "Holes": Quantity(found[:, 0]),
        "Area of the holes": Quantity(found[:, 1], f"{units}²"),
        "Area of the material": Quantity(found[:, 2], f"{units}²"),
        "Value of the material": Quantity(found[:, 3], str(image.attrs.get("units", ""))),
    }


def total(image: xr.DataArray) -> Found:
    """Return the sum over the pixels of every draw; image [draw, channel, y, x]."""
    units = str(image.attrs.get("units", ""))
    return {"Sum of the image": Quantity(image.sum(("channel", "y", "x")).values, units)}


QUANTITIES: dict[str, Callable[[xr.DataArray], Found]] = {
    "ring": ring,
    "holes": holes,
    "total": total,
}


def measure(image: xr.DataArray, names: Sequence[str]) -> list[dict[str, dict[str, Any]]]:
    """Return the quantities' summaries by their name, one mapping per item.

    Args:
        image: Draws [draw, item, channel, y, x]; read item by item.
        names: Keys of `QUANTITIES`.

    Raises:
        ConfigError: A name is not known.
    """
    for name in names:
        if name not in QUANTITIES:
            raise ConfigError(
                "There is no quantity of this name",
                expected=", ".join(QUANTITIES),
                got=name,
                remedy="correct the list `domain` of the configuration",
            )
    out = []
    for i in range(image.sizes["item"]):
        one = image.isel(item=i).load()
        found = [QUANTITIES[name](one) for name in names]
        out.append({k: q.summary() for part in found for k, q in part.items()})
    return out


def write(items: list[dict[str, dict[str, Any]]], path: str | os.PathLike[str]) -> Path:
    """Write the quantities as JSON, a list with one object per item."""
    write_file(path, json.dumps(items, indent=1, ensure_ascii=False, allow_nan=False).encode())
    return Path(path)


def spoken(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return (mean, sd, units) by name, as a report takes them."""
    out: dict[str, Any] = {}
    for name, q in found.items():
        if q["mean"] is None:
            out[name] = "not found in any draw"
            continue
        out[name] = (q["mean"], q["sd"], *([q["units"]] if q["units"] else []))
        if q["measured"] < q["draws"]:
            out[f"{name}: draws that show it"] = f"{q['measured']} of {q['draws']}"
    return out


def _pixel(image: xr.DataArray) -> float:
    """Return the side of a pixel in the coordinate's unit."""
    x = np.asarray(image["x"].values, dtype=float)
    return float(abs(x[-1] - x[0]) / (len(x) - 1))


def _holes(draw: np.ndarray, area: float) -> tuple[float, float, float, float]:
    top = float(np.quantile(draw, 0.99))
    if not top > 0:
        return (math.nan,) * 4
    level = float(np.median(draw[draw > top / 2]))
    material = draw > level / 2
    regions, count = ndimage.label(~material)
    outside = set(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    sizes = ndimage.sum_labels(~material, regions, range(1, count + 1))
    inner = [n for k, n in enumerate(sizes, 1) if k not in outside and n >= 4]
    return float(len(inner)), area * float(sum(inner)), area * float(material.sum()), level
