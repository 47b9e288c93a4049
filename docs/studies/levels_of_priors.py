"""The smallest number of annealing levels that keeps the calibration under a prior itself.

    python docs/studies/levels_of_priors.py mri fourier 16 4 50:3 24:2 16:1.5
    python docs/studies/levels_of_priors.py ct ct 16 4 80:3 40:2
    python docs/studies/levels_of_priors.py mri keep 24 2   (writes them into the file)

PRIOR OPERATOR TRUTHS DRAWS LEVELS:KAPPA…: truths are drawn from the prior (seed 2000, on no other
page), data are simulated (`sciinv.calibration.operators`, β = 0.05 u), and each number of levels
with its factor κ samples the same data with the same seed. The CRPS of a truth is compared with
that of the first number, truth by truth: the last column is the mean ratio of the two and its
standard error over the truths.
One core, from the repository's root.
"""

from __future__ import annotations

import json
import math
import sys
import time

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from sciinv import calibration, metrics, priors
from sciinv.arithmetic import fixed_arithmetic
from sciinv.calibration.learned import operator, quantities_of
from sciinv.samplers import DAPS

SEED = 2000
HEAD = (
    "| levels, κ | spread ÷ RMSE | residual ÷ β | CRPS, u | pixels inside 50 / 80 / 90 % | "
    "quantities inside 90 % | CPU s a draw | CRPS ÷ the first row's |"
)


@fixed_arithmetic()
def main(name: str, kind: str, truths: int, draws: int, settings: list[str]) -> None:
    """Print a row per number of levels."""
    prior = priors.load(f"data/priors/{name}.safetensors")
    x0 = calibration.prior_draws(prior, truths, prior.train_shape, SEED)
    t = x0.numpy()
    physics = operator(kind, prior, 0.05, SEED)
    print(HEAD, flush=True)
    first: np.ndarray | None = None
    for setting in settings:
        number, kappa = setting.split(":")
        began = time.process_time()
        sampler = DAPS(prior, levels=int(number), inflate=float(kappa))
        found, x, _ = calibration.run(sampler, physics, x0, draws, SEED)
        seconds = (time.process_time() - began) / truths / draws
        crps = metrics.crps_ensemble(x, t).reshape(truths, -1).mean(1)
        first = crps if first is None else first
        ratio = crps / first
        coverage = " / ".join(f"{100 * c:.0f}" for c in found.coverage)
        wide = ", ".join(
            f"{100 * inside(of(x), of(t)):.0f}" for of in quantities_of(prior).values()
        )
        print(
            f"| {number}, {kappa} | {found.spread_skill:.3f} ± {found.spread_skill_error:.3f} "
            f"| {found.residual:.3f} ± {found.residual_error:.3f} "
            f"| {found.crps / prior.scale:.5f} ± {found.crps_error / prior.scale:.5f} "
            f"| {coverage} | {wide} | {seconds:.2f} "
            f"| {ratio.mean():.3f} ± {ratio.std(ddof=1) / math.sqrt(truths):.3f} |",
            flush=True,
        )


def inside(draws: np.ndarray, truth: np.ndarray) -> float:
    """Return how often the central 90 % of draws [draws, N] hold the truth [N]."""
    known = np.isfinite(truth) & np.isfinite(draws).all(0)
    share = calibration.measure(
        draws[:, known, None], truth[known, None], np.ones((len(draws), known.sum()))
    )
    return float(share.coverage[-1])


def keep(name: str, levels: int, kappa: float) -> None:
    """Write what was found into the prior's file, whose tensors stay as they are."""
    path = f"data/priors/{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["sciinv"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    about |= {"levels": levels, "local_inflate": kappa}
    save_file(tensors, path, {"sciinv": json.dumps(about, sort_keys=True)})


if __name__ == "__main__":
    prior_name, operator_name, *numbers = sys.argv[1:]
    if operator_name == "keep":
        keep(prior_name, int(numbers[0]), float(numbers[1]))
    else:
        main(prior_name, operator_name, int(numbers[0]), int(numbers[1]), numbers[2:])
