"""Where a parallel scan sees its rotation axis: views half a turn apart mirror each other."""

from __future__ import annotations

import numpy as np

from sciinv.errors import DataError


def rotation_centre(y: np.ndarray, angles: np.ndarray) -> float:
    """Return the detector element (from 0, with fraction) at which the rotation axis is seen.

    A parallel view and the one half a turn later mirror each other about the axis: at the centre,
    their mean squared difference is least relative to their variance where they overlap, by at
    least a third of the detector. Where no two views are exactly half a turn apart, the centres
    at the two smallest departures from it are extrapolated to none.

    Args:
        y: Line integrals, [angle, detector].
        angles: View angles, degrees.

    Raises:
        DataError: No two views are within 3° of half a turn apart, or the centre lies outside of
            the search.
    """
    centre = _found_centre(y, angles)
    n = y.shape[1]
    if not n / 6 + 0.5 < centre < n - n / 6 - 0.5:
        raise DataError(
            "The rotation axis cannot be found",
            expected=f"an axis within the inner two thirds of the detector, elements {n / 6:.0f} "
            f"to {n - n / 6:.0f}",
            got=f"mirrored views agree best at {centre:.1f}, at the edge of the search or beyond",
            remedy="give rotation_axis; check that the angles are in degrees",
        )
    return centre


def _found_centre(y: np.ndarray, angles: np.ndarray) -> float:
    first, second = np.triu_indices(len(angles), 1)
    off = (angles[second] - angles[first]) % 360 - 180
    size = np.abs(off)
    if not len(off) or not size.min() <= 3.0:
        raise DataError(
            "The rotation axis cannot be found",
            expected="two parallel views half a turn apart",
            got=f"the nearest are {180 - float(size.min(initial=180)):.4g}° apart",
            remedy="give rotation_axis",
        )
    found: list[tuple[float, float]] = []
    rest = np.ones(len(off), bool)
    while rest.any() and len(found) < 2:
        here = float(off[rest][np.argmin(size[rest])])
        pairs = np.flatnonzero(np.abs(off - here) <= 0.05)
        rest &= np.abs(off - here) > 0.05
        if found and abs(here) > max(3.0, 3 * abs(found[0][0])):
            break
        pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, min(32, len(pairs))).astype(int))]
        found.append((here, _mirror_centre(y[first[pairs]], y[second[pairs]])))
        if abs(here) <= 0.05:
            break
    if len(found) == 1:
        return found[0][1]
    (m0, c0), (m1, c1) = found
    return c0 - m0 * (c1 - c0) / (m1 - m0)


def _mirror_centre(a: np.ndarray, b: np.ndarray) -> float:
    """Return the element about which the views b are best the mirrored views a."""
    n = a.shape[1]
    k = np.arange(n, dtype=float)

    def difference(centre: float) -> float:
        mirror = 2 * centre - k
        seen = (mirror >= 0) & (mirror <= n - 1)
        if seen.sum() < n / 3:
            return np.inf
        low = np.clip(np.floor(mirror[seen]).astype(int), 0, n - 2)
        part = mirror[seen] - low
        one, other = a[:, seen], b[:, low] * (1 - part) + b[:, low + 1] * part
        # Relative to what there is to see: two strips of air agree, and say nothing.
        return float(np.mean((one - other) ** 2) / max(one.var() + other.var(), 1e-30))

    grid = np.arange(n / 6, n - n / 6, 0.5)
    grid = np.round(2 * grid) / 2
    best = float(grid[int(np.argmin([difference(c) for c in grid]))])
    # At whole and half elements nothing is interpolated, so that noise is the same in all.
    around = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    value = np.array([difference(best + c) for c in around])
    if not np.isfinite(value).all():
        return best
    bend, slope, _ = np.polyfit(around, value, 2)
    return best + float(np.clip(-slope / (2 * bend), -1, 1)) if bend > 0 else best
