"""Figures that other groups published, computed again by their own code, and sciinv's beside them.

    python docs/studies/published_figures.py --benchmark FOLDER --mcgdiff FOLDER [RUNS]

FOLDER are clones of github.com/gabrielvc/benchopts_inverse_problem_diffusion_prior and
github.com/gabrielvc/mcg_diff. The first is the benchmark of MCG-diff's authors: a mixture of 25
Gaussians in 8 dimensions, one problem each of 1, 2 and 4 data, solved by DDRM, DPS and MCG-diff
with 32 and 128 particles; its `outputs/` hold the figures of a run of 15 March 2024, each repeated
4 to 12 times. The problems come from its seed, so that they are the same ones; the draws have other
seeds. The figure is the largest of 100 sliced 2-Wasserstein distances of 1,000 draws to 10,000
exact ones.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from research_codes import first_on_the_path
from torch import Tensor

# window.data of outputs/…_2024-03-15_18h27m33.html, rounded: (data, solver) → repetitions.
PUBLISHED = {
    (1, "ddrm", 0): (30.56, 33.06, 28.91, 26.89, 29.72, 30.32, 28.27),
    (1, "dps", 0): (29.23, 23.07, 27.34, 28.62, 27.82),
    (1, "mcg_diff", 32): (18.18, 18.00, 18.94, 20.18, 23.80),
    (1, "mcg_diff", 128): (4.70, 4.75, 5.66, 5.82),
    (2, "ddrm", 0): (15.63, 14.54, 12.87, 11.69, 15.08, 11.98, 13.42),
    (2, "dps", 0): (19.41, 20.37, 19.42, 18.33, 17.57, 19.29, 16.54, 19.32, 19.58, 17.17),
    (2, "mcg_diff", 32): (
        10.86, 10.32, 11.19, 10.67, 10.05, 10.78, 11.24, 9.90, 10.75, 11.08, 12.36,
    ),
    (2, "mcg_diff", 128): (4.08, 4.60, 4.66, 3.78),
    (4, "ddrm", 0): (0.454, 0.431, 0.503, 0.437, 0.605),
    (4, "dps", 0): (12.96, 12.19, 11.90, 11.96, 14.14, 11.00, 12.49, 12.54, 12.43),
    (4, "mcg_diff", 32): (
        1.224, 1.052, 1.082, 1.122, 0.946, 1.014, 0.943, 0.979, 0.658, 1.131, 0.797, 0.997,
    ),
    (4, "mcg_diff", 128): (0.186, 0.158, 0.204, 0.203, 0.143),
}  # fmt: skip
DRAWS = 1000


def benchopt() -> types.ModuleType:
    """Return what those files take of benchopt: two empty classes and a context."""
    module = types.ModuleType("benchopt")
    module.BaseDataset = module.BaseSolver = object  # type: ignore[attr-defined]
    module.safe_import_context = contextlib.nullcontext  # type: ignore[attr-defined]
    return module


def max_sliced(x: Tensor, exact: Tensor, slices: int = 100) -> float:
    """Return the largest 2-Wasserstein distance of so many random projections.

    The number of exact samples is a multiple of that of x, so that both quantile functions are
    constant on the same pieces: no library is needed.
    """
    v = torch.randn(slices, x.shape[1], dtype=x.dtype)
    v = v / v.norm(dim=1, keepdim=True)
    a = (x @ v.mT).sort(0).values.repeat_interleave(len(exact) // len(x), 0)
    b = (exact.to(x) @ v.mT).sort(0).values
    return float((a - b).square().mean(0).max().sqrt())


def load(benchmark: str, mcgdiff: str) -> dict[str, Any]:
    """Return the modules of the dataset and the solvers."""
    sys.modules.setdefault("benchopt", benchopt())
    found = {}
    with first_on_the_path(Path(mcgdiff)), first_on_the_path(Path(benchmark)):
        for name in ("datasets.gaussian_mixture", "solvers.ddrm", "solvers.dps",
                     "solvers.mcg_diff"):  # fmt: skip
            found[name.split(".")[1]] = importlib.import_module(name)
    return found


def data_of(modules: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return their problem of so many data, from their seed 27."""
    dataset = modules["gaussian_mixture"].Dataset()
    dataset.n_samples, dataset.random_state, dataset.dims = 10_000, 27, (rows, 8)
    return dataset.get_data()


def theirs(module: Any, data: dict[str, Any], particles: int) -> Tensor:
    """Return 1,000 draws of one of their solvers."""
    solver = module.Solver()
    solver.ddim_params, solver.zeta, solver.n_particles = (100, 0.6), 1.0, particles
    given = {k: v for k, v in data.items() if k != "reference_samples"}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        solver.set_objective(**given, n_samples=DRAWS)
        solver.run(1)
    return solver.get_result()["samples"].detach()


def ours(data: dict[str, Any], seed: int) -> Tensor:
    """Return 1,000 draws of `samplers.DAPS(prior)` on the same mixture."""
    from sciinv import priors
    from sciinv.calibration.benchmark.linear import Matrix
    from sciinv.samplers import DAPS

    means = torch.tensor([[-8.0 * i, -8.0 * j] * 4 for i in range(-2, 3) for j in range(-2, 3)])
    torch.manual_seed(27)  # as in their dataset: the weights are its first random numbers
    weights = torch.randn(25) ** 2
    prior = priors.GaussianMixture(
        means.double().reshape(25, 1, 1, 8),
        torch.eye(8).double().repeat(25, 1, 1),
        weights.double(),
    )
    a = data["forward_operator"].double()
    physics = Matrix(a, (1, 1, 8), float(data["observation_noise"]) ** 0.5)
    y = data["observation"].double()[None]
    post = DAPS(prior, micro_batch=DRAWS).sample(y, physics, draws=DRAWS, seed=seed)
    return torch.as_tensor(post["image"].values).reshape(DRAWS, 8).float()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--mcgdiff", required=True)
    parser.add_argument("--data", type=int, nargs="*", default=(1, 2, 4), help="of 1, 2 and 4")
    parser.add_argument("runs", type=int, nargs="?", default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    modules = load(asked.benchmark, asked.mcgdiff)
    print("| data | solver | published: mean ± sd of the runs | here: mean ± sd | runs | "
          "CPU s a run |\n|---|---|---|---|---|---|")  # fmt: skip
    for rows in asked.data:
        data = data_of(modules, rows)
        cases = [(key, PUBLISHED[key]) for key in PUBLISHED if key[0] == rows]
        for (_, name, particles), published in [*cases, ((rows, "sciinv", 0), ())]:
            found, start = [], time.process_time()
            for run in range(asked.runs):
                torch.manual_seed(1000 + run)
                x = ours(data, run) if name == "sciinv" else theirs(
                    modules[name], data, particles)  # fmt: skip
                torch.manual_seed(2000 + run)
                found.append(max_sliced(x, data["reference_samples"]))
            each = (time.process_time() - start) / asked.runs
            title = "sciinv DAPS(prior)" if name == "sciinv" else name
            title += f", {particles} particles" if particles else ""
            was = f"{np.mean(published):.3g} ± {np.std(published, ddof=1):.2g}" if published else ""
            here = f"{np.mean(found):.3g} ± {np.std(found, ddof=1):.2g}"
            print(f"| {rows} | {title} | {was} | {here} | {asked.runs} | {each:.1f} |", flush=True)
        floor = max_sliced(data["reference_samples"][:DRAWS], data["reference_samples"])
        print(f"| {rows} | exact draws (among the reference) | | {floor:.2g} | 1 | |", flush=True)


if __name__ == "__main__":
    main()
