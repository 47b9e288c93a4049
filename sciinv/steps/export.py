"""The step export: maps and draws in the files that a field opens, with pixel size and units."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv import store, uncertainty
from sciinv.errors import ConfigError, SciinvError, StoreError
from sciinv.registry import find
from sciinv.store.atomic import write_file

_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "µm": 1e-3, "um": 1e-3, "nm": 1e-6}
_DEGREES = {"µas": 1 / 3.6e9, "uas": 1 / 3.6e9, "mas": 1 / 3.6e6, "arcsec": 1 / 3600, "deg": 1.0}


def export(path: str | Path, to: str, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write a posterior or summary store as a file of another format.

    Draws become [draw, item, y, x]; of a summary the mean and the standard deviation are taken, as
    [map, item, y, x]. Complex images are written by their magnitude. Quantities (csv) are read
    from a JSON file of `sciinv summarize --quantities`, or a summary's own maps are listed.

    Args:
        path: A posterior store, a summary store, or (csv) a quantities.json.
        to: nifti, fits, tiff, netcdf, csv or npy.
        out: The file to write.
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
        content = _quantities(Path(path))
    else:
        content = writer(images(path))
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


def _step(image: xr.DataArray, axis: str) -> tuple[float, str]:
    """Return the signed distance of two pixels along an axis, and its unit."""
    if axis not in image.coords or image.sizes[axis] < 2:
        return 1.0, "pixel"
    values = image[axis].values
    units = str(image[axis].attrs.get("units", "pixel"))
    return float(values[-1] - values[0]) / (len(values) - 1), units


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"This format needs {name.partition('.')[0]}",
            expected=f"{name.partition('.')[0]}, of the extra {extra}",
            got="not installed",
            remedy=f'pip install "sciinv[{extra}]"',
        ) from error


def _nifti(image: xr.DataArray) -> bytes:
    """NIfTI-1: [x, y, item, layer]; the affine puts pixels at their coordinates, mm."""
    nibabel = _library("nibabel", "export")
    values = np.transpose(image.values, (3, 2, 1, 0))
    affine = np.eye(4)
    for column, axis in enumerate(("x", "y")):
        step, units = _step(image, axis)
        scale = _MM.get(units, 1.0)
        affine[column, column] = step * scale
        affine[column, 3] = float(image[axis].values[0]) * scale if axis in image.coords else 0.0
    # Items of a volume are its slices; their thickness is that of a step where they do not overlap.
    affine[2, 2] = float(image.attrs.get("slice_mm", 1.0))
    made = nibabel.Nifti1Image(values, affine)
    made.header.set_xyzt_units("mm" if _step(image, "x")[1] in _MM else "unknown")
    made.header["descrip"] = f"sciinv {image.attrs['source']} [{image.attrs['units']}]"[:79].encode(
        "ascii", "replace"
    )
    return made.to_bytes()


def _fits(image: xr.DataArray) -> bytes:
    """FITS: NAXIS1 = x, NAXIS2 = y, then item and layer; offsets on the sky in degrees."""
    fits = _library("astropy.io.fits", "export")
    header = fits.Header()
    for number, axis in enumerate(("x", "y"), 1):
        step, units = _step(image, axis)
        sky = _DEGREES.get(units)
        header[f"CTYPE{number}"] = ("RA---SIN", "DEC--SIN")[number - 1] if sky else axis.upper()
        header[f"CUNIT{number}"] = "deg" if sky else units.encode("ascii", "ignore").decode()
        header[f"CDELT{number}"] = step * (sky or 1.0)
        first = float(image[axis].values[0]) if axis in image.coords else 0.0
        # The pixel at which the coordinate is 0, counted from 1.
        header[f"CRPIX{number}"] = 1 - first / step
        header[f"CRVAL{number}"] = 0.0
    header["BUNIT"] = image.attrs["units"].encode("ascii", "ignore").decode()
    header["ORIGIN"] = "sciinv"
    for k, layer in enumerate(image["layer"].values):
        header[f"LAYER{k + 1}"] = str(layer)
    stream = io.BytesIO()
    fits.PrimaryHDU(image.values, header).writeto(stream)
    return stream.getvalue()


def _tiff(image: xr.DataArray) -> bytes:
    """TIFF: one float32 page an item and layer; JSON on units and pixels in its description."""
    tifffile = _library("tifffile", "export")
    about = {
        "axes": ["layer", "item", "y", "x"],
        "shape": list(image.shape),
        "layers": [str(v) for v in image["layer"].values],
        "units": image.attrs["units"],
        "pixel": {a: dict(zip(("step", "unit"), _step(image, a), strict=True)) for a in "yx"},
    }
    stream = io.BytesIO()
    pages = image.values.reshape(-1, *image.shape[2:])
    tifffile.imwrite(
        stream, pages, photometric="minisblack", description=json.dumps(about), metadata=None
    )
    return stream.getvalue()


def _netcdf(image: xr.DataArray) -> bytes:
    """NetCDF-3 of scipy: the array with its coordinates and units."""
    content = image.to_dataset().to_netcdf(engine="scipy")
    return bytes(content) if content is not None else b""


def _npy(image: xr.DataArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, image.values)
    return stream.getvalue()


def _csv(image: xr.DataArray) -> bytes:
    """Return one row for each pixel: layer, item, y, x, value."""
    frame = [("layer", "item", "y", "x", f"value [{image.attrs['units']}]")]
    y, x = (image[a].values if a in image.coords else range(image.sizes[a]) for a in "yx")
    for (i, j, k, m), value in np.ndenumerate(image.values):
        frame.append((image["layer"].values[i], j, y[k], x[m], f"{value:.7g}"))  # type: ignore[arg-type]
    return _rows(frame)


def _quantities(path: Path) -> bytes:
    """Return one row for each quantity, item and draw."""
    rows: list[tuple[Any, ...]] = [("item", "quantity", "units", "draw", "value", "mean", "sd")]
    for item, found in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        for name, one in found.items():
            head = (item, name, one.get("units", ""))
            for draw, value in enumerate(one.get("values", ())):
                rows.append((*head, draw, value, one.get("mean"), one.get("sd")))
    return _rows(rows)


def _rows(rows: list[Any]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


WRITERS: dict[str, Callable[[xr.DataArray], bytes]] = {
    "nifti": _nifti,
    "fits": _fits,
    "tiff": _tiff,
    "netcdf": _netcdf,
    "csv": _csv,
    "npy": _npy,
}
