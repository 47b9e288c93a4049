"""What the page's canvas shows: maps, usual images and every draw, in one colour scale."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import Colormap
from numpy.typing import NDArray

from sciinv import plots, uncertainty
from sciinv.plots.panel import edges_of
from sciinv.report.packed import binned, packed
from sciinv.report.shown import Shown
from sciinv.uncertainty.alignment import aligned
from sciinv.units import is_length

BUDGET = 1_800_000  # bytes of base64 text for the draws of one page
_SIDES = (1, 2, 4, 8)  # draws that do not fit are averaged over so many pixels, then left out


@dataclass(frozen=True)
class Draws:
    """The draws of one item, read one at a time.

    Attributes:
        numbers: Their numbers.
        read: Returns the k-th as [y, x], in the shown unit.
    """

    numbers: list[int]
    read: Callable[[int], NDArray[Any]]

    @classmethod
    def of(cls, one: xr.Dataset, channel: int, shown: Shown, moved: bool) -> Draws:
        """Return the draws of a dataset of one item.

        Args:
            one: "image" [draw, 1, channel, y, x].
            channel: Which channel; complex images have one, their magnitude.
            shown: The unit.
            moved: Whether they are moved onto each other, as the maps of them were.
        """
        image = one["image"].isel(item=0)
        complex_ = uncertainty.is_complex(image)
        numbers = [int(n) for n in image["draw"].values]

        def plane(values: NDArray[Any]) -> NDArray[Any]:
            flat = np.hypot(values[0], values[1]) if complex_ else values[channel]
            return flat * shown.factor + shown.offset

        if moved:
            together = aligned(image.values)
            return cls(numbers, lambda k: plane(together[k]))
        return cls(numbers, lambda k: plane(image.isel(draw=k).values))


def payload(
    summary: xr.Dataset,
    draws: Draws,
    chi2: NDArray[Any] | None,
    others: Mapping[str, NDArray[Any]],
    colours: Colormap,
    limits: tuple[float, float],
    budget: int = BUDGET,
) -> dict[str, Any]:
    """Return what the script of the page takes, of JSON types only.

    Args:
        summary: Maps [y, x] of one item and channel, in the shown unit.
        draws: The draws, likewise.
        chi2: Reduced χ² of each draw, [draw].
        others: Usual reconstructions and the truth by name, [y, x].
        colours: Colours of images.
        limits: Values at their ends.
        budget: Bytes of text that the draws may take.
    """
    mean = summary["mean"]
    levels = [float(q) for q in summary["quantile"].values]
    views = [
        _view("mean", "Mean", mean.values, "image"),
        _view("sd", "Standard deviation", summary["sd"].values, "spread"),
        *(
            _view(f"q{i}", _named(level), summary["quantiles"].values[i], "image")
            for i, level in enumerate(levels)
        ),
        *(
            _view(f"p{i}", f"P(x > {float(t):.3g})", summary["probability"].values[i], "share")
            for i, t in enumerate(summary["threshold"].values if "probability" in summary else ())
        ),
        *(_view(f"o{i}", name, image, "image") for i, (name, image) in enumerate(others.items())),
    ]
    return {
        "views": views,
        "draws": _draws(draws, chi2, budget),
        "interval": [f"q{0}", f"q{len(levels) - 1}"],
        "level": levels[-1] - levels[0],
        "rows": mean.sizes["y"],
        "columns": mean.sizes["x"],
        "x": _axis(mean, "x"),
        "y": _axis(mean, "y"),
        "units": str(mean.attrs.get("units", "")),
        "limits": list(limits),
        "colours": {
            "image": _table(colours),
            "spread": _table(plots.colours_of(plots.SPREAD)),
            "share": _table(plots.colours_of("cividis")),
        },
    }


def _view(key: str, name: str, image: NDArray[Any], kind: str) -> dict[str, Any]:
    return {"key": key, "name": name, "kind": kind, **packed(image, 16)}


def _named(level: float) -> str:
    return "Median" if level == 0.5 else f"{100 * level:.4g} % quantile"


def _draws(draws: Draws, chi2: NDArray[Any] | None, budget: int) -> dict[str, Any]:
    """Return as many draws as fit, in the finest pixels in which all fit."""
    count = len(draws.numbers)
    ends = [(float(v.min()), float(v.max())) for v in map(draws.read, range(count))]
    limits = (min(low for low, _ in ends), max(high for _, high in ends))
    first, side = draws.read(0), 1
    for side in _SIDES:
        size = len(packed(binned(first, side), 8, limits)["data"])
        if size * count <= budget:
            break
    shown = min(count, max(1, budget // size))
    return {
        "side": side,
        "total": count,
        "numbers": draws.numbers[:shown],
        "chi2": None if chi2 is None else [float(f"{c:.4g}") for c in chi2[:shown]],
        "images": [packed(binned(draws.read(k), side), 8, limits) for k in range(shown)],
    }


def _axis(mean: xr.DataArray, name: str) -> dict[str, Any]:
    """Return where the outer edges of the first and last pixel are, the axis's name and unit."""
    first, last = edges_of(mean, name)
    attrs = mean[name].attrs
    units = str(attrs.get("units", ""))
    return {
        "first": first,
        "last": last,
        "name": str(attrs.get("long_name", name)),
        "units": units if is_length(units) else "pixels",
    }


def _table(colours: Colormap) -> str:
    """Return 256 colours as base64 of RGB bytes."""
    rgb = np.rint(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)
    return base64.b64encode(rgb.tobytes()).decode()
