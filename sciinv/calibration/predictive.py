"""Posterior-predictive check on data that were left out.

A tenth of the data is left out in natural blocks (k-space points of all coils, views, baselines,
the closures of a scan, whose noise is correlated), the rest is sampled, and each draw predicts what
was left out, with the noise that was drawn with it. If prior, operator and
noise are right, the observed values and the n predictions are exchangeable: n + 1 data sets from
one law. A score that treats all of them alike, here the distance of each from the mean of the
others in units of their spread, then puts the observed one at any rank with equal probability, and

    p = (1 + #{predictions with a score at least the observed one's}) / (n + 1)

is uniform on 1/(n + 1), …, 1, whatever the posterior's shape: P(p ≤ α) ≤ α.

Sources: Vovk, Gammerman & Shafer 2005 (conformal prediction); Rubin 1984 and Gelman, Meng & Stern
1996 (predictive checks), whose p-values are not uniform as the data are used twice.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import ConfigError, DataError
from sciinv.likelihoods import Gaussian
from sciinv.model_error import DRAWN, as_drawn
from sciinv.operators.base import declared
from sciinv.operators.subsample import choosable, independent_blocks, subsample
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams, stream_seed

SHARE = 0.1  # of the data, left out
# Dimensions of a measurement of which one whole stretch is left out or stays.
CORRELATED = "blocks of correlated data"
BLOCKS = {"angle": "views", "baseline": "baselines", "sample": "k-space points"}


@dataclass(frozen=True)
class Predictive:
    """What the draws of a part of the data say of the rest.

    Attributes:
        p: p-value, uniform on 1/(n + 1) … 1 where all is right; small where the left-out data lie
            further from the predictions than these from each other.
        chi2: Mean square of (left-out data − predicted mean) ÷ predicted sd with noise; near 1.
        left_out: Left-out values.
        blocks: What was left out, e.g. "views".
        draws: n.
    """

    p: float
    chi2: float
    left_out: int
    blocks: str
    draws: int


def predictive_check(
    sampler: Sampler,
    physics: Physics,
    y: Tensor,
    draws: int = 39,
    seed: int = 0,
    share: float = SHARE,
    item: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Predictive:
    """Leave out a share of the data, sample from the rest, and rank what was left out.

    Args:
        sampler: The sampler under the prior that is checked.
        physics: The operator, its noise Gaussian: a standard deviation per datum, or one covariance
            of independent blocks.
        y: The measurement of one item, [1, …].
        draws: Draws; the smallest p is 1/(draws + 1).
        seed: Seed of the choice, the draws and the simulated noise.
        share: Share of the blocks that is left out.
        item: The item's number in its data set (part of the random streams).
        progress: As of `Sampler.sample`.

    Raises:
        OperatorError: The noise is not Gaussian, or differs from lane to lane.
        DataError: There are too few data to leave any out.
        ConfigError: Fewer than two draws.
    """
    if draws < 2:
        raise ConfigError("The predictive check ranks among draws", expected="draws ≥ 2",
                          got=draws, remedy="ask for 39, or more")  # fmt: skip
    noise = _noise(physics)
    out, blocks = left_out(physics, y, share, seed)
    if noise.sd is None:
        rest, chosen = subsample(declared(physics, y), ~out[0])
        kept = chosen(y)
    else:
        rest, kept = without(physics, y, out), torch.where(out, torch.zeros_like(y), y)
    post = sampler.sample(kept, rest, draws=draws, seed=seed, items=[item], progress=progress)
    x = torch.as_tensor(post["image"].values[:, 0]).to(y)
    streams = Streams([(seed, "predicted", item, k) for k in range(draws)])
    with torch.no_grad():
        u = torch.cat([physics.A(image[None]) for image in x])
        found = as_drawn(declared(physics, y), noise, values_of(post), u)
        replicated = u + found.noise(u, streams)
    deviations = found.deviations(u)
    assert deviations is not None
    sd = deviations.mean(0, keepdim=True)[out]
    period = None
    if noise.period is not None:
        period = noise.period.to(y).expand_as(y)[out].double().cpu().numpy()
    flat = torch.cat([y, replicated])[:, out[0]].double().cpu().numpy()
    p, chi2 = conformal(flat[0], flat[1:], sd.double().cpu().numpy(), period)
    return Predictive(p, chi2, int(out.sum()), blocks, draws)


def values_of(post: xr.Dataset) -> dict[str, Tensor]:
    """Return scale of the noise and size of a model error of the draws of one item, [draw, …]."""
    return {name: torch.as_tensor(post[name].values[:, 0]) for name in DRAWN if name in post}


def left_out(
    physics: Physics, y: Tensor, share: float = SHARE, seed: int = 0
) -> tuple[Tensor, str]:
    """Return which values [1, …] are left out, and what the blocks are called.

    Blocks are whole stretches along the measurement's dimension of `BLOCKS` (all coils and both
    parts of a k-space point, all detectors of a view); where noise is correlated, blocks of it with
    more than one value; of other measurements, single values.

    Raises:
        DataError: Fewer than four blocks carry data.
    """
    noise = _noise(physics)
    if noise.sd is None:
        return _blocks_out(noise, physics, y, share, seed), CORRELATED
    sd = noise.sd
    valid = torch.isfinite(sd).to(y.device).expand_as(y)
    spec = declared(physics, y).measurement_spec
    dims = () if spec is None else tuple(spec.dims)
    name = next((d for d in BLOCKS if d in dims), None)
    if name is None:
        by_block = valid.flatten()[None]
        shape = list(y.shape)
    else:
        axis = 1 + dims.index(name)
        by_block = valid.movedim(axis, -1).flatten(0, -2)
        shape = [1] * y.ndim
        shape[axis] = y.shape[axis]
    called = BLOCKS.get(name or "", "values")
    chosen = _chosen(by_block.any(0).nonzero()[:, 0].cpu(), called, physics, share, seed)
    mask = torch.zeros(by_block.shape[1], dtype=torch.bool)
    mask[chosen] = True
    return mask.reshape(shape).to(y.device).expand_as(y) & valid, called


def _blocks_out(noise: Gaussian, physics: Physics, y: Tensor, share: float, seed: int) -> Tensor:
    """Return which values [1, …] are left out where noise is correlated: whole blocks of it."""
    blocks = independent_blocks(noise)
    # A single value among blocks (the total flux of an array) is the only one of its kind.
    several = (blocks.bincount() > 1).nonzero()[:, 0]
    chosen = _chosen(several, CORRELATED, physics, share, seed)
    return torch.isin(blocks, chosen).reshape(y.shape).to(y.device)


def _chosen(blocks: Tensor, called: str, physics: Physics, share: float, seed: int) -> Tensor:
    """Return the numbers of the blocks that are left out, of those that carry data."""
    if len(blocks) < 4:
        raise DataError(
            "There are too few data to leave some out",
            where=type(physics).__name__,
            expected=f"at least four {called}",
            got=len(blocks),
            remedy="judge the prior by its evidence (`sciinv compare`)",
        )
    g = torch.Generator().manual_seed(stream_seed(seed, "left out"))
    count = max(1, round(share * len(blocks)))
    return blocks[torch.randperm(len(blocks), generator=g)[:count]]


def without(physics: Physics, y: Tensor, out: Tensor) -> Physics:
    """Return the operator with infinite noise at the left-out data, as data without value have."""
    noise = _noise(physics)
    assert noise.sd is not None
    sd = noise.sd.to(y).expand_as(y)[0]
    rest = copy.copy(physics)
    rest._modules = dict(physics._modules)  # a shallow copy of a module shares its parts
    rest.likelihood = Gaussian(
        torch.where(out[0], torch.full_like(sd, math.inf), sd), period=noise.period
    )
    return rest


def conformal(
    observed: np.ndarray,
    replicated: np.ndarray,
    sd: np.ndarray,
    period: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return p and χ² of observed values [M] among replicated ones [n ≥ 2, M].

    Args:
        observed: The data.
        replicated: Draws of the same data with noise.
        sd: The noise's standard deviation, the least spread, [M].
        period: Period of values on a circle, 0 elsewhere, [M].
    """
    pool = np.concatenate([observed[None], replicated])
    if period is not None:
        turn = np.where(period > 0, period, 1.0)
        angle = np.exp(2j * np.pi * pool / turn).mean(0)  # of all alike: the ranks stay fair
        shifted = pool - np.angle(angle) * turn / (2 * np.pi)
        pool = np.where(period > 0, shifted - turn * np.round(shifted / turn), pool)
    others = len(pool) - 1
    mean = (pool.sum(0) - pool) / others
    pool_mean = pool.mean(0)
    square = (pool - pool_mean) ** 2
    variance = (square.sum(0) - square) / others - (mean - pool_mean) ** 2
    variance = np.maximum(variance * others / (others - 1), sd**2)
    score = ((pool - mean) ** 2 / variance).mean(1) / (1 + 1 / others)
    return float(1 + (score[1:] >= score[0]).sum()) / len(pool), float(score[0])


def _noise(physics: Physics) -> Gaussian:
    remedy = "judge the prior by its evidence or its draws (`sciinv compare`)"
    return choosable(likelihoods.of(physics), type(physics).__name__, remedy)
