"""Plain sinograms of line integrals: .npy, HDF5, Zarr, TIFF; and the CT measurement itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts import looks_ct, looks_single, sinogram_files
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import check_options
from sciinv.readers.parts.rotation_axis import rotation_centre
from sciinv.readers.parts.transmission import (
    Sinogram,
    binned,
    estimated_noise,
    repair,
    without_rings,
)
from sciinv.readers.parts.view_angles import degrees

AXES = ("slice", "angle", "detector")


def measurement(
    y: np.ndarray,
    noise_sd: np.ndarray,
    angles: np.ndarray,
    *,
    image_size: int,
    pixel_mm: float,
    detector_mm: float,
    geometry: str = "parallel",
    source_origin_mm: float | None = None,
    origin_detector_mm: float | None = None,
    detector_offset_mm: float = 0.0,
    source: str,
    title: str,
    notes: dict[str, Any] | None = None,
    length_unit: str = "mm",
) -> xr.Dataset:
    """Return the measurement of the operator "ct".

    Args:
        y: Line integrals, [item, angle, detector].
        noise_sd: Their standard deviation, the same shape; infinite: no data.
        angles: View angles, degrees, [angle].
        image_size: Rows and columns of the image.
        pixel_mm: Side of a pixel, mm.
        detector_mm: Pitch of the detector elements, mm.
        geometry: "parallel" or "fan".
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        detector_offset_mm: Shift of the detector, mm.
        source: The file that was read.
        title: What it is, for people.
        notes: What was done to the data; kept as attributes.
        length_unit: "mm", or "pixel" where the pitch of the detector is not known and is itself
            the unit of all lengths.

    Returns:
        Variables y [item, channel, angle, detector], noise_sd [item, angle, detector] and angles
        [angle], float32 but for the angles; params in JSON.

    Raises:
        DataError: Shapes differ, or y is not finite.
    """
    if y.ndim != 3 or y.shape != noise_sd.shape or y.shape[1] != len(angles):
        raise DataError(
            "The sinogram does not match its angles",
            where=source,
            expected="[item, angle, detector] with one angle a view",
            got=f"{list(y.shape)}, {len(angles)} angles",
            remedy="check the order of the axes, and the number of angles",
        )
    check_finite(y, source)
    if not np.isfinite(angles).all():
        raise DataError(
            "The view angles are not finite",
            where=source,
            expected="degrees",
            got=f"{int((~np.isfinite(angles)).sum())} of {len(angles)} not finite",
            remedy="give the angles",
        )
    params = {
        "image_size": int(image_size),
        "pixel_mm": float(pixel_mm),
        "detectors": int(y.shape[-1]),
        "detector_mm": float(detector_mm),
        "geometry": geometry,
        "source_origin_mm": source_origin_mm,
        "origin_detector_mm": origin_detector_mm,
        "detector_offset_mm": float(detector_offset_mm),
        "length_unit": None if length_unit == "mm" else length_unit,
    }
    return xr.Dataset(
        {
            "y": (("item", "channel", "angle", "detector"), y[:, None].astype(np.float32)),
            "noise_sd": (("item", "angle", "detector"), noise_sd.astype(np.float32)),
            "angles": (("angle",), np.asarray(angles, np.float64), {"units": "degrees"}),
        },
        attrs={
            "operator": "ct",
            "params": json.dumps({k: v for k, v in params.items() if v is not None}),
            "units": "1",
            "source": Path(source).name,
            "title": title,
            **(notes or {}),
        },
    )


def read(
    path: str | os.PathLike[str],
    angles: Sequence[float] | np.ndarray | str,
    *,
    angle_unit: str | None = None,
    dataset: str | None = None,
    axes: Sequence[str] = ("angle", "detector"),
    slices: int | Sequence[int] | None = None,
    geometry: str = "parallel",
    detector_mm: float | None = None,
    source_origin_mm: float | None = None,
    origin_detector_mm: float | None = None,
    rotation_axis: float | None = None,
    image_size: int | None = None,
    pixel_mm: float | None = None,
    detector_binning: int = 1,
    noise_sd: float | None = None,
    scale: float = 1.0,
    log: bool | None = None,
    mask: bool = False,
    no_data_value: float | None = None,
    air_columns: int = 0,
    remove_rings: bool = False,
) -> xr.Dataset:
    """Read line integrals from a plain array and return a CT measurement.

    What looks wrong is told in the attribute `warnings`.

    Args:
        path: A .npy or .npz file, an HDF5 file, a Zarr array or group, a multi-page TIFF file, or
            a folder of TIFF files in the order of the numbers in their names.
        angles: View angles, [angle]: numbers, "FIRST:END", "FIRST:END:N", N views without END,
            "FIRST:END:STEP", or a file (.npy, or text with one angle a line).
        angle_unit: "degrees" or "radians"; None takes degrees, unless they look like radians.
        dataset: Name of the array in an .npz, HDF5 or Zarr group; None where there is only one.
        axes: Order of the array's axes: "angle" and "detector", and "slice" for three axes.
        slices: Which slices of three axes; None takes all.
        geometry: "parallel" or "fan".
        detector_mm: Pitch of the elements, mm; None makes the pitch the unit of length ("pixel").
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        rotation_axis: Element at which the axis is seen, from 0; None takes the middle of the
            detector for a fan, and finds it from the data for a parallel beam that covers half a
            turn.
        image_size: Pixels a side; None takes as many as there are (binned) elements.
        pixel_mm: Side of a pixel; None covers the detector as seen at the axis.
        detector_binning: Elements to average.
        noise_sd: Standard deviation of a (binned) line integral; None estimates it from the data
            (`transmission.estimated_noise`).
        scale: Factor from the file's values to line integrals (to transmissions with `log`).
        log: True: the values are transmissions I/I0, of which −log is taken. False: they are line
            integrals, whatever they look like. None: line integrals, unless they look otherwise.
        mask: Whether samples that hold no value (NaN, infinite, the largest integer, the file's
            fill value, `no_data_value`, a chunk that was never written) carry no data; if not, the
            file is refused.
        no_data_value: A value that stands for no data, with `mask`.
        air_columns: Elements at each side of the detector that see air in every view; each view is
            moved to read 0 there. 0 moves none.
        remove_rings: Whether to remove the elements' constant errors.

    Raises:
        DataError: The file cannot be read, or does not hold what the arguments say.
    """
    check_options(read, path, locals())
    path = Path(path)
    looks_ct.check_geometry(geometry, source_origin_mm, origin_detector_mm, path)
    if sorted(axes) not in (["angle", "detector"], ["angle", "detector", "slice"]):
        raise DataError(
            "The axes are not those of a sinogram",
            where=path,
            expected='"angle" and "detector", and "slice" where there are three',
            got=list(axes),
            remedy="name the axes in the order of the array",
        )
    array = sinogram_files.opened_array(path, dataset, partial=mask)
    if len(array.shape) != len(axes) or 0 in array.shape:
        raise DataError(
            "The array does not have these axes",
            where=path,
            expected=f"{len(axes)} axes: {', '.join(axes)}",
            got=f"shape {list(array.shape)}",
            remedy="name the axes in the order of the array",
        )
    if log not in (None, True, False):
        raise DataError("There is no such value of log", where=path, expected="True or False",
                        got=log, remedy="leave it out for line integrals")  # fmt: skip
    views = int(array.shape[list(axes).index("angle")])
    theta, told = degrees(angles, views, path, angle_unit)
    chosen = sinogram_files.chosen(array, axes, slices, path)
    y, gone, whole = sinogram_files.stacked(array, list(axes), chosen, path, no_data_value)
    if gone.any() and not mask:
        raise DataError(
            "The sinogram holds values that are not finite"
            if not np.isfinite(y).all()
            else "The sinogram holds values that stand for no data",
            where=path,
            expected="finite line integrals",
            got=f"{int(gone.sum())} of {gone.size} samples, the first at "
            f"{[int(i) for i in np.argwhere(gone)[0]]}: {y[gone][0]:g}",
            remedy="read with mask=True, so that they carry no data",
        )
    y = np.stack([_filled(one, bad) for one, bad in zip(y, gone, strict=True)]) * scale
    if log:
        passed = y > 0
        gone |= ~passed
        y = -np.log(np.where(passed, y, 1.0))
        y = np.stack([_filled(one, bad) for one, bad in zip(y, gone, strict=True)])
    check_finite(y, path)
    told += looks_ct.check_integrals(
        y, path, given_noise=noise_sd is not None, whole=whole and not log, sure=log is not None
    )
    looks_ct.check_transposed(y, axes, path)
    y = scaled_to_air(y, np.where(gone, np.inf, 1.0), air_columns, path)
    y = binned(y, detector_binning, path)
    if remove_rings:
        y = np.stack([without_rings(one) for one in y])
    n = y.shape[-1]
    pitch = (1.0 if detector_mm is None else detector_mm) * detector_binning
    notes: dict[str, Any] = {"detector_binning": detector_binning}
    if rotation_axis is not None:
        looks_ct.check_axis(rotation_axis, n * detector_binning, path)
        centre = (rotation_axis + 0.5) / detector_binning - 0.5
    elif geometry == "parallel" and _half_turn(theta):
        centre = float(np.median([rotation_centre(one, theta) for one in y]))
        notes["rotation_axis_found"] = (centre + 0.5) * detector_binning - 0.5
    else:
        centre = (n - 1) / 2
    if noise_sd is None:
        sd = np.stack([estimated_noise(one) for one in y])
        notes["noise"] = "from second differences of neighbouring samples, sd_0 exp(y/2)"
    else:
        sd = np.full_like(y, noise_sd)
    for one, its, without in zip(y, sd, gone, strict=True):
        if not without.any():
            looks_single.check_zeros(one, its, path)
        told += looks_ct.noise_doubts(one, its) + looks_single.spike_doubts(one, its)
    sd = np.where(binned(gone.astype(float), detector_binning, path) > 0, np.inf, sd)
    told += looks_ct.air_doubts(y, sd)
    size = image_size or n
    shrink = 1.0
    if geometry == "fan" and source_origin_mm and origin_detector_mm is not None:
        shrink = source_origin_mm / (source_origin_mm + origin_detector_mm)
    pixel_mm = n * pitch * shrink / size if pixel_mm is None else pixel_mm
    in_mm = detector_mm is not None or geometry == "fan"
    told += looks_ct.length_doubts(y, pitch * shrink, pixel_mm, size, in_mm)
    out = measurement(
        y,
        sd,
        theta,
        image_size=size,
        pixel_mm=pixel_mm,
        detector_mm=pitch,
        geometry=geometry,
        source_origin_mm=source_origin_mm,
        origin_detector_mm=origin_detector_mm,
        detector_offset_mm=((n - 1) / 2 - centre) * pitch,
        source=str(path),
        title=path.stem,
        notes=notes,
        length_unit="pixel" if detector_mm is None and geometry == "parallel" else "mm",
    )
    return with_warnings(out, told)


def _filled(y: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return [angle, detector] with bad samples interpolated along their view."""
    plain = Sinogram(np.where(bad, 0.0, y), np.zeros_like(y), y[0], y[0])
    return repair(plain, bad).y if bad.any() else y


