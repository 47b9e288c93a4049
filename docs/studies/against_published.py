"""CPU seconds of a draw at the shipped settings and of `DAPS.published`, on the shipped problems.

    python docs/studies/against_published.py [NAME…]

Two draws of each in one micro-batch, in turns. Of the published loop (200 levels of 5 network
evaluations and 100 Langevin steps, all alike) the first 4 levels are run and their price is
taken 50 times; whether its draws are any good is not asked here. One core, from the repository's
root.
"""

from __future__ import annotations

import sys
import time

import torch
from settings import SHIPPED, shipped

from sciinv import samplers
from sciinv.errors import SciinvError

LEVELS, RUN = 200, 4


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:] or list(SHIPPED))
