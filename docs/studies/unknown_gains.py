"""Complex station gains unknown, drawn with the image: does an interval hold as often as it says?

Simulated: 5 stations, 4 scans (40 visibilities), 12² pixels of 10 µas, a Gaussian prior of compact
sources of about 1 Jy, noise of 5 mJy. Gains per station and scan: ln|g| with an sd of 0.2, phases
with an sd of `--phase` rad (at 2 they are uniform to 14 %). 19 draws; ranks of the truth as in
`unknowns.py`, those of phases modulo 2π. Beside it a run that is told the gains.

    python docs/studies/unknown_gains.py --problems 30 --seed 1000 --phase 0.3 --out FILE

With `--out` it goes on from where the file ends.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import priors, samplers
from sciinv.operators.interferometry import Visibilities
from sciinv.seeds import Streams

STATIONS, SCANS, SIZE, FIELD, SD, DRAWS = 5, 4, 12, 120.0, 0.005, 19
LOG_AMPLITUDE = 0.2


def prior() -> priors.Gaussian:
    """Return compact sources: a blob of 1 Jy, 45 µas wide, with fluctuations of 40 % within it."""
    axis = (torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2) * FIELD / SIZE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    blob = torch.exp(-(x**2 + y**2) / (2 * 19.0**2))
    mean = (blob / blob.sum()).flatten()
    place = torch.stack([x.flatten(), y.flatten()], 1)
    near = torch.exp(-torch.cdist(place, place).square() / (2 * 12.0**2))
    covariance = (0.4 * mean)[:, None] * near * (0.4 * mean) + (1e-3 * mean.max()) ** 2 * torch.eye(
        SIZE**2
    )
    return priors.Gaussian(mean.float().reshape(1, SIZE, SIZE), covariance=covariance.float())


def array(**more: Any) -> Visibilities:
    """Return the array: stations within 4 Gλ of each other's middle, turned by the Earth."""
    g = np.random.default_rng(7)
    place = 4e9 * (g.uniform(-1, 1, STATIONS) + 1j * g.uniform(-1, 1, STATIONS))
    a, b = np.triu_indices(STATIONS, 1)
    turn = np.exp(2j * np.pi * np.arange(SCANS) / 12)
    baseline = ((place[a] - place[b])[None] * turn[:, None]).ravel()
    return Visibilities(
        baseline.real, baseline.imag, SD, SIZE, FIELD,
        stations=np.tile(np.stack([a, b], 1), (SCANS, 1)),
        scans=np.repeat(np.arange(SCANS), len(a)), **more,
    )  # fmt: skip


def problem(seed: int, phase: float) -> tuple[Visibilities, Tensor, Tensor, Tensor]:
    """Return operator, data, the true image and the true gains."""
    g = torch.Generator().manual_seed(seed)
    x0 = prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))
    physics = array(unknowns={"gain_log_amplitude": LOG_AMPLITUDE, "gain_phase": phase})
    sds = torch.cat([torch.full((u.size or 1,), u.sd) for u in physics.unknowns])
    theta = sds * torch.randn(1, len(sds), generator=g)
    u = physics.at(theta).A(x0)
    return physics, u + SD * torch.randn(u.shape, generator=g), x0, theta[0]


def inside(draws: np.ndarray, truth: np.ndarray, period: float = 0.0) -> float:
    """Return the share of components whose truth has a rank of 1 to 18 among 19 draws."""
    apart = draws.reshape(DRAWS, -1) - truth.reshape(1, -1)
    if period:
        apart = apart - period * np.round(apart / period)
    rank = (apart < 0).sum(0)
    return float(((rank > 0) & (rank < DRAWS)).mean())


def miss(draws: np.ndarray, truth: np.ndarray, period: float = 0.0) -> float:
    """Return the mean of (error of the draws' mean ÷ their sd)² over components."""
    apart = draws.reshape(DRAWS, -1) - truth.reshape(1, -1)
    if period:
        apart = apart - period * np.round(apart / period)
    return float((apart.mean(0) ** 2 / apart.var(0, ddof=1)).mean())


def main() -> None:
    """Run the problems and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--phase", type=float, default=2.0, help="prior sd of a phase, rad")
    parser.add_argument("--out", type=Path, help="a file with a line for each problem")
    args = parser.parse_args()
    rows: list[list[float]] = []
    if args.out is not None and args.out.exists():
        rows = np.loadtxt(args.out, ndmin=2)[: args.problems].tolist()
    for seed in range(args.seed + len(rows), args.seed + args.problems):
        start = time.perf_counter()
        physics, y, x0, theta = problem(seed, args.phase)
        count = physics.unknowns[0].size or 1
        sampler = samplers.DAPS(prior(), levels=args.levels, micro_batch=DRAWS)
        post = sampler.sample(y, physics, draws=DRAWS, seed=seed)
        known = physics.at(theta[None])
        told = sampler.sample(y, known, draws=DRAWS, seed=seed)
        rows.append([
            inside(post["gain_log_amplitude"].values, theta[:count].numpy()),
            inside(post["gain_phase"].values, theta[count:].numpy(), 2 * math.pi),
            inside(post["image"].values, x0.numpy()),
            inside(told["image"].values, x0.numpy()),
            float(np.sqrt(((post["image"].mean("draw") - x0.numpy()) ** 2).mean())),
            float(post["image"].std("draw").mean()),
            float(post["chi2"].mean()),
            float(post["chi2"].max()),
            float(post["unknowns_acceptance"].mean()),
            miss(post["gain_log_amplitude"].values, theta[:count].numpy()),
            miss(post["gain_phase"].values, theta[count:].numpy(), 2 * math.pi),
            time.perf_counter() - start,
        ])  # fmt: skip
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(" ".join(f"{value:.6g}" for value in rows[-1]) + "\n")
    mean, error = np.mean(rows, 0), np.std(rows, 0, ddof=1) / math.sqrt(len(rows))
    names = ("ln|g| held", "phase held", "pixels held", "pixels held, gains told")
    taken = f"{100 * mean[8]:.0f} % of the moves taken"
    about = f"phases of {args.phase} rad, {args.levels} levels, {DRAWS} draws; {taken}"
    print(f"{args.problems} problems from seed {args.seed}, {about}")
    for name, m, e in zip(names, mean, error, strict=False):
        print(f"{name}: {100 * m:.1f} ± {100 * e:.1f} %")
    # 19 draws: (error ÷ sd)² is on average (1 + 1/19) · 18/16 where all is right
    print(f"error ÷ posterior sd, rms: ln|g| {mean[9] ** 0.5:.2f}, phase {mean[10] ** 0.5:.2f}")
    print(f"χ² of draws: mean {mean[6]:.3f}; worst draw {max(r[7] for r in rows):.2f}; "
          f"{mean[11]:.1f} s a problem")  # fmt: skip


if __name__ == "__main__":
    main()
