"""Rows of a detector, as raw counts with flats and darks: to one CT measurement, an item a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts import looks_ct, looks_single, transmission
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import numbers_among
from sciinv.readers.parts.rotation_axis import rotation_centre
from sciinv.readers.parts.special import no_data
from sciinv.readers.sinogram import measurement, scaled_to_air


@dataclass(frozen=True)
class Row:
    """Raw counts of one row of the detector, in the dtype of the file.

    Attributes:
        number: The row, from 0.
        counts: Counts with the object, [angle, column].
        flats: Counts without the object, [frame, column].
        darks: Counts without a beam, [frame, column].
        fill: The file's fill value, where it states one.
    """

    number: int
    counts: np.ndarray
    flats: np.ndarray
    darks: np.ndarray
    fill: object = None


def line_integrals(
    rows: Sequence[Row],
    theta: np.ndarray,
    told: list[str],
    *,
    path: Path,
    title: str,
    gain: float | None,
    air_columns: int,
    rotation_axis: float | None,
    image_size: int | None,
    pixel_mm: float | None,
    detector_mm: float | None,
    detector_binning: int,
    model_error: float,
    remove_rings: bool,
    remove_zingers: bool,
    likelihood: str,
) -> xr.Dataset:
    """Return the measurement of rows of counts; for the options see the readers that call it.

    Args:
        rows: The rows, one item each.
        theta: View angles, degrees, [angle].
        told: Doubts so far; those of the counts are appended.

    Raises:
        DataError: The counts cannot be those of a scan, or an option does not fit them.
    """
    sinograms = []
    for row in rows:
        where = f"{path}: row {row.number}"
        gone = no_data(row.counts, row.fill, counts=True)
        one = transmission.correct(row.counts, row.flats, row.darks, gain, where, gone)
        told += one.doubts
        if gain is None and len(transmission.distinct(np.asarray(row.flats))) < 3:
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
        "rows": [row.number for row in rows],
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
    return out if likelihood == "gaussian" else _photons(out, sinograms, detector_binning)


def _photons(
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


def check_likelihood(name: str, path: Path) -> None:
    """Raise `DataError` unless counts can be read for a likelihood of this name."""
    if name not in ("gaussian", "poisson"):
        raise DataError(
            "There is no likelihood of this name",
            where=path,
            expected="gaussian or poisson",
            got=name,
            remedy="choose one of them",
        )


def chosen_rows(rows: int | Sequence[int] | None, n: int, path: Path) -> list[int]:
    """Return the numbers of the detector rows to read, of n; None takes all.

    Raises:
        DataError: There is no such row.
    """
    return numbers_among(
        rows, n, path, "rows", absent="The row is not in the scan",
        remedy="choose rows of the detector",
    )  # fmt: skip
