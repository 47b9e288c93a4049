"""Make the pictures of docs/evidence/results.md from finished runs.

    python docs/studies/show_results.py

`sciinv run --config workflows/configs/m87.yaml` and `… helsinki.yaml` have left their stores in
results/m87 and results/helsinki.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from make_pictures import write
from matplotlib.figure import Figure

from sciinv import plots
from sciinv.plots.panel import scale_bar, show
from sciinv.plots.style import STYLE, grid
from sciinv.readers import htc2022
from sciinv.uncertainty.alignment import aligned

REPO = Path(__file__).resolve().parents[2]
DAYS = {
    "day-095-hi": "5 April, high",
    "day-095-lo": "5 April, low",
    "day-096-lo": "6 April, low",
    "day-101-lo": "11 April, low",
}
DPI = 96  # keeps the larger one under 150 KB
HALF = 0.019  # 1/mm: half the attenuation of acrylic


def draws_of(run: str, problem: str) -> xr.DataArray:
    """Return the draws [draw, y, x] of a problem with one item and one channel."""
    path = REPO / "results" / run / problem / "posterior.zarr"
    image = xr.open_zarr(path, group="posterior")["image"]
    return image.isel(chain=0, item=0, channel=0).load()


def clean(ax: Any) -> None:
    """Take the ticks away."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.set_ylabel("")


def m87() -> None:
    """Four files: mean of the aligned draws, two draws, sd of the aligned draws."""
    columns = ("Mean, aligned", "Draw 0", "Draw 1", "sd, aligned")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 7.0), layout="constrained")
        axes = np.array(grid(figure, len(DAYS), len(columns))).reshape(len(DAYS), -1)
        for number, (row, (name, title)) in enumerate(zip(axes, DAYS.items(), strict=True)):
            draws = draws_of("m87", name)
            draws = draws.copy(data=aligned(draws.values))
            panels = (draws.mean("draw"), draws[0], draws[1], draws.std("draw", ddof=1))
            top = float(max(p.max() for p in panels[:3]))
            for ax, column, panel in zip(row, columns, panels, strict=True):
                spread = column.startswith("sd")
                colours = plots.SPREAD if spread else plots.glow()
                show(ax, panel, colours, (0.0, float(panel.max()) if spread else top))
                clean(ax)
                if number == 0:
                    ax.set_title(column)
            row[0].set_ylabel(title)
        scale_bar(axes[0][0], draws.mean("draw"))
    write("m87-posterior", figure, DPI)


def helsinki() -> None:
    """Both phantoms at three ranges of angles: reference, mean, one draw, hole probability."""
    columns = ("Reference", "Posterior mean", "Draw 0", "Probability of a hole")
    cases = [(phantom, angle) for phantom in ("ta", "tb") for angle in (90, 60, 30)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 10.4), layout="constrained")
        axes = np.array(grid(figure, len(cases), len(columns))).reshape(len(cases), -1)
        for number, (row, (phantom, angle)) in enumerate(zip(axes, cases, strict=True)):
            draws = draws_of("helsinki", f"{phantom}-{angle}").values
            file = REPO / f"data/ct/htc2022_{phantom}_full_recon_fbp_seg.mat"
            reference = htc2022.read_segmentation(file)
            maps = (0.038 * reference, draws.mean(0), draws[0], (draws < HALF).mean(0))
            for ax, column, image in zip(row, columns, maps, strict=True):
                share = column.startswith("Prob")
                colours, top = (plots.SPREAD, 1.0) if share else ("gray", 0.042)
                ax.imshow(image, cmap=colours, vmin=0, vmax=top, interpolation="nearest")
                clean(ax)
                if number == 0:
                    ax.set_title(column)
            row[0].set_ylabel(f"{phantom}, {angle}°")
    write("helsinki-posterior", figure, DPI)


if __name__ == "__main__":
    m87()
    helsinki()
