"""Looks at single samples of a sinogram: flashes, damaged values, and zeros that were lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

RARE = 0.01  # a share of zeros below which they are no clipped noise: half of the air would be 0


def spikes(y: NDArray, noise_sd: NDArray) -> NDArray[np.bool_]:
    """Return samples far above or far below all their neighbours, bool [angle, detector].

    Neighbours are the eight around, and at the borders those that there are. Far is ten times the
    noise of the neighbours, since few photons have a large noise of their own. What is part of an
    object is seen in the next view too, in the same element or beside it.
    """
    if min(y.shape) < 3:
        return np.zeros(y.shape, bool)
    near, noise = _around(y), _around(noise_sd)
    far = 10 * np.nanmax(noise, axis=0)
    far = np.where(np.isfinite(far) & np.isfinite(noise_sd), far, np.inf)
    above: NDArray[np.bool_] = y - np.nanmax(near, axis=0) > far
    return above | (np.nanmin(near, axis=0) - y > far)


def _around(values: NDArray) -> NDArray:
    """Return the eight neighbours of each sample, [8, angle, detector]; NaN beyond the borders."""
    h, w = values.shape
    wide = np.pad(np.asarray(values, np.float64), 1, constant_values=np.nan)
    steps = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return np.stack([wide[i : i + h, j : j + w] for i, j in steps])


def spike_doubts(y: NDArray, noise_sd: NDArray) -> list[str]:
    """Return a doubt where single samples stand out; a grain would do so in most views."""
    here = spikes(y, noise_sd)
    share = float(here.any(1).mean())
    if not here.any() or share > 0.5:
        return []
    view, element = (int(i) for i in np.argwhere(here)[0])
    return [
        f"{int(here.sum())} samples differ from all their neighbours by more than ten times the "
        f"noise, the first in view {view}, element {element}: flashes, or damaged values."
    ]


def check_zeros(y: NDArray, noise_sd: NDArray, where: object, *, remedy: str | None = None) -> None:
    """Raise `DataError` where samples are exactly 0 between samples that are not.

    Between is: far from all neighbours; or, where zeros are rare, so that the values were not
    clipped at 0, far below most of them, as at the rim of an object.

    Args:
        y: Line integrals as the file has them, [angle, detector].
        noise_sd: Their noise.
        where: The file.
        remedy: What to do, for a reader without the option `mask`.
    """
    zero = y == 0
    lost = zero & spikes(y, noise_sd)
    if 0 < zero.mean() < RARE:
        lost |= zero & (np.nanmedian(_around(y), axis=0) > 10 * noise_sd)
    if lost.any():
        raise DataError(
            "Samples are exactly 0 amid samples that are not",
            where=where,
            expected="line integrals; samples that were lost marked as such",
            got=f"{int(lost.sum())} samples, the first at {[int(i) for i in np.argwhere(lost)[0]]}",
            remedy=remedy or "read with mask=True and no_data_value=0, so that zeros carry no data",
        )
