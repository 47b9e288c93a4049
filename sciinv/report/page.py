"""The page: one HTML file with every image in it, and the script that shows them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import xarray as xr
from markupsafe import Markup

import sciinv
from sciinv import plots, store, uncertainty
from sciinv.errors import ConfigError
from sciinv.report import parts
from sciinv.report.findings import Finding, Trust, assess
from sciinv.report.markup import Picture, counted, picture, unbroken
from sciinv.report.nuisances import short
from sciinv.report.origin import cost
from sciinv.report.parts import Problem
from sciinv.report.shown import Shown, shown_as
from sciinv.report.viewer import BUDGET, Draws, payload
from sciinv.store.atomic import write_file
from sciinv.uncertainty import misfits, neighbours

_FILES = files("sciinv.report")


def write_report(
    problems: Problem | Iterable[Problem],
    path: str | os.PathLike[str],
    *,
    title: str = "Images with uncertainty",
    lead: str = "Reconstructions from raw measurements, and how far each can be trusted.",
) -> Path:
    """Write one self-contained HTML file: no other file and no network; its script is its own.

    Args:
        problems: One section each.
        path: The file to make; written aside and renamed.
        title: Heading of the page.
        lead: One sentence below it.

    Returns:
        The path.

    Raises:
        ConfigError: No problem, an item that is not there, or an image of another shape.
        StoreError: A posterior that is not whole, or a disk that is full or read-only.
    """
    chosen = [problems] if isinstance(problems, Problem) else list(problems)
    if not chosen:
        raise ConfigError(
            "There is nothing to report",
            expected="at least one problem",
            got="none",
            remedy="sample a posterior first",
        )
    sections = [
        _section(problem, f"problem-{i + 1}", BUDGET // len(chosen))
        for i, problem in enumerate(chosen)
    ]
    script = (_FILES / "viewer.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["unbroken"] = unbroken
    template = environment.from_string((_FILES / "template.html").read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        lead=lead,
        version=sciinv.__version__,
        style=Markup((_FILES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # The browser runs this script alone, whatever a title or a file name may hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sections=sections,
    )
    write_file(path, page.encode())
    return Path(path)


def maps_of(problem: Problem) -> tuple[xr.Dataset, Shown, dict[str, np.ndarray]]:
    """Return what is shown of a problem's item, in the unit of the field.

    Returns:
        Maps [y, x]; the unit; the usual reconstructions and the truth by name, [y, x].

    Raises:
        ConfigError: No such item, or an image of another shape.
    """
    summary, others = _as_stored(problem)
    mean = summary["mean"]
    shown = shown_as(
        str(mean.attrs.get("units", "")),
        float(np.abs(mean.values).max()),
        _pixel(mean),
        problem.frequency_hz,
        problem.scale,
        problem.water,
    )
    in_unit = {k: v * shown.factor + shown.offset for k, v in others.items()}
    return _in_unit(summary, shown), shown, in_unit


def _as_stored(problem: Problem) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
    """Return maps and other images of a problem's item as stored, [y, x]."""
    dataset = uncertainty.as_dataset(problem.posterior)
    if not 0 <= problem.item < dataset.sizes["item"]:
        raise ConfigError(
            "The posterior has no such item",
            where=problem.title,
            expected=f"0 … {dataset.sizes['item'] - 1}",
            got=problem.item,
            remedy="choose an item that was sampled",
        )
    if problem.summary is None:
        summary = uncertainty.summarize(dataset.isel(item=[problem.item]))
    else:
        summary = problem.summary.isel(item=[problem.item])
    summary = summary.isel(item=0, channel=problem.channel).load()
    others = {k: plots.plane(k, v, summary["mean"]) for k, v in problem.classical.items()}
    if problem.truth is not None:
        others["Truth"] = plots.plane("truth", problem.truth, summary["mean"])
    return summary, others


def _in_unit(summary: xr.Dataset, shown: Shown) -> xr.Dataset:
    out = summary.copy()
    for name in ("mean", "quantiles"):
        out[name] = shown.of(out[name])
    for name in ("sd", "interval_width", "mcse_mean", "mcse_sd"):
        if name in out:
            out[name] = shown.of(out[name], spread=True)
    if "threshold" in out.coords:
        out = out.assign_coords(threshold=out["threshold"] * shown.factor + shown.offset)
    return out


def _pixel(mean: xr.DataArray) -> tuple[float, str] | None:
    x = mean["x"].values if "x" in mean.coords else np.zeros(0)
    if len(x) < 2:
        return None
    return abs(float(x[-1] - x[0])) / (len(x) - 1), str(mean["x"].attrs.get("units", ""))


