"""NIfTI volumes, in the directions of the head that their headers state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.images.formats.base import Options, Stack, axis_of, numeric
from sciinv.registry import library


def read(path: Path, options: Options) -> Stack:
    """Return slices with the front (axial) or the top (coronal, sagittal) of the head up."""
    nibabel = library("nibabel", "Reading NIfTI", "train")
    axis = axis_of(options, path, names=True)
    axis = 2 if axis is None else axis
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asanyarray(image.dataobj)
        side = [float(v) for v in image.header.get_zooms()[:3]]
        unit = image.header.get_xyzt_units()[0]
    except Exception as error:  # nibabel raises many kinds
        raise DataError(
            "The NIfTI file cannot be read",
            where=path,
            expected="a whole .nii or .nii.gz",
            got=f"{type(error).__name__}: {error}",
            remedy="convert it again, or move it out of the folder",
        ) from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values, axis = values[..., None], 2
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            "The NIfTI file is no single volume",
            where=path,
            expected="three axes",
            got=list(values.shape),
            remedy="split a time series into volumes (fslsplit), or keep its mean",
        )
    side = [*side, 1.0, 1.0, 1.0][:3]
    kept = [a for a in range(3) if a != axis]
    slices = np.moveaxis(numeric(values, path), axis, 0)  # [slice, first kept, second kept]
    slices = slices.transpose(0, 2, 1)[:, ::-1]  # rows fall from the front or the top
    unit = "mm" if unit == "unknown" else unit
    pixel = (side[kept[1]], side[kept[0]])
    return Stack(np.ascontiguousarray(slices), pixel=pixel, pixel_unit=unit)
