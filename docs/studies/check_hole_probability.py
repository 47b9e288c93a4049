"""Is the hole probability calibrated?

    python docs/studies/check_hole_probability.py run|table [PROBLEM …]

The hole probability of a pixel is the share of posterior draws with less than half the attenuation
of acrylic there. It is compared with the challenge's reference segmentation, averaged to the same
pixels, over the disc (its filled reference, less one pixel at the edge). `run` draws what
workflows/configs/helsinki.yaml says, into results/hole-probability; what is there is kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from sciinv import operators, readers
from sciinv.config import Config
from sciinv.readers import htc2022
from sciinv.steps.build import load_prior, method

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "workflows/configs/helsinki.yaml"
OUT = REPO / "results/hole-probability"
HALF = 0.019  # 1/mm
BINS = ((0.0, 0.0), (0.01, 0.3), (0.3, 0.7), (0.7, 0.99), (1.0, 1.0))


def run(names: list[str]) -> None:
    """Draw what is not there yet."""
    OUT.mkdir(parents=True, exist_ok=True)
    config = Config.of_file(CONFIG)
    for problem in map(config.problem, config.problems):
        file = OUT / f"{problem.name}.npy"
        if file.is_file() or (names and problem.name not in names):
            continue
        data = readers.find(problem.data.reader)(REPO / problem.data.path, **problem.data.options)
        physics, y = operators.from_measurement(data)
        spec = physics.image_spec
        prior = load_prior(problem.prior, spec.shape, spec.units)
        sampler = method(problem.sampler, prior)
        found = sampler.sample(y, physics, draws=problem.draws, seed=config.run.seed)
        np.save(file, found["image"].values[:, 0, 0])
        sys.stdout.write(f"{problem.name} {found['seconds'].values.mean():.1f} s a draw\n")
        sys.stdout.flush()


def table() -> None:
    """Print, by bin of the hole probability, how often there is a hole."""
    total = np.zeros((len(BINS), 3))
    config = Config.of_file(CONFIG)
    for problem in map(config.problem, config.problems):
        file = OUT / f"{problem.name}.npy"
        if not file.is_file():
            continue
        draws = np.load(file)
        solid = np.asarray(htc2022.read_segmentation(REPO / problem.reference)).astype(bool)
        disc = ndimage.binary_fill_holes(solid)
        factor = solid.shape[0] // draws.shape[-1]
        shape = (draws.shape[-1], factor, draws.shape[-1], factor)
        hole = (disc & ~solid).reshape(shape).mean((1, 3))
        inside = ndimage.binary_erosion(disc.reshape(shape).mean((1, 3)) == 1)
        probability = (draws < HALF).mean(0)
        rows = np.array(
            [
                [take.sum(), probability[take].sum(), hole[take].sum()]
                for low, high in BINS
                for take in [inside & (probability >= low) & (probability <= high)]
            ]
        )
        total += rows
        show(problem.name, rows)
    show("all", total)


def show(name: str, rows: np.ndarray) -> None:
    """Print one row: pixels, mean probability and share of holes in each bin."""
    cells = [f"{int(n)}: {p / max(n, 1):.2f} → {h / max(n, 1):.3f}" for n, p, h in rows]
    sys.stdout.write(f"| {name} | " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("problems", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        run(given.problems)
    else:
        table()
