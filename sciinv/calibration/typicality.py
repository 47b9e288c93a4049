"""Typicality: whether the denoiser treats draws as it treats the prior's own images.

    t_k(x) = ln mean |D(x + σ_k ξ, σ_k) − x|²,   ξ ~ N(0, I),   at five σ_k

A draw of the posterior of a truth from the prior has, over such truths, the prior's own law, so its
t is exchangeable with those of the prior's own images. The score is the Mahalanobis distance of t
from the mean of the others, under their covariance; its rank among the own images gives
p = (1 + #{own scores at least the observed one}) / (N + 1). Of several draws of one posterior the
mean of t is ranked, which scatters less than one draw's: p is then on the safe side.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciinv.errors import StoreError
from sciinv.priors.base import Prior
from sciinv.priors.draws import prior_draws
from sciinv.seeds import Streams
from sciinv.store.atomic import sha256, write_file

COUNT = 64  # own images: p-values down to 1/65
LEVELS = 5


@dataclass(frozen=True)
class Typicality:
    """How the denoiser treats draws, beside the prior's own images.

    Attributes:
        p: p-value of all levels together.
        sigmas: σ_k, units of the image.
        ratios: Error of D on the draws ÷ on the prior's own images, root mean squares, by level.
        each: Two-sided p-value of each level alone, for words only.
        own: Number N of own images.
    """

    p: float
    sigmas: tuple[float, ...]
    ratios: tuple[float, ...]
    each: tuple[float, ...]
    own: int


@dataclass(frozen=True)
class Own:
    """t of a prior's own images: [N, levels], at these σ."""

    sigmas: tuple[float, ...]
    values: np.ndarray


def statistics(prior: Prior, x: Tensor, sigmas: Sequence[float], key: str = "draws") -> np.ndarray:
    """Return t_k of images [N, C, H, W], [N, levels]; image i has the noise of (key, i)."""
    rows = []
    for first in range(0, len(x), prior.micro_batch):
        part = x[first : first + prior.micro_batch]
        streams = Streams([("typicality", key, first + k) for k in range(len(part))])
        row = []
        for sigma in sigmas:
            noisy = part + sigma * streams.randn(part.shape[1:], part)
            with torch.no_grad():
                error = (prior(noisy, sigma) - part).double().flatten(1).square().mean(1)
            row.append(error.log())
        rows.append(torch.stack(row, 1))
    return torch.cat(rows).cpu().numpy()


def levels_of(prior: Prior) -> tuple[float, ...]:
    """Return the σ_k: evenly in ln σ between 2 σ_min and σ_max / 10."""
    ends = 2 * float(prior.sigma_min), 0.1 * float(prior.sigma_max)
    return tuple(float(s) for s in np.geomspace(*ends, LEVELS))


def own(
    prior: Prior,
    shape: tuple[int, int, int],
    count: int = COUNT,
    seed: int = 0,
    steps: int = 100,
) -> Own:
    """Return t of `count` own images of the prior, drawn by `prior_draws`."""
    x = prior_draws(prior, count, shape, seed + 7_000_001, steps)
    sigmas = levels_of(prior)
    return Own(sigmas, statistics(prior, x, sigmas, "own"))


def cached(path: str | Path, shape: tuple[int, int, int]) -> Own | None:
    """Return t of the own images from the JSON file beside a prior's file; None: it has none.

    Args:
        path: The prior's file PRIOR.safetensors; the cache is PRIOR.typical.json.
        shape: (C, H, W) of the images.
    """
    path = Path(path)
    file = path.with_suffix(".typical.json")
    key = _key(path, shape)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if all(found[k] == v for k, v in key.items()):
            return Own(tuple(found["sigmas"]), np.asarray(found["values"], np.float64))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another file
    return None


def own_cached(path: str | Path, shape: tuple[int, int, int], make: Callable[[], Own]) -> Own:
    """Return `cached`, or what `make` returns, which is then kept where the folder allows it."""
    found = cached(path, shape)
    if found is not None:
        return found
    path, new = Path(path), make()
    values = np.round(new.values, 5).tolist()
    body = {**_key(path, shape), "sigmas": list(new.sigmas), "values": values}
    # A folder that cannot be written costs time, not the answer.
    with contextlib.suppress(OSError, StoreError):
        write_file(path.with_suffix(".typical.json"), json.dumps(body).encode())
    return new


def _key(path: Path, shape: tuple[int, int, int]) -> dict[str, object]:
    return {"prior": sha256(path), "shape": list(shape)}


def typicality(draws: np.ndarray, reference: Own) -> Typicality:
    """Return the rank of draws' t [n, levels] of one posterior among the own images'."""
    pool = np.concatenate([draws.mean(0)[None], reference.values])
    score = _scores(pool)
    count = len(pool) - 1
    above = (pool[1:] >= pool[0]).sum(0)
    each = 2 * np.minimum(above + 1, count - above + 1) / (count + 1)
    ratio = np.exp(0.5 * (pool[0] - np.median(pool[1:], 0)))
    return Typicality(
        float(1 + (score[1:] >= score[0]).sum()) / len(pool), reference.sigmas,
        tuple(float(r) for r in ratio), tuple(float(min(1.0, p)) for p in each), count,
    )  # fmt: skip


def _scores(pool: np.ndarray) -> np.ndarray:
    """Return each row's Mahalanobis distance from the others, squared."""
    out = []
    for k in range(len(pool)):
        others = np.delete(pool, k, 0)
        d = pool[k] - others.mean(0)
        covariance = np.atleast_2d(np.cov(others.T))
        # A little of the diagonal: levels that err alike leave directions without spread.
        covariance += 0.05 * np.diag(np.diag(covariance)) + 1e-12 * np.eye(len(d))
        out.append(d @ np.linalg.solve(covariance, d))
    return np.asarray(out)
