"""`sciinv convert | sample | summarize | report | verify`: the steps by hand, store by store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sciinv.commands.output import Network, Overwrite
from sciinv.errors import ConfigError

_Measurement = Annotated[Path, typer.Argument(help="A measurement store.")]
_Posterior = Annotated[Path, typer.Argument(help="A posterior store.")]
_OperatorName = Annotated[
    str | None,
    typer.Option("--operator", help="Name or FILE.py:CLASS; the measurement's own by default."),
]
_Params = Annotated[
    str | None, typer.Option(help="Constructor parameters of the operator, a JSON object.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (convert, sample, summarize, report, export, verify):
        app.command()(command)


def convert(
    raw: Annotated[list[str], typer.Argument(help="Raw files that make one measurement.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The measurement store to write.")],
    reader: Annotated[
        str | None,
        typer.Option(help="Name of a reader, or FILE.py:FUNCTION; by content if left out."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="KEY=VALUE for the reader; may be repeated."),
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="FIRST:END, the end left out; all by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Convert raw data (HDF5, UVFITS, MATLAB, NumPy) into a measurement store (Zarr).

    Items are read in parallel and written one after the other: memory does not grow with them.
    """
    from sciinv import readers
    from sciinv.commands.output import key_values, number_range, progress
    from sciinv.config import Data
    from sciinv.readers.parts.angles_beside import known_options
    from sciinv.readers.parts.looks import warnings_of
    from sciinv.steps.convert import convert
    from sciinv.store import open_measurement

    path = raw[0] if len(raw) == 1 else tuple(raw)
    given = key_values(option, "--option")
    chosen = reader or readers.guess(raw[0])
    given = {**known_options(chosen, Path(raw[0]), given), **given}
    data = Data(chosen, path, given)
    with progress("items") as report:
        convert(
            data,
            out,
            items=number_range(items, "--items"),
            workers=workers,
            progress=report,
            overwrite=overwrite,
        )
    for sentence in warnings_of(open_measurement(out)):
        typer.echo(f"warning: {sentence}", err=True)
    typer.echo(out)


