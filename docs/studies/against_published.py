"""CPU seconds of a draw at the shipped settings and of `DAPS.published`, on the shipped problems.

    python docs/studies/against_published.py [NAME…]
    python docs/studies/against_published.py simulated DRAWS NAME…

Two draws of each in one micro-batch, in turns. Of the published loop (200 levels of 5 network
evaluations and 100 Langevin steps, all alike) the first 4 levels are run and their price is
taken 50 times; whether its draws are any good is not asked there.

`simulated`: a draw of the prior itself is observed by the shipped problem's operator and noise, and
all levels of both are run. The fair CRPS over pixels (÷ the prior's unit) and how often the
interval from the least to the largest draw holds a pixel's truth, (n − 1) ÷ (n + 1) of the time
when all is right. Images of closures are moved onto the truth first, as such data know no
position. One core, from the repository's root.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from settings import SHIPPED, shipped

from sciinv import metrics, samplers
from sciinv.calibration.simulate import simulate
from sciinv.errors import SciinvError
from sciinv.priors.draws import prior_draws
from sciinv.uncertainty.alignment import aligned

LEVELS, RUN, TRUTH = 200, 4, 77


def main(names: list[str]) -> None:
    """Print a row per problem."""
    print("| problem | DAPS(prior), s a draw | published, s a draw | ratio |\n|---|---|---|---|")
    for name in names:
        prior, physics, y = shipped(name)
        ours = seconds(samplers.DAPS(prior, micro_batch=2, noise="auto", retries=0), y, physics)
        loop = samplers.DAPS.published(prior, levels=LEVELS, micro_batch=2)
        loop.sigmas = loop.sigmas[:RUN]
        theirs = seconds(loop, y, physics) * LEVELS / RUN
        print(f"| {name} | {ours:.1f} | {theirs:.0f} | {theirs / ours:.0f} |", flush=True)


def seconds(sampler: samplers.DAPS, y: torch.Tensor, physics: torch.nn.Module) -> float:
    """Return the CPU seconds of a draw."""
    began = time.process_time()
    try:
        sampler.sample(y, physics, draws=2, seed=0)
    except SciinvError as error:  # the price of an unfinished chain is a price too
        print(f"({sampler.name}: {error})", flush=True)
    return (time.process_time() - began) / 2


def simulated(draws: int, names: list[str]) -> None:
    """Print a row per problem and sampler: price, CRPS and coverage of a known truth."""
    expected = (draws - 1) / (draws + 1)
    print(f"| problem | sampler | CPU s a draw | CRPS, u | pixels held ({expected:.0%} right) | "
          "pixels of the object held |\n|---|---|---|---|---|---|")  # fmt: skip
    for name in names:
        prior, physics, y = shipped(name)
        size = y.shape[-2:] if name == "mri" else prior.train_shape[1:]
        truth = prior_draws(prior, 1, (prior.train_shape[0], *size), TRUTH)
        data = simulate(physics, truth, TRUTH)
        of = {
            "DAPS(prior)": samplers.DAPS(prior, micro_batch=draws, noise="auto", retries=0),
            "published": samplers.DAPS.published(prior, levels=LEVELS, micro_batch=draws),
        }
        for label, sampler in of.items():
            began = time.process_time()
            try:
                post = sampler.sample(data, physics, draws=draws, seed=0)
            except SciinvError as error:
                print(f"| {name} | {label} | no draws: {error} | | | |", flush=True)
                continue
            seconds_each = (time.process_time() - began) / draws
            x, t = post["image"].values[:, 0].astype("f8"), truth[0].double().numpy()
            if name == "blackhole":
                moved = aligned(np.concatenate([t[None], x]))
                x, t = moved[1:], moved[0]
            held = (t >= x.min(0)) & (t <= x.max(0))
            bright = np.abs(t - prior.offset) > 0.05 * np.abs(t - prior.offset).max()
            crps = metrics.crps_ensemble(x, t).mean() / prior.scale
            print(f"| {name} | {label} | {seconds_each:.1f} | {crps:.4f} | {held.mean():.0%} | "
                  f"{held[bright].mean():.0%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["simulated"]:
        simulated(int(sys.argv[2]), sys.argv[3:])
        raise SystemExit
    main(sys.argv[1:] or list(SHIPPED))
