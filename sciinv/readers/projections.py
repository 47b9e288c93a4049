"""TIFF projections with flats and darks: the raw counts of a parallel-beam scan, as folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts import frame_files
from sciinv.readers.parts.counted_rows import Row, check_likelihood, chosen_rows, line_integrals
from sciinv.readers.parts.options import check_options
from sciinv.readers.parts.tiff_frames import Frames, headers
from sciinv.readers.parts.tiff_frames import rows as rows_of
from sciinv.readers.parts.view_angles import degrees

Files = str | Sequence[str]


def read(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    angles: Sequence[float] | np.ndarray | str,
    *,
    rows: int | Sequence[int] | str | None = "middle",
    flats: str | Sequence[str] | None = None,
    darks: str | Sequence[str] | None = None,
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
    """Read the projections of a parallel-beam scan and return a CT measurement, one item per row.

    A projection is a page [row, column]; files are taken in the order of the numbers in their
    names, view_2 before view_10. Counts become line integrals with their counting noise as in the
    reader `dxchange`. The rotation axis is parallel to the columns of the detector. What looks
    wrong is told in the attribute `warnings`.

    Args:
        path: A folder of TIFF files, a pattern such as "scan/proj_*.tif", a list of files in their
            order, or one file of many pages. Files that are named as flats or darks are none.
        angles: View angles, one for each projection: numbers, "FIRST:END", "FIRST:END:N", N views
            without END, "FIRST:END:STEP", or a file (.npy, or text with one angle a line).
        rows: Detector rows (slices of the object), from 0 at the top; "middle", or None for all.
        flats: Frames without the object: a folder, pattern, file or list. None looks beside the
            projections and their folder for names that begin with flat, ff, white, open, ob,
            blank, bright or reference.
        darks: Frames without a beam, likewise; None looks for dark, df or bias.
        angle_unit: "degrees" or "radians"; None takes degrees, unless they look like radians.
        dark: Counts without a beam, where there is no dark frame; 0 for a counting detector.
        air_columns: Columns at each side of the detector that see air in every view; each view is
            scaled to read 0 there. 0 scales none.
        rotation_axis: Column at which the axis is seen, from 0; None finds it in the data.
        image_size: Pixels a side; None takes as many as there are (binned) columns.
        pixel_mm: Side of a pixel; None takes the detector's pitch × columns / image_size.
        detector_mm: Pitch of the columns, mm; None makes it the unit of length ("pixel").
        detector_binning: Columns to average.
        gain: Variance ÷ mean of the counts; None estimates it from the flats.
        model_error: Standard deviation to add in quadrature for what the operator cannot say
            (sub-pixel edges, scatter, drift), in units of y.
        remove_rings: Whether to remove the columns' constant errors.
        remove_zingers: Whether to mask single bright flashes.
        likelihood: "gaussian" for line integrals and the operator "ct"; "poisson" for counts in
            photons (counts ÷ gain) and the operator "ct-counts".

    Raises:
        ConfigError: The package tifffile is not installed.
        DataError: A file is damaged or no grey picture, frames differ in size, flats or darks are
            missing, or there are not as many angles as projections.
    """
    several = isinstance(path, list | tuple)
    name = Path(path[0]).parent if several else Path(path)  # type: ignore[arg-type,index]
    check_options(read, name, locals())
    check_likelihood(likelihood, name)
    files = frame_files.projections(path if several else name)  # type: ignore[arg-type]
    scan = headers(files, "projections")
    told = _numbering(files, angles, several, name)
    theta, doubts = degrees(angles, scan.count, name, angle_unit)
    told += doubts
    chosen = chosen_rows(scan.shape[0] // 2 if rows == "middle" else rows, scan.shape[0], name)  # type: ignore[arg-type]
    white = _field(flats, "flats", files, scan, name)
    assert white is not None
    black = None if dark is not None else _field(darks, "darks", files, scan, name)
    if scan.inverted:
        told.append(
            "The TIFF files say that 0 is white; their values were taken for counts as they are."
        )
    if scan.dtype.itemsize == 1:
        told.append("The counts have 8 bits: are the files those of the detector, or of a viewer?")
    counts, bright = rows_of(scan, chosen), rows_of(white, chosen)
    without = np.full((1, len(chosen), scan.shape[1]), float(dark or 0))
    without = without if black is None else rows_of(black, chosen)
    return line_integrals(
        [
            Row(r, counts[:, i], bright[:, i], without[:, i], scan.fill)
            for i, r in enumerate(chosen)
        ],
        theta,
        told,
        path=name,
        title=name.stem if name.name else "projections",
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


def _numbering(files: list[Path], angles: object, listed: bool, where: Path) -> list[str]:
    """Return a doubt about numbers that are missing; refuse them where angles are counted."""
    told = None if listed else frame_files.gaps(files)
    if told is None:
        return []
    if isinstance(angles, str) and angles.count(":") == 1:
        raise DataError(
            "Projections are missing from the series",
            where=where,
            expected="every number from the first to the last, as the angles are counted by them",
            got=f"without {told}",
            remedy="copy the missing files; or give `angles`, one for each file that is there",
        )
    return [f"The series of projections lacks {told}. Are the angles those of the files?"]


def _field(given: Files | None, what: str, files: list[Path], scan: Frames, where: Path) -> Frames:
    """Return the flats or darks that were given, or that lie with the projections."""
    kind = frame_files.FLATS if what == "flats" else frame_files.DARKS
    if given is not None:
        strings = [given] if isinstance(given, str) else given
        if not isinstance(strings, list | tuple) or not all(isinstance(v, str) for v in strings):
            raise DataError(
                "An option of the reader cannot be so",
                where=f"{where}: {what}",
                expected="a folder, pattern or file, or a list of files",
                got=repr(given)[:80],
                remedy=f"correct {what}, or leave it out",
            )
        found = frame_files.tiffs(_beside(given, where))
    else:
        found = frame_files.fields(files, kind)
    if not found:
        raise DataError(
            f"There are no {what}",
            where=where,
            expected="frames without the object" if what == "flats" else "frames without a beam",
            got=f"no file or folder here or beside it that is named {what}",
            remedy="give `flats`, a folder or file; projections that are corrected already are "
            'read by the reader sinogram, axes=["angle", "slice", "detector"] and log=True'
            if what == "flats"
            else "give `darks`, a folder or file; or dark=0 for a counting detector",
        )
    out = headers(found, what)
    if out.shape != scan.shape:
        raise DataError(
            f"The {what} do not match the projections",
            where=found[0],
            expected=f"{scan.shape[0]} rows, {scan.shape[1]} columns",
            got=f"{out.shape[0]} rows, {out.shape[1]} columns",
            remedy="take flats and darks with the detector window of the scan",
        )
    return out


def _beside(given: Files, where: Path) -> Files:
    """Return the path as it is where it leads somewhere, else from the scan's folder."""
    if not isinstance(given, str) or Path(given).exists():
        return given
    for folder in (where, where.parent):
        if (folder / given).exists():
            return str(folder / given)
    return given
