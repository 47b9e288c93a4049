"""What all figures share: type, colours, bytes."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

SPREAD = "viridis"  # for standard deviations and widths: never the map of the images themselves
GOOD = "#2f7d6b"  # what is expected
FOUND = "#35618f"  # what was found
SIZE = 2.9  # inches of one panel
_GLOW_OPERATORS = ("visibilities", "closures")
STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # titles are the user's and the files': a $ in them is a $
}


@cache
def glow() -> Colormap:
    """Return black – red – orange – white with lightness rising evenly (afmhot, made uniform)."""
    ramp = np.linspace(0, 1, 4096)[:, None]
    colours = np.clip(2 * ramp - [0.0, 0.5, 1.0], 0, 1)  # afmhot's red, green and blue
    lightness = lightness_of(colours)
    even = np.linspace(lightness[0], lightness[-1], 256)
    picked = np.interp(even, lightness, np.arange(len(colours)))
    return ListedColormap(colours[np.round(picked).astype(int)], name="glow")


def colour_map(operator: str | None) -> Colormap:
    """Return the usual colours of a field: `glow` for the sky, grey for anatomy and objects."""
    return glow() if operator in _GLOW_OPERATORS else matplotlib.colormaps["gray"]


def colours_of(name: str) -> Colormap:
    """Return matplotlib's colour map of a name."""
    return matplotlib.colormaps[name]


def vector(figure: Figure, form: Literal["svg", "pdf"]) -> bytes:
    """Return a figure as SVG or PDF bytes with text as text, the same for the same figure."""
    buffer = io.BytesIO()
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    plain: Any = {"svg.hashsalt": "sciinv", "svg.fonttype": "none", "pdf.fonttype": 42}
    with matplotlib.rc_context(plain), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sign that the font lacks, `png` has told
        figure.savefig(buffer, format=form, dpi=200, metadata=date)
    figure.set_layout_engine("none")  # it is laid out: the next form of it need not do so again
    return buffer.getvalue()


def png(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    for warning in caught:
        if "Glyph" in str(warning.message) and "missing from" in str(warning.message):
            _tell_of_glyphs()
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return buffer.getvalue()


@cache
def _tell_of_glyphs() -> None:
    """Warn once a process, not once a sign and figure."""
    warnings.warn(
        "the font of the figures lacks signs of a title, which are shown as boxes; "
        "matplotlib.rcParams['font.sans-serif'] may name a font that has them",
        UserWarning,
        stacklevel=3,
    )


def grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """Return the axes of a grid, row by row."""
    return list(figure.subplots(rows, columns, squeeze=False).ravel())


def label(name: str, units: str) -> str:
    """Return `name (units)`, or the one that is there."""
    return f"{name} ({units})".strip() if name and units else name or units


def percent(level: float) -> str:
    """Return a level as a percentage."""
    return f"{100 * float(level):.4g} %"


def lightness_of(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L* of sRGB colours [n, 3] in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
