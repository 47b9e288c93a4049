"""Calibration: whether the draws' spread is the error that is made.

A sampler is calibrated against truths drawn from its own prior: x0 ~ p(x0), y ~ p(y | x0), draws
~ p(x0 | y). Then the truth is one more draw, so its rank among them is uniform (SBC), expected
coverage equals the level (TARP, central intervals), and spread equals error.

Sources: Talts et al. 2018 (arXiv 1804.06788); Lemos et al. 2023 (TARP, arXiv 2302.03026);
Fortin et al. 2014 (spread and skill); Gneiting & Raftery 2007 (CRPS).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import likelihoods, metrics
from sciinv.diffusion import edm_grid, reverse_sde
from sciinv.errors import DataError
from sciinv.priors.base import Prior
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams

LEVELS = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class Calibration:
    """What a calibration run found; each figure with its Monte-Carlo error over the truths.

    Attributes:
        truths: Number of truths.
        draws: Draws per truth.
        rmse: Root mean squared error of the posterior mean, units of the image.
        crps: Mean fair CRPS per pixel, units of the image.
        crps_error: Its standard error.
        spread_skill: Spread ÷ RMSE, 1 where right.
        spread_skill_error: Its standard error, by jackknife over the truths.
        residual: Root mean χ² of the draws, 1 where the draws fit the data as the truth does.
        residual_error: Its standard error.
        coverage: Measured coverage of the central intervals of `levels`.
        coverage_error: Their standard errors over the truths.
        levels: Nominal levels.
        nfe: Network evaluations per draw.
        seconds: Seconds per draw.
    """

    truths: int
    draws: int
    rmse: float
    crps: float
    crps_error: float
    spread_skill: float
    spread_skill_error: float
    residual: float
    residual_error: float
    coverage: tuple[float, ...]
    coverage_error: tuple[float, ...]
    levels: tuple[float, ...]
    nfe: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return the figures as a flat dictionary."""
        return asdict(self)


def prior_draws(
    prior: Prior, count: int, shape: tuple[int, int, int], seed: int = 0, steps: int = 100
) -> Tensor:
    """Return draws of p(x0): exact for closed-form priors, else the reverse SDE in `steps`.

    Returns:
        [count, C, H, W], units of the image.
    """
    dtype = next((b.dtype for b in prior.buffers() if b.is_floating_point()), torch.float32)
    out = []
    for first in range(0, count, prior.micro_batch):
        lanes = min(prior.micro_batch, count - first)
        streams = Streams([(seed, "truth", first + k) for k in range(lanes)])
        like = torch.zeros(lanes, *shape, dtype=dtype)
        if hasattr(prior, "sample"):
            out.append(prior.sample(streams, like))
            continue
        sigmas = np.append(edm_grid(prior.sigma_max, prior.sigma_min, steps), 0.0)
        with torch.no_grad():
            x = float(sigmas[0]) * streams.randn(shape, like) + float(getattr(prior, "offset", 0.0))
            out.append(reverse_sde(prior, x, sigmas, streams)[0])
    return torch.cat(out)


def simulate(physics: Any, truths: Tensor, seed: int = 0) -> Tensor:
    """Return y ~ p(y | x0) for each truth, one random stream each."""
    streams = Streams([(seed, "noise", k) for k in range(len(truths))])
    with torch.no_grad():
        u = torch.cat([physics.A(t[None]) for t in truths])
        return likelihoods.of(physics).simulate(u, streams)


def run(
    sampler: Sampler,
    physics: Any,
    truths: Tensor,
    draws: int = 16,
    seed: int = 0,
    quantity: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Sample the posterior of simulated data of each truth, and measure the calibration.

    Args:
        sampler: The sampler; its prior should be what the truths were drawn from.
        physics: The operator with its noise.
        truths: [N, C, H, W], units of the image.
        draws: Draws per truth.
        seed: Seed of noise and draws.
        quantity: Maps images [..., C, H, W] to what is calibrated; the pixels themselves if None.
        progress: Called with (truths done, truths).

    Returns:
        The figures, the draws [draws, N, C, H, W], and the measurements [N, …].
    """
    y = simulate(physics, truths, seed)
    images, chi2, nfe, seconds = [], [], [], []
    for k in range(len(truths)):
        post = sampler.sample(y[k : k + 1], physics, draws=draws, seed=seed, items=[k])
        images.append(post["image"].values[:, 0])
        chi2.append(post["chi2"].values[:, 0])
        nfe.append(float(post["nfe"].mean()))
        seconds.append(float(post["seconds"].mean()))
        if progress is not None:
            progress(k + 1, len(truths))
    x = np.stack(images, 1)
    t = truths.numpy()
    found = measure(
        x if quantity is None else quantity(x),
        t if quantity is None else quantity(t),
        np.stack(chi2, 1),
        float(np.mean(nfe)),
        float(np.mean(seconds)),
    )
    return found, x, y.numpy()


def measure(
    x: np.ndarray,
    t: np.ndarray,
    chi2: np.ndarray,
    nfe: float = math.nan,
    seconds: float = math.nan,
    levels: tuple[float, ...] = LEVELS,
) -> Calibration:
    """Return the figures of draws x [draws, N, …] of truths t [N, …] with χ² [draws, N].

    Errors are over the N truths, which are independent; pixels of one image are not.

    Raises:
        DataError: Fewer than two truths or draws, or shapes that do not match.
    """
    if x.shape[1:] != t.shape or len(x) < 2 or len(t) < 2:
        raise DataError(
            "Calibration needs draws of at least two truths",
            expected="x [draws ≥ 2, N ≥ 2, …], t [N, …]",
            got=f"{list(x.shape)} and {list(t.shape)}",
            remedy="draw more, or put the truths along the second axis",
        )
    n, draws = len(t), len(x)
    flat, truth = x.reshape(draws, n, -1).astype(np.float64), t.reshape(n, -1).astype(np.float64)
    crps = metrics.crps_ensemble(flat, truth).mean(1)
    variance = (1 + 1 / draws) * flat.var(0, ddof=1).mean(1)
    error = ((flat.mean(0) - truth) ** 2).mean(1)
    total_v, total_e = variance.sum(), error.sum()
    left_out = np.sqrt((total_v - variance) / (total_e - error))
    covered = np.stack([metrics.coverage(flat[:, k], truth[k], levels, seed=k) for k in range(n)])
    misfit = chi2.mean(0)
    return Calibration(
        truths=n,
        draws=draws,
        rmse=float(np.sqrt(error.mean())),
        crps=float(crps.mean()),
        crps_error=float(crps.std(ddof=1) / math.sqrt(n)),
        spread_skill=float(np.sqrt(total_v / total_e)),
        spread_skill_error=float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())),
        residual=float(np.sqrt(misfit.mean())),
        residual_error=float(misfit.std(ddof=1) / math.sqrt(n) / (2 * np.sqrt(misfit.mean()))),
        coverage=tuple(float(c) for c in covered.mean(0)),
        coverage_error=tuple(float(c) for c in covered.std(0, ddof=1) / math.sqrt(n)),
        levels=levels,
        nfe=nfe,
        seconds=seconds,
    )


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

    Args:
        x: Draws of a scalar, [draws, N].
        t: Truths of it, [N].
        bins: Rank bins; (draws + 1) should be a multiple of it.
        seed: Seed of the breaking of ties.
    """
    from scipy import stats

    ranks = metrics.ranks(x, t, seed)
    counts, _ = np.histogram(ranks, bins=bins, range=(-0.5, len(x) + 0.5))
    return float(stats.chisquare(counts).pvalue)
