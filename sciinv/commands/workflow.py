"""`sciinv run` and `sciinv doctor`: the workflow, and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(doctor)


def run(
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of the run; workflows/configs/main.yaml by default."),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="CPU cores; the profile's by default.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="default, ci, slurm, kubernetes, or the path of a profile.")
    ] = "default",
    resume: Annotated[
        bool, typer.Option(help="Go on after a run that was killed: removes its stale lock.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Let Snakemake speak.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as one JSON object.")
    ] = False,
    snakemake: Annotated[
        list[str] | None,
        typer.Option("--snakemake", help="An argument for Snakemake itself; may be repeated."),
    ] = None,
) -> None:
    """Run the workflow: raw data to posterior draws, summaries and a report.

    Only what is missing or depends on a change is done. Results come into the folder `results`
    of the working directory. Ctrl-C leaves what is finished: `sciinv run --resume` goes on.
    """
    from sciinv.run import launch

    code = launch.run(
        config,
        profile=profile,
        cores=cores,
        resume=resume,
        dry_run=dry_run,
        extra=snakemake or [],
        verbose=verbose,
        quiet=quiet,
        as_json=as_json,
    )
    raise typer.Exit(code)


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="Also check the files of this configuration.")
    ] = None,
) -> None:
    """Say what is installed, what is missing, and what that prevents."""
    from sciinv.commands.output import table
    from sciinv.run import doctor as examination

    marks = {"ok": "ok", "note": "note", "bad": "FAIL"}
    findings = examination.examine(config)
    rows = [(marks[f.level], f.what, f.got, f.remedy) for f in findings]
    table("sciinv doctor", ("", "what", "found", "remedy"), rows)
    raise typer.Exit(int(any(f.level == "bad" for f in findings)))
