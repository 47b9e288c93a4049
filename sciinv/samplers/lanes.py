"""Which items a chain computes together, and the xarray Dataset that its lanes become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sciinv.operators.base import Operator


def blocks(items: Sequence[int], size: int) -> list[list[int | None]]:
    """Return the rows that are computed together: lists of `size` places, None where none is.

    Item j stands at place j mod `size` of the block j ÷ `size`, so that what it is computed with is
    the same whichever items were asked for.

    Args:
        items: The item of each row.
        size: Items computed together.
    """
    found: dict[tuple[int, int], list[int | None]] = {}
    for row, item in enumerate(items):
        again = 0  # an item that is asked for twice
        while found.setdefault((item // size, again), [None] * size)[item % size] is not None:
            again += 1
        found[item // size, again][item % size] = row
    return list(found.values())


def as_dataset(
    images: Mapping[tuple[int, int], np.ndarray],
    stats: Mapping[str, Mapping[tuple[int, int], Any]],
    numbers: Sequence[int],
    items: Sequence[int],
    physics: Operator,
    about: Mapping[str, Any],
) -> xr.Dataset:
    """Return draws and what they tell of themselves as one Dataset.

    Args:
        images: By (draw, row), [C, H, W].
        stats: By name and (draw, row): a number, or one per group.
        numbers: The draws' numbers.
        items: The items' numbers, one per row.
        physics: The operator, which knows the image's axes and its own unknowns.
        about: The Dataset's attributes.
    """
    rows = range(len(items))
    stack = np.stack([np.stack([images[n, r] for r in rows]) for n in numbers])
    coords: dict[str, Any] = {"draw": numbers, "item": items}
    attrs: dict[str, Any] = {}
    spec = physics.image_spec
    if spec is not None:
        coords["channel"] = list(spec.channels)
        for axis, name in zip(("y", "x"), spec.axis_names, strict=True):
            about_axis = {"units": spec.axis_units, "long_name": name}
            coords[axis] = (axis, np.asarray(getattr(spec, axis)), about_axis)
        attrs["units"] = spec.units
    variables: dict[str, Any] = {"image": (("draw", "item", "channel", "y", "x"), stack, attrs)}
    known = _declared_unknowns(physics)
    for key, value in stats.items():
        grid = np.array([[value[n, r] for r in rows] for n in numbers], dtype=np.float64)
        dim, about_it = known.get(key, (f"{key}_group", {}))
        variables[key] = (("draw", "item", *([dim] if grid.ndim == 3 else [])), grid, about_it)
    return xr.Dataset(variables, coords=coords, attrs=dict(about))


def _declared_unknowns(physics: Operator) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return by name the dimension of an unknown's values and what is known of it."""
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "noise_scale": (
            "noise_group",
            {"units": "1", "long_name": "noise sd ÷ declared", "unknown": 1},
        ),
        "model_error": (
            "model_error_group",
            {"units": "of the signal", "long_name": "model error ÷ signal", "unknown": 1},
        ),
        "chi2_found": ("", {"long_name": "reduced χ² by the noise as drawn"}),
        "misfit": ("", {"long_name": "−2 log p(y | draw) ÷ data, up to a constant"}),
    }
    for u in physics.unknowns:
        attrs: dict[str, Any] = {"units": u.units, "prior_mean": u.mean, "prior_sd": u.sd}
        attrs["unknown"] = 1
        if u.period:
            attrs["period"] = u.period
        known[u.name] = (u.dim, attrs)
    return known
