"""`sciinv check-operator` and `sciinv new-operator`: physics of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MARKS = {True: "ok", False: "FAIL", None: "–"}  # the last: does not apply


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check-operator")(check_operator)
    app.command("new-operator")(new_operator)


def check_operator(
    operator: Annotated[str, typer.Argument(help="FILE.py:CLASS, or the name of an operator.")],
    params: Annotated[
        str | None, typer.Option(help="Constructor parameters, a JSON object.")
    ] = None,
    measurement: Annotated[
        Path | None,
        typer.Option(help="A measurement store whose arrays and parameters the operator takes."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the test images.")] = 0,
) -> None:
    """Test an operator: shape, dtype, device, linearity, dot-product, vjp, batch, noise."""
    from sciinv import operators, store
    from sciinv.commands.output import json_object, say, table
    from sciinv.operators.check import check_operator

    given = json_object(params, "--params")
    y = None
    if measurement is not None:
        physics, y = operators.from_measurement(
            store.open_measurement(measurement), operator=operator, **given
        )
    else:
        physics = operators.load(operator, **given)
    results = check_operator(physics, y, seed)
    failed = [r for r in results if r.ok is False]
    rows = [
        (_MARKS[r.ok], r.name, r.expected, r.got, r.remedy if r.ok is False else "")
        for r in results
    ]
    table(f"{operator}", ("", "check", "expected", "got", "remedy"), rows)
    say(f"{len(results) - len(failed)} of {len(results)} checks passed")
    raise typer.Exit(int(bool(failed)))


def new_operator(
    name: Annotated[str, typer.Argument(help="Name of the class, e.g. MyScanner.")],
    path: Annotated[
        Path | None, typer.Option(help="File to write; NAME in small letters by default.")
    ] = None,
) -> None:
    """Write a file with an operator to start from; it passes check-operator as it is."""
    from sciinv.operators.new import write

    written = write(name, path)
    typer.echo(f"{written}")
    typer.echo(f"check it with: sciinv check-operator {written}:{name}")
