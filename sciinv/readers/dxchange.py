"""Synchrotron tomography in the Data Exchange layout: `exchange/data`, flats, darks, theta.

Source: De Carlo et al., "Scientific data exchange: a schema for HDF5-based storage of raw and
analyzed data", J. Synchrotron Rad. 2014.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts.counted_rows import Row, check_likelihood, chosen_rows, line_integrals
from sciinv.readers.parts.hdf5 import check_size, check_written, checked_array, opened
from sciinv.readers.parts.options import check_options
from sciinv.readers.parts.view_angles import degrees

_PIXEL = "measurement/instrument/detector/actual_pixel_size_x"


def read(
    path: str | os.PathLike[str],
    *,
    rows: int | Sequence[int] | None = 0,
    angles: Sequence[float] | np.ndarray | str | None = None,
    angle_unit: str | None = None,
    dark: float | None = None,
    air_columns: int = 0,
    rotation_axis: float | None = None,
    image_size: int | None = None,
    pixel_mm: float | None = None,
    detector_mm: float | None = None,
    detector_binning: int = 1,
    gain: float | None = None,
    model_error: float = 0.0,
    remove_rings: bool = True,
    remove_zingers: bool = True,
    likelihood: str = "gaussian",
) -> xr.Dataset:
    """Read raw counts of a parallel-beam scan and return a CT measurement, one item per row.

    Counts are corrected with flat and dark fields and turned into line integrals with their
    counting noise (`transmission.correct`); then flashes and rings are removed, and the detector
    is binned. Only the rows asked for are read. Counts at the largest integer, saturated ones and
    those at the file's fill value carry no data. What looks wrong is told in the attribute
    `warnings`.

    Args:
        path: The HDF5 file.
        rows: Detector rows (slices of the object); None takes all.
        angles: View angles, where the file's `exchange/theta` is absent or wrong: numbers,
            "FIRST:END", "FIRST:END:N", N views without END, "FIRST:END:STEP", or a file (.npy, or
            text with one angle a line).
        angle_unit: "degrees" or "radians"; None takes the file's unit, and degrees where it has
            none and the angles do not look like radians.
        dark: Counts without a beam, where the file has no dark field; 0 for a counting detector.
        air_columns: Columns at each side of the detector that see air in every view; each view is
            scaled to read 0 there. 0 scales none.
        rotation_axis: Column at which the axis is seen, from 0; None finds it in the data.
        image_size: Pixels a side; None takes as many as there are (binned) columns.
        pixel_mm: Side of a pixel; None takes the detector's pitch × columns / image_size.
        detector_mm: Pitch of the columns, mm; None takes the file's, and where it has none makes
            the pitch the unit of length ("pixel").
        detector_binning: Columns to average.
        gain: Variance ÷ mean of the counts; None estimates it from the flats.
        model_error: Standard deviation to add in quadrature for what the operator cannot say
            (sub-pixel edges, scatter, drift), in units of y.
        remove_rings: Whether to remove the columns' constant errors.
        remove_zingers: Whether to mask single bright flashes.
        likelihood: "gaussian" for line integrals and the operator "ct"; "poisson" for counts in
            photons (counts ÷ gain) and the operator "ct-counts".

    Raises:
        DataError: The file is damaged, lacks a dataset, or its parts do not match.
    """
    check_options(read, path, locals())
    path = Path(path)
    check_likelihood(likelihood, path)
    told: list[str] = []
    with opened(path) as file:
        data = _dataset(file, "exchange/data", path)
        if data.ndim != 3 or 0 in data.shape:
            raise DataError(
                "The counts have the wrong shape",
                where=f"{path}: exchange/data",
                expected="[angle, row, column], none of them 0",
                got=list(data.shape),
                remedy="check that the file is in the Data Exchange layout",
            )
        white = _dataset(file, "exchange/data_white", path)
        darks = None if dark is not None else _dataset(file, "exchange/data_dark", path)
        for name, part in (("data_white", white), ("data_dark", darks)):
            if part is None:
                continue
            if part.ndim != 3 or part.shape[1:] != data.shape[1:] or part.shape[0] == 0:
                raise DataError(
                    "A calibration field does not match the counts",
                    where=f"{path}: exchange/{name}",
                    expected=f"[frame, {data.shape[1]}, {data.shape[2]}]",
                    got=list(part.shape),
                    remedy="take flats and darks with the detector window of the scan",
                )
        for part in (data, white, darks):
            if part is not None:
                check_written(part, path)
                check_size((len(part), part.shape[2]), 8, path)
        theta = _theta(file, path, data.shape[0], angles, angle_unit, told)
        if detector_mm is None:
            detector_mm = _pitch(file, path)
        chosen = chosen_rows(rows, data.shape[1], path)
        fill = data.fillvalue
        parts = [
            Row(r, data[:, r], white[:, r], _dark_row(darks, dark, r, data), fill) for r in chosen
        ]
        title = _title(file, path)
    return line_integrals(
        parts,
        theta,
        told,
        path=path,
        title=title,
        gain=gain,
        air_columns=air_columns,
        rotation_axis=rotation_axis,
        image_size=image_size,
        pixel_mm=pixel_mm,
        detector_mm=detector_mm,
        detector_binning=detector_binning,
        model_error=model_error,
        remove_rings=remove_rings,
        remove_zingers=remove_zingers,
        likelihood=likelihood,
    )


def _dark_row(
    darks: h5py.Dataset | None, level: float | None, row: int, data: h5py.Dataset
) -> np.ndarray:
    if darks is not None:
        return np.asarray(darks[:, row])
    return np.full((1, data.shape[2]), float(level or 0))


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        group = file.get("exchange")
        inside = list(group) if isinstance(group, h5py.Group) else list(file)
        remedy = "check that the file is in the Data Exchange layout; line integrals are read as "
        remedy += "a plain sinogram"
        if name.endswith("data_dark"):
            remedy = "give the counts without a beam: dark=0 for a counting detector"
        elif name.endswith("theta"):
            remedy = "give `angles`, one for each view"
        raise DataError(
            "The file lacks a dataset",
            where=path,
            expected=name,
            got=f"only {', '.join(inside) or 'nothing'}",
            remedy=remedy,
        )
    if found.dtype.kind not in "fiu":
        raise DataError(
            "A dataset does not hold real numbers",
            where=f"{path}: {name}",
            expected="integers or floating point",
            got=found.dtype,
            remedy="convert the file again",
        )
    return checked_array(found, path)


def _theta(
    file: h5py.File, path: Path, views: int, given: Any, unit: str | None, told: list[str]
) -> np.ndarray:
    where = f"{path}: exchange/theta"
    if given is not None:
        theta, doubts = degrees(given, views, where, unit)
    else:
        found = _dataset(file, "exchange/theta", path)
        check_size(found.shape, 8, where)
        stated = _text(found.attrs.get("units", "")).lower()
        known = {"rad": "radians", "deg": "degrees"}.get(stated[:3])
        values = np.asarray(found[()], np.float64)
        if known == "radians" and unit is None:
            unit = "radians"
        theta, doubts = degrees(values, views, where, unit, stated=known is not None)
        if known == "radians" and unit == "radians":
            doubts = []
    told += doubts
    return theta


def _text(value: object) -> str:
    """Return an attribute as text; files have it as bytes, text, or an array of one of them."""
    flat = np.ravel(np.asarray(value))
    first = flat[0] if flat.size else ""
    return (first.decode(errors="replace") if isinstance(first, bytes) else str(first)).strip()


def _pitch(file: h5py.File, path: Path) -> float | None:
    found = file.get(_PIXEL)
    if not isinstance(found, h5py.Dataset):
        return None
    units = _text(found.attrs.get("units", "um"))
    names = {"m": 1e3, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3}
    factor = names.get(units)
    try:
        value = float(np.ravel(found[()])[0])
    except (TypeError, ValueError, IndexError):
        value = float("nan")
    if factor is None or not value > 0:
        raise DataError(
            "The detector's pixel size cannot be understood",
            where=f"{path}: {_PIXEL}",
            expected="a length above 0 in m, mm or um",
            got=f"{value} {units}",
            remedy="give `detector_mm`",
        )
    return value * factor


def _title(file: h5py.File, path: Path) -> str:
    for name in ("exchange/title", "measurement/sample/name"):
        found = file.get(name)
        if isinstance(found, h5py.Dataset) and found.shape in ((), (1,)):
            value = np.ravel(found[()])[0]
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            if text.strip():
                return text.strip()
    return path.stem
