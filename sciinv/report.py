"""The report: one HTML file with every image in it, for a person who has to trust the result."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import sciinv
from sciinv import plots, trust, uncertainty
from sciinv.errors import ConfigError
from sciinv.store.atomic import write_file
from sciinv.uncertainty import Posterior

_DPI = 160
_PANEL = 3.6  # inches
_DRAWS = 8
_ITEMS = 200  # rows of the table of items


@dataclass(frozen=True)
class Problem:
    """One reconstruction to report.

    Attributes:
        title: What it shows, e.g. "M87*, 11 April 2017".
        posterior: A posterior store, its path, or a sampler's dataset.
        item: Position along `item` of the one whose images are shown.
        channel: Which channel of the summary is shown.
        summary: Summaries of the posterior (all its items); computed for this item if None.
        measurement: What was measured: rows of name and text (source, instrument, sampling).
        components: Number of measured real components, for the expected spread of χ².
        classical: The field's usual reconstructions of this item, [y, x] by name, same units.
        truth: The true image [y, x], where the data are simulated.
        domain: The field's own numbers by name: text, a number, (value, sd) or (value, sd, units).
        calibration: (ranks, draws) of a calibration on simulated truths, see
            `sciinv.plots.calibration_figure`.
        provenance: Further rows on how it was made; the store's own are shown anyway.
        operator: Name of the operator, which decides the colours; the store's own if None.
    """

    title: str
    posterior: Posterior
    item: int = 0
    channel: int = 0
    summary: xr.Dataset | None = None
    measurement: Mapping[str, str] = field(default_factory=dict)
    components: int | None = None
    classical: Mapping[str, Any] = field(default_factory=dict)
    truth: Any = None
    domain: Mapping[str, Any] = field(default_factory=dict)
    calibration: tuple[Any, int] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    operator: str | None = None


def write_report(
    problems: Problem | Iterable[Problem],
    path: str | os.PathLike[str],
    *,
    title: str = "Images with uncertainty",
    lead: str = "Reconstructions from raw measurements, and how far each can be trusted.",
) -> Path:
    """Write one self-contained HTML file: no other file, no network, no script.

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
    sections, links = [], []
    for i, problem in enumerate(chosen):
        html, judged = _section(problem, f"problem-{i + 1}")
        sections.append(html)
        links.append(
            f'<a href="#problem-{i + 1}">{escape(problem.title)}<span>{_verdict(judged)}</span></a>'
        )
    template = Template((files("sciinv") / "report_template.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(title),
        lead=escape(lead),
        version=escape(sciinv.__version__),
        contents=f'<nav aria-label="Problems">{"".join(links)}</nav>' if len(links) > 1 else "",
        problems="\n".join(sections),
    )
    write_file(path, page.encode())
    return Path(path)


def spoken(value: Any) -> str:
    """Return a domain number for a reader: 41.9 ± 0.8 µas for (41.93, 0.81, "µas")."""
    if isinstance(value, str):
        return value
    if not isinstance(value, tuple | list):
        return f"{value:.4g}"
    number, sd, *units = value
    if not sd or not math.isfinite(sd):
        return " ".join([f"{number:.4g}", *units])
    power = math.floor(math.log10(abs(sd)))
    places = max(0, -power + (abs(sd) < 2 * 10.0**power))
    return " ".join([f"{number:.{places}f} ± {sd:.{places}f}", *units])


def _section(problem: Problem, anchor: str) -> tuple[str, trust.Trust]:
    dataset = uncertainty.as_dataset(problem.posterior)
    if not 0 <= problem.item < dataset.sizes["item"]:
        raise ConfigError(
            "The posterior has no such item",
            where=problem.title,
            expected=f"0 … {dataset.sizes['item'] - 1}",
            got=problem.item,
            remedy="choose an item that was sampled",
        )
    one = dataset.isel(item=[problem.item])
    if problem.summary is None:
        summary = uncertainty.summarize(one)
    else:
        summary = problem.summary.isel(item=[problem.item])
    summary = summary.isel(item=0, channel=problem.channel).load()
    stats = one.drop_vars("image").isel(item=0)
    mean = summary["mean"]
    classical = {k: plots.plane(k, v, mean) for k, v in problem.classical.items()}
    judged = trust.assess(summary, stats, classical, problem.components)
    colours = plots.colour_map(problem.operator or dataset.attrs.get("operator"))
    limits = plots.shared_limits([mean, *summary["quantiles"]])
    parts = [
        f'<section class="problem" id="{anchor}">',
        f"<h2>{escape(problem.title)}</h2>",
        f'<p><span class="{_badge(judged)}">{_verdict(judged)}</span></p>',
        _numbers(problem, judged),
        _part("What was measured", _table(problem.measurement)) if problem.measurement else "",
        _part("The reconstruction", _maps(problem, summary, classical, colours, limits)),
        _part("Single draws", _draws(problem, one, colours, limits)),
        _part("Where to trust it", _trust(problem, judged, stats)),
        _part("All items", _items(dataset)) if dataset.sizes["item"] > 1 else "",
        _part("What it cost", _table(_cost(dataset, problem))),
        "</section>",
    ]
    return "\n".join(p for p in parts if p), judged


def _badge(judged: trust.Trust) -> str:
    return "badge doubt" if judged.warnings else "badge"


def _verdict(judged: trust.Trust) -> str:
    count = len(judged.warnings)
    if count == 0:
        return "No reason for doubt found"
    return f"{_count(count, 'reason')} for doubt"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _numbers(problem: Problem, judged: trust.Trust) -> str:
    rows = {k: spoken(v) for k, v in problem.domain.items()}
    if judged.chi2 is not None:
        rows["Reduced χ², median"] = f"{judged.chi2:.3g}"
    rows["Standard deviation ÷ signal"] = f"{100 * judged.relative_sd:.2g} %"
    rows["Draws"] = str(judged.draws)
    cells = [f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows.items()]
    return f'<dl class="numbers">{"".join(cells)}</dl>'


def _maps(
    problem: Problem,
    summary: xr.Dataset,
    classical: Mapping[str, np.ndarray],
    colours: Any,
    limits: tuple[float, float],
) -> str:
    mean = summary["mean"]
    images = {
        "Posterior mean": (mean, "the image with the smallest expected error"),
        **{
            k: (mean.copy(data=v), "the field’s usual reconstruction of the same data")
            for k, v in classical.items()
        },
    }
    if problem.truth is not None:
        truth = mean.copy(data=plots.plane("truth", problem.truth, mean))
        images["Truth"] = (truth, "the image that the data were simulated from")
    out = [
        _figure(
            plots.map_figure(v, colours=colours, limits=limits, width=_PANEL),
            k,
            f"{k[:1].upper()}{k[1:]}: {what}.",
        )
        for k, (v, what) in images.items()
    ]
    sd = summary["sd"]
    scale = (0.0, float(sd.max()) or 1.0)
    out.append(
        _figure(
            plots.map_figure(sd, colours=plots.SPREAD, limits=scale, width=_PANEL),
            "Standard deviation",
            "Standard deviation: what data and prior leave open, pixel by pixel.",
        )
    )
    for level in summary["quantile"].values:
        name = f"{100 * float(level):.4g} % quantile"
        text = f"{name}: a pixel’s value is below it with this probability."
        text = "Median: a pixel’s value is as likely above as below." if level == 0.5 else text
        panel = summary["quantiles"].sel(quantile=level)
        out.append(
            _figure(
                plots.map_figure(panel, colours=colours, limits=limits, width=_PANEL), name, text
            )
        )
    return f'<div class="panels">{"".join(out)}</div>'


def _draws(problem: Problem, one: xr.Dataset, colours: Any, limits: tuple[float, float]) -> str:
    image = one["image"].isel(draw=slice(0, _DRAWS))
    values = image.values
    if uncertainty.is_complex(image):
        values = uncertainty.magnitude(values)
    out = []
    for i, number in enumerate(image["draw"].values):
        panel = image[0, 0, 0].copy(data=values[i, 0, min(problem.channel, values.shape[2] - 1)])
        figure = plots.map_figure(panel, colours=colours, limits=limits, plain=True, width=2.2)
        text = f"Draw {int(number)}"
        if "chi2" in one:
            text += f": χ² {float(one['chi2'].isel(draw=i, item=0)):.3g}"
        out.append(_figure(figure, f"Posterior draw {int(number)}", text))
    lead = (
        "<p>Each is one image that the data and the prior allow, in the colours of the mean. "
        "What all show is sure; what comes and goes is not.</p>"
    )
    return f'{lead}<div class="panels small">{"".join(out)}</div>'


def _trust(problem: Problem, judged: trust.Trust, stats: xr.Dataset) -> str:
    rows = [
        f'<li class="doubt">{escape(f.text)}</li>' if f.warning else f"<li>{escape(f.text)}</li>"
        for f in judged.findings
    ]
    figures = []
    if "chi2" in stats:
        figures.append(
            _figure(
                plots.fit_figure(stats["chi2"].values, problem.components),
                f"Histogram of the reduced chi-squared of the draws, median {judged.chi2:.3g}",
                "Fit: the reduced χ² of each draw; right draws fit as the truth would.",
            )
        )
    if problem.calibration is not None:
        ranks, draws = problem.calibration
        figures.append(
            _figure(
                plots.calibration_figure(ranks, draws),
                "Rank histogram and coverage of central intervals on simulated truths",
                "Calibration: truths drawn from the prior, measured and sampled by this pipeline.",
            )
        )
    words = f'<ul class="findings">{"".join(rows)}</ul>'
    return f'{words}<div class="panels wide">{"".join(figures)}</div>'


def _items(dataset: xr.Dataset) -> str:
    names = [k for k in ("chi2", "nfe", "seconds") if k in dataset]
    heads = {"chi2": "reduced χ², median", "nfe": "network evaluations", "seconds": "s per draw"}
    labels = [k for k, v in dataset.coords.items() if v.dims == ("item",)]
    shown = dataset[names].median("draw").isel(item=slice(0, _ITEMS)).load()
    head = "".join(f"<th>{escape(heads.get(str(k), str(k)))}</th>" for k in [*labels, *names])
    rows = []
    for i in range(shown.sizes["item"]):
        cells = [escape(str(shown[k].values[i])) for k in labels]
        cells += [f"{float(shown[k][i]):.3g}" for k in names]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    more = dataset.sizes["item"] - shown.sizes["item"]
    note = f'<p class="soft">… and {more} more.</p>' if more else ""
    table = f'<table class="items"><tr>{head}</tr>{"".join(rows)}</table>'
    return f'<div class="scroll">{table}</div>{note}'


def _cost(dataset: xr.Dataset, problem: Problem) -> dict[str, str]:
    """Return the rows on cost and origin: what the store says, then what the caller adds."""
    attrs = dict(dataset.attrs)
    jobs = json.loads(attrs["shards"]) if "shards" in attrs else []
    rows: dict[str, str] = {}
    if "nfe" in dataset:
        rows["Network evaluations"] = f"{float(dataset['nfe'].mean()):.4g} per draw"
    if "seconds" in dataset:
        seconds = dataset["seconds"]
        total = float(seconds.sum())
        rows["Time"] = (
            f"{float(seconds.mean()):.3g} s per draw, {_duration(total)} for "
            f"{seconds.sizes['draw']} draws of {_count(seconds.sizes['item'], 'item')}"
        )
    names = {
        "device": "Device", "host": "Machine", "sampler": "Sampler", "operator": "Operator",
        "prior": "Prior", "seed": "Seed", "micro_batch": "Micro-batch", "command": "Command",
        "sciinv_version": "sciinv", "python": "Python", "versions": "Libraries",
        "created": "Created", "config_hash": "Configuration SHA-256",
        "operator_hash": "Operator SHA-256", "prior_hash": "Prior SHA-256",
    }  # fmt: skip
    for key, name in names.items():
        found = [attrs[key]] if key in attrs else sorted({str(j[key]) for j in jobs if key in j})
        if found:
            rows[name] = _origin(key, found)
    if jobs:
        rows["Jobs"] = str(len(jobs))
    return {**rows, **{k: str(v) for k, v in problem.provenance.items()}}


def _origin(key: str, found: Sequence[Any]) -> str:
    if key == "versions":
        return ", ".join(f"{k} {v}" for k, v in json.loads(found[0]).items())
    if key == "created" and len(found) > 1:
        return f"{found[0]} to {found[-1]}"
    shown = ", ".join(str(f) for f in found[:6])
    return f"{shown} and {len(found) - 6} more" if len(found) > 6 else shown


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _table(rows: Mapping[str, str]) -> str:
    cells = [
        f'<tr><th scope="row">{escape(k)}</th><td>{_value(k, v)}</td></tr>' for k, v in rows.items()
    ]
    return f"<table>{''.join(cells)}</table>"


def _value(name: str, text: str) -> str:
    plain = escape(str(text))
    return f"<code>{plain}</code>" if name == "Command" or "SHA-256" in name else plain


def _part(heading: str, body: str) -> str:
    return f"<h3>{escape(heading)}</h3>\n{body}"


def _figure(figure: Figure, alt: str, caption: str) -> str:
    data = base64.b64encode(plots.png(figure, _DPI)).decode()
    head, colon, rest = caption.partition(":")
    text = f"<b>{escape(head)}</b>{escape(colon + rest)}"
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}" loading="lazy">'
        f"<figcaption>{text}</figcaption></figure>"
    )
