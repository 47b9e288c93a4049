"""Names: found in a table with a hint at the nearest spelling, or taken from "FILE.py:NAME"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sciinv.errors import ConfigError, SciinvError

T = TypeVar("T")
FILE_AND_NAME = re.compile(r"^(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)\Z")


def close_to(name: object, known: Iterable[str]) -> str | None:
    """Return "did you mean …?" with the nearest spelling, or None."""
    near = get_close_matches(str(name), list(known), 1, 0.6)
    return f"did you mean {near[0]!r}?" if near else None


def find(kind: str, name: object, table: Mapping[str, T], also: str = "") -> T:
    """Return what `table` holds under `name`.

    Args:
        kind: What is looked for, for the message: "sampler", "kernel", …
        name: The name; anything but a string is not known.
        table: What is known.
        also: What else would be taken, e.g. "FILE.py:CLASS".

    Raises:
        ConfigError: The table has no such name; the message lists those that it has.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise ConfigError(
        f"There is no {kind} of this name",
        expected=", ".join(table) + (f", or {also}" if also else ""),
        got=name,
        remedy=close_to(name, table) or f"name a known {kind}",
    )


def from_file(
    name: str, kind: str, wanted: Callable[[Any], bool], error: type[SciinvError], expected: str
) -> Any:
    """Return the object that "FILE.py:NAME" names; the file is run, as its user asked.

    Args:
        name: A path and a name joined by a colon.
        kind: What it is, for the message: "operator", "reader", …
        wanted: Whether an object of the file is of that kind.
        error: Raised where the file cannot be imported or holds no such object.
        expected: What `wanted` wants, in words.

    Raises:
        ConfigError: The name is not FILE.py:NAME, or there is no such file.
    """
    match = FILE_AND_NAME.match(name)
    if match is None:
        raise ConfigError(
            f"A file of one's own is named with what it holds: this {kind} is not",
            expected="FILE.py:NAME",
            got=name,
            remedy="append a colon and the name",
        )
    module = _module(Path(match["file"]).expanduser().resolve(), kind, error)
    found = getattr(module, match["name"], None)
    if not wanted(found):
        held = [k for k, v in vars(module).items() if not k.startswith("_") and wanted(v)]
        raise error(
            f"The file holds no such {kind}",
            where=match["file"],
            expected=expected,
            got=f"{match['name']!r}; the file has {', '.join(held) or 'none'}",
            remedy=close_to(match["name"], held) or "correct the name behind the colon",
        )
    return found


def _module(path: Path, kind: str, error: type[SciinvError]) -> ModuleType:
    if not path.is_file():
        raise ConfigError(
            f"The file of the {kind} is not there",
            where=path,
            expected="a Python file",
            got="no such file",
            remedy="check the path; it is taken from the working directory",
        )
    # One name per file: a class pickled to a worker is found again under it.
    mark = hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()
    module_name = f"sciinv_{kind}_{path.stem}_{mark}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as failure:
        del sys.modules[module_name]
        raise error(
            f"The file of the {kind} cannot be imported",
            where=path,
            got=f"{type(failure).__name__}: {failure}",
            remedy=f"run `python {path.name}` in its folder and mend what it says",
        ) from failure
    return module


def library(module: str, what: str, extra: str) -> Any:
    """Return a package that not every installation has, or a module of it.

    Args:
        module: Its name to import.
        what: What needs it, the start of a sentence.
        extra: The extra of sciinv that brings it.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigError(
            f"{what} needs {name}",
            expected=f"{name}, of the extra {extra}",
            got=error,
            remedy=f"pip install 'sciinv[{extra}]'",
        ) from error
