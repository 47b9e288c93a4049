"""Diameters of rings, the noise drawn: python docs/studies/ring_errors.py run [NUMBER …]|table|m87.

`run`: SIMULATED. Twenty rings and crescents (seeds 0 … 19, apart from those of training and of
`compare_sources.py`) as M87's coverage and noise of 11 April would have shown them, as
`compare_sources.py` observes them; 8 draws each at the prior's own settings, the noise drawn.
`table`: error of the diameter ÷ posterior sd, and how often the 90 % interval of a pixel of the
source (where the mean is above 5 % of its peak) holds the truth. `m87`: the four measured files
without a set systematic error, the noise drawn; each file is a row.

The mean of n draws errs by √(1 + 1/n) posterior sd, and the sd of n draws is that of a Student
variable: the rms of error ÷ sd is √((n − 1)/(n − 3)) = 1.18 where draws are right, and the ratio of
the pooled squares, which is what counts here, 1. Results go to results/ring-errors.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from compare_sources import FIELD, GAINS, PRIOR, REPO, SIZE, observed, operator

from sciinv import metrics, operators, priors, readers, samplers
from sciinv.priors.phantoms import blackholes
from sciinv.quantities.ringfit import ring_parameters
from sciinv.uncertainty.alignment import aligned

OUT = REPO / "results/ring-errors"
SOURCES, DRAWS, SEED = 20, 8, 15


def source(number: int) -> np.ndarray:
    """Return a ring or a crescent, pixels of sum 1, [64, 64]."""
    rng = np.random.default_rng([SEED, 10_000, number])
    kind = ("ring", "crescent")[number % 2]
    image = blackholes.generate_kind(kind, rng)[0].astype("f8")
    return image * blackholes.SCALE


def drawn(physics: Any, y: Any, number: int) -> Any:
    """Return draws by the default with the scale of the noise drawn."""
    sampler = samplers.DAPS(priors.load(PRIOR), noise="drawn", micro_batch=DRAWS)
    return sampler.sample(y, physics, draws=DRAWS, seed=2026, items=[number])


def run(*numbers: str) -> None:
    """Do those of these sources, all if none is named, that are not there yet."""
    OUT.mkdir(parents=True, exist_ok=True)
    for number in map(int, numbers or range(SOURCES)):
        done = OUT / f"{number:02d}.npz"
        if done.is_file():
            continue
        start = time.process_time()
        truth = source(number)
        rng = np.random.default_rng([SEED, 20_000, number])
        physics, y = operator(observed(truth, rng, done.with_suffix(".uvfits")), "amplitudes")
        found = drawn(physics, y, number)
        np.savez(
            done,
            truth=truth,
            draws=found["image"].values[:, 0, 0],
            scale=found["noise_scale"].values[:, 0],
            chi2=found["chi2"].values[:, 0],
            failed=found["failed"].values[:, 0] if "failed" in found else np.zeros(DRAWS, bool),
            seconds=time.process_time() - start,
        )
        table()


def table() -> None:
    """Print a line for each source, and the figures of all."""
    errors, variances, held, z = [], [], [], []
    for path in sorted(OUT.glob("??.npz")):
        stack = np.load(path)
        draws, truth = stack["draws"].astype("f8")[~stack["failed"].astype(bool)], stack["truth"]
        bright = draws.mean(0) > 0.05 * draws.mean(0).max()
        held.append(float(metrics.coverage(draws[:, bright], truth[bright], [0.9])[0]))
        seen = float(ring_parameters(truth, FIELD / SIZE).diameter)
        each = ring_parameters(draws, FIELD / SIZE).diameter
        each = each[np.isfinite(each)]
        line = f"| {path.stem} | {seen:.1f} | {held[-1]:.2f} | {stack['scale'].mean():.2f} |"
        if np.isfinite(seen) and len(each) > 3:
            errors.append(each.mean() - seen)
            variances.append(each.var(ddof=1) * (1 + 1 / len(each)))
            z.append(errors[-1] / variances[-1] ** 0.5)
            line += f" {each.mean():.1f} ± {each.std(ddof=1):.1f} ({len(each)} draws)"
            line += f" | {z[-1]:+.2f} |"
        print(line, f"{float(stack['seconds']):.0f} s")
    if not z:
        return
    squares, pooled = np.square(errors), np.mean(variances)
    ratio = (squares.mean() / pooled) ** 0.5
    rng = np.random.default_rng(0)
    again = [rng.integers(0, len(z), len(z)) for _ in range(1000)]
    spread = np.std([(squares[k].mean() / np.mean(np.array(variances)[k])) ** 0.5 for k in again])
    expected = np.sqrt((DRAWS - 1) / (DRAWS - 3))
    rms = float(np.sqrt(np.mean(np.square(z))))
    print(f"{len(z)} rings of {len(held)} sources: error ÷ sd, pooled {ratio:.2f} ± {spread:.2f} "
          f"(1 expected); rms of each {rms:.2f} ({expected:.2f} expected); median |error ÷ sd| "
          f"{np.median(np.abs(z)):.2f} (0.71 expected of 8 draws)")  # fmt: skip
    error = np.std(held, ddof=1) / len(held) ** 0.5
    print(f"90 % band on the source: {100 * np.mean(held):.1f} ± {100 * error:.1f} %", flush=True)


def m87() -> None:
    """Print a row for each measured file."""
    print("| file | diameters, µas | mean ± sd | noise scale | χ² of draws over noise as drawn | "
          "χ² expected, 90 % |\n|---|---|---|---|---|---|")  # fmt: skip
    for path in sorted((REPO / "data/eht").glob("*.uvfits")):
        data = readers.find("uvfits")(path, kind="amplitudes", systematic_noise=0.0, gain_sd=GAINS)
        physics, y = operators.from_measurement(data)
        found = drawn(physics, y, 0)
        images = aligned(found["image"].values[:, 0, 0].astype("f8"))
        each = ring_parameters(images, FIELD / SIZE).diameter
        scale, chi2 = found["noise_scale"].values[:, 0], found["chi2"].values[:, 0]
        over = chi2 / scale**2
        width = 1.645 * (2 / y.numel()) ** 0.5
        row = {
            "file": path.stem, "diameters": each.tolist(), "scale": scale.tolist(),
            "chi2": chi2.tolist(),
        }  # fmt: skip
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"{path.stem}.json").write_text(json.dumps(row))
        print(f"| {path.stem[4:19]} | {', '.join(f'{d:.1f}' for d in each)} | "
              f"{np.nanmean(each):.1f} ± {np.nanstd(each, ddof=1):.1f} | "
              f"{scale.mean():.2f} ± {scale.std(ddof=1):.2f} | {over.mean():.2f} | "
              f"1 ± {width:.2f} ({y.numel()} data) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    {"run": run, "table": table, "m87": m87}[sys.argv[1]](*sys.argv[2:])
