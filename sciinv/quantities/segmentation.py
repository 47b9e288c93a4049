"""Segmentation of one material, and its score against a reference on a finer grid.

The score is the Matthews correlation of the Helsinki Tomography Challenge 2022. An image is
enlarged to the reference's grid by linear interpolation and cut at Otsu's threshold, which needs no
truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sciinv.errors import DataError
from sciinv.metrics import matthews_correlation


def otsu(values: NDArray, bins: int = 256) -> float:
    """Return the threshold that maximises the variance between the two classes.

    Source: Otsu, IEEE Transactions on Systems, Man and Cybernetics 9:62, 1979.
    """
    counts, edges = np.histogram(values, bins)
    centres = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts)
    above = below[-1] - below
    first = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (first / below - (first[-1] - first) / above) ** 2
    return float(centres[np.nanargmax(between[:-1])])


def enlarge(image: NDArray, shape: tuple[int, int]) -> NDArray:
    """Return an image [y, x] on a finer grid of the same field, by linear interpolation."""
    factor = [n / m for n, m in zip(shape, image.shape, strict=True)]
    grid = [(np.arange(n) + 0.5) / f - 0.5 for n, f in zip(shape, factor, strict=True)]
    return ndimage.map_coordinates(
        image, np.meshgrid(*grid, indexing="ij"), order=1, mode="nearest"
    )


def score(image: NDArray, reference: NDArray) -> float:
    """Return the Matthews correlation of an image's segmentation with a reference one.

    Args:
        image: [y, x], any units; material is where it is large.
        reference: [Y, X] true where there is material; the same field of view.

    Raises:
        DataError: The image is not two-dimensional or not finite.
    """
    if image.ndim != 2 or not np.isfinite(image).all():
        raise DataError(
            "Only a finite image [y, x] can be segmented",
            expected="two dimensions, finite values",
            got=f"{image.ndim} dimensions, {int((~np.isfinite(image)).sum())} not finite",
            remedy="choose one item and one channel",
        )
    fine = enlarge(np.asarray(image, dtype=float), (reference.shape[0], reference.shape[1]))
    return float(matthews_correlation(fine > otsu(fine), reference))
