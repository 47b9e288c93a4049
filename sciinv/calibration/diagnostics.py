"""Distances and tests between samples: sliced Wasserstein, TARP, simulation-based calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sciinv import metrics
from sciinv.errors import DataError


def sliced_wasserstein(a: Any, b: Any, projections: int = 200, seed: int = 0) -> float:
    """Return the sliced 1-Wasserstein distance ÷ the sd of b, [n, D] samples of equal number.

    The mean over random directions of the mean distance of sorted projections, over the mean sd of
    b's projections. Two sample sets of one distribution differ by about 1.1/√n (its floor).
    """
    a, b = (torch.as_tensor(np.asarray(v)).double().reshape(len(v), -1) for v in (a, b))
    if a.shape != b.shape:
        raise DataError(
            "Two sample sets of different shape cannot be compared",
            expected=list(b.shape),
            got=list(a.shape),
            remedy="take equally many samples",
        )
    g = torch.Generator().manual_seed(seed)
    theta = torch.randn(a.shape[1], projections, generator=g, dtype=torch.float64)
    theta = theta / theta.norm(dim=0)
    pa, pb = (a @ theta).sort(0).values, (b @ theta).sort(0).values
    return float((pa - pb).abs().mean() / pb.std(0).mean())


def tarp(
    x: np.ndarray, t: np.ndarray, levels: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (levels, expected coverage) of Tests of Accuracy with Random Points.

    For each truth a reference point is drawn uniformly in the box of all truths; the level at which
    the truth is covered is the share of draws nearer to the point than the truth is. Right draws
    give coverage = level.

    Args:
        x: Draws, [draws, N, …].
        t: Truths, [N, …].
        levels: Levels to evaluate at; 21 from 0 to 1 if None.
        seed: Seed of the reference points.
    """
    levels = np.linspace(0, 1, 21) if levels is None else levels
    draws, n = len(x), len(t)
    flat, truth = x.reshape(draws, n, -1), t.reshape(n, -1)
    rng = np.random.default_rng(seed)
    low, high = truth.min(0), truth.max(0)
    reference = low + (high - low) * rng.random(truth.shape)
    near = np.linalg.norm(flat - reference, axis=-1) < np.linalg.norm(truth - reference, axis=-1)
    share = (near.sum(0) + rng.random(n)) / (draws + 1)  # randomised rank: exactly uniform if right
    return levels, np.array([(share <= level).mean() for level in levels])


def rank_uniformity(x: np.ndarray, t: np.ndarray, bins: int = 8, seed: int = 0) -> float:
    """Return the p-value of SBC: a χ² test that the rank of a scalar quantity is uniform.

    Where draws + 1 ranks do not divide into the bins, the counts that are expected are
    proportional to the ranks in each bin.

    Args:
        x: Draws of a scalar, [draws, N].
        t: Truths of it, [N].
        bins: Rank bins, at most draws + 1.
        seed: Seed of the breaking of ties.
    """
    from scipy import stats

    ranks = metrics.ranks(x, t, seed)
    edges = np.linspace(-0.5, len(x) + 0.5, min(bins, len(x) + 1) + 1)
    counts, _ = np.histogram(ranks, edges)
    share = np.histogram(np.arange(len(x) + 1), edges)[0] / (len(x) + 1)
    return float(stats.chisquare(counts, share * counts.sum()).pvalue)
