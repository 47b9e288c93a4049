"""Do residuals tell when every draw stands in a wrong mode? Simulated discs from few views.

    [SEED=501] [PRIOR=FILE] python docs/studies/wrong_modes.py [DISCS] [DRAWS] [ANGLE …]

Discs of the disc prior's own family that it was not trained on (seed 501, or SEED), Helsinki's fan
and noise, views over each ANGLE (default 30, 60 and 90°), the shipped setting with the noise drawn
and nothing refused. Prints for each disc: χ² by the declared noise of truth and draws, the
correlation of residuals in neighbouring views and detector elements (in brackets the truth's ± its
error), and the error of a draw. Of the measured scan the geometry and the size of the noise are
taken alone.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch

from sciinv import likelihoods, priors, samplers
from sciinv.calibration.simulate import simulate
from sciinv.operators.base import declared
from sciinv.operators.from_store import from_measurement
from sciinv.priors.phantoms import family
from sciinv.readers import htc2022
from sciinv.uncertainty.neighbours import neighbours

DATA = Path(__file__).resolve().parents[2] / "data"
SEED, NOISE, DRAWN = int(os.environ.get("SEED", "501")), 5, 7
PRIOR = os.environ.get("PRIOR", str(DATA / "priors/ct.safetensors"))


def main(discs: int, draws: int, angles: list[float]) -> None:
    """Print a row for each angle and disc."""
    prior = priors.load(PRIOR)
    kind = family("discs")
    images = kind.augment(kind.pool(SEED, 0, discs, None).float(), torch.Generator().manual_seed(0))
    truths = kind.offset + kind.scale * images
    print("| views over | disc | χ² of the truth | of the draws | views | detector elements "
          "| told | rms of a draw, u | CPU s a draw |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for angle in angles:
        scan = htc2022.read(
            DATA / "ct" / "htc2022_ta_full.mat", angles=(0.0, angle), image_size=128
        )
        physics, y0 = from_measurement(scan)
        physics = declared(physics, y0, prior.shape)
        data = simulate(physics, truths, NOISE)
        noise = likelihoods.of(physics)
        assert isinstance(noise, likelihoods.Gaussian)
        assert noise.sd is not None
        for i in range(discs):
            start = time.process_time()
            sampler = samplers.DAPS(prior, micro_batch=draws, noise="drawn", retries=0)
            y = data[i : i + 1]
            post = sampler.sample(y, physics, draws=draws, seed=DRAWN, items=[i])
            price = (time.process_time() - start) / draws
            x = torch.from_numpy(post["image"].values[:, 0])
            left = (y - physics.A(torch.cat([truths[i : i + 1], x]))) / noise.sd
            chi2 = left.double().square().flatten(1).mean(1)
            found = neighbours(list(left[1:].numpy()), {"views": -2, "elements": -1})
            of_truth = neighbours([left[0].numpy()], {"views": -2, "elements": -1})
            rms = (x - truths[i]).div(kind.scale).square().mean((1, 2, 3)).sqrt().mean()
            each = [
                f"{n.correlation:+.3f} ({t.correlation:+.3f} ± {n.error:.3f})"
                for n, t in zip(found, of_truth, strict=True)
            ]
            print(
                f"| {angle:g}° | {i} | {chi2[0]:.3f} | {chi2[1:].min():.3f}–{chi2[1:].max():.3f} "
                f"| {each[0]} | {each[1]} | {'yes' if any(n.related for n in found) else 'no'} "
                f"| {rms:.3f} | {price:.1f} |",
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = sys.argv[1:]
    main(
        int(numbers[0]) if numbers else 4,
        int(numbers[1]) if len(numbers) > 1 else 2,
        [float(a) for a in numbers[2:]] or [30.0, 60.0, 90.0],
    )
