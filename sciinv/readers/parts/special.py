"""Values that are no measurements: largest integers, clipped counts, fill values, NaN.

One rule for every reader: such samples carry no data (infinite noise), or the file is refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HUGE = 1e18  # fill values of floating point lie beyond (netCDF 9.97e36, 1e20, the largest float)
CONVERTER_BITS = (10, 12, 14)  # of cameras whose counts are stored in more


def no_data(values: NDArray, fill: object = None, *, counts: bool = False) -> NDArray[np.bool_]:
    """Return where values stand for "nothing was measured here".

    NaN and infinity; floating point beyond 1e18; a fill value that is stated and is not 0; of
    integers of 16 bits and more the largest, and the negative ones that detectors write for gaps
    (−1, −2) and the smallest. For counts also a top value of 8, 10, 12 or 14 bits where it is the
    largest and occurs three times or more: the detector was saturated.

    Args:
        values: Any real array, in the dtype of the file.
        fill: The file's fill value, where it states one.
        counts: Whether the values are a detector's counts.
    """
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            bad = ~(np.abs(values) < HUGE)
    elif values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        bad = np.zeros(values.shape, bool)
        if values.dtype.itemsize > 1:
            bad |= values == limits.max
        if values.dtype.kind == "i":
            bad |= values == limits.min
            if counts and values.dtype.itemsize > 2:
                bad |= (values == -1) | (values == -2)
        if counts:
            bad |= saturated(values)
    else:
        return np.zeros(values.shape, bool)
    if fill is not None:
        number = np.asarray(fill)
        if number.dtype.kind in "iuf" and number.size == 1 and float(number) != 0:
            bad |= values == number.reshape(())
    return bad


def saturated(values: NDArray) -> NDArray[np.bool_]:
    """Return where counts stand at the largest number of an 8- to 14-bit converter."""
    top = int(values.max(initial=0))
    bits = (8, *CONVERTER_BITS) if values.dtype.itemsize == 1 else CONVERTER_BITS
    if top not in [2**b - 1 for b in bits]:
        return np.zeros(values.shape, bool)
    here = values == top
    return here if int(here.sum()) >= 3 else np.zeros(values.shape, bool)