def _section(problem: Problem, anchor: str, budget: int) -> dict[str, Any]:
    """Return what the template shows of one problem."""
    summary, shown, others = maps_of(problem)
    dataset = uncertainty.as_dataset(problem.posterior)
    one = dataset.isel(item=[problem.item])
    stats = one.drop_vars("image").isel(item=0).load()
    # As stored: shares of the signal want an image whose empty places are 0.
    stored, images = _as_stored(problem)
    truth = images.get("Truth") if problem.truth is not None else None
    classical = {k: v for k, v in images.items() if k in problem.classical}
    judged = assess(stored, stats, classical, problem.components, truth)
    told = tuple(Finding(text, warning=True) for text in problem.doubts)
    judged = replace(
        judged, findings=(*told, *_of_prior(problem), *judged.findings, *_left(problem))
    )
    colours = plots.colour_map(problem.operator or dataset.attrs.get("operator"))
    limits = plots.shared_limits([summary["mean"], *summary["quantiles"]])
    moved = bool(summary.attrs.get("aligned"))
    draws = Draws.of(one, problem.channel, shown, moved)
    chi2 = store.reduced_chi2(stats)[0]
    fit = None if chi2 is None else chi2.values
    data = payload(summary, draws, fit, others, colours, limits, budget)
    return {
        "anchor": anchor,
        "title": problem.title,
        "judged": judged,
        "verdict": _verdict(judged),
        "numbers": parts.numbers(problem, judged),
        "views": [(v["key"], v["name"]) for v in data["views"]],
        "draws": data["draws"]["numbers"],
        "data": Markup(_inert(data)),
        "steps": _steps(data),
        "maps": _maps(summary, others, colours, limits),
        "note": shown.note,
        "moved": moved,
        "units": shown.units,
        "regions": parts.regions(summary),
        "charts": parts.charts(problem, judged, stats),
        "residuals": _residuals(problem),
        "calibration": _calibration(problem),
        "search": parts.of_search(problem.search),
        "prior_check": problem.prior_check,
        "slots": {"calibration": "", "prior_check": "", **problem.slots},
        "nuisances": parts.nuisances(stats),
        "measurement": problem.measurement,
        "cost": cost(dataset, problem),
        "items": parts.items(dataset) if dataset.sizes["item"] > 1 else None,
        "files": problem.files,
    }


def _inert(data: Mapping[str, Any]) -> str:
    """Return JSON that stands in a page as text: nothing in it can end the element around it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _steps(data: Mapping[str, Any]) -> str:
    """Return to what step the page holds its values, and how many draws."""
    draws = data["draws"]
    coarse = max(v["step"] for v in data["views"] if v["kind"] == "image")
    units = f" {data['units']}" if data["units"] else ""
    text = (
        f"Values are kept in this page to {short(coarse)}{units} (maps) and "
        f"{short(draws['images'][0]['step'])}{units} (draws); the stores hold them in full."
    )
    if draws["side"] > 1:
        text += f" Draws are averaged over {draws['side']} × {draws['side']} pixels here."
    if len(draws["images"]) < draws["total"]:
        text += f" The page holds the first {len(draws['images'])} of {draws['total']} draws."
    return text


def _maps(
    summary: xr.Dataset,
    others: Mapping[str, np.ndarray],
    colours: Any,
    limits: tuple[float, float],
) -> Picture:
    """Return the still picture: for print, and where no script runs."""
    figure = plots.maps_figure(
        summary.expand_dims(("item", "channel")).transpose(..., "item", "channel", "y", "x"),
        classical=others,
        colours=colours,
        limits=limits,
    )
    mean, sd = summary["mean"], summary["sd"]
    units = str(mean.attrs.get("units", ""))
    row, column = np.unravel_index(int(np.argmax(mean.values)), mean.shape)
    names = ", ".join(["mean", *others, "quantiles", "standard deviation"])
    alt = (
        f"Maps of {names}. The mean is largest, {short(mean[row, column])} ± "
        f"{short(sd[row, column])} {units}, at x = {short(mean['x'][column])}, "
        f"y = {short(mean['y'][row])} {mean['x'].attrs.get('units', '')}".strip()
        + f"; the largest standard deviation is {short(sd.max())} {units}".rstrip()
        + "."
    )
    return picture(figure, alt, "Maps: images in one colour scale; spreads in their own.")


def _residuals(problem: Problem) -> Picture | None:
    if problem.residuals is None:
        return None
    return picture(
        plots.residual_figure(problem.residuals),
        problem.residuals.words(),
        "Residuals: data minus prediction of a draw, in units of the noise. Those of a right draw "
        "look like noise of size 1, without structure.",
    )


def _calibration(problem: Problem) -> Picture | None:
    if problem.calibration is None:
        return None
    ranks, draws = problem.calibration
    return picture(
        plots.calibration_figure(ranks, draws),
        "Rank histogram and coverage of central intervals on simulated truths",
        "Calibration of this problem: truths drawn from its prior, measured by its operator with "
        "its noise, and sampled as here.",
    )


def _of_prior(problem: Problem) -> tuple[Finding, ...]:
    """Return the verdict of the prior's check among the findings."""
    if problem.prior_check is None:
        return ()
    found = problem.prior_check
    return (Finding(str(found["sentence"]), found["answer"] == "does not fit"),)


def _left(problem: Problem) -> tuple[Finding, ...]:
    """Return what structure the draws leave in the data, and how alike they fit, as findings."""
    if problem.residuals is None:
        return ()
    said = (
        neighbours.sentence(problem.residuals.neighbours),
        misfits.sentence(problem.residuals.misfits),
    )
    return tuple(Finding(*each) for each in said if each)


def _verdict(judged: Trust) -> str:
    count = len(judged.warnings)
    words = f"{counted(count, 'reason')} for doubt" if count else "No reason for doubt found"
    return f"{words}; more draws would help" if judged.advice else words
