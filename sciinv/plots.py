"""Figures: draws, maps, fit to the data, calibration. Matplotlib objects without global state."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from sciinv.errors import ConfigError
from sciinv.store.atomic import write_file
from sciinv.uncertainty import Posterior, as_dataset, is_complex, magnitude

SPREAD = "viridis"  # for standard deviations and widths: never the map of the images themselves
_GLOW_OPERATORS = ("visibilities", "closures")
_SIZE = 2.9  # inches of one panel
_STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "mathtext.default": "regular",
}


@cache
def glow() -> Colormap:
    """Return black – red – orange – white with lightness rising evenly (afmhot, made uniform)."""
    ramp = np.linspace(0, 1, 4096)[:, None]
    colours = np.clip(2 * ramp - [0.0, 0.5, 1.0], 0, 1)  # afmhot's red, green and blue
    lightness = _lightness(colours)
    even = np.linspace(lightness[0], lightness[-1], 256)
    picked = np.interp(even, lightness, np.arange(len(colours)))
    return ListedColormap(colours[np.round(picked).astype(int)], name="glow")


def colour_map(operator: str | None) -> Colormap:
    """Return the usual colours of a field: `glow` for the sky, grey for anatomy and objects."""
    return glow() if operator in _GLOW_OPERATORS else matplotlib.colormaps["gray"]


def draws_figure(
    posterior: Posterior,
    item: int = 0,
    count: int = 8,
    *,
    channel: int = 0,
    colours: Colormap | str = "gray",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Show single draws of one item side by side, in one scale: what images the data allow.

    Args:
        posterior: A posterior store, its path, or a sampler's dataset; complex images are shown by
            their magnitude.
        item: Position along `item`.
        count: How many of the first draws.
        channel: Which channel, where there are several real ones.
        colours: Colour map.
        limits: Values at its two ends; from the draws if None.
    """
    image = as_dataset(posterior)["image"].isel(item=[item], draw=slice(0, count))
    values = magnitude(image.values)[:, 0, 0] if is_complex(image) else image.values[:, 0, channel]
    maps = [image[0, 0, 0].copy(data=v) for v in values]
    limits = limits or shared_limits(maps)
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_SIZE * columns + 0.9, _SIZE * rows), layout="constrained")
        axes = _grid(figure, rows, columns)
        for ax, draw, number in zip(axes, maps, image["draw"].values, strict=False):
            shown = _show(ax, draw, colours, limits, plain=True)
            ax.set_title(f"Draw {int(number)}")
        for ax in axes[len(maps) :]:
            ax.set_visible(False)
        _scale_bar(axes[0], maps[0])
        bar = figure.colorbar(shown, ax=axes, shrink=min(1.0, 1.4 / rows), pad=0.015, aspect=28)
        bar.set_label(_label("", image.attrs.get("units", "")))
        bar.outline.set_linewidth(0.4)
    return figure


