"""Files around a report: figures for papers beside the page, and checks made of the problem."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sciinv import plots, report, store, uncertainty
from sciinv.errors import DataError
from sciinv.metrics import scattered
from sciinv.report.page import maps_of
from sciinv.store.atomic import write_file

if TYPE_CHECKING:
    from sciinv.steps.report import Stores

Calibration = tuple[np.ndarray, int]


def write_figures(problem: report.Problem, folder: Path) -> list[str]:
    """Write the figures of one item, in the unit of the field; return the names of the vector ones.

    Each map, single draws and χ² as PNG; all maps side by side and the residuals as SVG and PDF.
    """
    maps, shown, others = maps_of(problem)
    item, colours = problem.item, plots.colour_map(problem.operator)
    panels = {"mean": maps["mean"], "sd": maps["sd"]}
    for level in maps["quantile"].values:
        panels[f"q{100 * level:04.1f}".replace(".0", "")] = maps["quantiles"].sel(quantile=level)
    for key, panel in panels.items():
        name = "standard deviation" if key == "sd" else key
        plots.write_map(
            panel,
            folder / f"item-{item}-{key}.png",
            title=f"{problem.title}: {name}",
            colours=plots.SPREAD if key == "sd" else colours,
        )
    one = uncertainty.as_dataset(problem.posterior).isel(item=[item])
    few = one.isel(draw=slice(0, 8))
    few = few.assign(image=shown.of(few["image"]))
    figure = plots.draws_figure(few, 0, channel=problem.channel, colours=colours)
    write_file(folder / f"item-{item}-draws.png", plots.png(figure))
    chi2, found = store.reduced_chi2(one)
    if chi2 is not None:  # draws from elsewhere may have none
        fit = plots.fit_figure(chi2.isel(item=0).values, problem.components, found)
        write_file(folder / f"item-{item}-chi2.png", plots.png(fit))
    stacked = maps.expand_dims(("item", "channel")).transpose(..., "item", "channel", "y", "x")
    vector = {"maps": plots.maps_figure(stacked, classical=others, colours=colours)}
    if problem.residuals is not None:
        vector["residuals"] = plots.residual_figure(problem.residuals)
    names = []
    for key, drawn in vector.items():
        for form in ("svg", "pdf"):
            names.append(f"item-{item}-{key}.{form}")
            write_file(folder / names[-1], plots.vector(drawn, form))  # type: ignore[arg-type]
    return names


def beside(
    stores: Stores, dataset: xr.Dataset, draws: xr.Dataset
) -> tuple[Calibration | None, Mapping[str, Any] | None, dict[str, str]]:
    """Return the calibration and the check of the prior, and how to make what is not there.

    Returns:
        (ranks [truth, place], draws per truth); what `sciinv check-prior` found; commands by
        "calibration" and "prior_check".

    Raises:
        DataError: A file was named and is not there, or it does not hold what it should.
    """
    if not isinstance(stores.posterior, str | Path):
        return None, None, {}
    folder = Path(stores.posterior).parent
    named = stores.calibration, stores.prior_check
    calibration = Path(named[0] or folder / "calibration")
    check = Path(named[1] or folder / "check-prior.json")
    words = _words(stores, draws)
    slots, ranks, found = {}, None, None
    if named[0] or (calibration / "calibration.json").is_file():
        ranks = _ranks(calibration)
    elif words:
        slots["calibration"] = f"sciinv calibrate {words} --out {shlex.quote(str(calibration))}"
    if named[1] or check.is_file():
        found = _check(check)
    elif words:
        slots["prior_check"] = f"sciinv check-prior {words} --out {shlex.quote(str(check))}"
    return ranks, found, slots


def search_beside(stores: Stores) -> Mapping[str, Any] | None:
    """Return what the search of `inflate: auto` found, of the check.json beside the posterior."""
    if not isinstance(stores.posterior, str | Path):
        return None
    path = Path(stores.posterior).parent / "check.json"
    if not path.is_file():
        return None
    with _readable("check", path, "the file that the step check writes", "sciinv run"):
        return json.loads(path.read_text(encoding="utf-8")).get("inflate_search")


def _words(stores: Stores, draws: xr.Dataset) -> str:
    """Return the arguments of a command that samples as these draws were; empty if not known."""
    prior = draws.attrs.get("prior_path")
    if prior is None or "config" not in draws.attrs:
        return ""
    config = json.loads(str(draws.attrs["config"]))
    settings = dict(config.get("sampler", {}))
    words = [str(stores.measurement), "--prior", str(prior)]
    words += ["--sampler", str(settings.pop("kind", "daps"))]
    for name, value in settings.items():
        words += ["--setting", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    operator = config.get("operator", {})
    if operator.get("name"):
        words += ["--operator", operator["name"]]
    if operator.get("params"):
        words += ["--params", json.dumps(operator["params"])]
    return shlex.join(words)


@contextmanager
def _readable(what: str, where: Path, expected: str, command: str) -> Iterator[None]:
    """Turn what goes wrong in reading a file of ours into a `DataError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The {what} cannot be read",
            where=where,
            expected=expected,
            got=error,
            remedy=f"run `{command}` again with --overwrite, or move it away",
        ) from error


def _ranks(folder: Path) -> Calibration:
    expected = "calibration.json and ranks.npy, as `sciinv calibrate` writes them"
    with _readable("calibration", folder, expected, "sciinv calibrate"):
        row = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
        ranks = np.load(folder / "ranks.npy", allow_pickle=False)
        return scattered(ranks), int(row["draws"])


def _check(path: Path) -> Mapping[str, Any]:
    expected = "the file that `sciinv check-prior --out` writes"
    with _readable("check of the prior", path, expected, "sciinv check-prior"):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"answer", "sentence"} <= set(found):
            raise ValueError("no answer and sentence in it")
        return found
