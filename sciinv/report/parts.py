"""What is reported of one problem, and the parts of its section that are not maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from sciinv import store
from sciinv.plots import Residuals
from sciinv.report.chart import histogram
from sciinv.report.findings import Trust
from sciinv.report.markup import spoken
from sciinv.report.nuisances import label, short
from sciinv.uncertainty import Posterior

_ITEMS = 200  # rows of the table of items
_REGIONS = 5  # rows and columns of the image in numbers


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
        quantities: The same, draw by draw, as `sciinv.quantities.measure` returns them for an item.
        residuals: What the draws leave of the data.
        calibration: (ranks, draws) of a calibration on simulated truths, see
            `sciinv.plots.calibration_figure`.
        search: What the search of `inflate: auto` found on simulated truths of this problem, the
            row of `calibration.settings.Found`.
        prior_check: What `sciinv check-prior` found of this measurement and prior.
        slots: By "calibration" and "prior_check", the command that fills what is not there.
        provenance: Further rows on how it was made; the store's own are shown anyway.
        doubts: Sentences of doubt on the data (by their reader) and on the prior.
        operator: Name of the operator, which decides the colours; the store's own if None.
        frequency_hz: Of the observation, by which a flux is shown as a brightness temperature.
        scale: What a normalised image was divided by, in the units of the file.
        water: Attenuation of water, by which one of CT is shown in Hounsfield units.
        files: Names of the files beside the page with its figures.
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
    quantities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    residuals: Residuals | None = None
    calibration: tuple[Any, int] | None = None
    search: Mapping[str, Any] | None = None
    prior_check: Mapping[str, Any] | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    operator: str | None = None
    doubts: tuple[str, ...] = ()
    frequency_hz: float | None = None
    scale: float | None = None
    water: float | None = None
    files: tuple[str, ...] = ()


def numbers(problem: Problem, judged: Trust) -> dict[str, str]:
    """Return the field's own numbers and the few that every problem has."""
    rows = {k: spoken(v) for k, v in problem.domain.items()}
    if judged.chi2 is not None:
        by = ", noise as found" if judged.drawn else ""
        rows[f"Reduced χ², median{by}"] = f"{judged.chi2:.3g}"
    rows["Standard deviation ÷ signal"] = f"{100 * judged.relative_sd:.2g} %"
    rows["Draws"] = str(judged.draws)
    return rows


def charts(problem: Problem, judged: Trust, stats: xr.Dataset) -> list[Markup]:
    """Return the histograms: χ² of the draws, the field's quantities, and drawn unknowns."""
    out = []
    chi2, drawn = store.reduced_chi2(stats)
    if chi2 is not None:
        by = ", by the noise as found" if drawn else ""
        band = None
        if judged.chi2_half is not None:
            band = (1 - judged.chi2_half, 1 + judged.chi2_half)
        out.append(histogram(chi2.values, f"reduced χ² of each draw{by}", band=band))
    for name, q in problem.quantities.items():
        out.append(histogram(q["values"], name, q["units"], period=_period(q)))
    for name, value in _unknown(stats).items():
        if value.ndim == 1:
            units = str(value.attrs.get("units", "1"))
            out.append(histogram(value.values, label(name), "" if units == "1" else units))
    return [chart for chart in out if chart]


def _period(quantity: Mapping[str, Any]) -> float:
    """Return 360 for an angle: its summary then has no quantiles, which a circle has not."""
    return 360.0 if quantity["units"] == "°" and "q50" not in quantity else 0.0


