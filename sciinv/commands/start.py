"""`sciinv inspect` and `sciinv init`: what is in raw files, and a first configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciinv.commands.output import Overwrite

if TYPE_CHECKING:
    from sciinv.steps.propose import Proposal

_Files = Annotated[list[str], typer.Argument(help="Raw files.")]
_Reader = Annotated[
    str | None, typer.Option(help="Name of a reader, or FILE.py:FUNCTION; by content if left out.")
]
_Options = Annotated[
    list[str] | None, typer.Option("--option", help="KEY=VALUE for the reader; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("inspect")(inspect)
    app.command("init")(init)


def inspect(
    files: _Files,
    reader: _Reader = None,
    option: _Options = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the data to write.")] = None,
) -> None:
    """Say what a reader sees in raw files: axes with units, header, noise, and what is doubtful."""
    from sciinv.commands.output import key_values, table
    from sciinv.steps import look as step

    given = key_values(option, "--option")
    if picture is not None and len(files) > 1:
        from sciinv.errors import ConfigError

        raise ConfigError("A picture is of one file", where="--picture", expected="one file",
                          got=len(files), remedy="inspect the files one by one")  # fmt: skip
    for file in files:
        seen = step.look([file], reader, given)
        table(Path(file).name, ("what", "seen"), step.rows(seen))
        for sentence in seen.warnings:
            typer.echo(f"doubt: {sentence}", err=True)
        if seen.missing:
            told = " ".join(f"--option {k}=VALUE" for k in seen.missing)
            typer.echo(f"The reader {seen.data.reader} needs more: {told}", err=True)
        if picture is not None:
            typer.echo(step.picture(seen, picture))


def init(
    files: _Files,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The configuration to write.")
    ] = Path("run.yaml"),
    reader: _Reader = None,
    option: _Options = None,
    prior: Annotated[
        str | None, typer.Option(help="A prior's file, generic or gaussian; else one that fits.")
    ] = None,
    draws: Annotated[int | None, typer.Option(min=2, help="Posterior draws; 20 if left out.")] = (
        None
    ),
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a first configuration for raw files: reader, prior and sampler, each with its reason.

    Asks on a terminal; in a script the options say it. Every file becomes a problem of its own.
    """
    from sciinv.commands.output import key_values
    from sciinv.steps import propose as step
    from sciinv.steps.configuration import write
    from sciinv.steps.look import look

    asks = sys.stdin.isatty() and sys.stdout.isatty() and not yes
    given = key_values(option, "--option")
    proposals = []
    for file in files:
        mine = dict(given)
        if asks:
            missing = look([file], reader, mine).missing
            mine |= {k: _asked(k, file) for k in missing}
        proposal = step.propose(file, reader, mine, prior, draws or 20)
        _tell(file, proposal)
        proposals.append(proposal)
    default = name or step.name_of(files[0])
    if asks:
        default = name or typer.prompt("Name of the run", default=default)
        if draws is None:
            wanted = typer.prompt("Posterior draws", default=20, type=typer_min(2))
            from dataclasses import replace

            proposals = [replace(p, draws=wanted) for p in proposals]
    written = write(proposals, output, default, overwrite=overwrite)
    typer.echo(written)
    typer.echo(f"Next: sciinv run --config {written}", err=True)


def typer_min(least: int) -> Any:
    """Return the type of a whole number of at least this."""
    import click

    return click.IntRange(min=least)


def _asked(key: str, file: str) -> Any:
    from sciinv.config.schema import read_value

    example = " (degrees: FIRST:END, e.g. 0:180)" if key == "angles" else ""
    return read_value(typer.prompt(f"{Path(file).name}: {key}{example}"), key)


def _tell(file: str, proposal: Proposal) -> None:
    seen = proposal.seen
    assert seen.image is not None
    shape = " × ".join(map(str, seen.image.shape[1:]))
    typer.echo(f"{file}: reader {seen.data.reader}, image {shape} in {seen.image.units}", err=True)
    prior = proposal.prior if isinstance(proposal.prior, str) else proposal.prior["kind"]
    typer.echo(f"  prior {prior}: {proposal.why}", err=True)
    for sentence in [*proposal.notes, *(f"doubt: {w}" for w in seen.warnings)]:
        typer.echo(f"  {sentence}", err=True)
