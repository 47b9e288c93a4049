"""The options of a reader as a table, made from the docstring and signature of its `read`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
ENTRY = re.compile(r"^    (\w+): (.*(?:\n(?: {8}.*| *$))*)", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One argument of a reader.

    Attributes:
        name: Its name, as a configuration's `data.options` has it.
        default: Its default as written, None where it has to be given.
        about: What the docstring says of it.
    """

    name: str
    default: str | None
    about: str


def options(reader: str) -> list[Option]:
    """Return the arguments of `sciinv.readers.READER.read`, in the order of the signature.

    Raises:
        KeyError: An argument is not in the docstring.
    """
    function = _read(reader)
    text = ast.get_docstring(function) or ""
    described = dict(ENTRY.findall(_section(text, "Args")))
    args = function.args
    positional = [None] * (len(args.args) - len(args.defaults)) + list(args.defaults)
    pairs = [
        *zip(args.args, positional, strict=True),
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]
    return [
        Option(a.arg, None if d is None else ast.unparse(d), " ".join(described[a.arg].split()))
        for a, d in pairs
    ]


def table(reader: str) -> str:
    """Return the reader's docstring and options as Markdown."""
    text = ast.get_docstring(_read(reader)) or ""
    about = re.split(r"^(?:Args|Returns|Raises):", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        f"| `{o.name}` | {'needed' if o.default is None else f'`{o.default}`'} | {_cell(o.about)} |"
        for o in options(reader)
    ]
    head = ["| option | default | what |", "|---|---|---|"]
    return "\n".join([_text(about).strip(), "", *head, *rows, ""])


def _read(reader: str) -> ast.FunctionDef:
    tree = ast.parse((REPO / f"sciinv/readers/{reader}.py").read_text(encoding="utf-8"))
    return next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "read")


def _section(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\n((?: {{4}}.*\n?|\n)*)", text, re.MULTILINE)
    return found.group(1) if found else ""


def _text(text: str) -> str:
    """Return a docstring's text with its signs literal, but for what stands in backticks."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_\[\]])", r"\\\1", parts[i])
    return "`".join(parts)


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")
