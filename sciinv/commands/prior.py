"""`sciinv train` and `sciinv calibrate`: priors, and whether uncertainty is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)


def train(
    config: Annotated[
        Path, typer.Argument(help="YAML file, e.g. workflows/configs/train-ct.yaml.")
    ],
    finish: Annotated[
        bool, typer.Option(help="Begin the final decay of the learning rate now.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option(help="Start anew instead of going on from the checkpoint.")
    ] = False,
    export: Annotated[
        bool, typer.Option(help="Only measure and write the prior of the latest checkpoint.")
    ] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
) -> None:
    """Train a prior; goes on from its latest checkpoint, and writes the file when done."""
    from sciinv.config_schema import read_yaml
    from sciinv.priors import training
    from sciinv.priors.recipes import TrainConfig

    read_yaml(config)  # says where the YAML is wrong
    chosen = TrainConfig.of_file(config)
    if export:
        training.export(chosen)
    else:
        training.train(chosen, finish=finish, resume=not fresh, max_steps=max_steps)
