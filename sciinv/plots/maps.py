"""Figures of images: single draws, summaries beside the classical reconstruction, one map."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from sciinv.errors import ConfigError
from sciinv.plots.panel import edges_of, plane, scale_bar, shared_limits, show
from sciinv.plots.style import SIZE, SPREAD, STYLE, grid, label, percent, png
from sciinv.store.atomic import write_file
from sciinv.uncertainty import Posterior, as_dataset, is_complex, magnitude

SHORT = 6  # characters of a unit that stand above a colour bar without being cut off


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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(SIZE * columns + 0.9, SIZE * rows), layout="constrained")
        axes = grid(figure, rows, columns)
        for ax, draw, number in zip(axes, maps, image["draw"].values, strict=False):
            shown = show(ax, draw, colours, limits, plain=True)
            ax.set_title(f"Draw {int(number)}")
        for ax in axes[len(maps) :]:
            ax.set_visible(False)
        scale_bar(axes[0], maps[0])
        bar = figure.colorbar(shown, ax=axes, shrink=min(1.0, 1.4 / rows), pad=0.015, aspect=28)
        bar.set_label(label("", image.attrs.get("units", "")))
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
        images[f"{percent(level)} quantile"] = one["quantiles"].sel(quantile=level)
    spreads = {"Standard deviation": one["sd"]}
    if len(one["quantile"]) > 1:
        share = float(one["interval_width"].attrs.get("level", 0.0))
        spreads[f"Width of the {percent(share)} interval"] = one["interval_width"]
    limits = limits or shared_limits([mean, *one["quantiles"]])
    panels = {**images, **spreads}
    columns = min(4, -(-len(panels) // 2)) if len(panels) > 3 else len(panels)
    rows = -(-len(panels) // columns)
    units = str(mean.attrs.get("units", ""))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(SIZE * 1.22 * columns, SIZE * 1.1 * rows), layout="constrained")
        axes = grid(figure, rows, columns)
        for i, (ax, (name, panel)) in enumerate(zip(axes, panels.items(), strict=False)):
            spread = name in spreads
            scale = (0.0, float(np.nanmax(panel.values)) or 1.0) if spread else limits
            shown = show(
                ax, panel, SPREAD if spread else colours, scale,
                labels=(i % columns == 0, i + columns >= len(panels)),
            )  # fmt: skip
            ax.set_title(name)
            bar = figure.colorbar(shown, ax=ax, shrink=0.86, pad=0.02, aspect=24)
            bar.ax.tick_params(labelsize=7.5)
            bar.outline.set_linewidth(0.4)
            _name(bar, units)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        scale_bar(axes[0], mean)
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
    (left, right), (top, bottom) = edges_of(image, "x"), edges_of(image, "y")
    shape = abs((top - bottom) / (right - left))
    height = width * shape if plain else 0.8 * width * shape + 0.25
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        ax = figure.add_subplot()
        shown = show(ax, image, colours, limits or shared_limits([image]), plain=plain)
        ax.set_title(title)
        if plain:
            figure.set_layout_engine("constrained", w_pad=0, h_pad=0)
        else:
            bar = figure.colorbar(shown, ax=ax, shrink=0.9, pad=0.02, aspect=24)
            bar.ax.tick_params(labelsize=7.5)
            bar.outline.set_linewidth(0.4)
            _name(bar, str(image.attrs.get("units", "")))
        scale_bar(ax, image)
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


def _name(bar: Any, units: str) -> None:
    """Name a colour bar's unit: above it where it is short, else along it, where it has room."""
    if len(units) > SHORT:
        bar.set_label(units, fontsize=7.5)
    elif units:
        # from the bar to the right: to its left it would stand on the image
        bar.ax.set_title(units, fontsize=7.5, pad=4, loc="left")
