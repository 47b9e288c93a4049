"""`sciinv train` and `sciinv calibrate`: priors, and whether uncertainty is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sciinv.commands.output import Network, Overwrite


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)
    app.command("import-prior")(import_prior)
    app.command("fit-widths")(fit_widths)
    app.command()(benchmark)
    app.command()(calibrate)
    app.command("calibrate-prior")(calibrate_prior)


def train(
    images: Annotated[
        Path,
        typer.Argument(
            help="Folder or file of images (PNG, TIFF, NIfTI, DICOM, .npy, HDF5, Zarr), or the "
            "YAML file of a run, e.g. workflows/configs/train-ct.yaml."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .safetensors file to write.")
    ] = None,
    hours: Annotated[
        float, typer.Option(min=0.001, help="Time for all of it; decides the network's size.")
    ] = 1.0,
    axis: Annotated[
        str | None, typer.Option(help="Axis to cut volumes along: 0, 1, 2, axial, coronal, …")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Array of an HDF5, Zarr or .npz file.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help=r"Pattern of a subject in the paths, e.g. '(patient\d+)'.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="CSV file with the columns file and subject.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="Cut or pad to SIZE × SIZE pixels.")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(min=16, help="Learn crops of CROP × CROP pixels.")
    ] = None,
    augment: Annotated[
        str, typer.Option(help="auto (as the images are symmetric), none, or names: left-right, …")
    ] = "auto",
    phase: Annotated[
        str, typer.Option(help="auto, none, or simulate: give real images smooth phases.")
    ] = "auto",
    scale: Annotated[
        str, typer.Option(help="auto, none, or subject: divide by each one's 99th percentile.")
    ] = "auto",
    labels: Annotated[bool, typer.Option(help="Take masks and label maps too.")] = False,
    units: Annotated[str, typer.Option(help="Unit of a value, where no file says it.")] = "",
    pixel: Annotated[
        float | None, typer.Option(help="Side of a pixel, where no file says it.")
    ] = None,
    pixel_unit: Annotated[str, typer.Option(help="Unit of --pixel.")] = "mm",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Only say what the images are like.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option(help="Start anew instead of going on from the checkpoint.")
    ] = False,
    finish: Annotated[
        bool, typer.Option(help="YAML: begin the final decay of the learning rate now.")
    ] = False,
    export: Annotated[
        bool, typer.Option(help="YAML: only measure and write the prior of the last checkpoint.")
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="YAML: stop after so many steps.")
    ] = None,
) -> None:
    """Train a prior on images, or as a YAML file says; goes on where it was stopped.

    Of images it says what it finds in them and chooses, and writes the prior with its widths, its
    calibration, samples and a card.
    """
    if images.suffix in (".yaml", ".yml"):
        _train_configured(images, finish, fresh, export, max_steps)
        return
    from sciinv.errors import ConfigError
    from sciinv.steps import train_images as step

    if finish or export or max_steps is not None:
        raise ConfigError(
            "--finish, --export and --max-steps are for the YAML file of a run",
            where="sciinv train",
            expected="a .yaml file with them",
            got=images,
            remedy="leave them out: --hours ends the run",
        )
    choices = step.Choices(
        axis, dataset, subject, subjects, size, crop, augment, phase, scale, labels, units, pixel,
        pixel_unit, seed,
    )  # fmt: skip
    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    if inspect:
        step.looked_at(images, choices, typer.echo)
        return
    if output is None:
        raise ConfigError(
            "Nothing says where the prior shall be written",
            where="sciinv train",
            expected="--output FILE.safetensors",
            got="none",
            remedy=f"add --output {images.stem or 'prior'}.safetensors",
        )
    typer.echo(step.train_images(images, output, hours, choices, fresh=fresh, say=say))


def _train_configured(
    config: Path, finish: bool, fresh: bool, export: bool, max_steps: int | None
) -> None:
    from sciinv.config.schema import read_yaml
    from sciinv.priors.learned import training
    from sciinv.priors.learned.recipes import TrainConfig

    read_yaml(config)  # says where the YAML is wrong
    chosen = TrainConfig.of_file(config)
    if export:
        training.export(chosen)
    else:
        training.train(chosen, finish=finish, resume=not fresh, max_steps=max_steps)


def import_prior(
    weights: Annotated[
        Path,
        typer.Argument(
            help="Weights of EDM (.pkl), InverseBench, guided-diffusion, lucidrains, "
            "Lightning or deepinv (.pt, .ckpt, .safetensors), or a diffusers folder."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .yaml file to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Clean images for the widths, not trained on.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=0, help="Draws of the prior for the widths where there are none.")
    ] = 32,
    steps: Annotated[int, typer.Option(min=2, help="Steps of such a draw.")] = 60,
    levels: Annotated[int, typer.Option(min=2, help="Noise levels of the widths.")] = 12,
    network: Annotated[
        str | None, typer.Option(help="Class of the network, e.g. deepinv.models:DRUNet.")
    ] = None,
    arguments: Annotated[
        str | None, typer.Option(help="Arguments of the class, a JSON object.")
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="epsilon, v or x0, where the file does not say it.")
    ] = None,
    sigma_data: Annotated[float | None, typer.Option(help="EDM: rms of the images, 0.5.")] = None,
    sigma_min: Annotated[float | None, typer.Option(help="Smallest σ, network's units.")] = None,
    sigma_max: Annotated[float | None, typer.Option(help="Largest σ, network's units.")] = None,
    shape: Annotated[str | None, typer.Option(help="C,H,W of an image.")] = None,
    units: Annotated[str | None, typer.Option(help="Unit of a pixel value.")] = None,
    offset: Annotated[float | None, typer.Option(help="Physical value of u = 0.")] = None,
    scale: Annotated[float | None, typer.Option(help="Physical value of one unit of u.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws and noise.")] = 0,
) -> None:
    """Describe a network that was trained elsewhere, and fit its widths.

    A pickle is never opened as one: tensors are taken from it, and nothing in it is run.
    """
    from sciinv.commands.output import json_object
    from sciinv.errors import ConfigError
    from sciinv.steps import import_prior as step

    size = None
    if shape is not None:
        try:
            size = [int(n) for n in shape.split(",")]
        except ValueError:
            size = []
        if len(size) != 3 or min(size) < 1:
            raise ConfigError("The shape is no C,H,W", where="--shape", got=shape,
                              expected="three whole numbers joined by commas",
                              remedy="e.g. --shape 1,64,64")  # fmt: skip
    stated = {
        "network": network, "arguments": json_object(arguments, "--arguments"),
        "prediction": prediction, "sigma_data": sigma_data, "sigma_min": sigma_min,
        "sigma_max": sigma_max, "shape": size, "channels": size and size[0], "units": units,
        "offset": offset, "scale": scale,
    }  # fmt: skip
    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    typer.echo(
        step.import_prior(
            weights, output, stated, images=images, draws=draws, steps=steps, levels=levels,
            seed=seed, say=say,
        )
    )  # fmt: skip


def fit_widths(
    prior: Annotated[Path, typer.Argument(help="A .safetensors file of `sciinv train`.")],
    images: Annotated[int, typer.Option(min=16, help="Draws of the prior to fit on.")] = 256,
    pairs: Annotated[int, typer.Option(min=64, help="Noised images for the fit.")] = 3072,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the fit.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws, noise and fit.")] = 0,
) -> None:
    """Add to a prior where in the image its denoiser errs (for `conditional: local`)."""
    from sciinv.priors.widths.fit import add_local

    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    typer.echo(add_local(prior, images, pairs, steps, seed, say))


def calibrate(
    measurement: Annotated[
        Path, typer.Argument(help="A measurement store: its operator and noise are simulated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    prior: Annotated[Path, typer.Option(help="A .safetensors file; truths are drawn from it.")],
    operator: Annotated[
        str | None, typer.Option(help="Name or FILE.py:CLASS; the measurement's own by default.")
    ] = None,
    params: Annotated[
        str | None, typer.Option(help="Constructor parameters of the operator, a JSON object.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="daps, dps, langevin or particles.")] = "daps",
    setting: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the sampler; may be repeated.")
    ] = None,
    truths: Annotated[int, typer.Option(min=2, help="Simulated truths.")] = 16,
    draws: Annotated[int, typer.Option(min=2, help="Draws per truth.")] = 19,
    seed: Annotated[int, typer.Option(min=0, help="Seed of truths, noise and draws.")] = 0,
    network: Network = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure whether the draws' spread is the error that is made, on simulated truths.

    Writes calibration.json, ranks.npy and calibration.png.
    """
    from sciinv.commands.output import json_object, key_values, progress, table
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.calibrate import calibrate

    with progress("truths") as report:
        rows = calibrate(
            measurement,
            out,
            operator=Operator(operator, json_object(params, "--params")),
            prior=Prior(str(prior), network=network),
            sampler=Sampler(sampler, key_values(setting, "--setting")),
            truths=truths,
            draws=draws,
            seed=seed,
            progress=report,
            overwrite=overwrite,
        )
    table("calibration", ("what", "found", "right"), rows)
    typer.echo(out)


