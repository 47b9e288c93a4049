"""Looks at a CT scan: its axis, its air, and whether its values are line integrals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

LARGEST_INTEGRAL = 15.0  # beyond, of 3 million photons none passes
AIR_OFF = 0.02  # a level of air that is not 0: 2 % of the open beam
MOST_ATTENUATING = 100.0  # 1/mm: of gold and lead at 20 keV, the densest parts of their spectra
WIDEST_MM = 3000.0  # no detector of tomography is wider


def check_axis(axis: float, detectors: int, where: object) -> None:
    """Raise `DataError` where a given rotation axis is beyond what a detector can be shifted."""
    if not abs(axis - (detectors - 1) / 2) <= 2 * detectors:
        raise DataError(
            "The rotation axis lies far off the detector",
            where=where,
            expected=f"a detector element, from 0 to {detectors - 1}, or near it",
            got=axis,
            remedy="give rotation_axis in detector elements, counted from 0",
        )


def check_geometry(
    geometry: str, source: float | None, detector: float | None, where: object
) -> None:
    """Raise `DataError` unless a geometry is parallel, or a fan with both of its distances."""
    told = None
    if geometry not in ("parallel", "fan"):
        told = f"geometry {geometry!r}"
    elif geometry == "fan" and (source is None or detector is None):
        told = "a fan without source_origin_mm and origin_detector_mm"
    elif geometry == "parallel" and (source is not None or detector is not None):
        told = "a parallel beam with source_origin_mm or origin_detector_mm"
    if told:
        raise DataError(
            "The geometry of the scan is not told",
            where=where,
            expected='"parallel"; or "fan" with source_origin_mm and origin_detector_mm',
            got=told,
            remedy='give geometry="fan" and both distances, or geometry="parallel" and neither',
        )


def length_doubts(y: NDArray, detector: float, pixel: float, size: int, mm: bool) -> list[str]:
    """Return doubts about lengths that look to be of another unit.

    Args:
        y: Line integrals, [item, angle, detector].
        detector: Pitch of the elements, as seen at the axis.
        pixel: Side of a pixel of the image, in the unit of `detector`.
        size: Pixels a side.
        mm: Whether lengths are in mm; else they are in pitches.
    """
    told = []
    seen, covered = y.shape[-1] * detector, size * pixel
    if not 0.2 < covered / seen < 5:
        told.append(
            f"The image is {covered:.3g} wide and the detector sees {seen:.3g}"
            f"{' mm' if mm else ' pitches'}: are pixel_mm and detector_mm both in mm?"
        )
    thick = float(np.quantile(np.abs(y), 0.99))
    if mm and thick / seen > MOST_ATTENUATING:
        told.append(
            f"Line integrals of {thick:.3g} within {seen:.3g} mm are more than the densest metal "
            "attenuates: is detector_mm in mm?"
        )
    if mm and seen > WIDEST_MM:
        told.append(f"The detector sees {seen / 1e3:.3g} m: is detector_mm in mm?")
    return told


def edges(y: NDArray) -> NDArray[np.bool_]:
    """Return the outer fiftieth of the detector on each side, 2 elements or more, [detector]."""
    n = y.shape[-1]
    k = np.arange(n)
    width = max(2, n // 50)
    return (k < width) | (k >= n - width)


def air_doubts(y: NDArray, noise_sd: NDArray) -> list[str]:
    """Return a doubt where air is not at 0, of line integrals [item, angle, detector]."""
    if y.shape[-1] < 8:
        return []
    told = []
    for one, sd in zip(y, noise_sd, strict=True):
        seen = np.isfinite(sd)
        at = edges(one) & (seen.mean(0) > 0.5)
        if not at.any():
            continue
        level = np.median(one[:, at], axis=1)
        spread = float(np.median(np.where(seen, sd, np.nan)[np.isfinite(sd)]))
        low = np.quantile(one, 0.1, axis=1)
        airy = bool(np.mean(level <= low + 3 * spread) > 0.8)
        extreme = np.quantile(level, [0.02, 0.98])
        off = max(AIR_OFF, 3 * spread / np.sqrt(at.sum()))
        if extreme[0] < -off or (airy and extreme[1] > off):
            told.append(
                f"The least attenuated edges of the views read {extreme[0]:+.3f} to "
                f"{extreme[1]:+.3f}, not 0: the open beam was not that of the scan, or the object "
                "is wider than the detector. Views are scaled to their air with air_columns."
            )
            break
    return told


def check_integrals(
    y: NDArray,
    where: object,
    *,
    given_noise: bool,
    whole: bool,
    sure: bool,
    remedy: str | None = None,
) -> list[str]:
    """Return doubts about line integrals [item, angle, detector]; refuse what is none.

    Args:
        y: Values, scaled.
        where: The file.
        given_noise: Whether the noise was given: else it is derived from exp(y/2).
        whole: Whether the file's values were whole numbers.
        sure: Whether the user says that they are line integrals.
        remedy: What to do, for a reader that has no options for it.

    Raises:
        DataError: Counts, transmissions, negated values, or units in which exp(−y) means nothing.
    """
    most = float(np.abs(y).max())
    counts = remedy or (
        "raw counts need flat and dark fields (reader dxchange); else give noise_sd, and scale"
    )
    if most > 1e4 or (most > LARGEST_INTEGRAL and (whole or not given_noise)):
        raise DataError(
            "The values are no line integrals",
            where=where,
            expected=f"attenuations −log(I/I0), without unit, up to {LARGEST_INTEGRAL:g}",
            got=f"up to {most:.4g}" + (", whole numbers, as counts are" if whole else ""),
            remedy=counts + "; check the byte order",
        )
    told = []
    if most > LARGEST_INTEGRAL:
        told.append(
            f"Values up to {most:.4g} are no attenuations −log(I/I0): the image's unit is then not "
            "1/length."
        )
    at = edges(y)
    air = np.median(y[..., at], axis=-1)
    middle = np.median(y[..., ~at], axis=-1) if (~at).any() else air
    scatter = 1.4826 * float(np.median(np.abs(y[..., at] - air[..., None]))) + 1e-12
    high = np.mean(air >= np.quantile(y, 0.9, axis=-1) - 3 * scatter)
    inside = float(np.median(air - middle))
    if high > 0.8 and inside > 5 * scatter and not sure:
        level = float(np.median(air))
        if y.min() > -0.05 and most < 2 and 0.5 < level < 1.5:
            raise DataError(
                "The values look like transmissions I/I0",
                where=where,
                expected="line integrals −log(I/I0), least at the edges, in air",
                got=f"{level:.3g} at the edges, the highest values of the views",
                remedy=remedy or "read with log=True; or log=False, if they are line integrals",
            )
        if abs(level) < 0.1 * most and y.mean() < 0:
            raise DataError(
                "The values look like negated line integrals",
                where=where,
                expected="line integrals −log(I/I0), 0 in air and more in the object",
                got=f"{level:.3g} at the edges and down to {float(y.min()):.4g}",
                remedy=remedy or "read with scale=-1; or log=False, if they are line integrals",
            )
        told.append("The edges of the views are their highest values: is that air?")
    return told


def check_transposed(y: NDArray, axes: Sequence[str], where: object) -> None:
    """Raise `DataError` where the views of a square sinogram look like its detector elements."""
    if y.shape[-1] != y.shape[-2] or min(y.shape[-2:]) < 16:
        return
    one = y[0]
    noise = 1.4826 * float(np.median(np.abs(np.diff(one, 2, axis=0)))) / 6**0.5 + 1e-12
    size = float(np.quantile(np.abs(one), 0.98))
    ends = np.abs(one[[0, 1, -2, -1]]).max()
    sides = np.abs(one[:, [0, -1]]).max()
    if ends < min(0.1 * size, size / 2) and ends < 8 * noise + 0.05 * size and sides > 0.3 * size:
        swapped = {"angle": "detector", "detector": "angle"}
        raise DataError(
            "Angles and detector elements look exchanged",
            where=where,
            expected="views that differ, with air at their edges",
            got="first and last views of nothing but air, and none at the edges of the others",
            remedy=f"name the axes: axes={[swapped.get(a, a) for a in axes]}",
        )


def noise_doubts(y: NDArray, noise_sd: NDArray) -> list[str]:
    """Return doubts about a noise [angle, detector]: its range, and what the data scatter by."""
    finite = np.isfinite(noise_sd) & (noise_sd > 0)
    if not finite.any():
        return []
    told = []
    if float(np.quantile(np.abs(y[finite] / noise_sd[finite]), 0.999)) < 5:
        told.append("The scan shows no object: hardly any value is above its noise.")
    low, high = (float(v) for v in np.quantile(noise_sd[finite], [0.01, 0.99]))
    if high > 100 * low:
        told.append(
            f"The noise spans from {low:.3g} to {high:.3g}: a few samples have nearly all weight."
        )
    if min(y.shape) >= 8:
        rough = np.diff(np.diff(y, 2, axis=0), 2, axis=1) / 6.0 / noise_sd[1:-1, 1:-1]
        seen = np.isfinite(rough) & (rough != 0)
        ratio = 1.4826 * float(np.median(np.abs(rough[seen]))) if seen.any() else 1.0
        if not 0.2 < ratio < 5:
            told.append(
                f"Neighbouring samples scatter by {ratio:.2g} times the stated noise: check the "
                "gain, the flats and noise_sd."
            )
    return told
