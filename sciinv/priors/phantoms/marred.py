"""Images as a sampler's chain may hold them: an outline dented, a ring that wobbles.

A chain adds noise to what it drew before, and that is no image of the class: edges that the data do
not tell stand where an approximate draw put them. The exact mean E[x0 | x_t] of a class of perfect
discs fills a dent at every noise level; a network that never saw one takes it for real. So a
training may show such images, noised, with the clean one as what D shall return.

An image u is displaced, u'(r) = u(r + w(r) d(r)), by a smooth random field d (Gaussian
correlation), and kept in part: u + a (u' − u). Only what the class knows exactly may be displaced
(w): of what it leaves open, a hole's place for one, the network would learn to doubt what it sees.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates


def displaced(
    image: np.ndarray, rng: np.random.Generator, *, depth: tuple[float, float],
    reach: tuple[float, float], where: np.ndarray | float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Return the image [H, W] with its edges moved by a smooth random field.

    Args:
        image: The image.
        rng: Random stream.
        depth: Least and greatest displacement (the field's largest), pixels; log-uniform.
        reach: The same of its correlation length, pixels.
        where: Weight w of the field, [H, W] or 1.
    """
    H, W = image.shape
    size = np.exp(rng.uniform(*np.log(depth)))
    width = np.exp(rng.uniform(*np.log(reach)))
    field = np.stack(
        [gaussian_filter(rng.standard_normal((H, W)), width, mode="wrap") for _ in range(2)]
    )
    rows, cols = np.meshgrid(np.arange(H), np.arange(W), indexing="ij")
    turn, sharp = rng.uniform(0, np.pi), rng.choice([0.0, 2.0, 8.0])
    angle = np.arctan2(rows - (H - 1) / 2, cols - (W - 1) / 2)
    # data of few views leave edges of one direction open, on both sides of the object
    field = field * where * np.abs(np.cos(angle - turn)) ** sharp
    field *= size / max(float(np.hypot(*field).max()), 1e-9)
    moved = map_coordinates(image, [rows + field[0], cols + field[1]], order=1, mode="nearest")
    return image + rng.uniform(0.3, 1.0) * (moved - image)


def shaded(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a non-negative image [H, W] times 1 + s g, g smooth of unit size, s up to 0.15."""
    width = np.exp(rng.uniform(np.log(8), np.log(40)))
    field = gaussian_filter(rng.standard_normal(cover.shape), width, mode="wrap")
    field /= max(float(np.abs(field).max()), 1e-9)
    return cover * (1 + rng.uniform(0, 0.15) * field)
