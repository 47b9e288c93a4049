"""Pieces of HTML, every text escaped, and numbers as a reader wants them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

from sciinv import plots

_DPI = 160


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


def counted(number: int, thing: str) -> str:
    """Return `1 thing`, `2 things`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def table_of(rows: Mapping[str, str]) -> str:
    """Return a table of names and texts."""
    cells = [
        f'<tr><th scope="row">{escape(k)}</th><td>{_value(k, v)}</td></tr>' for k, v in rows.items()
    ]
    return f"<table>{''.join(cells)}</table>"


def _value(name: str, text: str) -> str:
    plain = escape(str(text))
    return f"<code>{plain}</code>" if name == "Command" or "SHA-256" in name else plain


def part(heading: str, body: str) -> str:
    """Return a heading above a body of HTML."""
    return f"<h3>{escape(heading)}</h3>\n{body}"


def figure_of(figure: Figure, alt: str, caption: str) -> str:
    """Return a figure with its image inside; what stands before the colon is set in bold."""
    data = base64.b64encode(plots.png(figure, _DPI)).decode()
    head, colon, rest = caption.partition(":")
    text = f"<b>{escape(head)}</b>{escape(colon + rest)}"
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}" loading="lazy">'
        f"<figcaption>{text}</figcaption></figure>"
    )
