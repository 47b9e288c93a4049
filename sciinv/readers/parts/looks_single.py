"""Looks at single samples of a sinogram: flashes, damaged values, and zeros that were lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError


def spikes(y: NDArray, noise_sd: NDArray) -> NDArray[np.bool_]:
    """Return samples far above or far below all eight neighbours, bool [angle, detector].

    Far is ten times the noise of the neighbours, since few photons have a large noise of their own.
    What is part of an object is seen in the next view too, in the same element or beside it.
    """
    out = np.zeros(y.shape, bool)
    if min(y.shape) < 3:
        return out
    c = y[1:-1, 1:-1]
    h, w = c.shape
    steps = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    near = np.stack([y[i : i + h, j : j + w] for i, j in steps])
    far = 10 * np.max([noise_sd[i : i + h, j : j + w] for i, j in steps], axis=0)
    seen = np.isfinite(far) & np.isfinite(noise_sd[1:-1, 1:-1])
    far = np.where(seen, far, np.inf)
    out[1:-1, 1:-1] = (c - near.max(0) > far) | (near.min(0) - c > far)
    return out


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

    Args:
        y: Line integrals as the file has them, [angle, detector].
        noise_sd: Their noise.
        where: The file.
        remedy: What to do, for a reader without the option `mask`.
    """
    lost = (y == 0) & spikes(y, noise_sd)
    if lost.any():
        raise DataError(
            "Samples are exactly 0 amid samples that are not",
            where=where,
            expected="line integrals; samples that were lost marked as such",
            got=f"{int(lost.sum())} samples, the first at {[int(i) for i in np.argwhere(lost)[0]]}",
            remedy=remedy or "read with mask=True and no_data_value=0, so that zeros carry no data",
        )
