"""Helsinki scans whose scale and detector are wrong on purpose: are both found, and the score kept?

A measured sinogram is multiplied by a factor and shifted by elements of its binned detector, that
is by four times as many of the detector itself, before it is binned; scale and shift are drawn with
the image, and the scale of the noise too. The row "1:0" has the scan
untouched, and what is found of another is compared with what is found of that, as nobody knows the
true attenuation of the disc. A case that ends in "k" takes scale and detector for known. Levels and
κ are the prior's own. Rows go to results/unknown-scans.jsonl, and a run goes on where it was cut.

    python docs/studies/unknown_scans.py run ta:60:1:0:k ta:60:1:0 ta:60:1.08:1.5 ta:60:0.94:-1
    python docs/studies/unknown_scans.py table
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from sciinv import priors, samplers
from sciinv.operators.from_store import from_measurement
from sciinv.quantities.segmentation import score
from sciinv.readers import htc2022

REPO = Path(__file__).resolve().parents[2]
# Phantoms beyond the two that ship: the challenge's archive, Zenodo 10.5281/zenodo.8041800.
FOLDERS = [REPO / "data/ct", Path(os.environ.get("HTC2022", "htc2022"))]
OUT = REPO / "results/unknown-scans.jsonl"
SDS = {"attenuation_scale": 0.1, "detector_shift": 2.0}
DRAWS, SEED = 4, 2026


def file_of(phantom: str, ending: str) -> Path:
    """Return a file of a phantom, from where the first folder has it."""
    paths = [folder / f"htc2022_{phantom}_{ending}.mat" for folder in FOLDERS]
    return next((path for path in paths if path.is_file()), paths[-1])


def moved(phantom: str, scan: xr.Dataset, y: torch.Tensor, shift: float) -> torch.Tensor:
    """Return the line integrals y of a scan, moved by whole elements of the unbinned detector."""
    angles, binning = scan["angles"].values, int(scan.attrs["detector_binning"])
    if not shift:
        return y
    raw = htc2022.read(file_of(phantom, "full"), angles=(angles[0], angles[-1]), detector_binning=1)
    elements = shift * binning
    if elements != round(elements):
        sys.exit(
            f"{shift} binned elements are {elements} of the detector: take a quarter's multiple"
        )
    line = torch.from_numpy(raw["y"].values).to(y).roll(-round(elements), -1)
    return line.unflatten(-1, (-1, binning)).mean(-1)


def one(case: str) -> dict[str, Any]:
    """Return what is found of a case, PHANTOM:ANGLE:FACTOR:SHIFT[:k]."""
    phantom, angle, factor, shift, *known = case.split(":")
    ending = "recon_fbp_seg" if phantom[0] != "t" else "full_recon_fbp_seg"
    reference = htc2022.read_segmentation(file_of(phantom, ending))
    scan = htc2022.read(file_of(phantom, "full"), angles=(0.0, float(angle)))
    physics, y = from_measurement(scan, unknowns=None if known else SDS)
    prior = priors.load(REPO / "data/priors/ct.safetensors")
    sampler = samplers.DAPS(prior, micro_batch=DRAWS, noise="auto")
    start, wall = time.process_time(), time.perf_counter()
    touched = float(factor) * moved(phantom, scan, y, float(shift))

    def progress(done: int, total: int) -> None:
        seconds = time.process_time() - start
        print(f"{case}: level {done} of {total}, {seconds:.0f} s", file=sys.stderr, flush=True)

    post = sampler.sample(touched, physics, draws=DRAWS, seed=SEED, progress=progress)
    names = [name for name in (*SDS, "noise_scale") if name in post]
    images = post["image"].values[:, 0, 0]
    row: dict[str, Any] = {
        "case": case,
        "score": float(score(images.mean(0), reference)),
        "draws": [float(score(image, reference)) for image in images],
        "chi2": post["chi2"].values[:, 0].tolist(),
        "failed": post["failed"].values[:, 0].tolist() if "failed" in post else [],
        "cpu": time.process_time() - start,
        "wall": time.perf_counter() - wall,
    }
    for name in names:
        row[name] = post[name].values[:, 0].tolist()
    if "unknowns_acceptance" in post:
        row["acceptance"] = float(post["unknowns_acceptance"].mean())
    return row


def table(rows: list[dict[str, Any]]) -> None:
    """Print a line per row."""
    print("| phantom : angle : factor : shift | score of the mean | of the draws | scale found | "
          "shift found | noise | χ² | moves taken | CPU min |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [f"{row['score']:.4f}"]
        cells.append(" ".join(f"{value:.3f}" for value in row["draws"]))
        for name in (*SDS, "noise_scale"):
            found = torch.tensor(row[name]) if name in row else None
            cells.append("–" if found is None else f"{found.mean():.4f} ± {found.std():.4f}")
        chi2 = torch.tensor(row["chi2"]).mean()
        cells += [f"{chi2:.2f}", f"{row.get('acceptance', float('nan')):.2f}"]
        print(f"| {row['case']} |", " | ".join([*cells, f"{row['cpu'] / 60:.1f}"]), "|", flush=True)


def main() -> None:
    """Compute the cases that are not there yet, or print the table."""
    done = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.is_file() else []
    if sys.argv[1] == "table":
        return table(done)
    OUT.parent.mkdir(exist_ok=True)
    for case in sys.argv[2:]:
        if case not in {row["case"] for row in done}:
            row = one(case)
            with OUT.open("a") as file:
                file.write(json.dumps(row) + "\n")
            table([row])
    return None


if __name__ == "__main__":
    main()
