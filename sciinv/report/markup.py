"""Numbers as a reader wants them, figures as text of a page."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from sciinv import plots


@dataclass(frozen=True)
class Picture:
    """A figure inside the page.

    Attributes:
        source: The image as a data URI.
        alt: What it shows, for who does not see it.
        head: The caption's first words, set in bold.
        caption: The rest of it.
    """

    source: str
    alt: str
    head: str
    caption: str


def picture(figure: Figure, alt: str, caption: str, dpi: int = 110) -> Picture:
    """Return a figure as PNG; what stands before the caption's colon is its head."""
    data = base64.b64encode(plots.png(figure, dpi)).decode()
    head, colon, rest = caption.partition(":")
    return Picture(f"data:image/png;base64,{data}", alt, head, colon + rest)


def spoken(value: Any) -> str:
    """Return a domain number for a reader: 41.9 ± 0.8 µas for (41.93, 0.81, "µas")."""
    if isinstance(value, str):
        return value
    if not isinstance(value, tuple | list):
        return f"{value:.4g}"
    number, sd, *units = value
    if not sd or not math.isfinite(sd):
        return " ".join([f"{number:.4g}", *units])
    power = math.floor(math.log10(abs(sd)))
    places = max(0, -power + (abs(sd) < 2 * 10.0**power))
    return " ".join([f"{number:.{places}f} ± {sd:.{places}f}", *units])


def unbroken(text: str) -> str:
    """Return text whose numbers stay on one line with their sign or unit: "16 %", "1 mm"."""
    return re.sub(r"(?<=\d) (?=%|°|mm\b|µas\b|pixels?\b)", "\u00a0", text)


def counted(number: int, thing: str) -> str:
    """Return `1 thing`, `2 things`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