def calibrate_prior(
    prior: Annotated[Path, typer.Argument(help="A .safetensors file; truths are drawn from it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path(
        "results/calibration"
    ),
    operator: Annotated[str, typer.Option(help="fourier or ct (60° of view angles).")] = "fourier",
    noise: Annotated[float, typer.Option(help="Noise sd β in the prior's unit u.")] = 0.05,
    truths: Annotated[int, typer.Option(min=2, help="Simulated truths.")] = 100,
    draws: Annotated[int, typer.Option(min=2, help="Draws per truth.")] = 16,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for DAPS, in place of the prior's own; may be repeated."),
    ] = None,
    match: Annotated[
        int, typer.Option(help="First find the width factor κ on so many other truths.")
    ] = 0,
    published: Annotated[
        int, typer.Option(help="Put the published loop beside, on so many of the truths.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of truths, noise and draws.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Measure whether draws under a learned prior are calibrated: its own draws are the truths."""
    from sciinv.calibration import learned as own
    from sciinv.commands.output import key_values, progress, table

    # What a run takes of this prior where nothing is set: that is what has to be calibrated.
    settings = key_values(setting, "--setting")
    with progress("truths") as report:
        path, rows = own.run(
            prior, out, operator, noise, truths, draws, settings, match, published, seed,
            report, lambda line: typer.echo(line, err=True), overwrite,
        )  # fmt: skip
    table(f"{prior.stem}, {operator}", ("what", *(r[0] for r in rows)), list(zip(*[
        [k for k, _ in rows[0][1]], *[[v for _, v in r[1]] for r in rows]
    ], strict=True)))  # fmt: skip
    typer.echo(path)


def benchmark(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the table.")] = Path(
        "results/benchmark"
    ),
    full: Annotated[
        bool, typer.Option(help="All cases with 1,000 draws; hours, most of them for levy.")
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="gaussian, mixture, large, coils, levy, bipsda, nonlinear, robust or speed; "
            "repeatable."
        ),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE.py:NAME of a function (prior, physics, y, draws, seed) → draws; repeatable."
        ),
    ] = None,
    speed: Annotated[
        bool, typer.Option(help="Price of a draw of the shipped problems, by its parts, instead.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare the samplers with exact posteriors, and write the table."""
    if speed:
        from sciinv.calibration.benchmark.speed import write

        typer.echo(write(out, overwrite, lambda line: typer.echo(line, err=True)))
        return
    from sciinv.calibration.benchmark.foreign import named
    from sciinv.calibration.benchmark.run import GROUPS, run
    from sciinv.errors import ConfigError

    known = GROUPS
    chosen = tuple(group or known)
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(
            "There is no group of cases of this name",
            where="--group",
            expected=", ".join(known),
            got=", ".join(unknown),
            remedy="name a known group",
        )
    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    own = {text: named(text) for text in sampler or ()}
    typer.echo(run(out, full, chosen, progress=say, overwrite=overwrite, own=own))
