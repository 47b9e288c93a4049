"""The step export: maps and draws in the files that a field opens, with pixel size and units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv import store, uncertainty
from sciinv.errors import ConfigError, SciinvError, StoreError
from sciinv.registry import find
from sciinv.steps.export_formats import WRITERS, quantities
from sciinv.store.atomic import write_file

# Attributes of a measurement that a file of the field can say.
PLACES = ("orientation", "slice_mm", "ra_deg", "dec_deg", "title", "frequency_hz")


def export(
    path: str | Path,
    to: str,
    out: str | Path,
    *,
    measurement: str | Path | None = None,
    like: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a posterior or summary store as a file of another format.

    Draws become [draw, item, y, x]; of a summary the mean and the standard deviation are taken, as
    [map, item, y, x]. Complex images are written by their magnitude. Quantities (csv) are read
    from a JSON file of `sciinv summarize --quantities`, or a summary's own maps are listed.

    Args:
        path: A posterior store, a summary store, or (csv) a quantities.json.
        to: nifti, fits, tiff, netcdf, csv, npy or dicom.
        out: The file to write.
        measurement: The measurement store, which knows where the image lies in the patient or on
            the sky; by default measurement.zarr beside the store, where it is there.
        like: A DICOM file of the same study (dicom): patient, study and frame of reference are
            taken from it.
        overwrite: Replace a file that is there already.

    Raises:
        ConfigError: There is no such format, or its library is not installed.
        StoreError: The store is not whole, or the name is taken.
    """
    writer = find("format", to, WRITERS)
    store.check_new([Path(out)], overwrite)
    if Path(path).suffix == ".json":
        if to != "csv":
            raise ConfigError("Quantities are a table", where=path, expected="--to csv", got=to,
                              remedy="name a posterior or summary store for images")  # fmt: skip
        content = quantities(Path(path))
    else:
        image = images(path)
        image.attrs |= _places(measurement or Path(path).parent / "measurement.zarr", measurement)
        if like is not None:
            if to != "dicom":
                raise ConfigError("Only DICOM is written like another file", where="--like",
                                  expected="--to dicom", got=f"--to {to}",
                                  remedy="leave --like out")  # fmt: skip
            image.attrs["like"] = str(like)
        content = writer(image)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content)
    return Path(out)


def images(path: str | Path) -> xr.DataArray:
    """Return the images of a store, float32 [layer, item, y, x], with coordinates and units.

    Raises:
        StoreError: It is neither a posterior nor a summary store, or not whole.
    """
    try:
        dataset = uncertainty.as_dataset(path)
        image = dataset["image"]
        values = image.values
        if uncertainty.is_complex(image):
            values = uncertainty.magnitude(values)
        layers = [f"draw {int(d)}" for d in image["draw"].values]
        like, thick = image, dataset.attrs.get("slice_mm")
    except SciinvError as first:
        try:
            maps = uncertainty.open_summary(path)
        except SciinvError:
            raise StoreError(
                "This is neither a posterior nor a summary store",
                where=path,
                expected="posterior.zarr or summary.zarr of a run",
                got=first.what,
                remedy="name the store in results/RUN/PROBLEM",
            ) from first
        values = np.stack([maps["mean"].values, maps["sd"].values])
        layers, like, thick = ["mean", "sd"], maps["mean"], maps.attrs.get("slice_mm")
    values = np.asarray(values, np.float32)[:, :, 0]  # one channel: the magnitude, or the only one
    coords: dict[str, Any] = {"layer": layers}
    for axis in ("y", "x"):
        if axis in like.coords:
            coords[axis] = (axis, like[axis].values, dict(like[axis].attrs))
    units = str(like.attrs.get("units", ""))
    about: dict[str, Any] = {"units": units, "source": str(Path(path).name)}
    about |= {} if thick is None else {"slice_mm": float(thick)}
    return xr.DataArray(values, coords, ("layer", "item", "y", "x"), "image", about)


def _places(path: str | Path, named: str | Path | None) -> dict[str, Any]:
    """Return what a measurement says of where its image lies; nothing where it is not there."""
    if named is None and not Path(path).is_dir():
        return {}
    attrs = store.open_measurement(path).attrs
    found = {k: attrs[k] for k in PLACES if k in attrs}
    if "orientation" in found:
        found["orientation"] = json.loads(found["orientation"])
    return found
