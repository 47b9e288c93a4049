"""The parts of one problem's section: numbers, maps, draws, trust, items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from sciinv import plots, uncertainty
from sciinv.report.findings import Trust
from sciinv.report.markup import figure_of, spoken
from sciinv.uncertainty import Posterior

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
        doubts: Sentences of doubt on the data (by their reader) and on the prior.
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
    doubts: tuple[str, ...] = ()


def numbers(problem: Problem, judged: Trust) -> str:
    """Return the cards with the field's own numbers and the few that every problem has."""
    rows = {k: spoken(v) for k, v in problem.domain.items()}
    if judged.chi2 is not None:
        rows["Reduced χ², median"] = f"{judged.chi2:.3g}"
    rows["Standard deviation ÷ signal"] = f"{100 * judged.relative_sd:.2g} %"
    rows["Draws"] = str(judged.draws)
    cells = [f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows.items()]
    return f'<dl class="numbers">{"".join(cells)}</dl>'


def maps(
    problem: Problem,
    summary: xr.Dataset,
    classical: Mapping[str, np.ndarray],
    colours: Any,
    limits: tuple[float, float],
) -> str:
    """Return the panels: mean, classical images, truth, standard deviation, quantiles."""
    mean = summary["mean"]
    of_mean = "the image with the smallest expected error"
    if summary.attrs.get("aligned"):
        of_mean = (
            "of draws that were moved onto each other, since these data do not say where in the "
            "field the source is; so are the maps below"
        )
    images = {
        "Posterior mean": (mean, of_mean),
        **{
            k: (mean.copy(data=v), "the field’s usual reconstruction of the same data")
            for k, v in classical.items()
        },
    }
    if problem.truth is not None:
        truth = mean.copy(data=plots.plane("truth", problem.truth, mean))
        images["Truth"] = (truth, "the image that the data were simulated from")
    out = [
        figure_of(
            plots.map_figure(v, colours=colours, limits=limits, width=_PANEL),
            k,
            f"{k[:1].upper()}{k[1:]}: {what}.",
        )
        for k, (v, what) in images.items()
    ]
    sd = summary["sd"]
    scale = (0.0, float(sd.max()) or 1.0)
    out.append(
        figure_of(
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
            figure_of(
                plots.map_figure(panel, colours=colours, limits=limits, width=_PANEL), name, text
            )
        )
    return f'<div class="panels">{"".join(out)}</div>'


def draws(problem: Problem, one: xr.Dataset, colours: Any, limits: tuple[float, float]) -> str:
    """Return the first draws side by side, in the colours of the mean."""
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
        out.append(figure_of(figure, f"Posterior draw {int(number)}", text))
    lead = (
        "<p>Each is one image that the data and the prior allow, in the colours of the mean. "
        "What all show is sure; what comes and goes is not.</p>"
    )
    return f'{lead}<div class="panels small">{"".join(out)}</div>'


def words_and_figures(problem: Problem, judged: Trust, stats: xr.Dataset) -> str:
    """Return the findings in words, with the fit and the calibration."""
    rows = [
        f'<li class="doubt">{escape(f.text)}</li>' if f.warning else f"<li>{escape(f.text)}</li>"
        for f in judged.findings
    ]
    figures = []
    if "chi2" in stats:
        figures.append(
            figure_of(
                plots.fit_figure(stats["chi2"].values, problem.components),
                f"Histogram of the reduced chi-squared of the draws, median {judged.chi2:.3g}",
                "Fit: the reduced χ² of each draw; right draws fit as the truth would.",
            )
        )
    if problem.calibration is not None:
        ranks, draws = problem.calibration
        figures.append(
            figure_of(
                plots.calibration_figure(ranks, draws),
                "Rank histogram and coverage of central intervals on simulated truths",
                "Calibration: truths drawn from the prior, measured and sampled by this pipeline.",
            )
        )
    words = f'<ul class="findings">{"".join(rows)}</ul>'
    return f'{words}<div class="panels wide">{"".join(figures)}</div>'


def items(dataset: xr.Dataset) -> str:
    """Return a table with one row per item."""
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
