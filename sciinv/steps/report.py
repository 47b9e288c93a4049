"""The page of one problem: its stores, beside what the field usually makes of the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.physics import Physics

from sciinv import likelihoods, report, store, uncertainty
from sciinv.config import Operator
from sciinv.config.paths import locate
from sciinv.errors import DataError
from sciinv.noise import components
from sciinv.operators.base import ImageSpec
from sciinv.quantities.measure import spoken
from sciinv.readers.parts.looks import warnings_of
from sciinv.steps.residuals import residuals_of
from sciinv.steps.result_files import beside, search_beside, write_figures
from sciinv.steps.sample import build
from sciinv.units import Unit, is_length


@dataclass(frozen=True)
class Stores:
    """The stores of one problem and how they are shown.

    Attributes:
        measurement: The measurement store.
        posterior: The posterior store.
        summary: The summary store.
        quantities: The JSON file of the field's quantities.
        title: Heading.
        operator: The operator, for the usual reconstructions; the measurement's own if None.
        items: How many items are shown, from the first.
        reference: An image to compare with, NumPy [y, x] or [item, y, x]; or a segmentation of
            the Helsinki challenge (.mat), against which segmentations are scored.
        calibration: The folder that `sciinv calibrate` wrote of this problem; by default
            "calibration" beside the posterior store, if it is there.
        prior_check: The file that `sciinv check-prior` wrote; by default "check-prior.json" there.
        water: Attenuation of water in the image's unit: CT is then shown in Hounsfield units.
    """

    measurement: str | Path
    posterior: str | Path
    summary: str | Path
    quantities: str | Path | None = None
    title: str = ""
    operator: Operator | None = None
    items: int = 1
    reference: str | None = None
    calibration: str | Path | None = None
    prior_check: str | Path | None = None
    water: float | None = None


def make_report(stores: Stores, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write one problem's page `index.html`, and beside it its figures for papers.

    Each map, single draws and χ² as PNG; the maps together and the residuals as SVG and PDF.

    Args:
        stores: The problem.
        out: The folder to make.
        overwrite: Write over the files of an earlier report.

    Raises:
        SciinvError: A page is there already, a store is not whole, or the reference does not fit.
    """
    folder = Path(out)
    store.check_new([folder / "index.html"], overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    found = [
        replace(section, files=tuple(write_figures(section, folder)))
        for section in sections(stores)
    ]
    heading = stores.title or found[0].title
    return report.write_report(found, folder / "index.html", title=heading)


def make_overview(problems: Sequence[Stores], out: str | Path, title: str) -> Path:
    """Write one page on all problems of a run.

    Args:
        problems: The problems, in the order shown.
        out: The HTML file to make.
        title: Heading of the page.

    Raises:
        SciinvError: A store is not whole, or a reference does not fit.
    """
    found = [section for stores in problems for section in sections(stores)]
    return report.write_report(found, out, title=title)


def sections(stores: Stores) -> list[report.Problem]:
    """Return what the report says of each shown item of a problem."""
    dataset = store.open_measurement(stores.measurement)
    maps = uncertainty.open_summary(stores.summary)
    draws = uncertainty.as_dataset(stores.posterior)
    heading = stores.title or str(dataset.attrs.get("title", "Reconstruction"))
    quantities = stores.quantities
    found = json.loads(Path(quantities).read_text()) if quantities is not None else []
    reference = stores.reference
    segmented = reference is not None and reference.endswith(".mat")
    truth = None if segmented else _reference(reference, draws.sizes["item"])
    calibration, prior_check, slots = beside(stores, dataset, draws)
    search = search_beside(stores)
    out = []
    for item in range(min(stores.items, draws.sizes["item"])):
        physics, y = build(dataset, stores.operator or Operator(), item)
        classical = _classical(physics, y)
        numbers = spoken(found[item]) if found else {}
        if segmented and reference is not None:
            numbers |= _segmentation_scores(reference, maps, draws, classical, item)
        out.append(
            report.Problem(
                title=heading if draws.sizes["item"] == 1 else f"{heading}, item {item}",
                posterior=draws,
                item=item,
                summary=maps,
                measurement=_described(dataset, physics),
                components=components(likelihoods.of(physics), y),
                classical=classical,
                truth=None if truth is None else truth[item],
                domain=numbers,
                quantities=found[item] if found else {},
                residuals=residuals_of(dataset, physics, y, draws.isel(item=item)),
                calibration=calibration,
                search=search,
                prior_check=prior_check if _is_of(prior_check, item) else None,
                slots=slots,
                provenance=_raw(dataset),
                operator=dataset.attrs["operator"],
                frequency_hz=dataset.attrs.get("frequency_hz"),
                scale=_scale(dataset, item),
                water=stores.water,
                doubts=tuple(f"The data: {s}" for s in warnings_of(dataset))
                + tuple(f"The prior: {s}" for s in json.loads(draws.attrs.get("doubts", "[]"))),
            )
        )
    return out


def _is_of(prior_check: Mapping[str, Any] | None, item: int) -> bool:
    return prior_check is not None and int(prior_check.get("item", 0)) == item


def _scale(dataset: xr.Dataset, item: int) -> float | None:
    """Return what the image of an item was divided by, where its reader scaled it."""
    if "scale" not in dataset or dataset["scale"].dims not in ((), ("item",)):
        return None
    return float(dataset["scale"].values.ravel()[item if dataset["scale"].ndim else 0])


def _raw(dataset: xr.Dataset) -> dict[str, str]:
    """Return the rows on the raw files."""
    rows = {}
    for file in json.loads(dataset.attrs.get("raw_files", "[]")):
        digest = file.get("sha256") or "not taken: larger than 8 GiB"
        rows[f"Raw data SHA-256, {file['name']}"] = digest
    if "reader" in dataset.attrs:
        rows["Reader"] = f"{dataset.attrs['reader']} {dataset.attrs.get('reader_options', '')}"
    return rows


def _described(dataset: xr.Dataset, physics: Physics) -> dict[str, str]:
    """Return the rows on what was measured."""
    sizes = {k: v for k, v in dataset["y"].sizes.items() if k != "item"}
    spec = physics.image_spec
    rows = {
        "Source": dataset.attrs.get("source"),
        "Data": " × ".join(f"{v} {k}" for k, v in sizes.items())
        + ("" if dataset.attrs["units"] == "1" else f", {dataset.attrs['units']}"),
        "Operator": f"{dataset.attrs['operator']}: "
        + (type(physics).__doc__ or "").strip().split("\n")[0],
        "Image": _grid_words(spec),
    }
    return {k: str(v) for k, v in rows.items() if v}


def _grid_words(spec: ImageSpec) -> str:
    """Return the pixels' number, their size where it is known, and their unit."""
    rows = f"{spec.shape[1]} × {spec.shape[2]} pixels"
    # One pixel has no spacing, and a length in pixels is not one.
    axis = next((a for a in (spec.x, spec.y) if len(a) > 1), None)
    if axis is not None and is_length(spec.axis_units):
        rows += f" of {abs(float(axis[1] - axis[0])):.4g} {spec.axis_units}"
    else:
        rows += " of unknown size"
    # Without the factor by which the values are stored; "1 = …" says what 1 means.
    units = spec.units if spec.units.startswith("1 = ") else Unit.of(spec.units).name
    return f"{rows}, {units}" if units else rows


def _classical(physics: Physics, y: torch.Tensor) -> Mapping[str, np.ndarray]:
    return {k: v[0].detach().cpu().numpy() for k, v in physics.classical(y).items()}


def _segmentation_scores(
    path: str, maps: xr.Dataset, draws: xr.Dataset, classical: Mapping[str, np.ndarray], item: int
) -> dict[str, Any]:
    """Return the Matthews correlation of the mean, of single draws, and of the usual images."""
    from sciinv.quantities.segmentation import score
    from sciinv.readers import htc2022

    reference = np.asarray(htc2022.read_segmentation(locate(path, "reference"))).astype(bool)
    mean = maps["mean"].isel(item=item, channel=0).values
    each = [
        score(draws["image"].isel(draw=k, item=item, channel=0).values, reference)
        for k in range(draws.sizes["draw"])
    ]
    found: dict[str, Any] = {"Matthews correlation, mean": f"{score(mean, reference):.4f}"}
    found["Matthews correlation, single draws"] = (float(np.mean(each)), float(np.std(each)))
    for name, image in classical.items():
        found[f"Matthews correlation, {name}"] = f"{score(np.squeeze(image), reference):.4f}"
    return found


def _reference(path: str | None, items: int) -> np.ndarray | None:
    """Return the reference [item, y, x]."""
    if path is None:
        return None
    where = locate(path, "reference")
    try:
        values = np.load(where, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(
            "The reference cannot be read",
            where=where,
            expected="a NumPy file .npy with an image [y, x], or [item, y, x]",
            got=error,
            remedy="write it with numpy.save",
        ) from error
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or len(values) < items:
        raise DataError(
            "The reference does not fit the items",
            where=where,
            expected=f"[{items}, y, x]",
            got=list(values.shape),
            remedy="give one reference image per item",
        )
    return values
