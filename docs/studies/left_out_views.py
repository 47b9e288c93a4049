"""Left-out views of a Helsinki scan and left-out scans of M87*, predicted with the noise as drawn.

    python docs/studies/left_out_views.py views [PHANTOM ANGLE]
    python docs/studies/left_out_views.py baselines [FILE]

`views`: half of the views, drawn at random, are left out. `baselines`: half of the scans of an
array are left out, with all their baselines. Station gains are a scan's own, so that closure
quantities and amplitudes with marginalised gains of one half know nothing of the other's, which
would not be so of single baselines of one scan. The default at the prior's own settings, 8 draws.
χ² = rᵀ (s² R + (1 + 1/n) V)⁻¹ r / M with r the data minus the mean of the draws' predictions, R the
declared noise, s its scale as drawn and V the covariance of the draws' predictions: 1 is expected,
0.95 to 1.10 was the goal. In brackets with s = 1.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_sources import DAY, GAINS
from compare_sources import PRIOR as SOURCES
from torch import Tensor

from sciinv import likelihoods, operators, priors, readers, samplers
from sciinv.readers import htc2022, uvfits

REPO = Path(__file__).resolve().parents[2]
OUT = REPO / "results/left-out"
DRAWS, SEED = 8, 2026


def chi2(outside: Any, y: Tensor, images: Tensor, s: float) -> float:
    """Return the mean square of the misfit over noise and posterior covariance."""
    likelihood = likelihoods.of(outside)
    u = torch.cat([outside.A(x[None]) for x in images]).double()
    y = y.double()
    first = u[:1]
    # differences, as phases live on a circle
    apart = torch.cat([likelihood.difference(row[None], first) for row in u])
    mean = apart.mean(0, keepdim=True)
    miss = likelihood.difference(y, first) - mean
    e = likelihood.whiten(miss, first).flatten()
    d = likelihood.whiten(apart - mean, first).flatten(1)
    n = len(u)
    finite = torch.isfinite(e) & (likelihood.whiten(torch.ones_like(miss), first).flatten() != 0)
    e, d = e[finite], d[:, finite]
    d = d * ((1 + 1 / n) / (n - 1)) ** 0.5
    # (s² + Dᵀ D)⁻¹ by Woodbury's identity
    small = s**2 * torch.eye(n).double() + d @ d.mT
    inner = d @ e
    total = (e @ e - inner @ torch.linalg.solve(small, inner)) / s**2
    return float(total / len(e))


def report(name: str, prior: Path, inside: Any, y_in: Tensor, outside: Any, y_out: Tensor) -> None:
    """Sample from what was kept, and print a row."""
    start = time.process_time()
    sampler = samplers.DAPS(priors.load(prior), noise="auto", micro_batch=DRAWS)
    found = sampler.sample(y_in, inside, draws=DRAWS, seed=SEED)
    images = torch.from_numpy(found["image"].values[:, 0])
    if "failed" in found:
        images = images[torch.from_numpy(~found["failed"].values[:, 0].astype(bool))]
    scales = found["noise_scale"].values[:, 0]
    s = float(np.sqrt(np.mean(scales**2)))
    drawn, declared = (chi2(outside, y_out, images, value) for value in (s, 1.0))
    print("| left out | data kept, left out | χ² of the prediction | noise scale | "
          "χ² of draws on what was kept | CPU s a draw |\n|---|---|---|---|---|---|")  # fmt: skip
    seconds = (time.process_time() - start) / DRAWS
    print(f"| {name} | {y_in.numel()}, {y_out.numel()} | {drawn:.3f} ({declared:.3f}) | "
          f"{scales.mean():.3f} ± {scales.std(ddof=1):.3f} | "
          f"{float(found['chi2'].mean()):.3f} | {seconds:.1f} |", flush=True)  # fmt: skip


def views(phantom: str = "ta", angle: str = "90") -> None:
    """Leave out half of a scan's views."""
    scan = htc2022.read(REPO / f"data/ct/htc2022_{phantom}_full.mat", angles=(0.0, float(angle)))
    count = scan.sizes["angle"]
    out = np.zeros(count, dtype=bool)
    out[np.random.default_rng(SEED).permutation(count)[: count // 2]] = True
    halves = [operators.from_measurement(scan.isel(angle=which)) for which in (~out, out)]
    prior = REPO / "data/priors/ct.safetensors"
    report(f"half of {count} views, `{phantom}`, {angle}°", prior, *halves[0], *halves[1])


def baselines(file: str = str(DAY)) -> None:
    """Leave out half of an array's scans."""
    OUT.mkdir(parents=True, exist_ok=True)
    table = uvfits.read_table(file)
    scan = table.scans()
    names = np.unique(scan)
    out = np.random.default_rng(SEED).permutation(names)[: len(names) // 2]
    halves = []
    for name, keep in (("kept", ~np.isin(scan, out)), ("out", np.isin(scan, out))):
        path = OUT / f"{name}.uvfits"
        path.unlink(missing_ok=True)
        uvfits.write(path, table.select(keep))
        data = readers.find("uvfits")(path, kind="amplitudes", gain_sd=GAINS)
        halves.append(operators.from_measurement(data))
    name = f"{len(out)} of {len(names)} scans, {Path(file).stem[4:19]}"
    report(name, SOURCES, *halves[0], *halves[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"views": views, "baselines": baselines}[sys.argv[1]](*sys.argv[2:])
