"""Whether the draws of one image fall into several kinds, and what each looks like."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sciinv.errors import StoreError
from sciinv.uncertainty import Posterior, as_dataset, is_complex, magnitude

_COMPONENTS = 5  # principal components in which draws are compared: more would drown modes in noise
_REFERENCES = 60  # Gaussian clouds that a grouping is held against
_LEVEL = 0.02  # share of them that may group as well
_RESTARTS = 8

Points = NDArray[np.float64]


def modes(
    posterior: Posterior, item: int = 0, *, most: int = 4, channel: int = 0, seed: int = 0
) -> xr.Dataset:
    """Group the n draws of one item into modes, as far as they fall apart at all.

    The draws' leading principal components are grouped by k-means, k = 2 … most; the best k is that
    of the largest mean silhouette. It counts only where that silhouette is larger than those of
    Gaussian clouds of the same n and variances, grouped in the same way: else there is one mode.

    Args:
        posterior: A posterior store, its path, or a sampler's dataset; complex images are compared
            by their magnitude.
        item: Position along `item`; all its draws are held in memory.
        most: Largest number of modes.
        channel: Which channel, where there are several real ones.
        seed: Of the starts of k-means and of the Gaussian clouds.

    Returns:
        Dataset: `label` [draw], the mode of each draw, 0 the most frequent; `weight` [mode], its
        share of the draws; `image` [mode, y, x], its mean, in the image's units; `silhouette`, that
        of the grouping, and `chance`, the share of Gaussian clouds with a larger one (both 0 and 1
        where only one mode can be).

    Raises:
        StoreError: No such store, or fewer than four draws.

    Source: Rousseeuw, Journal of Computational and Applied Mathematics 20:53, 1987; Tibshirani et
    al., Journal of the Royal Statistical Society B 63:411, 2001 (the comparison with a reference).
    """
    image = as_dataset(posterior)["image"].isel(item=[item])
    n = image.sizes["draw"]
    if n < 4:
        raise StoreError(
            "So few draws form no groups",
            expected="at least four draws",
            got=n,
            remedy="sample more draws",
        )
    raw = image.values
    values = (magnitude(raw)[:, 0, 0] if is_complex(image) else raw[:, 0, channel]).astype("f8")
    points = _principal(values.reshape(n, -1))
    rng = np.random.default_rng(seed)
    score, labels = _best(points, most, rng)
    spread = points.std(axis=0, ddof=1)
    clouds = [rng.normal(size=points.shape) * spread for _ in range(_REFERENCES)]
    chance = float(np.mean([_best(c, most, rng)[0] >= score for c in clouds]))
    if chance > _LEVEL:
        labels = np.zeros(n, dtype=int)
    counts = np.bincount(labels)
    order = np.argsort(-counts, kind="stable")
    labels = np.argsort(order)[labels]
    means = np.stack([values[labels == k].mean(axis=0) for k in range(len(counts))])
    coords = {k: image.coords[k] for k in ("draw", "y", "x") if k in image.coords}
    return xr.Dataset(
        {
            "label": ("draw", labels),
            "weight": ("mode", counts[order] / n),
            "image": (("mode", "y", "x"), means.astype(image.dtype), image.attrs),
            "silhouette": ((), score),
            "chance": ((), chance),
        },
        coords=coords,
    )


def _principal(x: Points) -> Points:
    """Return the leading principal components of the rows, [n, ≤ 5], from their n × n products."""
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = min(_COMPONENTS, len(x) - 1)
    return vectors[:, -kept:][:, ::-1] * np.sqrt(np.clip(values[-kept:][::-1], 0, None))


def _best(points: Points, most: int, rng: np.random.Generator) -> tuple[float, NDArray[np.int64]]:
    """Return the largest mean silhouette over k = 2 … most, and its labels."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = [_k_means(points, k, rng) for k in range(2, min(most, len(points) - 1) + 1)]
    scores = [_silhouette(distance, labels) for labels in found]
    best = int(np.argmax(scores))
    return scores[best], found[best]


def _k_means(points: Points, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the labels of the best of several starts (Lloyd's iteration, k-means++ starts)."""
    best, labels = np.inf, np.zeros(len(points), dtype=np.int64)
    for _ in range(_RESTARTS):
        centres = points[[rng.integers(len(points))]]
        for _ in range(k - 1):
            nearest = _squares(points, centres).min(axis=1)
            total = nearest.sum()
            weights = nearest / total if total > 0 else None
            centres = np.vstack([centres, points[rng.choice(len(points), p=weights)]])
        for _ in range(50):
            own = _squares(points, centres).argmin(axis=1)
            moved = np.stack(
                [
                    points[own == j].mean(axis=0) if (own == j).any() else centres[j]
                    for j in range(k)
                ]
            )
            if np.allclose(moved, centres):
                break
            centres = moved
        squares = _squares(points, centres)
        if squares.min(axis=1).sum() < best:
            best, labels = squares.min(axis=1).sum(), squares.argmin(axis=1)
    return np.unique(labels, return_inverse=True)[1]


def _squares(points: Points, centres: Points) -> Points:
    return ((points[:, None] - centres[None]) ** 2).sum(-1)


def _silhouette(distance: Points, labels: NDArray[np.int64]) -> float:
    """Return the mean of (b − a) / max(a, b): a within the own group, b to the nearest other."""
    groups = labels.max() + 1
    if groups < 2:
        return 0.0
    member = np.eye(groups)[labels]
    counts = member.sum(axis=0)
    sums = distance @ member
    own = np.arange(len(labels)), labels
    within = sums[own] / np.maximum(counts[labels] - 1, 1)
    between = sums / counts
    between[own] = np.inf
    nearest = between.min(axis=1)
    value = (nearest - within) / np.maximum(np.maximum(nearest, within), np.finfo(float).tiny)
    return float(np.where(counts[labels] > 1, value, 0.0).mean())
