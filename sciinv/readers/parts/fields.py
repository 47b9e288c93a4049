"""Flat and dark fields before they are used: frames that disagree, elements that cannot be so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from sciinv.readers.parts.special import no_data

MAD = 1.4826  # median absolute deviation → standard deviation of a normal distribution
FAR = 10.0  # standard deviations; 10⁻²³ by chance
LEAST = 0.01  # of the blank: a difference below it, in one frame of many, changes nothing


@dataclass(frozen=True)
class Fields:
    """Calibration frames that can be averaged.

    Attributes:
        flats: Counts without the object, [frame, detector]; NaN in an element without any.
        darks: Counts without a beam, the same.
        lost: Elements whose dark field cannot be so, bool [detector]: they carry no data.
        doubts: What was left out or looks wrong, in sentences.
    """

    flats: NDArray[np.float64]
    darks: NDArray[np.float64]
    lost: NDArray[np.bool_]
    doubts: tuple[str, ...]


def cleaned(flats: NDArray, darks: NDArray) -> Fields:
    """Return flats and darks [frame, detector] without what is no measurement of them.

    1. Values that stand for "nothing measured" (`special.no_data`) and, in three frames or more,
       values farther from the median frame than ten times the frames' scatter (flashes, lost
       lines) become the mean of the other frames. A frame that is mostly so is left out. Of two
       frames that differ so much in an element neither is believed.
    2. A dark field of exactly 0 in a few elements, amid one that is not, was lost.
    3. A dark field that stands out from its neighbours must do so in the flats too, as a hot
       element does: the offset is in every frame. Where it is not in the flats, the element's dark
       field is damaged; where the flats' own differences are too large to tell, that is a doubt.
    """
    told: list[str] = []
    blank = _level(flats) - _level(darks)
    least = LEAST * blank if np.isfinite(blank) and blank > 0 else 0.0
    flats = _agreeing(flats, "flat", least, told, counts=True)
    darks = _agreeing(darks, "dark", least, told, counts=False)
    lost: NDArray[np.bool_] = np.asarray(~np.isfinite(darks).any(0))
    if lost.all():
        return Fields(flats, darks, lost, tuple(told))
    with np.errstate(invalid="ignore"):
        dark, flat = _mean(darks), _mean(flats)
    lost = np.logical_or(lost, _zeros(dark))
    damaged, unsure = _alone(dark, flat, lost, 2 * least)
    lost = np.logical_or(lost, damaged)
    for where, words in (
        (lost, "cannot be so (not finite, 0 amid others, or an offset that the flats do not "
         "show): those elements carry no data"),
        (unsure, "stands out from its neighbours, and the flats cannot tell whether it is a hot "
         "element or a damaged frame"),
    ):  # fmt: skip
        if where.any():
            told.append(
                f"The dark field of {int(where.sum())} of {where.size} elements, the first "
                f"{int(np.argmax(where))}, {words}."
            )
    return Fields(flats, darks, lost, tuple(told))


def _level(frames: NDArray) -> float:
    values = np.asarray(frames, np.float64)
    seen = values[~no_data(frames)]
    return float(np.median(seen)) if seen.size else float("nan")


def _mean(frames: NDArray) -> NDArray[np.float64]:
    """Return the mean of the finite values of each element; NaN where there are none."""
    seen = np.isfinite(frames)
    total = np.where(seen, frames, 0.0).sum(0)
    return np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)


def _agreeing(
    frames: NDArray, name: str, least: float, told: list[str], *, counts: bool
) -> NDArray[np.float64]:
    gone = no_data(frames, counts=counts)
    values = np.where(gone, np.nan, np.asarray(frames, np.float64))
    off = _off(values, least) if len(values) > 1 else np.zeros(values.shape, bool)
    if off.any():
        frame, element = (int(i) for i in np.argwhere(off)[0])
        told.append(
            f"{int(off.sum())} values of the {name} field differ from the other frames by more "
            f"than {FAR:g} times their scatter, the first in frame {frame}, element {element}: "
            "they are left out."
        )
    values = np.where(off, np.nan, values)
    whole = off.mean(1) <= 0.5
    values = values[whole] if whole.any() else values
    return np.where(np.isfinite(values), values, _mean(values))


def _off(values: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Return the values that are not as those of the other frames, bool [frame, detector]."""
    empty = ~np.isfinite(values).any(0)
    v = np.where(empty, 0.0, values)
    middle = np.nanmedian(v, axis=0)
    drift = np.ones((len(v), 1))
    if (middle > 0).any():
        some = v[:, middle > 0] / middle[middle > 0]
        drift = np.nanmedian(np.where(np.isfinite(some), some, 1.0), axis=1, keepdims=True)
    drift = np.where((drift > 0.1) & (drift < 10), drift, 1.0)  # else no drift: a lost frame
    apart = np.abs(v / drift - middle)
    typical = float(np.median(middle))
    # counting: the variance grows with the level
    louder = np.sqrt(np.maximum(middle / typical, 1.0)) if typical > 0 else np.ones_like(middle)
    own = MAD * np.nanmedian(apart, axis=0)
    few = np.sqrt(len(v) / (len(v) - 1))
    scatter = few * np.maximum(own if len(v) > 4 else 0.0, float(np.median(own)) * louder)
    return (apart > np.maximum(FAR * scatter, least)) & ~empty


def _zeros(dark: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a dark field is exactly 0 amid one that is not, bool [detector]."""
    seen = dark[np.isfinite(dark)]
    typical = float(np.median(seen))
    spread = MAD * float(np.median(np.abs(seen - typical)))
    return (dark == 0) & (typical > FAR * spread) & (typical > 0)


def _alone(
    dark: NDArray[np.float64], flat: NDArray[np.float64], lost: NDArray[np.bool_], least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where an offset of the dark field is not in the flats, and where none can tell."""
    none = np.zeros(dark.shape, bool)
    seen = np.isfinite(dark) & np.isfinite(flat) & ~lost
    if dark.size < 8 or seen.sum() < 8:
        return none, none
    sides = [np.where(seen, v, np.median(v[seen])) for v in (dark, flat)]
    of_dark, of_flat = (v - median_filter(v, 9, mode="nearest") for v in sides)
    spread = [MAD * float(np.median(np.abs(v[seen]))) for v in (of_dark, of_flat)]
    out = seen & (np.abs(of_dark) > max(FAR * spread[0], least)) & (of_dark != 0)
    tells = np.abs(of_dark) > 5 * spread[1]
    alone = np.abs(of_flat - of_dark) > 0.5 * np.abs(of_dark)
    return out & tells & alone, out & ~tells
