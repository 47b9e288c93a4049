"""A race of samplers: seconds a draw in turns in one run, beside how good the draws are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import calibration
from sciinv.calibration.benchmark.linear import Matrix, Row, random_mixture
from sciinv.samplers import DAPS, Particles
from sciinv.samplers.base import Sampler


@dataclass(frozen=True)
class Start:
    """One problem of a race.

    Attributes:
        prior: The diffusion prior.
        physics: The operator, with its noise.
        y: The measurement, [1, …].
        truth: The image that made y, drawn from the prior, [C, H, W].
    """

    prior: Any
    physics: Physics
    y: Tensor
    truth: Tensor


def race(
    starts: Sequence[Start],
    makers: dict[str, Callable[[Any], Sampler]],
    draws: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Run every sampler on every problem in turns, and return one row per sampler.

    On each problem the samplers follow one another, in an order that moves on by one each time, so
    that a machine that slows down slows all of them. The first sampler is the one to beat.

    Args:
        starts: Problems, at least two.
        makers: Samplers by name, made from a prior; of equal micro-batch if times shall compare.
        draws: Draws of each problem.
        seed: Seed of the draws.
        clock: Of the seconds; `time.process_time` on a machine that has other work.

    Returns:
        Rows with "method", "seconds" (a draw; median over the problems), "faster" (median over the
        problems of the first sampler's seconds ÷ these), "nfe", "crps", "spread_skill", "residual",
        "coverage" of the 50, 80 and 90 % intervals.
    """
    names = list(makers)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    images: dict[str, list[np.ndarray]] = {name: [] for name in names}
    chi2: dict[str, list[np.ndarray]] = {name: [] for name in names}
    nfe: dict[str, float] = {}
    for k, start in enumerate(starts):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            sampler = makers[name](start.prior)
            began = clock()
            post = sampler.sample(start.y, start.physics, draws=draws, seed=seed + k)
            seconds[name].append((clock() - began) / draws)
            images[name].append(post["image"].values[:, 0])
            chi2[name].append(post["chi2"].values[:, 0])
            nfe[name] = float(post["nfe"].mean())
    truths = np.stack([s.truth.cpu().numpy() for s in starts])
    first = np.array(seconds[names[0]])
    rows = []
    for name in names:
        found = calibration.measure(
            np.stack(images[name], 1), truths, np.stack(chi2[name], 1), nfe=nfe[name]
        )
        rows.append(
            {
                "method": name,
                "seconds": float(np.median(seconds[name])),
                "faster": float(np.median(first / np.array(seconds[name]))),
                "nfe": nfe[name],
                "problems": len(starts),
                "draws": draws,
                "crps": found.crps,
                "crps_error": found.crps_error,
                "spread_skill": found.spread_skill,
                "residual": found.residual,
                "coverage": list(found.coverage),
            }
        )
    return rows


def mixture_starts(problems: int, sd: float) -> list[Start]:
    """Return random mixtures in 8 dimensions under 3 measurements with ‖A‖ = 0.95."""
    out = []
    for seed in range(problems):
        g = torch.Generator().manual_seed(seed + 20_000)
        matrix = torch.randn(3, 8, generator=g, dtype=torch.float64)
        # The released step size diverges where ‖A‖ > 1.
        matrix = 0.95 * matrix / torch.linalg.matrix_norm(matrix, 2)
        p = random_mixture(seed, sd, matrix=matrix)
        out.append(Start(p.prior, Matrix(p.matrix, p.shape, sd), p.y[None], p.truth))
    return out


def mixture_race(problems: int, draws: int, sd: float) -> list[Row]:
    """Return the race on mixtures; micro-batches as large as the number of draws."""
    makers: dict[str, Callable[[Any], Sampler]] = {
        "the released settings": lambda p: DAPS.published(p, micro_batch=draws),
        "tweedie DAPS, 50 levels": lambda p: DAPS(
            p, conditional="tweedie", levels=50, micro_batch=draws
        ),
        "tweedie DAPS, 20 levels": lambda p: DAPS(
            p, conditional="tweedie", levels=20, micro_batch=draws
        ),
        "particles, 50 levels": lambda p: Particles(p, levels=50, group=draws),
        "particles, 20 levels": lambda p: Particles(p, levels=20, group=draws),
    }
    return race(mixture_starts(problems, sd), makers, draws)
