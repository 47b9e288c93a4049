"""One map in its physical coordinates, with a scale bar and shared colour limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patheffects import withStroke

from sciinv.errors import ConfigError
from sciinv.plots.style import label
from sciinv.units import is_length


def show(
    ax: Axes,
    panel: xr.DataArray,
    colours: Colormap | str,
    limits: tuple[float, float],
    *,
    plain: bool = False,
    labels: tuple[bool, bool] = (True, True),
) -> Any:
    """Draw a map as it is stored, row 0 on top, in the coordinates of its pixels' edges."""
    left, right = edges_of(panel, "x")
    top, bottom = edges_of(panel, "y")
    shown = ax.imshow(
        panel.values,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        extent=(left, right, bottom, top),
        interpolation="nearest",
        origin="upper",
    )
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
    if plain:
        ax.set(xticks=[], yticks=[])
        return shown
    ax.tick_params(labelsize=7.5, length=2.5)
    ax.locator_params(nbins=4)
    if labels[0]:
        ax.set_ylabel(_axis_label(panel, "y"), fontsize=8)
    if labels[1]:
        ax.set_xlabel(_axis_label(panel, "x"), fontsize=8)
    return shown


def edges_of(panel: xr.DataArray, name: str) -> tuple[float, float]:
    """Return the outer edges of the first and last pixel; a falling axis falls in the figure."""
    centres = panel[name].values.astype(np.float64)
    step = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else 1.0
    return float(centres[0] - step / 2), float(centres[-1] + step / 2)


def scale_bar(ax: Axes, panel: xr.DataArray) -> None:
    """Draw a bar of a round length, about a quarter of the width, in the lower left corner.

    None where the axis is in pixels or in no unit: such a bar would say a size that nobody knows.
    """
    units = panel["x"].attrs.get("units", "") if "x" in panel.coords else ""
    left, right = edges_of(panel, "x")
    top, bottom = edges_of(panel, "y")
    target = abs(right - left) / 4
    if not is_length(str(units)) or not target > 0:
        ax.set(xlim=(left, right), ylim=(bottom, top))
        return
    power = 10.0 ** math.floor(math.log10(target))
    length = max(f * power for f in (1, 2, 5) if f * power <= target)
    sign = 1 if right > left else -1
    start = left + 0.06 * (right - left)
    height = bottom + 0.07 * (top - bottom)
    outline = [withStroke(linewidth=3, foreground="black")]
    ends = [start, start + sign * length]
    ax.plot(ends, [height] * 2, color="white", lw=1.6, path_effects=outline)
    text = f"{length:g} {units}".strip()
    ax.text(
        sum(ends) / 2, height + 0.025 * (top - bottom), text, color="white", ha="center",
        va="bottom", fontsize=8, path_effects=outline,
    )  # fmt: skip
    ax.set(xlim=(left, right), ylim=(bottom, top))


def shared_limits(panels: Sequence[xr.DataArray]) -> tuple[float, float]:
    """Return one scale for all panels, without half a per mille at each end.

    The first panel alone decides where it starts: at 0 if that is negative by noise alone.
    """
    low = float(np.nanquantile(panels[0].values, 0.0005))
    high = float(np.nanquantile(np.concatenate([np.ravel(p.values) for p in panels]), 0.9995))
    if low > -0.2 * high:
        low = 0.0
    return (low, high) if high > low else (low, low + 1.0)


def plane(name: str, image: Any, like: xr.DataArray) -> np.ndarray:
    """Return a reconstruction as [y, x]: the magnitude of complex ones; leading 1s dropped.

    Raises:
        ConfigError: It has another shape than the map `like`.
    """
    values = np.squeeze(np.asarray(image))
    if values.ndim == 3 and values.shape[0] == 2:
        values = np.hypot(values[0], values[1])
    if np.iscomplexobj(values):
        values = np.abs(values)
    if values.shape != like.shape:
        raise ConfigError(
            f"The reconstruction {name} does not match the posterior",
            expected=f"[{', '.join(map(str, like.shape))}] (y, x)",
            got=list(values.shape),
            remedy="reconstruct it on the operator's own pixel grid",
        )
    return values


def _axis_label(panel: xr.DataArray, name: str) -> str:
    attrs = panel[name].attrs if name in panel.coords else {}
    return label(str(attrs.get("long_name", name)), str(attrs.get("units", "pixel")))
