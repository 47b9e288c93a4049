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
from deepinv.physics import Physics
from torch import Tensor

from sciinv import metrics
from sciinv.calibration.simulate import simulate
from sciinv.errors import DataError
from sciinv.samplers.base import Sampler

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


def run(
    sampler: Sampler,
    physics: Physics,
    truths: Tensor,
    draws: int = 16,
    seed: int = 0,
    quantity: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Sample the posterior of simulated data of each truth, and measure the calibration.

    Args:
        sampler: The sampler; its prior should be what the truths were drawn from. As many truths as
            its `item_batch` are sampled together; no draw knows of another truth.
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
    together = sampler.item_batch
    for start in range(0, len(truths), together):
        items = list(range(start, min(start + together, len(truths))))
        post = sampler.sample(y[items], physics, draws=draws, seed=seed, items=items)
        images.append(post["image"].values)
        chi2.append(post["chi2"].values)
        nfe.append(post["nfe"].values.mean(0))
        seconds.append(post["seconds"].values.mean(0))
        if progress is not None:
            progress(items[-1] + 1, len(truths))
    x = np.concatenate(images, 1)
    t = truths.numpy()
    found = measure(
        x if quantity is None else quantity(x),
        t if quantity is None else quantity(t),
        np.concatenate(chi2, 1),
        float(np.concatenate(nfe).mean()),
        float(np.concatenate(seconds).mean()),
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
