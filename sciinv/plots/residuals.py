"""What the draws leave of the data, in units of the noise, where the data live."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sciinv.plots.style import FOUND, GOOD, STYLE
from sciinv.uncertainty.misfits import Misfits
from sciinv.uncertainty.neighbours import Neighbours


@dataclass(frozen=True)
class Folded:
    """What a draw leaves of the middle of k-space, in the image.

    Attributes:
        size: Root mean square over the coils ÷ that of noise alone, [y, x]; 1 is right.
        radius: Samples about the centre of k-space that it is made of.
        bound: What noise alone passes, at any place, in at most one image of a hundred.
    """

    size: NDArray[np.float64]
    radius: int
    bound: float

    def words(self) -> str:
        """Return what the picture shows, for who does not see it."""
        row, column = np.unravel_index(int(np.argmax(self.size)), self.size.shape)
        return (
            f" In the image, from the {self.radius} samples about the centre of k-space, it is "
            f"largest at row {row}, column {column}: {self.size.max():.2g} times that of noise, "
            f"which by itself stays below {self.bound:.2g}."
        )


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
        image: What a draw leaves of k-space, in the image.
        misfits: How far the misfits of draws lie apart.
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
    image: Folded | None = None
    misfits: Misfits | None = None

    def words(self) -> str:
        """Return what the figure shows, for who does not see it."""
        outside = int((np.abs(self.rms - 1) > 2 / np.sqrt(2 * self.counts)).sum())
        return (
            f"Residuals in units of the noise: root mean square {self.overall:.3g} over "
            f"{self.draws} draws (expected 1); {outside} of {len(self.rms)} groups by "
            f"{self.by_axis} lie outside of the band that 95 % of right ones keep."
            + (self.image.words() if self.image else "")
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
        shares = [1.0, 1.0] if residuals.image is None else [1.0, 1.0, 0.8]
        figure = Figure(figsize=(9.0 if len(shares) == 2 else 10.5, 3.3), layout="constrained")
        left, right, *more = figure.subplots(1, len(shares), width_ratios=shares)
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
        for axes in more:
            _in_the_image(residuals.image, axes)
    return figure


def _in_the_image(image: Folded | None, axes: Axes) -> None:
    assert image is not None
    top = max(2.0, image.bound, float(image.size.max()))
    shown = axes.imshow(image.size, cmap="magma", vmin=0, vmax=top)
    if image.size.max() > image.bound:
        axes.contour(image.size, [image.bound], colors="white", linewidths=0.6)
    bar = axes.figure.colorbar(shown, ax=axes, pad=0.02, aspect=24)
    bar.set_label("size ÷ that of noise")
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    axes.set(xticks=[], yticks=[], xlabel=f"noise alone stays below {image.bound:.2g}")
    axes.set_title("One draw, in the image")
