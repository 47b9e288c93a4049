"""Helsinki scans whose scale and detector are wrong on purpose: are both found, and the score kept?

A measured sinogram is multiplied by a factor and shifted by elements of its binned detector; scale
and shift are drawn with the image. The first row has the scan untouched, and what is found of
another is compared with what is found of that, as nobody knows the true attenuation of the disc.

    python docs/studies/unknown_scans.py ta 60 1:0 1.08:1.5
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from sciinv import priors, samplers
from sciinv.operators.from_store import from_measurement
from sciinv.operators.parts.ct_unknowns import Projections
from sciinv.quantities.segmentation import score
from sciinv.readers import htc2022

REPO = Path(__file__).resolve().parents[2]
SDS = {"attenuation_scale": 0.1, "detector_shift": 2.0}
LEVELS, DRAWS, SEED = 50, 4, 2026


def main() -> None:
    """Print a row for each factor and shift."""
    phantom, angle, *cases = sys.argv[1:]
    data = REPO / f"data/ct/htc2022_{phantom}_full.mat"
    reference = htc2022.read_segmentation(data.with_name(f"{data.stem}_recon_fbp_seg.mat"))
    scan = htc2022.read(data, angles=(0.0, float(angle)))
    physics, y = from_measurement(scan, unknowns=SDS)
    prior = priors.load(REPO / "data/priors/ct.safetensors")
    sampler = samplers.DAPS(prior, levels=LEVELS, micro_batch=DRAWS, noise="auto")
    print("| factor : shift | score of the mean | scale found | shift found | noise | minutes |")
    for case in cases:
        factor, shift = (float(part) for part in case.split(":"))
        start = time.perf_counter()
        touched = factor * Projections(y).at(None, torch.tensor([shift]))
        post = sampler.sample(touched, physics, draws=DRAWS, seed=SEED)
        told = [
            f"{float(post[name].mean()):.4f} ± {float(post[name].std(ddof=1)):.4f}"
            for name in (*SDS, "noise_scale")
        ]
        found = score(post["image"].mean("draw").values[0, 0], reference)
        minutes = (time.perf_counter() - start) / 60
        print(f"| {case} | {found:.4f} |", " | ".join(told), f"| {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
