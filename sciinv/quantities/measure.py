"""Quantities of the fields, derived from every draw: so each carries its posterior uncertainty."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv.quantities.base import Found, Quantity
from sciinv.quantities.holes import holes
from sciinv.quantities.ring import ring
from sciinv.registry import find
from sciinv.store.atomic import write_file


def total(image: xr.DataArray) -> Found:
    """Return the sum over the pixels of every draw; image [draw, channel, y, x]."""
    units = str(image.attrs.get("units", ""))
    return {"Sum of the image": Quantity(image.sum(("channel", "y", "x")).values, units)}


QUANTITIES: dict[str, Callable[[xr.DataArray], Found]] = {
    "ring": ring,
    "holes": holes,
    "total": total,
}


def measure(
    image: xr.DataArray, names: Sequence[str], counted: np.ndarray | None = None
) -> list[dict[str, dict[str, Any]]]:
    """Return the quantities' summaries by their name, one mapping per item.

    Args:
        image: Draws [draw, item, channel, y, x]; read item by item.
        names: Keys of `QUANTITIES`.
        counted: Which draws count, [draw, item] bool; all if None.

    Raises:
        ConfigError: A name is not known.
    """
    chosen = [find("quantity", name, QUANTITIES) for name in names]
    out = []
    for i in range(image.sizes["item"]):
        one = image.isel(item=i)
        one = (one if counted is None else one.isel(draw=counted[:, i])).load()
        found = [quantity(one) for quantity in chosen]
        out.append({k: q.summary() for part in found for k, q in part.items()})
    return out


def write(items: list[dict[str, dict[str, Any]]], path: str | os.PathLike[str]) -> Path:
    """Write the quantities as JSON, a list with one object per item."""
    write_file(path, json.dumps(items, indent=1, ensure_ascii=False, allow_nan=False).encode())
    return Path(path)


def spoken(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return (mean, sd, units) by name, as a report takes them."""
    out: dict[str, Any] = {}
    shares = {(q["measured"], q["draws"]) for q in found.values() if q["mean"] is not None}
    # One structure that some draws do not show: said once, not with each of its quantities.
    together = next(iter(shares)) if len(shares) == 1 and len(found) > 1 else None
    for name, q in found.items():
        if q["mean"] is None:
            out[name] = "not found in any draw"
            continue
        out[name] = (q["mean"], q["sd"], *([q["units"]] if q["units"] else []))
        if together is None and q["measured"] < q["draws"]:
            out[f"{name}: draws that show it"] = f"{q['measured']} of {q['draws']}"
    if together is not None and together[0] < together[1]:
        out["Draws that show them"] = f"{together[0]} of {together[1]}"
    return out
