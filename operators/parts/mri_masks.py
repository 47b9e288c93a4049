"""Sampling masks of Cartesian MRI: phase-encoding lines, Poisson disc, or read from data."""

from __future__ import annotations

import numpy as np

from sciinv.errors import ConfigError, DataError


def from_kspace(kspace: np.ndarray) -> np.ndarray:
    """Return the measured samples [ky, kx] of k-space [..., ky, kx]: those that are not 0.

    Raises:
        DataError: Every sample is 0.
    """
    mask = np.any(kspace != 0, axis=tuple(range(kspace.ndim - 2)))
    if not mask.any():
        raise DataError(
            "The k-space holds no measured sample",
            expected="values other than 0",
            got="zeros only",
            remedy="check which slice and which array of the file was read",
        )
    return mask


def _centre_lines(count: int, fraction: float) -> slice:
    width = max(1, round(count * fraction))
    start = count // 2 - width // 2
    return slice(start, start + width)


def _check_lines(shape: tuple[int, int], acceleration: float, centre: float, axis: int) -> None:
    # The centre alone must not use up the samples that the acceleration leaves.
    if acceleration < 1 or not 0 < centre <= 1 / acceleration or axis not in (-2, -1):
        raise ConfigError(
            "No mask of lines is possible with these numbers",
            where=f"shape {shape}",
            expected="acceleration ≥ 1, 0 < centre ≤ 1/acceleration, axis -1 or -2",
            got=f"acceleration {acceleration}, centre {centre}, axis {axis}",
            remedy="the usual choices are 4 with centre 0.08, and 8 with centre 0.04",
        )


def _spread(lines: np.ndarray, shape: tuple[int, int], axis: int) -> np.ndarray:
    line_mask = lines[:, None] if axis == -2 else lines[None, :]
    return np.array(np.broadcast_to(line_mask, shape))


def equispaced_lines(
    shape: tuple[int, int],
    acceleration: float = 4,
    centre: float = 0.08,
    axis: int = -1,
    offset: int = 0,
) -> np.ndarray:
    """Return every `acceleration`-th phase-encoding line and a full centre, bool [ky, kx].

    Args:
        shape: (ky, kx).
        acceleration: Spacing of the lines outside of the centre; may be fractional.
        centre: Share of the lines in the full centre.
        axis: The phase-encoding axis: -1 for kx, -2 for ky.
        offset: Index of the first line.

    Raises:
        ConfigError: Numbers that leave no mask.
    """
    _check_lines(shape, acceleration, centre, axis)
    count = shape[axis]
    lines = np.zeros(count, bool)
    lines[np.arange(offset % max(1, int(acceleration)), count, acceleration).astype(int)] = True
    lines[_centre_lines(count, centre)] = True
    return _spread(lines, shape, axis)


def random_lines(
    shape: tuple[int, int],
    acceleration: float = 4,
    centre: float = 0.08,
    axis: int = -1,
    seed: int = 0,
) -> np.ndarray:
    """Return random phase-encoding lines and a full centre, bool [ky, kx].

    The number of lines is round(count / acceleration), the centre included.

    Args:
        shape: (ky, kx).
        acceleration: All lines divided by the measured ones.
        centre: Share of the lines in the full centre.
        axis: The phase-encoding axis: -1 for kx, -2 for ky.
        seed: Seed of the choice.

    Raises:
        ConfigError: Numbers that leave no mask.
    """
    _check_lines(shape, acceleration, centre, axis)
    count = shape[axis]
    lines = np.zeros(count, bool)
    lines[_centre_lines(count, centre)] = True
    wanted = max(0, round(count / acceleration) - int(lines.sum()))
    rng = np.random.default_rng(seed)
    lines[rng.choice(np.flatnonzero(~lines), wanted, replace=False)] = True
    return _spread(lines, shape, axis)


def poisson_disc(
    shape: tuple[int, int],
    acceleration: float = 8,
    calibration: int = 24,
    slope: float = 1.0,
    ellipse: bool = True,
    seed: int = 0,
) -> np.ndarray:
    """Return variable-density Poisson-disc samples with a full centre, bool [ky, kx].

    Samples are visited in random order, and one is kept when no kept sample is nearer than
    d(r) = d0 (1 + slope · r), r the radius normalised to 1 at the edge of an axis. d0 is found by
    bisection; the few samples too many that are left are dropped at random.

    Args:
        shape: (ky, kx).
        acceleration: All samples of the grid divided by the kept ones.
        calibration: Side of the full centre block, in samples.
        slope: How the spacing grows outward; 0: uniform density.
        ellipse: Leave out the corners, r > 1.
        seed: Seed of the order.

    Raises:
        ConfigError: The full centre alone holds more than the wanted samples.

    Source: Bridson, "Fast Poisson disk sampling in arbitrary dimensions", SIGGRAPH 2007 (here by
    visiting the grid's own points).
    """
    h, w = shape
    wanted = h * w / acceleration
    full = np.zeros(shape, bool)
    rows, columns = (slice(max(0, n // 2 - calibration // 2), n // 2 + (calibration + 1) // 2)
                     for n in shape)  # fmt: skip
    full[rows, columns] = True
    y, x = (np.arange(n) - n // 2 for n in shape)
    radius = np.hypot(y[:, None] / max(h // 2, 1), x[None] / max(w // 2, 1))
    allowed = ~full & ((radius <= 1) | (not ellipse))
    if not full.sum() < wanted <= allowed.sum() + full.sum():
        raise ConfigError(
            "No Poisson-disc mask is possible with these numbers",
            where=f"shape {shape}",
            expected=f"acceleration from {h * w / (allowed.sum() + full.sum()):.3g} to "
            f"{h * w / full.sum():.3g} with a full centre of {calibration}",
            got=f"acceleration {acceleration}",
            remedy="choose a smaller calibration block, or another acceleration",
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(allowed))
    low, high = 0.5, 2.0 * np.sqrt(acceleration) + 1.0
    best = full | allowed  # d0 below 1
    for _ in range(12):
        d0 = 0.5 * (low + high)
        mask = full | _thinned(order, d0 * (1 + slope * radius), shape)
        if mask.sum() < wanted:
            high = d0
            continue
        low = d0
        if mask.sum() < best.sum():
            best = mask
        if best.sum() <= 1.02 * wanted:
            break
    surplus = int(best.sum() - round(wanted))
    best.flat[rng.choice(np.flatnonzero(best & ~full), surplus, replace=False)] = False
    return best


def _thinned(order: np.ndarray, distance: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    h, w = shape
    free = np.ones(shape, bool)
    kept = np.zeros(shape, bool)
    for index in order:
        y, x = divmod(int(index), w)
        if not free[y, x]:
            continue
        kept[y, x] = True
        d = distance[y, x]
        n = int(d)
        top, left = max(0, y - n), max(0, x - n)
        near = free[top : y + n + 1, left : x + n + 1]
        dy = np.arange(top - y, min(h - y, n + 1))
        dx = np.arange(left - x, min(w - x, n + 1))
        near &= dy[:, None] ** 2 + dx[None] ** 2 >= d * d
        free[y, x] = True  # its own place; it is not visited again
    return kept