def nuisances(stats: xr.Dataset) -> list[tuple[str, str, str]]:
    """Return noise and instrument as drawn with the image: (name, median, central 90 %)."""
    rows = []
    for name, value in _unknown(stats).items():
        units = str(value.attrs.get("units", "1"))
        units = "" if units == "1" else f" {units}"
        low, middle, high = value.quantile([0.05, 0.5, 0.95], "draw").values
        if np.ndim(middle) == 0:
            rows.append((label(name), f"{short(middle)}{units}",
                         f"{short(low)} to {short(high)}{units}"))  # fmt: skip
        else:
            width = float(np.median(high - low))
            rows.append((f"{label(name)}, {middle.size} values",
                         f"{short(middle.min())} to {short(middle.max())}{units}",
                         f"{short(width)}{units} wide (median)"))  # fmt: skip
    return rows


def of_search(search: Mapping[str, Any] | None) -> str:
    """Return a sentence on the simulated truths that κ was found on; empty without."""
    if not search or not search.get("passes"):
        return ""
    passes = search["passes"]
    last = next((p for p in passes if p["inflate"] == search["inflate"]), passes[-1])
    text = (
        f"Before the first draw {search['truths']} truths were drawn from the prior, measured as "
        "here with simulated noise, and sampled twice each: the two draws are "
        f"{short(last['ratio'])} times as far from each other as from the truth (right: 1; "
        f"standard error {short(last['error'])})"
    )
    if "between" in last:
        text += (
            f", and the truth lies between them at {100 * last['between']:.3g} ± "
            f"{100 * last['between_error']:.2g} % of the pixels (right: 33.3 %)"
        )
    return f"{text}. The width of p(x0 | x_t) was set to {short(search['inflate'])} by this."


def regions(summary: xr.Dataset) -> dict[str, Any]:
    """Return the image in numbers: mean ± sd of a pixel, averaged over up to 5 × 5 regions.

    For who sees no image, and where none is loaded. The sd is the root mean square over the region.
    """
    mean, sd = summary["mean"].transpose("y", "x"), summary["sd"].transpose("y", "x")
    rows, columns = (
        np.array_split(np.arange(n), min(_REGIONS, n)) for n in (mean.sizes["y"], mean.sizes["x"])
    )
    axes = {}
    for axis, groups in (("y", rows), ("x", columns)):
        at = mean[axis].values if axis in mean.coords else np.arange(mean.sizes[axis])
        axes[axis] = [short(np.mean(at[g])) for g in groups]
    cells = []
    for r in rows:
        parts = [(mean.values[np.ix_(r, c)], sd.values[np.ix_(r, c)]) for c in columns]
        cells.append([f"{short(m.mean())} ± {short(np.sqrt((s**2).mean()))}" for m, s in parts])
    units = str(mean["x"].attrs.get("units", "")) if "x" in mean.coords else "pixels"
    return {"x": axes["x"], "rows": list(zip(axes["y"], cells, strict=True)), "units": units}


def _unknown(stats: xr.Dataset) -> dict[str, xr.DataArray]:
    return {str(k): v for k, v in stats.data_vars.items() if v.attrs.get("unknown")}


def items(dataset: xr.Dataset) -> dict[str, Any]:
    """Return a table with one row per item: its heads, rows, and how many are left out."""
    chi2, drawn = store.reduced_chi2(dataset)
    if chi2 is not None:
        dataset = dataset.assign(chi2=chi2)
    names = [str(k) for k in ("chi2", "nfe", "seconds") if k in dataset]
    heads = {"chi2": f"reduced χ²{', noise as found' if drawn else ''}, median",
             "nfe": "network evaluations", "seconds": "s per draw"}  # fmt: skip
    labels = [str(k) for k, v in dataset.coords.items() if v.dims == ("item",)]
    shown = dataset[names].median("draw").isel(item=slice(0, _ITEMS)).load()
    rows = []
    for i in range(shown.sizes["item"]):
        cells = [str(shown[k].values[i]) for k in labels]
        rows.append(cells + [f"{float(shown[k][i]):.3g}" for k in names])
    more = dataset.sizes["item"] - shown.sizes["item"]
    return {"heads": [*labels, *(heads[k] for k in names)], "rows": rows, "more": more}
