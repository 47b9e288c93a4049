"""What commands print: errors as rows, tables, progress bars on a terminal and lines in a log."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from sciinv.config.schema import read_value
from sciinv.errors import ConfigError, SciinvError

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d+")

# Of every command that writes: it replaces nothing unless it is asked to.
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what sciinv wrote under this name before; never anything else.",
    ),
]

# A description of a prior is a file from outside: the code that it names is run only when asked.
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        help="FILE.py:CLASS of a prior's network: a description's code runs only if named here.",
    ),
]


def print_error(error: SciinvError) -> None:
    """Print an error's rows to standard error, red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    head, *rows = str(error).split("\n")
    console.print(Text(f"{type(error).__name__}: {head}", style="bold red"))
    for row in rows:
        console.print(Text(row, style="red"))


def say(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table to standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*[Text(str(cell)) for cell in row])
    # In a pipe or a log the width is unknown: lines are left whole there.
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(made)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total): a bar on a terminal, a line every 10 s elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 10 or done == total:
            last = time.monotonic()
            say(f"{title}: {done} of {total}")

    yield report


def json_object(text: str | None, option: str) -> dict[str, Any]:
    """Return a JSON object that was given as an option.

    Raises:
        ConfigError: It is no JSON object.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            "The option is no valid JSON",
            where=option,
            expected="an object, e.g. '{\"size\": 64}'",
            got=text,
            remedy=f"quote it for the shell ({error})",
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(
            "The option is no JSON object",
            where=option,
            expected="an object, e.g. '{\"size\": 64}'",
            got=text,
            remedy="put the parameters into { }",
        )
    return value


def key_values(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Return KEY=VALUE options as a mapping, the values read as YAML.

    Raises:
        ConfigError: One is not of this form.
    """
    out = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(
                "The option is not of the form KEY=VALUE",
                where=option,
                expected=f"{option} key=value",
                got=pair,
                remedy="put an equals sign between name and value, without spaces",
            )
        out[key] = _scalar(read_value(value, f"{option} {key}"))
    return out


def _scalar(value: Any) -> Any:
    """Return 1e-5 as a number too: YAML 1.1 asks for 1.0e-5, and takes the rest for a text."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    return float(value)


def number_range(text: str | None, option: str) -> range | None:
    """Return the numbers of "FIRST:END", the end left out.

    Raises:
        ConfigError: It is not of this form, or empty.
    """
    if text is None:
        return None
    first, colon, end = text.partition(":")
    if not (colon and first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise ConfigError(
            "The option is no range of numbers",
            where=option,
            expected="FIRST:END with FIRST < END, e.g. 0:16",
            got=text,
            remedy="numbers count from 0; the end is left out",
        )
    return range(int(first), int(end))
