"""What the statistics of stored draws say: the fit of each by the noise that it was drawn with."""

from __future__ import annotations

import math

import xarray as xr


def reduced_chi2(stats: xr.Dataset) -> tuple[xr.DataArray | None, bool]:
    """Return the reduced χ² of each draw, and whether it is by the noise as found.

    A store's "chi2" is by the noise as declared. Where one scale s of the noise was drawn with the
    image, the noise of that draw is s times as large: χ² / s². With a scale for each of several
    groups of data, or the size of a model error, the sampler says "chi2_found" itself; a store of
    groups without it (of before) keeps the declared noise.

    Args:
        stats: "chi2" [draw, …], and "noise_scale" of the same shape where it was drawn.

    Returns:
        χ² of the shape of "chi2", or None where it was not recorded; True where s entered.
    """
    if "chi2" not in stats:
        return None, False
    if "chi2_found" in stats:
        return stats["chi2_found"], True
    chi2 = stats["chi2"]
    if "noise_scale" in stats and stats["noise_scale"].dims == chi2.dims:
        return chi2 / stats["noise_scale"] ** 2, True
    return chi2, False


def expected_half(components: int) -> float:
    """Return h, so that the truth's reduced χ² of M components lies in 1 ± h: 3 √(2/M).

    Three standard deviations of χ²_M ÷ M, 99.7 % for large M. What is said of the fit and the bands
    of its figures are both this interval.
    """
    return 3 * math.sqrt(2 / components)