def maps_figure(
    summary: xr.Dataset,
    item: int = 0,
    classical: Mapping[str, Any] | None = None,
    *,
    channel: int = 0,
    colours: Colormap | str = "gray",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Show mean, sd and quantiles of one item beside the field's usual reconstructions.

    Images share one colour scale; the standard deviation and the interval's width have their own.

    Args:
        summary: What `sciinv.uncertainty.summarize` returned.
        item: Position along `item`.
        classical: Images [y, x] by name, in the units of the summary.
        channel: Which channel.
        colours: Colour map of the images.
        limits: Values at its two ends; from mean and quantiles if None.
    """
    one = summary.isel(item=item, channel=channel)
    mean = one["mean"]
    images = {name: mean.copy(data=plane(name, v, mean)) for name, v in (classical or {}).items()}
    images["Posterior mean"] = mean
    for level in one["quantile"].values:
        images[f"{_percent(level)} quantile"] = one["quantiles"].sel(quantile=level)
    spreads = {"Standard deviation": one["sd"]}
    if len(one["quantile"]) > 1:
        share = float(one["interval_width"].attrs.get("level", 0.0))
        spreads[f"Width of the {_percent(share)} interval"] = one["interval_width"]
    limits = limits or shared_limits([mean, *one["quantiles"]])
    panels = {**images, **spreads}
    columns = min(4, -(-len(panels) // 2)) if len(panels) > 3 else len(panels)
    rows = -(-len(panels) // columns)
    units = str(mean.attrs.get("units", ""))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_SIZE * 1.22 * columns, _SIZE * 1.1 * rows), layout="constrained")
        axes = _grid(figure, rows, columns)
        for i, (ax, (name, panel)) in enumerate(zip(axes, panels.items(), strict=False)):
            spread = name in spreads
            scale = (0.0, float(np.nanmax(panel.values)) or 1.0) if spread else limits
            shown = _show(
                ax, panel, SPREAD if spread else colours, scale,
                labels=(i % columns == 0, i + columns >= len(panels)),
            )  # fmt: skip
            ax.set_title(name)
            bar = figure.colorbar(shown, ax=ax, shrink=0.86, pad=0.02, aspect=24)
            bar.ax.tick_params(labelsize=7.5)
            bar.outline.set_linewidth(0.4)
            if units:
                bar.ax.set_title(units, fontsize=7.5, pad=4)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        _scale_bar(axes[0], mean)
    return figure


def fit_figure(
    chi2: Any, components: int | None = None, *, title: str = "Fit of each draw to the data"
) -> Figure:
    """Show the reduced χ² of each draw: 1 for draws that fit as well as the truth would.

    Args:
        chi2: Reduced χ² of each draw, [draw].
        components: Number of measured real components M: the truth's own χ² has the standard
            deviation √(2/M), shown as a band of two.
        title: Title.
    """
    values = np.asarray(chi2, dtype=np.float64).ravel()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        ax = figure.add_subplot()
        low, high = min(values.min(), 1.0), max(values.max(), 1.0)
        if components:
            half = 2 * math.sqrt(2 / components)
            label = f"1 ± {half:.2g}: where the truth lies"
            ax.axvspan(1 - half, 1 + half, color="#2f7d6b", alpha=0.18, lw=0, label=label)
            low, high = min(low, 1 - half), max(high, 1 + half)
        pad = 0.06 * (high - low) or 0.05
        edges = np.linspace(low - pad, high + pad, 31)
        ax.hist(values, bins=edges.tolist(), color="#35618f", edgecolor="white", linewidth=0.5)
        ax.axvline(1.0, color="#2f7d6b", lw=1.2, label=None if components else "expected")
        ax.set(xlabel="reduced χ²", ylabel="draws", xlim=(edges[0], edges[-1]))
        ax.set_title(title, pad=20)
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        ax.legend(
            frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2
        )
    return figure


def calibration_figure(
    ranks: Any,
    draws: int,
    *,
    bins: int | None = None,
    title: str = "Calibration on simulated truths",
) -> Figure:
    """Show the rank histogram and the coverage of central intervals, with 95 % sampling bands.

    Args:
        ranks: How many of the draws lie below the truth, integers 0 … draws, any shape; the bands
            take them as independent.
        draws: Number of draws.
        bins: Bars of the histogram; at most 20, a divisor of draws + 1, if None.
        title: Title.

    Raises:
        ConfigError: A rank outside 0 … draws.
    """
    values = np.asarray(ranks).ravel()
    if values.size == 0 or values.min() < 0 or values.max() > draws:
        raise ConfigError(
            "The ranks do not match the number of draws",
            expected=f"at least one integer in 0 … {draws}",
            got=f"{values.size} values"
            + (f" in {values.min()} … {values.max()}" if values.size else ""),
            remedy="pass what sciinv.metrics.ranks returned, and its number of draws",
        )
    size = draws + 1
    bins = bins or max(d for d in range(1, 21) if size % d == 0 or d == 1)
    counts = np.bincount(values * bins // size, minlength=bins)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 2.9), layout="constrained")
        left, right = _grid(figure, 1, 2)
        expected = values.size / bins
        half = 1.96 * math.sqrt(expected * (1 - 1 / bins))
        for edge, style in ((-half, ":"), (0.0, "-"), (half, ":")):
            left.axhline(expected + edge, color="#2f7d6b", lw=1.0, ls=style, zorder=3)
        left.axhspan(expected - half, expected + half, color="#2f7d6b", alpha=0.18, lw=0)
        centres = (np.arange(bins) + 0.5) / bins
        left.bar(centres, counts, width=0.92 / bins, color="#35618f")
        left.set(xlabel="rank of the truth among the draws", ylabel="truths", xlim=(0, 1))
        left.set_title("Flat if the posterior is right")
        levels, found = _coverage(values, draws)
        band = 1.96 * np.sqrt(levels * (1 - levels) / values.size)
        right.fill_between(levels, levels - band, levels + band, color="#2f7d6b", alpha=0.18, lw=0)
        right.plot([0, 1], [0, 1], color="#2f7d6b", lw=1.0)
        right.plot(levels, found, color="#35618f", marker="o", ms=3.2, lw=1.2)
        right.set(xlabel="level of the central interval", ylabel="truths inside", aspect="equal")
        right.set(xlim=(0, 1), ylim=(0, 1))
        right.set_title("On the diagonal if it is right")
        figure.suptitle(title, fontsize=10.5)
    return figure


def map_figure(
    image: xr.DataArray,
    *,
    title: str = "",
    colours: Colormap | str = "gray",
    limits: tuple[float, float] | None = None,
    plain: bool = False,
    width: float = 4.6,
) -> Figure:
    """Show one map [y, x] with its coordinates, colour bar and scale bar.

    Args:
        image: The map, with its units and its coordinates' units in the attributes.
        title: Title.
        colours: Colour map.
        limits: Values at its two ends; from the map if None.
        plain: Leave out axes and colour bar.
        width: Width in inches.

    Raises:
        ConfigError: The image is no map.
    """
    if image.ndim != 2:
        raise ConfigError(
            "One map is shown at a time",
            expected="dimensions (y, x)",
            got=dict(image.sizes),
            remedy="select an item and a channel with .isel(item=…, channel=…)",
        )
    (left, right), (top, bottom) = _edges(image, "x"), _edges(image, "y")
    shape = abs((top - bottom) / (right - left))
    height = width * shape if plain else 0.8 * width * shape + 0.25
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        ax = figure.add_subplot()
        shown = _show(ax, image, colours, limits or shared_limits([image]), plain=plain)
        ax.set_title(title)
        if plain:
            figure.set_layout_engine("constrained", w_pad=0, h_pad=0)
        else:
            bar = figure.colorbar(shown, ax=ax, shrink=0.9, pad=0.02, aspect=24)
            bar.ax.tick_params(labelsize=7.5)
            bar.outline.set_linewidth(0.4)
            if image.attrs.get("units"):
                bar.ax.set_title(image.attrs["units"], fontsize=7.5, pad=4)
        _scale_bar(ax, image)
    return figure


def write_map(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    colours: Colormap | str = "gray",
    limits: tuple[float, float] | None = None,
    dpi: int = 200,
) -> Path:
    """Write one map [y, x] as a PNG, see `map_figure`.

    Raises:
        ConfigError: The image is no map.
        StoreError: The disk is full or read-only.
    """
    figure = map_figure(image, title=title, colours=colours, limits=limits)
    write_file(path, png(figure, dpi))
    return Path(path)


def png(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    return list(figure.subplots(rows, columns, squeeze=False).ravel())


def _show(
    ax: Axes,
    panel: xr.DataArray,
    colours: Colormap | str,
    limits: tuple[float, float],
    *,
    plain: bool = False,
    labels: tuple[bool, bool] = (True, True),
) -> Any:
    """Draw a map as it is stored, row 0 on top, in the coordinates of its pixels' edges."""
    left, right = _edges(panel, "x")
    top, bottom = _edges(panel, "y")
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


def _edges(panel: xr.DataArray, name: str) -> tuple[float, float]:
    """Return the outer edges of the first and last pixel; a falling axis falls in the figure."""
    centres = panel[name].values.astype(np.float64)
    step = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else 1.0
    return float(centres[0] - step / 2), float(centres[-1] + step / 2)


def _scale_bar(ax: Axes, panel: xr.DataArray) -> None:
    """Draw a bar of a round length, about a quarter of the width, in the lower left corner."""
    units = panel["x"].attrs.get("units", "") if "x" in panel.coords else ""
    left, right = _edges(panel, "x")
    top, bottom = _edges(panel, "y")
    target = abs(right - left) / 4
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


def _coverage(ranks: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of central intervals that whole ranks can say, and their coverage."""
    depth = np.minimum(ranks, draws - ranks)
    cuts = np.arange((draws + 1) // 2, 0, -1)
    cuts = cuts[:: max(1, len(cuts) // 24)]
    levels = 1 - 2 * cuts / (draws + 1)
    return levels, np.array([(depth >= c).mean() for c in cuts])


def _lightness(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L* of sRGB colours [n, 3] in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def _axis_label(panel: xr.DataArray, name: str) -> str:
    attrs = panel[name].attrs if name in panel.coords else {}
    return _label(str(attrs.get("long_name", name)), str(attrs.get("units", "pixel")))


def _label(name: str, units: str) -> str:
    return f"{name} ({units})".strip() if name and units else name or units


def _percent(level: float) -> str:
    return f"{100 * float(level):.4g} %"
