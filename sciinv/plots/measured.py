"""A picture of raw data: a sinogram, k-space, or the coverage of an interferometer."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciinv.plots.style import STYLE


def measurement_figure(dataset: xr.Dataset) -> Figure:
    """Return a picture of the first item of a measurement.

    Args:
        dataset: A measurement: `y` and, as the field has them, `mask` and `coil_maps` (k-space),
            or `u` and `v` in wavelengths (coverage).
    """
    one = dataset.isel(item=0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        if "mask" in one and "sample" in one["y"].dims:
            _kspace(figure, left, right, one)
        elif {"u", "v"} <= set(one.variables):
            _coverage(left, right, one)
        else:
            _plain(figure, left, right, one)
        figure.suptitle(str(dataset.attrs.get("title", "")))
    return figure


def _kspace(figure: Figure, left: Axes, right: Axes, one: xr.Dataset) -> None:
    y = one["y"].values
    power = np.sqrt((y[0] ** 2 + y[1] ** 2).sum(0))  # over the coils
    mask = one["mask"].values.astype(bool)
    grid = np.full(mask.shape, np.nan)
    grid[mask] = power
    shown = left.imshow(np.log10(np.maximum(grid, 1e-12)), cmap="viridis", aspect="auto",
                        interpolation="nearest")  # fmt: skip
    figure.colorbar(shown, ax=left, label="log10 |k|, all coils")
    left.set(title=f"{mask.mean():.0%} of k-space measured", xlabel="kx", ylabel="ky")
    rows, columns = np.nonzero(mask)
    radius = np.hypot(rows - mask.shape[0] / 2, columns - mask.shape[1] / 2)
    right.semilogy(radius, power, ".", ms=2)
    noise = np.nanmedian(one["noise_sd"].values) * np.sqrt(2 * y.shape[1])
    right.axhline(noise, color="k", lw=0.8, ls="--", label="noise, all coils")
    right.set(title="Signal and noise", xlabel="distance from the centre, samples", ylabel="|k|")
    right.legend()


def _coverage(left: Axes, right: Axes, one: xr.Dataset) -> None:
    u, v = one["u"].values / 1e9, one["v"].values / 1e9
    left.plot(np.r_[u, -u], np.r_[v, -v], ".", ms=3)
    left.set(title="Baselines", xlabel="u, Gλ", ylabel="v, Gλ", aspect="equal")
    left.invert_xaxis()
    values = np.atleast_2d(one["y"].values)
    for row in values.reshape(len(values), -1):
        right.plot(row, ".", ms=3)
    right.set(title="Values", xlabel="number", ylabel=str(one.attrs.get("units", "")))


def _plain(figure: Figure, left: Axes, right: Axes, one: xr.Dataset) -> None:
    y = one["y"]
    plane = y.isel(dict.fromkeys(y.dims[:-2], 0)) if y.ndim > 2 else y
    values = np.atleast_2d(plane.values)
    unit = "value" if one.attrs.get("units") in (None, "", "1") else str(one.attrs["units"])
    shown = left.imshow(values, cmap="gray", aspect="auto", interpolation="nearest")
    names = [str(d) for d in plane.dims]
    figure.colorbar(shown, ax=left, label=unit)
    left.set(title="Data", xlabel=names[-1], ylabel=names[0] if len(names) > 1 else "")
    right.plot(values[len(values) // 2], lw=0.9)
    right.set(title=f"Row {len(values) // 2}", xlabel=names[-1],
              ylabel=unit)  # fmt: skip
