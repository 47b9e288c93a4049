"""Figures that show whether draws are right: their fit to the data, their calibration."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sciinv.errors import ConfigError
from sciinv.plots.style import FOUND, GOOD, STYLE, grid
from sciinv.store.statistics import expected_half


def fit_figure(
    chi2: Any,
    components: int | None = None,
    drawn: bool = False,
    *,
    title: str = "Fit of each draw to the data",
) -> Figure:
    """Show the reduced χ² of each draw: 1 for draws that fit as well as the truth would.

    Args:
        chi2: Reduced χ² of each draw, [draw].
        components: Number of measured real components M, for a band of `store.expected_half`.
        drawn: Whether χ² is by the noise as it was drawn with the image.
        title: Title.
    """
    values = np.asarray(chi2, dtype=np.float64).ravel()
    lost = int((~np.isfinite(values)).sum())  # said in the title: a histogram has no place for it
    values = values[np.isfinite(values)]
    if lost:
        title = f"{title}\n({lost} of {lost + values.size} draws: not finite)"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        ax = figure.add_subplot()
        low, high = min([*values, 1.0]), max([*values, 1.0])
        if components:
            half = expected_half(components)
            label = f"1 ± {half:.2g}: where the truth lies"
            ax.axvspan(1 - half, 1 + half, color=GOOD, alpha=0.18, lw=0, label=label)
            low, high = min(low, 1 - half), max(high, 1 + half)
        pad = 0.06 * (high - low) or 0.05
        edges = np.linspace(low - pad, high + pad, 31)
        ax.hist(values, bins=edges.tolist(), color=FOUND, edgecolor="white", linewidth=0.5)
        ax.axvline(1.0, color=GOOD, lw=1.2, label=None if components else "expected")
        label = "reduced χ², by the noise as found" if drawn else "reduced χ²"
        ax.set(xlabel=label, ylabel="draws", xlim=(edges[0], edges[-1]))
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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9), layout="constrained")
        left, right = grid(figure, 1, 2)
        expected = values.size / bins
        half = 1.96 * math.sqrt(expected * (1 - 1 / bins))
        for edge, style in ((-half, ":"), (0.0, "-"), (half, ":")):
            left.axhline(expected + edge, color=GOOD, lw=1.0, ls=style, zorder=3)
        left.axhspan(expected - half, expected + half, color=GOOD, alpha=0.18, lw=0)
        centres = (np.arange(bins) + 0.5) / bins
        left.bar(centres, counts, width=0.92 / bins, color=FOUND)
        left.set(xlabel="rank of the truth among the draws", ylabel="truths", xlim=(0, 1))
        left.set_title("Flat if the posterior is right")
        levels, found = _coverage(values, draws)
        band = 1.96 * np.sqrt(levels * (1 - levels) / values.size)
        right.fill_between(levels, levels - band, levels + band, color=GOOD, alpha=0.18, lw=0)
        right.plot([0, 1], [0, 1], color=GOOD, lw=1.0)
        right.plot(levels, found, color=FOUND, marker="o", ms=3.2, lw=1.2)
        right.set(xlabel="level of the central interval", ylabel="truths inside", aspect="equal")
        right.set(xlim=(0, 1), ylim=(0, 1))
        right.set_title("On the diagonal if it is right")
        figure.suptitle(title, fontsize=10.5)
    return figure


def _coverage(ranks: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of central intervals that whole ranks can say, and their coverage."""
    depth = np.minimum(ranks, draws - ranks)
    cuts = np.arange((draws + 1) // 2, 0, -1)
    cuts = cuts[:: max(1, len(cuts) // 24)]
    levels = 1 - 2 * cuts / (draws + 1)
    return levels, np.array([(depth >= c).mean() for c in cuts])
