"""Simulated discs whose scale and detector nobody knows: do the intervals hold them?

    [SEED=601] python docs/studies/unknown_discs.py [DISCS] [DRAWS] [ANGLE …]

Discs of the disc prior's own family that it was not trained on, Helsinki's fan and noise, views
over each ANGLE (default 60°). The factor on the attenuation and the detector's shift are drawn from
their priors (1 ± 0.1; 0 ± 2 elements), and so are those of the draws, with the image and the scale
of the noise; beside it the same disc and noise with scale 1 and shift 0, both known. Levels and κ
are the prior's own.
Prints for each disc what is found of both, and the error of a draw; then how far off they are in
posterior standard deviations (1.09 to 1.18 is right for 19 to 4 draws of a Gaussian posterior), and
the same of the product of factor and mean attenuation, which is what a sinogram tells. Of the
measured scan the geometry and the size of the noise are taken alone.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import torch
from unknown_scans import REPO, SDS, file_of

from sciinv import likelihoods, priors, samplers
from sciinv.operators.from_store import from_measurement
from sciinv.priors.phantoms import family
from sciinv.readers import htc2022

SEED, DRAWN = int(os.environ.get("SEED", "601")), 7


def main(discs: int, draws: int, angles: list[float]) -> None:
    """Print a row for each angle and disc, and a line for each angle."""
    prior = priors.load(REPO / "data/priors/ct.safetensors")
    kind = family("discs")
    stream = torch.Generator().manual_seed(SEED)
    images = kind.augment(kind.pool(SEED, 0, discs, None).float(), torch.Generator().manual_seed(0))
    truths = kind.offset + kind.scale * images
    widths = torch.tensor(list(SDS.values()))
    thetas = torch.tensor([1.0, 0.0]) + widths * torch.randn(discs, 2, generator=stream)
    print("| views over | disc | scale | found | shift, elements | found | error ÷ sd: scale, "
          "shift, product | rms of a draw, u | with both known | χ² of the truth | of the draws "
          "| CPU s a draw |\n" + "|---" * 12 + "|", flush=True)  # fmt: skip
    for angle in angles:
        scan = htc2022.read(file_of("ta", "full"), angles=(0.0, angle), image_size=128)
        physics, _ = from_measurement(scan, unknowns=SDS)
        told, _ = from_measurement(scan)
        noise = likelihoods.of(physics)
        assert isinstance(noise, likelihoods.Gaussian)
        assert noise.sd is not None
        off = []
        for i in range(discs):
            truth, theta = truths[i : i + 1], thetas[i : i + 1]
            clean = physics.at(theta).A(truth)
            n = noise.sd * torch.randn(clean.shape, generator=stream)
            errors, prices = [], []
            for known in (False, True):
                seen = told if known else physics
                data = seen.A(truth) + n if known else clean + n
                start = time.process_time()
                sampler = samplers.DAPS(prior, micro_batch=draws, noise="drawn", retries=0)
                post = sampler.sample(data, seen, draws=draws, seed=DRAWN, items=[i])
                prices.append((time.process_time() - start) / draws)
                x = torch.from_numpy(post["image"].values[:, 0])
                errors.append((x - truth).div(kind.scale).square().mean((1, 2, 3)).sqrt().mean())
                if not known:
                    found = post
                    brightness = x.mean((1, 2, 3)).numpy() / float(truth.mean())
            scale = found["attenuation_scale"].values[:, 0]
            shift = found["detector_shift"].values[:, 0]
            product = scale * brightness
            right = [float(v) for v in theta[0]]
            z = [
                (v.mean() - t) / v.std(ddof=1)
                for v, t in ((scale, right[0]), (shift, right[1]), (product, right[0]))
            ]
            off.append(z)
            chi2 = float((n / noise.sd).square().mean())
            print(
                f"| {angle:g}° | {i} | {right[0]:.3f} "
                f"| {scale.mean():.3f} ± {scale.std(ddof=1):.3f} "
                f"| {right[1]:+.2f} | {shift.mean():+.2f} ± {shift.std(ddof=1):.2f} "
                f"| {z[0]:+.1f}, {z[1]:+.1f}, {z[2]:+.1f} | {errors[0]:.3f} | {errors[1]:.3f} "
                f"| {chi2:.3f} | {found['chi2'].values.min():.3f}–{found['chi2'].values.max():.3f} "
                f"| {prices[0]:.0f}, {prices[1]:.0f} |",
                flush=True,
            )
        rms = np.sqrt(np.mean(np.square(off), 0))
        print(f"\n{angle:g}°: rms of error ÷ sd: scale {rms[0]:.2f}, shift {rms[1]:.2f}, "
              f"product {rms[2]:.2f}\n", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = sys.argv[1:]
    main(
        int(numbers[0]) if numbers else 8,
        int(numbers[1]) if len(numbers) > 1 else 4,
        [float(a) for a in numbers[2:]] or [60.0],
    )
