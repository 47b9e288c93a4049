"""Small charts as SVG in the page: they take its colours, in light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 320, 150, 34, 34, 10


def histogram(
    values: Sequence[float | None] | NDArray,
    name: str,
    units: str = "",
    *,
    period: float = 0.0,
    band: tuple[float, float] | None = None,
) -> Markup:
    """Return a histogram of one number per draw, with its median and central 90 %.

    Args:
        values: One per draw; None or NaN where it could not be measured.
        name: Of the number.
        units: Its unit.
        period: 360 for an angle in degrees: the axis is then cut opposite to the circular mean.
        band: Values between which the right answer is expected.

    Returns:
        An `svg` element; empty where no draw has a finite value.
    """
    found = np.array([np.nan if v is None else float(v) for v in values])
    found = found[np.isfinite(found)]
    if not found.size:
        return Markup("")
    if period:
        turn = 2 * math.pi / period
        middle = np.angle(np.exp(1j * turn * found).mean()) / turn
        found = (found - middle + period / 2) % period + middle - period / 2
    ends = [*found, *(band or ())]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - pad, high + pad
    bars = int(min(30, max(8, round(2 * math.sqrt(found.size)))))
    counts, _ = np.histogram(found, bars, (low, high))
    inner, rise = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - _TOP
    floor = _HEIGHT - _BOTTOM

    def at(value: float) -> float:
        return _LEFT + inner * (value - low) / (high - low)

    q05, q50, q95 = np.quantile(found, (0.05, 0.5, 0.95))
    label = f"{name}, {units}" if units else name
    text = (
        f"Histogram of {label} over {found.size} draws: median {q50:.4g}, "
        f"central 90 % from {q05:.4g} to {q95:.4g}."
    )
    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
             f'aria-label="{escape(text)}">']  # fmt: skip
    if band is not None:
        parts.append(_box(at(band[0]), _TOP, at(band[1]) - at(band[0]), rise, "expected"))
    for k, count in enumerate(counts):
        height = rise * count / counts.max()
        left = _LEFT + inner * k / bars
        parts.append(_box(left + 0.5, floor - height, inner / bars - 1, height, "bar"))
    parts.append(_box(at(q05), floor + 1, max(1.0, at(q95) - at(q05)), 3, "interval"))
    parts.append(_box(at(q50) - 1, _TOP, 2, rise + 4, "median"))
    parts.append(_box(_LEFT, floor, inner, 0.8, "axis"))
    for value in _ticks(low, high):
        shown = value % period if period else value
        parts.append(_text(at(value), floor + 16, _number(shown), "middle"))
    parts.append(_text(_LEFT - 5, _TOP + 7, str(counts.max()), "end"))
    parts.append(_text(_LEFT - 5, floor, "0", "end"))
    parts.append(_text(_LEFT + inner / 2, _HEIGHT - 4, label, "middle"))
    return Markup("".join(parts) + "</svg>")


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = max(f * power for f in (1, 2, 5) if f * power <= (high - low) / 3)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)][:7]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