def sample(
    measurement: _Measurement,
    out: Annotated[Path, typer.Option("--out", "-o", help="The posterior store to write.")],
    prior: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file, or a description (.yaml); else the generic one."),
    ] = None,
    operator: _OperatorName = None,
    params: _Params = None,
    sampler: Annotated[str, typer.Option(help="daps, dps or langevin.")] = "daps",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE for the sampler, e.g. levels=50, conditional=tweedie, kernel=auto."
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=2, help="Draws per item; one alone has no uncertainty.")
    ] = 32,
    items: Annotated[
        int | None, typer.Option(min=1, help="Items, from the first; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    network: Network = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw images from the posterior of a measurement."""
    from sciinv import store
    from sciinv.commands.output import json_object, key_values, progress, say
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.sample import sample_shard

    count = store.open_measurement(measurement).sizes["item"]
    if items is not None and items > count:
        raise ConfigError(
            "The measurement holds fewer items than shall be sampled",
            where="--items",
            expected=f"at most {count}",
            got=items,
            remedy="lower it, or leave it out for all",
        )
    with progress("sampling") as report:
        sample_shard(
            measurement,
            out,
            operator=Operator(operator, json_object(params, "--params")),
            prior=Prior(str(prior), network=network) if prior else Prior(kind="generic"),
            sampler=Sampler(sampler, key_values(setting, "--setting")),
            draws=range(draws),
            items=range(items or count),
            seed=seed,
            device=device,
            progress=report,
            say=say,
            overwrite=overwrite,
        )
    typer.echo(out)


def summarize(
    posterior: _Posterior,
    out: Annotated[Path, typer.Option("--out", "-o", help="The summary store to write.")],
    quantities: Annotated[
        Path | None, typer.Option(help="The JSON file of the field's quantities to write.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option(help="A quantity: ring, holes or total; may be repeated.")
    ] = None,
    quantile: Annotated[
        list[float] | None, typer.Option(help="Level of a map; may be repeated, rising.")
    ] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Value t of a map P(x > t); may be repeated.")
    ] = None,
    transform: Annotated[str, typer.Option(help="auto, identity or magnitude.")] = "auto",
    align: Annotated[
        bool, typer.Option("--align", help="Move the draws onto each other first.")
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(help="Address of a dask scheduler whose workers do it, e.g. tcp://host:8786."),
    ] = None,
    memory: Annotated[
        int | None, typer.Option(min=1, help="MiB that draws and maps may take, per process.")
    ] = None,
    modes: Annotated[
        bool, typer.Option("--modes", help="Say whether the draws fall into several kinds.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Mean, standard deviation, quantiles and the field's quantities of a posterior store."""
    from sciinv.steps.summarize import summarize as summarize_store
    from sciinv.uncertainty import as_dataset

    display = {"transform": transform, "thresholds": threshold or [], "align": align}
    if quantile:
        display["quantiles"] = quantile
    summarize_store(
        posterior,
        out,
        quantities,
        display=display,
        domain=tuple(domain or ()),
        scheduler=dask,
        memory=memory * 2**20 if memory else None,
        overwrite=overwrite,
    )
    for item in range(as_dataset(posterior).sizes["item"]) if modes else ():
        typer.echo(f"item {item}: {_kinds(posterior, item)}")
    typer.echo(out)


def _kinds(posterior: Path, item: int) -> str:
    """Return in words how the draws of an item fall into modes."""
    from sciinv.uncertainty.modes import modes

    found = modes(posterior, item)
    if found.sizes["mode"] == 1:
        return "one mode"
    shares = " / ".join(f"{100 * w:.0f} %" for w in found["weight"].values)
    return (
        f"{found.sizes['mode']} modes, {shares} of the draws (silhouette "
        f"{float(found['silhouette']):.2f}; as large in {100 * float(found['chance']):.0f} % of "
        "Gaussian clouds)"
    )


def report(
    measurement: _Measurement,
    posterior: _Posterior,
    summary: Annotated[Path, typer.Argument(help="A summary store.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    quantities: Annotated[
        Path | None, typer.Option(help="The JSON file of the field's quantities.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "",
    operator: _OperatorName = None,
    params: _Params = None,
    items: Annotated[int, typer.Option(min=1, help="Items shown, from the first.")] = 1,
    reference: Annotated[
        Path | None, typer.Option(help="An image to compare with, a NumPy file.")
    ] = None,
    water: Annotated[
        float | None,
        typer.Option(min=1e-12, help="Attenuation of water, 1/mm: show CT in Hounsfield units."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """One HTML page and figures from the stores of a problem."""
    from sciinv.commands.output import json_object
    from sciinv.config import Operator
    from sciinv.steps.report import Stores, make_report

    shown = Stores(
        measurement,
        posterior,
        summary,
        quantities=quantities,
        title=title,
        operator=Operator(operator, json_object(params, "--params")),
        items=items,
        reference=str(reference) if reference else None,
        water=water,
    )
    typer.echo(make_report(shown, out, overwrite=overwrite))


def export(
    path: Annotated[
        Path, typer.Argument(metavar="STORE", help="posterior.zarr, summary.zarr, quantities.json.")
    ],
    to: Annotated[str, typer.Option(help="nifti, fits, tiff, netcdf, csv, npy or dicom.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    measurement: Annotated[
        Path | None,
        typer.Option(help="The measurement store, which knows the place; by default beside it."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="A DICOM file of the same study: patient and study are taken from it."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write draws, or mean and sd, as a file of the field, with pixels and units."""
    from sciinv.steps.export import export as write

    typer.echo(write(path, to, out, measurement=measurement, like=like, overwrite=overwrite))


def verify(
    stores: Annotated[list[Path], typer.Argument(help="Stores of any kind.")],
    redraw: Annotated[
        bool, typer.Option(help="Draw the first shard of each posterior store again; compare bits.")
    ] = False,
    measurement: Annotated[
        Path | None, typer.Option(help="The measurement store, where it was moved.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(help="The prior's file, where it was moved.")
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(help="FILE.py:CLASS of an operator of your own: run only if named here."),
    ] = None,
    network: Network = None,
) -> None:
    """Check that stores are whole, undamaged and finite, and say enough to be made again."""
    from sciinv import store
    from sciinv.steps import redraw as trial

    good = True
    for path in stores:
        finding = store.verify(path)
        typer.echo(finding, err=not finding.ok)
        good &= finding.ok
        if not finding.ok or finding.kind != "posterior":
            continue
        attrs = {str(k): v for k, v in store.open_posterior(path).attrs.items()}
        lacking = trial.gaps(attrs)
        if lacking:
            # Draws written by hand carry no record; one that contradicts itself is damage.
            good &= "config_hash" not in attrs
            typer.echo(f"{path}: cannot be drawn again: {'; '.join(lacking)}", err=True)
        else:
            typer.echo(f"{path}: its record is enough to draw it again")
        if redraw:
            typer.echo(trial.redraw(path, measurement, prior, operator, network))
    raise typer.Exit(int(not good))
