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
from sciinv.readers.parts import transmission
from sciinv.readers.sinogram import measurement

_PIXEL = "measurement/instrument/detector/actual_pixel_size_x"


def read(
    path: str | os.PathLike[str],
    *,
    rows: int | Sequence[int] | None = 0,
    angles: Sequence[float] | np.ndarray | None = None,
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
    is binned. Only the rows asked for are read.

    Args:
        path: The HDF5 file.
        rows: Detector rows (slices of the object); None takes all.
        angles: View angles in degrees, where the file's `exchange/theta` is absent or wrong.
        rotation_axis: Column at which the axis is seen, from 0; None finds it in the data.
        image_size: Pixels a side; None takes as many as there are (binned) columns.
        pixel_mm: Side of a pixel; None takes the detector's pitch × columns / image_size.
        detector_mm: Pitch of the columns, mm; None takes the file's, and where it has none makes
            the pitch the unit of length (the attribute `lengths` says so).
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
    path = Path(path)
    if likelihood not in ("gaussian", "poisson"):
        raise DataError(
            "There is no likelihood of this name",
            where=path,
            expected="gaussian or poisson",
            got=likelihood,
            remedy="choose one of them",
        )
    with _opened(path) as file:
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
        dark = _dataset(file, "exchange/data_dark", path)
        for name, part in (("data_white", white), ("data_dark", dark)):
            if part.ndim != 3 or part.shape[1:] != data.shape[1:] or part.shape[0] == 0:
                raise DataError(
                    "A calibration field does not match the counts",
                    where=f"{path}: exchange/{name}",
                    expected=f"[frame, {data.shape[1]}, {data.shape[2]}]",
                    got=list(part.shape),
                    remedy="take flats and darks with the detector window of the scan",
                )
        theta = _theta(file, path, data.shape[0], angles)
        if detector_mm is None:
            detector_mm = _pitch(file, path)
        chosen = _chosen(rows, data.shape[1], path)
        try:
            parts = [(data[:, r], white[:, r], dark[:, r]) for r in chosen]
        except OSError as error:
            raise _cut_off(path, error) from error
        title = _title(file, path)
    sinograms = []
    for row, (counts, flats, darks) in zip(chosen, parts, strict=True):
        where = f"{path}: row {row}"
        one = transmission.correct(counts, flats, darks, gain, where)
        sinograms.append(transmission.without_zingers(one) if remove_zingers else one)
    y = np.stack([s.y for s in sinograms])
    if remove_rings:
        y = np.stack([transmission.without_rings(one) for one in y])
    if rotation_axis is None:
        found = [transmission.rotation_centre(one, theta) for one in y]
        rotation_axis = float(np.median(found))
    sd = _binned_noise(np.stack([s.noise_sd for s in sinograms]), detector_binning, path)
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
        "lengths": "mm" if detector_mm else "detector columns (the file states no pixel size)",
    }
    out = measurement(
        y,
        sd,
        theta,
        image_size=size,
        pixel_mm=pixel_mm or n * pitch / size,
        detector_mm=pitch,
        detector_offset_mm=((n - 1) / 2 - centre) * pitch,
        source=str(path),
        title=title,
        notes=notes,
    )
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


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise DataError(
            "The file is not there",
            where=path,
            expected="an HDF5 file",
            got="no such file",
            remedy="check the path",
        ) from error
    except OSError as error:
        raise _cut_off(path, error) from error


def _cut_off(path: Path, error: Exception) -> DataError:
    return DataError(
        "The HDF5 file cannot be read",
        where=path,
        expected="a whole HDF5 file",
        got=str(error),
        remedy="check the format; copy or download it again if it was cut off",
    )


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        inside = list(file["exchange"]) if "exchange" in file else list(file)
        raise DataError(
            "The file lacks a dataset",
            where=path,
            expected=name,
            got=f"only {', '.join(inside) or 'nothing'}",
            remedy="check that the file is in the Data Exchange layout; line integrals are read "
            "as a plain sinogram",
        )
    if found.dtype.kind not in "fiu":
        raise DataError(
            "A dataset does not hold real numbers",
            where=f"{path}: {name}",
            expected="integers or floating point",
            got=found.dtype,
            remedy="convert the file again",
        )
    return found


def _theta(file: h5py.File, path: Path, views: int, given: Any) -> np.ndarray:
    if given is not None:
        theta = np.asarray(given, np.float64)
    else:
        found = _dataset(file, "exchange/theta", path)
        theta = np.asarray(found[()], np.float64)
        units = found.attrs.get("units", "degrees")
        units = units.decode() if isinstance(units, bytes) else str(units)
        if units.lower().startswith("rad"):
            theta = np.rad2deg(theta)
    if theta.shape != (views,) or not np.isfinite(theta).all():
        raise DataError(
            "The view angles do not match the counts",
            where=f"{path}: exchange/theta",
            expected=f"{views} finite angles",
            got=f"shape {list(theta.shape)}, {int((~np.isfinite(theta)).sum())} not finite",
            remedy="give `angles`, one for each view",
        )
    return theta


def _pitch(file: h5py.File, path: Path) -> float | None:
    found = file.get(_PIXEL)
    if not isinstance(found, h5py.Dataset):
        return None
    units = found.attrs.get("units", "um")
    units = units.decode() if isinstance(units, bytes) else str(units)
    factor = {"m": 1e3, "mm": 1.0, "um": 1e-3, "micron": 1e-3, "microns": 1e-3}.get(units)
    value = float(np.ravel(found[()])[0])
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
    chosen = list(range(n)) if rows is None else [int(i) for i in np.atleast_1d(rows)]
    if not chosen or min(chosen) < 0 or max(chosen) >= n:
        raise DataError(
            "The row is not in the scan",
            where=path,
            expected=f"0 to {n - 1}",
            got=rows,
            remedy="choose rows of the detector",
        )
    return chosen
