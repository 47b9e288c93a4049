"""Diameters of rings: python docs/studies/ring_errors.py run|table|m87 [--bridge] [NUMBER …].

`run`: SIMULATED. Twenty rings and crescents (seeds 0 … 19, apart from those of training and of
`compare_sources.py`) as M87's coverage and noise of 11 April would have shown them, as
`compare_sources.py` observes them; 8 draws each at the prior's own settings, the noise drawn; with
`--bridge` renoise="bridge" at the fitted width itself, κ = 1, in place of fresh noise and κ = 3.
`table`: error of the diameter ÷ posterior sd, and how often the 90 % interval of a pixel of the
source (where the mean is above 5 % of its peak) holds the truth. `m87`: the four measured files
without a set systematic error, the noise drawn; each file is a row. `m87 0.02` draws an error of
each visibility by a fraction beside it, 0.02 being the half-width of its prior.

The mean of n draws errs by √(1 + 1/n) posterior sd, and the sd of n draws is that of a Student
variable: the rms of error ÷ sd is √((n − 1)/(n − 3)) = 1.18 where draws are right, and the ratio of
the pooled squares, which is what counts here, 1. Results go to results/ring-errors.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
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


def by_default(**more: Any) -> samplers.DAPS:
    """Return the default at the prior's own settings, with the scale of the noise drawn."""
    return samplers.DAPS(priors.load(PRIOR), noise="drawn", micro_batch=DRAWS, **more)


def drawn(physics: Any, y: Any, number: int, sampler: samplers.DAPS) -> Any:
    """Return the draws of an item."""
    return sampler.sample(y, physics, draws=DRAWS, seed=2026, items=[number])


def observe_and_draw(
    truth: np.ndarray, number: int, folder: Path, sampler: samplers.DAPS | None = None
) -> None:
    """Observe a source and draw it, unless its file in the folder is there."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"{number:02d}.npz"
    if done.is_file():
        return
    start = time.process_time()
    rng = np.random.default_rng([SEED, 20_000, number])
    physics, y = operator(observed(truth, rng, done.with_suffix(".uvfits")), "amplitudes")
    found = drawn(physics, y, number, sampler or by_default())
    np.savez(
        done,
        truth=truth,
        draws=found["image"].values[:, 0, 0],
        scale=found["noise_scale"].values[:, 0],
        chi2=found["chi2"].values[:, 0],
        failed=found["failed"].values[:, 0] if "failed" in found else np.zeros(DRAWS, bool),
        seconds=time.process_time() - start,
    )


def where(words: tuple[str, ...]) -> tuple[Path, list[int]]:
    """Return the folder of results that a command line means, and the sources that it names."""
    numbers = [int(word) for word in words if word != "--bridge"]
    return OUT / "bridge" if "--bridge" in words else OUT, numbers


def run(*words: str) -> None:
    """Do those of these sources, all if none is named, that are not there yet."""
    folder, numbers = where(words)
    bridge = "--bridge" in words
    sampler = by_default(renoise="bridge", inflate=1.0) if bridge else by_default()
    for number in numbers or range(SOURCES):
        observe_and_draw(source(number), number, folder, sampler)
    table(*words)


def table(*words: str) -> None:
    """Print the table of sources, those named or 0 … 19."""
    folder, numbers = where(words)
    show(folder, numbers or range(SOURCES))


def show(folder: Path, numbers: Iterable[int]) -> None:
    """Print a line for each source that a folder has, and the figures of all."""
    errors, variances, held, z = [], [], [], []
    print("| source | diameter, µas | draws | error ÷ sd | width, µas | draws | sum of pixels | "
          "90 % band | noise |\n" + "|---" * 9 + "|")  # fmt: skip
    for path in (folder / f"{number:02d}.npz" for number in numbers):
        if not path.is_file():
            continue
        stack = np.load(path)
        draws, truth = stack["draws"].astype("f8")[~stack["failed"].astype(bool)], stack["truth"]
        bright = draws.mean(0) > 0.05 * draws.mean(0).max()
        held.append(float(metrics.coverage(draws[:, bright], truth[bright], [0.9])[0]))
        real, fits = (ring_parameters(image, FIELD / SIZE) for image in (truth, draws))
        seen, there = float(real.diameter), np.isfinite(fits.diameter)
        each, wide = fits.diameter[there], fits.width[there]
        cells = ["no ring" if np.isnan(seen) else f"{seen:.1f}", f"{len(each)} rings", "–"]
        widths = [f"{float(real.width):.1f}", "–"]
        if len(each) > 3:
            cells[1] = f"{each.mean():.1f} ± {each.std(ddof=1):.1f} ({len(each)} draws)"
            widths[1] = f"{wide.mean():.1f} ± {wide.std(ddof=1):.1f}"
            if np.isfinite(seen):
                errors.append(each.mean() - seen)
                variances.append(each.var(ddof=1) * (1 + 1 / len(each)))
                z.append(errors[-1] / variances[-1] ** 0.5)
                cells[2] = f"{z[-1]:+.2f}"
        cells += [*widths, f"{draws.sum((1, 2)).mean():.2f}"]
        cells += [f"{held[-1]:.2f}", f"{stack['scale'].mean():.2f}"]
        print(f"| {path.stem} | " + " | ".join(cells) + " |")
    if len(z) < 2:
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


def m87(error: str = "") -> None:
    """Print a row for each measured file."""
    print("| file | diameters, µas | mean ± sd | noise scale | χ² of draws over noise as drawn | "
          "χ² expected, 90 % | model error |\n" + "|---" * 7 + "|")  # fmt: skip
    more = {"unknowns": {"model_error": float(error)}} if error else {}
    for path in sorted((REPO / "data/eht").glob("*.uvfits")):
        data = readers.find("uvfits")(path, kind="amplitudes", systematic_noise=0.0, gain_sd=GAINS)
        physics, y = operators.from_measurement(data, **more)
        found = drawn(physics, y, 0, by_default())
        images = aligned(found["image"].values[:, 0, 0].astype("f8"))
        each = ring_parameters(images, FIELD / SIZE).diameter
        scale, chi2 = found["noise_scale"].values[:, 0], found["chi2"].values[:, 0]
        over = found["chi2_found"].values[:, 0] if error else chi2 / scale**2
        size = found["model_error"].values[:, 0] if error else np.zeros(DRAWS)
        width = 1.645 * (2 / y.numel()) ** 0.5
        row = {
            "file": path.stem, "diameters": each.tolist(), "scale": scale.tolist(),
            "chi2": chi2.tolist(), "error": size.tolist(),
        }  # fmt: skip
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"{path.stem}{error and '-error'}.json").write_text(json.dumps(row))
        print(f"| {path.stem[4:19]} | {', '.join(f'{d:.1f}' for d in each)} | "
              f"{np.nanmean(each):.1f} ± {np.nanstd(each, ddof=1):.1f} | "
              f"{scale.mean():.2f} ± {scale.std(ddof=1):.2f} | {over.mean():.2f} | "
              f"1 ± {width:.2f} ({y.numel()} data) | {size.mean():.3f} ± {size.std(ddof=1):.3f} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    {"run": run, "table": table, "m87": m87}[sys.argv[1]](*sys.argv[2:])