def scaled_to_air(y: np.ndarray, noise_sd: np.ndarray, columns: int, where: object) -> np.ndarray:
    """Return line integrals whose views read 0 in the outer `columns` on each side."""
    if columns == 0:
        return y
    n = y.shape[-1]
    if not 0 < columns <= n // 4 or int(columns) != columns:
        raise DataError("There cannot be so many columns of air", where=where,
                        expected=f"a whole number from 0 to {n // 4}", got=columns,
                        remedy="give the columns at each side that see air in every view",
                        )  # fmt: skip
    side = np.r_[0 : int(columns), n - int(columns) : n]
    seen = np.isfinite(noise_sd[..., side])
    level = np.where(seen, y[..., side], 0).sum(-1) / np.maximum(seen.sum(-1), 1)
    return y - level[..., None]


def check_finite(y: np.ndarray, where: object) -> None:
    """Raise `DataError` unless all line integrals are finite and not all the same."""
    bad = ~np.isfinite(y)
    if bad.any():
        at = [int(i) for i in np.argwhere(bad)[0]]
        raise DataError(
            "The sinogram holds values that are not finite",
            where=where,
            expected="finite line integrals",
            got=f"{int(bad.sum())} of {bad.size} NaN or infinite, the first at {at}",
            remedy="repair them, or read the raw counts, whose bad pixels are masked",
        )
    if y.size and float(y.min()) == float(y.max()):
        raise DataError(
            "The sinogram is empty",
            where=where,
            expected="line integrals that differ",
            got=f"{float(y.flat[0]):.4g} everywhere",
            remedy="check which array of the file was read",
        )
    if float(np.abs(y).max()) > 1e4:
        raise DataError(
            "The values are no line integrals",
            where=where,
            expected="attenuations −log(I/I0), of the order of 1",
            got=f"up to {float(np.abs(y).max()):.4g}",
            remedy="check the byte order and `scale`; raw counts need flat and dark fields",
        )


def _half_turn(angles: np.ndarray) -> bool:
    apart = (angles[None, :] - angles[:, None]) % 360
    return bool(np.abs(apart - 180).min() <= 3.0)
