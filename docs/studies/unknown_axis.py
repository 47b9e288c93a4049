"""The rotation axis of the tooth, drawn with the image under the generic prior.

    python docs/studies/unknown_axis.py [ROW [BINNING [RINGS [ERROR]]]]

`data/ct/tooth.h5`, columns averaged by BINNING (5), the axis declared where this repository's
estimator has it and drawn around there with a prior sd of 1 column, the scale of the noise drawn
too, with RINGS above 0 an offset of each detector element of that prior sd, and with ERROR above 0
the size of a model error, by a fraction of the line integrals (ERROR its half-width). Beside the
interval: this repository's point estimate (`readers.parts.rotation_axis`), and, where `algotom` is
installed, Vo's estimate in quarters of a column and that of the phase correlation of the first and
the mirrored last view, the methods of tomopy's `find_center_vo` and `find_center_pc`. Columns count
from 0. Row by row to results/unknown-axis.jsonl.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from sciinv import samplers
from sciinv.operators.from_store import from_measurement
from sciinv.priors.learned import generic
from sciinv.readers import dxchange
from sciinv.readers.parts.rotation_axis import rotation_centre
from sciinv.steps.generic import object_scale

REPO = Path(__file__).resolve().parents[2]
FILE = REPO / "data/ct/tooth.h5"
OUT = REPO / "results/unknown-axis.jsonl"
DRAWS, SEED, SD = 4, 2026, 1.0  # the sd in columns


def estimates(row: int) -> dict[str, float]:
    """Return the point estimates of the axis, columns."""
    scan = dxchange.read(FILE, rows=row)
    y, angles = scan["y"].values[0, 0].astype(float), scan["angles"].values
    out = {"this repository": rotation_centre(y, angles)}
    try:
        from algotom.prep import calculation
    except ImportError:
        return out
    first, last = (np.tile(y[k], (64, 1)) for k in (0, -1))
    out["Vo"] = float(calculation.find_center_vo(y, step=0.25, ncore=1))
    phase = calculation.find_center_based_phase_correlation(first, last)
    return out | {"phase correlation": float(phase)}


def drawn(row: int, binning: int, rings: float, error: float) -> dict[str, object]:
    """Return the draws of the axis, columns."""
    scan = dxchange.read(FILE, rows=row, detector_binning=binning)
    declared = json.loads(scan.attrs["params"])
    pitch, offset = declared["detector_mm"], declared["detector_offset_mm"]
    start = time.process_time()
    unknowns = {"detector_shift": SD / binning}
    if rings:
        unknowns["element_offset"] = rings
    if error:
        unknowns["model_error"] = error
    physics, y = from_measurement(scan, unknowns=unknowns)
    prior = generic.load(REPO / "data/priors/generic.safetensors", object_scale(physics, y))
    sampler = samplers.DAPS(prior, micro_batch=DRAWS, noise="auto")

    def progress(done: int, total: int) -> None:
        seconds = time.process_time() - start
        print(f"level {done} of {total}, {seconds:.0f} s", file=sys.stderr, flush=True)

    post = sampler.sample(y, physics, draws=DRAWS, seed=SEED, progress=progress)
    shift = post["detector_shift"].values[:, 0].astype(float)
    # the detector moved by an element sees the axis an element lower
    centre = (y.shape[-1] - 1) / 2 - offset / pitch - shift
    return {
        "row": row,
        "binning": binning,
        "rings": rings,
        "error": post["model_error"].values[:, 0].tolist() if error else error,
        "axis": ((centre + 0.5) * binning - 0.5).tolist(),
        "noise": post["noise_scale"].values[:, 0].tolist(),
        "chi2": post["chi2"].values[:, 0].tolist(),
        "misfit": misfit(post).tolist(),
        "acceptance": float(post["unknowns_acceptance"].mean()),
        "cpu": time.process_time() - start,
        "estimates": estimates(row),
    }


def misfit(post: xr.Dataset) -> np.ndarray:
    """Return −2 log p(y | draw) ÷ data up to a constant, the noise as drawn."""
    if "misfit" in post:
        return post["misfit"].values[:, 0]
    s = post["noise_scale"].values[:, 0]
    return post["chi2"].values[:, 0] / s**2 + 2 * np.log(s)


def main() -> None:
    """Draw the axis of one row, and print it."""
    given = [*sys.argv[1:], *["0", "5", "0", "0"][len(sys.argv) - 1 :]]
    row, binning, rings, error = int(given[0]), int(given[1]), float(given[2]), float(given[3])
    found = drawn(row, binning, rings, error)
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("a") as file:
        file.write(json.dumps(found) + "\n")
    axis = np.array(found["axis"])
    points = ", ".join(f"{name} {value:.2f}" for name, value in found["estimates"].items())  # type: ignore[attr-defined]
    print(f"row {row}, binning {binning}, rings {rings}: axis {axis.mean():.3f} "
          f"± {axis.std(ddof=1):.3f} "
          f"({np.round(axis, 3).tolist()}), noise {np.mean(found['noise']):.2f}, "
          f"χ² {np.mean(found['chi2']):.2f}, model error {np.mean(found['error']):.4f}, "
          f"misfit {np.mean(found['misfit']):.3f}, moves {found['acceptance']:.2f}, "
          f"{found['cpu']:.0f} CPU s; {points}")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
