"""What the draws leave of the data, in units of the noise, where the data live."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sciinv.plots.style import FOUND, GOOD, STYLE
from sciinv.uncertainty.neighbours import Neighbours


@dataclass(frozen=True)
class Residuals:
    """(data − A draw) ÷ noise sd: of one draw, value by value, and its size over all draws.

    Attributes:
        values: Of one draw: a map [row, column] with NaN where no data are, or points [M].
        size: Whether `values` are root mean squares over coils, near 1, and not signed.
        along: Where each point is, [M]; None for a map.
        axes: Names of the horizontal and the vertical axis of `values`, with units.
        by: Centre of each group of data, [G].
        by_axis: What groups them, with its unit.
        rms: Root mean square over all draws of each group, [G].
        counts: Values in each group, of one draw, [G].
        draws: Number of draws behind `rms`.
        neighbours: How values that lie side by side are correlated.
    """

    values: NDArray[np.float64]
    size: bool
    along: NDArray[np.float64] | None
    axes: tuple[str, str]
    by: NDArray[np.float64]
    by_axis: str
    rms: NDArray[np.float64]
    counts: NDArray[np.int64]
    draws: int
    neighbours: tuple[Neighbours, ...] = ()

    def words(self) -> str:
        """Return what the figure shows, for who does not see it."""
        outside = int((np.abs(self.rms - 1) > 2 / np.sqrt(2 * self.counts)).sum())
        return (
            f"Residuals in units of the noise: root mean square {self.overall:.3g} over "
            f"{self.draws} draws (expected 1); {outside} of {len(self.rms)} groups by "
            f"{self.by_axis} lie outside of the band that 95 % of right ones keep."
        )

    @property
    def overall(self) -> float:
        """Root mean square over all data and draws; 1 where noise and operator are right."""
        return float(np.sqrt((self.rms**2 * self.counts).sum() / self.counts.sum()))


def residual_figure(residuals: Residuals) -> Figure:
    """Show the residual of one draw where the data live, and its size by place over all draws.

    A right draw and the truth have the same joint law with the data, so its residual looks like
    noise of size 1. The root mean square of n values of it scatters by 1/√(2n); the band is twice
    that.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        if residuals.along is None:
            scale = {"vmin": 0, "vmax": 2, "cmap": "viridis"} if residuals.size else {
                "vmin": -4, "vmax": 4, "cmap": "RdBu_r"}  # fmt: skip
            shown = left.imshow(residuals.values, aspect="auto", interpolation="nearest", **scale)
            bar = figure.colorbar(shown, ax=left, pad=0.02, aspect=24)
            bar.set_label("size ÷ noise sd" if residuals.size else "residual ÷ noise sd")
            bar.outline.set_linewidth(0.4)
            left.set_facecolor("0.85")
        else:
            left.axhspan(0 if residuals.size else -2, 2, color=GOOD, alpha=0.15, lw=0)
            left.plot(residuals.along, residuals.values, ".", ms=3.5, color=FOUND)
        left.set(xlabel=residuals.axes[0], ylabel=residuals.axes[1])
        left.set_title("One draw")
        half = 2 / np.sqrt(2 * residuals.counts)
        right.fill_between(residuals.by, 1 - half, 1 + half, color=GOOD, alpha=0.18, lw=0,
                           label="95 % of right ones")  # fmt: skip
        right.axhline(1, color=GOOD, lw=1)
        right.plot(residuals.by, residuals.rms, ".-", ms=4, lw=0.8, color=FOUND)
        right.set(xlabel=residuals.by_axis, ylabel="rms ÷ noise sd")
        right.set_ylim(0, max(2.0, 1.05 * float(residuals.rms.max())))
        right.set_title(f"{residuals.draws} draws")
        right.legend(frameon=False, fontsize=8, loc="upper right")
    return figure
