"""Bytes of files that fields open: NIfTI, FITS, TIFF, NetCDF, CSV, NumPy; DICOM has its own file.

Every writer takes an image [layer, item, y, x], float32, with the coordinates "y" and "x" and their
units, and the attributes "units", "source", and what a measurement says of its place.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sciinv.registry import library
from sciinv.steps.export_dicom import dicom
from sciinv.steps.export_places import DEGREES, MM, affine_of, step_of


def nifti(image: xr.DataArray) -> bytes:
    """Return NIfTI-1: [x, y, item, layer]; the affine puts pixels where they are, mm.

    Where the raw file says how the slice lies in the patient, that is the affine (code "scanner");
    else pixels stand at their own coordinates in the plane (code "aligned").
    """
    nibabel = library("nibabel", "This format", "export")
    values = np.transpose(image.values, (3, 2, 1, 0))
    affine, known = affine_of(image)
    made = nibabel.Nifti1Image(values, affine)
    made.set_sform(affine, "scanner" if known else "aligned")
    made.set_qform(affine, "scanner" if known else "unknown")
    made.header.set_xyzt_units("mm" if step_of(image, "x")[1] in MM else "unknown")
    made.header["descrip"] = f"sciinv {image.attrs['source']} [{image.attrs['units']}]"[:79].encode(
        "ascii", "replace"
    )
    return made.to_bytes()


def fits(image: xr.DataArray) -> bytes:
    """Return FITS: NAXIS1 = x, NAXIS2 = y, then item and layer.

    On the sky the world coordinates are right ascension and declination about the phase centre,
    where the measurement says it; else offsets about (0, 0).
    """
    made = library("astropy.io.fits", "This format", "export")
    header = made.Header()
    centre = (image.attrs.get("ra_deg"), image.attrs.get("dec_deg"))
    known = all(isinstance(c, float) and np.isfinite(c) for c in centre)
    for number, axis in enumerate(("x", "y"), 1):
        step, units = step_of(image, axis)
        sky = DEGREES.get(units)
        header[f"CTYPE{number}"] = ("RA---SIN", "DEC--SIN")[number - 1] if sky else axis.upper()
        header[f"CUNIT{number}"] = "deg" if sky else units.encode("ascii", "ignore").decode()
        header[f"CDELT{number}"] = step * (sky or 1.0)
        first = float(image[axis].values[0]) if axis in image.coords else 0.0
        # The pixel at which the coordinate is 0, counted from 1.
        header[f"CRPIX{number}"] = 1 - first / step
        header[f"CRVAL{number}"] = float(centre[number - 1] or 0.0) if sky and known else 0.0
    if known and step_of(image, "x")[1] in DEGREES:
        header["RADESYS"] = "ICRS"
    if "frequency_hz" in image.attrs:
        header["RESTFRQ"] = float(image.attrs["frequency_hz"])
    header["BUNIT"] = image.attrs["units"].encode("ascii", "ignore").decode()
    header["ORIGIN"] = "sciinv"
    for k, layer in enumerate(image["layer"].values):
        header[f"LAYER{k + 1}"] = str(layer)
    stream = io.BytesIO()
    made.PrimaryHDU(image.values, header).writeto(stream)
    return stream.getvalue()


def tiff(image: xr.DataArray) -> bytes:
    """Return TIFF: one float32 page an item and layer; JSON on units and pixels describes it.

    ImageJ and Fiji take the pixel's size from the resolution, where it is a length.
    """
    tifffile = library("tifffile", "This format", "export")
    about = {
        "axes": ["layer", "item", "y", "x"],
        "shape": list(image.shape),
        "layers": [str(v) for v in image["layer"].values],
        "units": image.attrs["units"],
        "pixel": {a: dict(zip(("step", "unit"), step_of(image, a), strict=True)) for a in "yx"},
        "title": str(image.attrs.get("title", "")),
    }
    stream = io.BytesIO()
    pages = image.values.reshape(-1, *image.shape[2:])
    sizes = [abs(step) * MM[unit] for step, unit in (step_of(image, a) for a in "xy") if unit in MM]
    per_cm: dict[str, Any] = {}
    if len(sizes) == 2:
        per_cm = {"resolution": (10 / sizes[0], 10 / sizes[1]), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        stream, pages, photometric="minisblack", description=json.dumps(about), metadata=None,
        **per_cm,
    )  # fmt: skip
    return stream.getvalue()


def netcdf(image: xr.DataArray) -> bytes:
    """Return NetCDF-3 of scipy: the array with its coordinates and units."""
    plain = {k: v for k, v in image.attrs.items() if isinstance(v, str | int | float)}
    out = image.copy()
    out.attrs = plain
    content = out.to_dataset().assign_attrs(Conventions="CF-1.11").to_netcdf(engine="scipy")
    return bytes(content) if content is not None else b""


def npy(image: xr.DataArray) -> bytes:
    """Return NumPy's own format, without anything but the numbers."""
    stream = io.BytesIO()
    np.save(stream, image.values)
    return stream.getvalue()


def table(image: xr.DataArray) -> bytes:
    """Return CSV with one row for each pixel: layer, item, y, x, value."""
    frame: list[tuple[Any, ...]] = [("layer", "item", "y", "x", f"value [{image.attrs['units']}]")]
    at: list[NDArray[Any]] = [
        image[a].values if a in image.coords else np.arange(image.sizes[a]) for a in "yx"
    ]
    for (i, j, k, m), value in np.ndenumerate(image.values):
        layer = image["layer"].values[i]
        frame.append((layer, j, at[0][k], at[1][m], f"{value:.7g}"))
    return _rows(frame)


def quantities(path: Path) -> bytes:
    """Return CSV with one row for each quantity, item and draw, of a quantities.json."""
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
    "nifti": nifti,
    "fits": fits,
    "tiff": tiff,
    "netcdf": netcdf,
    "csv": table,
    "npy": npy,
    "dicom": dicom,
}
