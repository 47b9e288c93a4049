"""Left-out samples of the measured brain, predicted with the noise as drawn.

    python docs/studies/left_out.py [DRAWS]

Half of the measured samples ("all"), or half of those outside of the calibration region ("around"),
are left out (the masks of `compare_brains.py predict`), the rest is sampled by the default at its
own settings with the scale s of the noise drawn, and the left-out samples are predicted. χ² is the
mean square of (y − mean of the draws' predictions) over s² σ² + (1 + 1/n) × the draws' variance; in
brackets with the declared σ alone, s = 1. 1 is expected. Coil maps come from the samples of the
whole file, as in that study. One core, from the repository's root.
"""

from __future__ import annotations

import sys
import time

import torch
from compare_brains import KSPACE, PRIOR, SEED, left_out

from sciinv import operators, priors, readers, samplers


def main(draws: int) -> None:
    """Print a row per mask."""
    data = readers.find("kspace")(KSPACE)
    physics, y = operators.from_measurement(data)
    prior = priors.load(PRIOR)
    mask, maps = physics.mask.numpy(), physics.coil_maps.numpy()
    noise = float(data["noise_sd"][0])
    print("| left out | samples kept, left out | χ² of the prediction | noise scale | "
          "χ² of draws on what was kept | CPU s a draw |\n|---|---|---|---|---|---|")  # fmt: skip
    for name, out in left_out(mask).items():
        inside, outside = (
            operators.load("mri", mask=m, coil_maps=maps, noise_sd=noise, units=data.attrs["units"])
            for m in (mask & ~out, out)
        )
        inside.image_spec = physics.image_spec
        grid = physics.unpack(y)
        began = time.process_time()
        found = samplers.DAPS(prior, noise="auto").sample(
            inside.pack(grid), inside, draws=draws, seed=SEED
        )
        seconds = (time.process_time() - began) / draws
        images = torch.from_numpy(found["image"].values[:, 0])
        predicted = torch.cat([outside.A(x[None]) for x in images])
        variance = predicted.var(0) * (1 + 1 / draws)
        miss = (outside.pack(grid)[0] - predicted.mean(0)).square()
        s = float(found["noise_scale"].mean())
        as_drawn, declared = (float((miss / (k * noise**2 + variance)).mean()) for k in (s**2, 1.0))
        chi2 = found["chi2"].values[:, 0]
        print(f"| {name} | {inside.samples}, {outside.samples} | {as_drawn:.3f} ({declared:.3f}) | "
              f"{s:.3f} | {chi2.mean():.3f} | {seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
