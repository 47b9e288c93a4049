"""The default sampler against known posteriors: `python docs/studies/benchmark_rows.py [ROWS]`.

ROWS is "mixtures" (6 in 8 dimensions, 20 problems, two noises), "large" (25 in 64 dimensions),
"coils" (complex 8 × 8 mixtures of 6 under 2 and 4 coils), "floor" (the mixtures with 2,000 draws
and ten pairs of exact sets a problem: is a ratio above 1 a bias or chance?) or "levy SIGNALS" (24
cells).
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import torch

from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark import levy
from sciinv.calibration.benchmark.linear import (
    Matrix,
    coil_matrix,
    mixture_case,
    projections,
    random_mixture,
)
from sciinv.samplers import DAPS


def default(prior):
    """Return `samplers.DAPS(prior)` with a micro-batch of 500 draws."""
    return DAPS(prior, micro_batch=500)


def strays(problem, draws):
    """Return the share of draws nearest in density to a component of weight < 1e-4."""
    physics = Matrix(problem.matrix, problem.shape, problem.sd)
    post = default(problem.prior).sample(problem.y[None], physics, draws=draws, seed=0)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, *problem.shape)
    own = problem.prior._components(x, 0.0)[0].argmax(1)
    return float((problem.weights()[own] < 1e-4).double().mean())


def shown(name, problems, draws=500):
    """Print the mean figures of some problems."""
    start = time.process_time()
    rows = [mixture_case(p, draws, default) for p in problems]
    seconds = (time.process_time() - start) / (draws * len(problems))
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    away = max(strays(p, draws) for p in problems)
    print(f"| {name} | {len(rows)} | {mean['nfe']:.0f} | {mean['distance']:.3f} | "
          f"{mean['floor']:.3f} | {mean['distance'] / mean['floor']:.2f} | "
          f"{mean['sd_ratio']:.2f} | {mean['mode_error']:.3f} ({mean['mode_floor']:.3f}) | "
          f"{away:.4f} | {1e3 * seconds:.1f} |", flush=True)  # fmt: skip


def against_floor(sd, draws=2000, sets=5):
    """Print the mean ratio of distance and floor over 20 mixtures, with its standard error."""
    ratios = []
    for seed in range(20):
        problem = random_mixture(seed, sd)
        physics = Matrix(problem.matrix, problem.shape, problem.sd)
        post = default(problem.prior).sample(problem.y[None], physics, draws=draws, seed=seed)
        x = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
        exact = [problem.exact(draws, 100 + k) for k in range(sets)]
        pairs = [sliced_wasserstein(a, b) for a, b in itertools.combinations(exact, 2)]
        ratios.append(np.mean([sliced_wasserstein(x, e) for e in exact]) / np.mean(pairs))
    error = np.std(ratios, ddof=1) / len(ratios) ** 0.5
    print(f"noise {sd}: distance ÷ floor {np.mean(ratios):.3f} ± {error:.3f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f}", flush=True)  # fmt: skip


def main(rows="mixtures", signals="30"):
    """Print the rows as a Markdown table."""
    torch.set_num_threads(1)
    if rows == "mixtures":
        for sd in (0.05, 0.3):
            shown(f"6 in 8 dimensions, noise {sd}", [random_mixture(s, sd) for s in range(20)])
    elif rows == "large":
        a = projections(8, np.array([0, 60]))
        shown("25 in 64", [random_mixture(s, 0.5, 25, (1, 8, 8), a) for s in range(10)])
    elif rows == "floor":
        for sd in (0.05, 0.3):
            against_floor(sd)
    elif rows == "coils":
        # Noise 4 leaves weight on 1.1 to 4.7 components; at 1 a single one has it all.
        for n in (2, 4):
            problems = [
                random_mixture(s, 4.0, 6, (2, 8, 8), coil_matrix(n, 8, seed=s)) for s in range(5)
            ]
            shown(f"complex 8 × 8, {n} coils, noise 4", problems)
    else:
        for law in levy.LAWS:
            for kind in levy.OPERATORS:
                r = levy.levy_case(law, kind, lambda p: DAPS(p, micro_batch=9), int(signals))
                print(law, kind, r, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
