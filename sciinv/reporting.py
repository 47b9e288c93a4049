"""The page of one problem: its stores, beside what the field usually makes of the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from sciinv import domain, likelihoods, plots, report, store, uncertainty
from sciinv.config import Operator
from sciinv.errors import DataError
from sciinv.places import locate
from sciinv.sampling import build


def make_report(
    measurement: str | Path,
    posterior: str | Path,
    summary: str | Path,
    out: str | Path,
    *,
    quantities: str | Path | None = None,
    title: str = "",
    operator: Operator | None = None,
    items: int = 1,
    reference: str | None = None,
) -> Path:
    """Write `index.html`, and each shown map as a PNG beside it.

    Args:
        measurement: The measurement store.
        posterior: The posterior store.
        summary: The summary store.
        out: The folder to make.
        quantities: The JSON file of the field's quantities.
        title: Heading.
        operator: The operator, for the usual reconstructions; the measurement's own if None.
        items: How many items are shown, from the first.
        reference: An image to compare with, NumPy [y, x] or [item, y, x]; or a segmentation of
            the Helsinki challenge (.mat), against which segmentations are scored.

    Raises:
        SciinvError: A store is not whole, or the reference does not fit.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = store.open_measurement(measurement)
    maps = uncertainty.open_summary(summary)
    draws = uncertainty.as_dataset(posterior)
    heading = title or str(dataset.attrs.get("title", "Reconstruction"))
    found = json.loads(Path(quantities).read_text()) if quantities is not None else []
    segmented = reference is not None and reference.endswith(".mat")
    truth = None if segmented else _reference(reference, draws.sizes["item"])
    name = dataset.attrs["operator"]
    sections = []
    for item in range(min(items, draws.sizes["item"])):
        physics, y = build(dataset, operator or Operator(), item)
        classical = _classical(physics, y)
        numbers = domain.spoken(found[item]) if found else {}
        if segmented and reference is not None:
            numbers |= _segmentation_scores(reference, maps, draws, classical, item)
        sections.append(
            report.Problem(
                title=heading if draws.sizes["item"] == 1 else f"{heading}, item {item}",
                posterior=draws,
                item=item,
                summary=maps,
                measurement=_described(dataset, physics),
                components=_components(physics, y),
                classical=classical,
                truth=None if truth is None else truth[item],
                domain=numbers,
                operator=name,
            )
        )
        colours = plots.colour_map(name)
        for key in ("mean", "sd"):
            panel = maps[key].isel(item=item, channel=0).load()
            path = folder / f"item-{item}-{key}.png"
            shown = plots.SPREAD if key == "sd" else colours
            plots.write_map(panel, path, title=f"{heading}: {key}", colours=shown)
    return report.write_report(sections, folder / "index.html", title=heading)


def _described(dataset: xr.Dataset, physics: Any) -> dict[str, str]:
    """Return the rows on what was measured."""
    sizes = {k: v for k, v in dataset["y"].sizes.items() if k != "item"}
    spec = physics.image_spec
    rows = {
        "Source": dataset.attrs.get("source"),
        "Data": f"{' × '.join(f'{v} {k}' for k, v in sizes.items())}, {dataset.attrs['units']}",
        "Operator": f"{dataset.attrs['operator']}: "
        + (type(physics).__doc__ or "").strip().split("\n")[0],
        "Image": f"{spec.shape[1]} × {spec.shape[2]} pixels of "
        f"{abs(float(spec.x[1] - spec.x[0])):.4g} {spec.axis_units}, {spec.units}",
    }
    return {k: str(v) for k, v in rows.items() if v}


def _components(physics: Any, y: torch.Tensor) -> int:
    """Return the number of real components that carry data."""
    sd = getattr(likelihoods.of(physics), "sd", None)
    if sd is None:
        return y.numel()
    return int(torch.isfinite(torch.as_tensor(sd)).expand_as(y).sum())


def _classical(physics: Any, y: torch.Tensor) -> Mapping[str, np.ndarray]:
    if not hasattr(physics, "classical"):
        return {}
    torch.set_num_threads(1)
    return {k: v[0].detach().cpu().numpy() for k, v in physics.classical(y).items()}


def _segmentation_scores(
    path: str, maps: xr.Dataset, draws: xr.Dataset, classical: Mapping[str, np.ndarray], item: int
) -> dict[str, Any]:
    """Return the Matthews correlation of the mean, of single draws, and of the usual images."""
    from sciinv.readers import htc2022
    from sciinv.segmentation import score

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
