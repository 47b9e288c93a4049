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
from sciinv.readers.parts import looks_ct, looks_single, transmission
from sciinv.readers.parts.hdf5 import check_size, check_written, checked_array, opened
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import check_options, numbers_from
from sciinv.readers.parts.rotation_axis import rotation_centre
from sciinv.readers.parts.special import no_data
from sciinv.readers.sinogram import measurement, scaled_to_air

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
        angles: View angles, where the file's `exchange/theta` is absent or wrong: numbers, or
            "FIRST:END:N", N views without END.
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
    if likelihood not in ("gaussian", "poisson"):
        raise DataError(
            "There is no likelihood of this name",
            where=path,
            expected="gaussian or poisson",
            got=likelihood,
            remedy="choose one of them",
        )
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
        chosen = _chosen(rows, data.shape[1], path)
        parts = [(data[:, r], white[:, r], _dark_row(darks, dark, r, data)) for r in chosen]
        fill = data.fillvalue
        title = _title(file, path)
    sinograms = []
    for row, (counts, flats, dark_row) in zip(chosen, parts, strict=True):
        where = f"{path}: row {row}"
        gone = no_data(counts, fill, counts=True)
        one = transmission.correct(counts, flats, dark_row, gain, where, gone)
        told += one.doubts
        if gain is None and len(transmission.distinct(np.asarray(flats))) < 3:
            told.append(
                f"There are fewer than 3 different flats, so that the gain is not known: 1 photon "
                f"a count was taken, and the noise is {float(np.median(one.noise_sd)):.3g}."
            )
        elif one.gain < 0.01:
            told.append(f"The gain is {one.gain:.2g} counts a photon: the flats hardly differ.")
        sinograms.append(transmission.without_zingers(one) if remove_zingers else one)
    y = np.stack([s.y for s in sinograms])
    noise = np.stack([s.noise_sd for s in sinograms])
    y = scaled_to_air(y, noise, air_columns, path)
    if remove_rings:
        y = np.stack([transmission.without_rings(one) for one in y])
    told += looks_ct.air_doubts(y, noise)
    for one, its in zip(y, noise, strict=True):
        told += looks_ct.noise_doubts(one, its) + looks_single.spike_doubts(one, its)
        without = float(np.isinf(its).mean())
        if without > 0.005:
            told.append(f"{without:.1%} of the samples hold no value, and carry no data.")
    if rotation_axis is None:
        found = [rotation_centre(one, theta) for one in y]
        rotation_axis = float(np.median(found))
    looks_ct.check_axis(rotation_axis, y.shape[-1], path)
    sd = _binned_noise(noise, detector_binning, path)
    sd = np.hypot(sd, model_error)
    y = transmission.binned(y, detector_binning, path)
    n, pitch = y.shape[-1], (detector_mm or 1.0) * detector_binning
    size = image_size or n
    centre = (rotation_axis + 0.5) / detector_binning - 0.5
    notes: dict[str, Any] = {
        "rotation_axis": rotation_axis,
        "gain": float(np.mean([s.gain for s in sinograms])),
        "repaired_samples": sum(s.repaired for s in sinograms),
        "rows": chosen,
        "detector_binning": detector_binning,
        "model_error": model_error,
    }
    pixel_mm = pixel_mm or n * pitch / size
    told += looks_ct.length_doubts(y, pitch, pixel_mm, size, detector_mm is not None)
    out = measurement(
        y,
        sd,
        theta,
        image_size=size,
        pixel_mm=pixel_mm,
        detector_mm=pitch,
        detector_offset_mm=((n - 1) / 2 - centre) * pitch,
        source=str(path),
        title=title,
        notes=notes,
        length_unit="mm" if detector_mm else "pixel",
    )
    out = with_warnings(out, told)
    return out if likelihood == "gaussian" else _counts(out, sinograms, detector_binning)


def _counts(
    out: xr.Dataset, sinograms: Sequence[transmission.Sinogram], binning: int
) -> xr.Dataset:
    """Return the measurement as photons, with the blank counts of the operator.

    The dark field is subtracted already. Binned counts are those whose line integral is the
    binned one, so that all corrections hold; a repaired sample gets a blank of next to nothing,
    which takes it out of the likelihood.
    """
    blank = np.stack([transmission.binned(s.blank, binning) * binning / s.gain for s in sinograms])
    seen = np.isfinite(out["noise_sd"].values)
    full = np.where(seen, blank[:, None], 1e-6)
    photons = full * np.exp(-out["y"].values[:, 0])
    dims = ("item", "angle", "detector")
    counts = out.drop_vars(["noise_sd"]).assign(
        y=(("item", "channel", *dims[1:]), photons[:, None].astype(np.float32)),
        blank_counts=(dims, full.astype(np.float32)),
    )
    return counts.assign_attrs(operator="ct-counts", units="photons")


def _binned_noise(sd: np.ndarray, factor: int, path: Path) -> np.ndarray:
    """Return the sd of means over `factor` elements; infinite where any of them is."""
    return np.sqrt(transmission.binned(sd**2, factor, path) / factor)


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
        theta, doubts = looks_ct.degrees(given, views, where, unit)
    else:
        found = _dataset(file, "exchange/theta", path)
        check_size(found.shape, 8, where)
        stated = _text(found.attrs.get("units", "")).lower()
        known = {"rad": "radians", "deg": "degrees"}.get(stated[:3])
        values = np.asarray(found[()], np.float64)
        if known == "radians" and unit is None:
            unit = "radians"
        theta, doubts = looks_ct.degrees(values, views, where, unit, stated=known is not None)
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


def _chosen(rows: int | Sequence[int] | None, n: int, path: Path) -> list[int]:
    words = f"the rows 0 to {n - 1}"
    chosen = list(range(n)) if rows is None else numbers_from(rows, path, "rows", words)
    if not chosen or min(chosen) < 0 or max(chosen) >= n:
        raise DataError(
            "The row is not in the scan",
            where=path,
            expected=f"0 to {n - 1}",
            got=rows,
            remedy="choose rows of the detector",
        )
    return chosen
