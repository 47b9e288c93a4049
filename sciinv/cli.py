"""The command line: `sciinv COMMAND`. Numerics are imported by the command that needs them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sciinv import __version__
from sciinv.commands import alarm, operator, posterior, prior, start, workflow
from sciinv.commands.output import print_error
from sciinv.errors import SciinvError
from sciinv.run.job import one_thread, quiet_imports

app = typer.Typer(
    name="sciinv",
    help="Raw scientific measurements to images with uncertainty that can be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sciinv {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Raw scientific measurements to images with uncertainty that can be trusted."""
    if debug:
        os.environ["SCIINV_DEBUG"] = "1"


for part in (start, workflow, posterior, operator, prior, alarm):
    part.register(app)


def main() -> None:
    """Run the command line; exit code 1 for a failure, 2 for a wrong call."""
    quiet_imports()
    one_thread()
    try:
        app(prog_name="sciinv")
    except SciinvError as error:
        if os.environ.get("SCIINV_DEBUG"):
            raise
        print_error(error)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe went away (`sciinv doctor | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
