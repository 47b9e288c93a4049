"""Where a pixel lies: steps of the axes, and the affine of a slice in the patient."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "µm": 1e-3, "um": 1e-3, "nm": 1e-6}
DEGREES = {"µas": 1 / 3.6e9, "uas": 1 / 3.6e9, "mas": 1 / 3.6e6, "arcsec": 1 / 3600, "deg": 1.0}


def step_of(image: xr.DataArray, axis: str) -> tuple[float, str]:
    """Return the signed distance of two pixels along an axis, and its unit."""
    if axis not in image.coords or image.sizes[axis] < 2:
        return 1.0, "pixel"
    values = image[axis].values
    units = str(image[axis].attrs.get("units", "pixel"))
    return float(values[-1] - values[0]) / (len(values) - 1), units


def affine_of(image: xr.DataArray) -> tuple[NDArray[np.float64], bool]:
    """Return the affine of NIfTI, (column, row, item) → mm, and whether it is that of a patient.

    A slice with the centre p and the directions r along a row, c along a column and s across, in
    DICOM's sense (to the left, to the back, to the head), has pixel (i, j) of n × m at

        p + (i − n // 2) Δx r + (j − m // 2) Δy c,

    of which NIfTI turns the first two coordinates (to the right, to the front, to the head). The
    next item lies at the distance of the centres of both where the file has several, else at a
    slice's thickness along s.
    """
    sizes = [step_of(image, a) for a in ("x", "y")]
    slices = image.attrs.get("orientation")
    affine = np.eye(4)
    if not slices or not all(unit in MM for _, unit in sizes):
        for column, axis in enumerate(("x", "y")):
            step, units = sizes[column]
            scale = MM.get(units, 1.0)
            affine[column, column] = step * scale
            affine[column, 3] = float(image[axis].values[0]) * scale if axis in image.coords else 0
        affine[2, 2] = float(image.attrs.get("slice_mm", 1.0))
        return affine, False
    first = np.asarray(slices[0], np.float64)
    along = [abs(step) * MM[unit] for step, unit in sizes]
    centre, read, phase, across = first
    affine[:3, 0], affine[:3, 1] = read * along[0], phase * along[1]
    affine[:3, 2] = across * float(image.attrs.get("slice_mm", 1.0))
    if len(slices) > 1:
        affine[:3, 2] = np.asarray(slices[1][0]) - centre
    middle = image.sizes["x"] // 2, image.sizes["y"] // 2
    affine[:3, 3] = centre - affine[:3, 0] * middle[0] - affine[:3, 1] * middle[1]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, True
