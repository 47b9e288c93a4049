"""`sciinv check-prior | compare`: does this prior know this object?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sciinv.commands.output import Network, Overwrite

_Measurement = Annotated[Path, typer.Argument(help="A measurement store.")]
_OperatorName = Annotated[
    str | None,
    typer.Option("--operator", help="Name or FILE.py:CLASS; the measurement's own by default."),
]
_Params = Annotated[
    str | None, typer.Option(help="Constructor parameters of the operator, a JSON object.")
]
_Kind = Annotated[str, typer.Option(help="daps, dps, langevin or particles.")]
_Setting = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE for the sampler; may be repeated.")
]
_Draws = Annotated[
    int, typer.Option(min=2, help="Draws of each run; 39 is the least for an alarm at 5 %.")
]
_Item = Annotated[int, typer.Option(min=0, help="Position of the item.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of everything.")]
_Rate = Annotated[float, typer.Option(help="Rate of false alarms.")]
_Out = Annotated[Path | None, typer.Option("--out", "-o", help="The JSON file to write.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check-prior")(check_prior)
    app.command()(compare)


def check_prior(
    measurement: _Measurement,
    prior: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file, or a description (.yaml); else the generic one."),
    ] = None,
    out: _Out = None,
    operator: _OperatorName = None,
    params: _Params = None,
    sampler: _Kind = "daps",
    setting: _Setting = None,
    draws: _Draws = 39,
    item: _Item = 0,
    seed: _Seed = 0,
    rate: _Rate = 0.05,
    network: Network = None,
    overwrite: Overwrite = False,
) -> None:
    """Say whether a prior fits a measurement, at a stated rate of false alarms.

    Samples twice, once with a tenth of the data left out; ranks what was left out among the draws'
    predictions, and the draws among the prior's own images; estimates the log evidence.
    """
    from sciinv.commands.output import json_object, key_values, progress, table
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.check_prior import check_prior

    with progress("sampling") as report:
        found = check_prior(
            measurement,
            out,
            operator=Operator(operator, json_object(params, "--params")),
            prior=Prior(str(prior), network=network) if prior else Prior(kind="generic"),
            sampler=Sampler(sampler, key_values(setting, "--setting")),
            draws=draws,
            item=item,
            seed=seed,
            rate=rate,
            progress=report,
            overwrite=overwrite,
        )
    table("check of the prior", ("what", "found"), list(zip(_COLUMNS, _cells(found), strict=True)))
    typer.echo(found["sentence"])


def compare(
    measurement: _Measurement,
    prior: Annotated[
        list[Path], typer.Option(help="A .safetensors file, or a description; repeated.")
    ],
    out: _Out = None,
    operator: _OperatorName = None,
    params: _Params = None,
    sampler: _Kind = "daps",
    setting: _Setting = None,
    draws: _Draws = 39,
    item: _Item = 0,
    seed: _Seed = 0,
    rate: _Rate = 0.05,
    network: Network = None,
    overwrite: Overwrite = False,
) -> None:
    """Let several priors compete for one measurement: evidence and checks of each, best first."""
    from sciinv.commands.output import json_object, key_values, progress, table
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.check_prior import compare

    with progress("sampling") as report:
        found = compare(
            measurement,
            [Prior(str(p), network=network) for p in prior],
            out,
            overwrite=overwrite,
            operator=Operator(operator, json_object(params, "--params")),
            sampler=Sampler(sampler, key_values(setting, "--setting")),
            draws=draws,
            item=item,
            seed=seed,
            rate=rate,
            progress=report,
        )
    rows = [(*_cells(f), _number(f["behind"])) for f in found]
    table("priors, best first", (*_COLUMNS, "nats behind"), rows)
    for one in found:
        typer.echo(f"{one['prior']}: {one['sentence']}")


_COLUMNS = ("prior", "log evidence, nats", "χ² of the draws", "p left out", "p typical", "answer")


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    evidence = _number(found["log_evidence"])
    if found["log_evidence_error"] is not None:
        evidence += f" ± {found['log_evidence_error']:.2g}"
    left_out, typical = found["predictive"], found["typicality"]
    return (
        Path(found["prior"]).name, evidence, f"{found['chi2']:.3f}",
        _number(left_out and left_out["p"]), _number(typical and typical["p"]), found["answer"],
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"
