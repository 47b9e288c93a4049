"""Left-out samples of the measured brain, predicted with the noise as drawn.

    python docs/studies/left_out.py [DRAWS] [--only all] [--maps 0.05] [--error 0.02] [--by coil]

Half of the measured samples ("all"), or half of those outside of the calibration region ("around"),
are left out (the masks of `compare_brains.py predict`), the rest is sampled by the default at its
own settings with the scale s of the noise drawn, and the left-out samples are predicted. χ² is the
mean square of (y − mean of the draws' predictions) over s² σ² + (1 + 1/n) × the draws' variance; in
brackets with the declared σ alone, s = 1. 1 is expected. Coil maps come from the samples of the
whole file, as in that study; with `--maps SD` smooth corrections of them (`map_order` 4, standard
deviation SD) are drawn with the image, and each draw predicts with its own maps. With `--error T`
the size t of a model error is drawn beside the noise (a share of the samples around each; T the
half-width of its prior), and t² E is part of what the prediction may miss by, E that of the
predicted samples. `--by coil` draws a scale of the noise for each coil. One core, from the
repository's root.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch
from compare_brains import KSPACE, PRIOR, SEED, left_out

from sciinv import likelihoods, operators, priors, readers, samplers
from sciinv.model_error import DRAWN, as_drawn


def main(
    draws: int, only: str | None, maps_sd: float | None, error: float | None, by: str | None
) -> None:
    """Print a row per mask."""
    data = readers.find("kspace")(KSPACE)
    physics, y = operators.from_measurement(data)
    prior = priors.load(PRIOR)
    mask, maps = physics.mask.numpy(), physics.coil_maps.numpy()
    noise = float(data["noise_sd"][0])
    given = {"coil_maps": maps_sd, "model_error": error}
    unknowns = {name: sd for name, sd in given.items() if sd is not None}
    more: dict[str, Any] = {"unknowns": unknowns} if unknowns else {}
    if by is not None:
        more["noise_by"] = by
    # the draws of one chain; the prior's own micro-batch where the maps are known, as ever
    size = None if maps_sd is None else draws
    print("| left out | samples kept, left out | χ² of the prediction | noise scale | "
          "χ² of draws on what was kept | moves taken | model error | CPU s a draw |\n"
          + "|---" * 8 + "|",
          flush=True)  # fmt: skip
    for name, out in left_out(mask).items():
        if only not in (None, name):
            continue
        inside, outside = (
            operators.load(
                "mri", mask=m, coil_maps=maps, noise_sd=noise, units=data.attrs["units"], **more
            )
            for m in (mask & ~out, out)
        )
        inside.image_spec = physics.image_spec
        grid = physics.unpack(y)
        began = time.process_time()

        def progress(done: int, total: int, began: float = began) -> None:
            seconds = time.process_time() - began
            print(f"level {done} of {total}, {seconds:.0f} s", file=sys.stderr, flush=True)

        found = samplers.DAPS(prior, noise="auto", micro_batch=size).sample(
            inside.pack(grid), inside, draws=draws, seed=SEED, progress=progress
        )
        seconds = (time.process_time() - began) / draws
        images = torch.from_numpy(found["image"].values[:, 0])
        seen_by = [outside] * draws
        if maps_sd is not None:
            theta = torch.as_tensor(found["coil_maps"].values[:, 0], dtype=torch.float32)
            seen_by = [outside.at(one[None]) for one in theta]
        predicted = torch.cat([by.A(x[None]) for by, x in zip(seen_by, images, strict=True)])
        variance = predicted.var(0) * (1 + 1 / draws)
        miss = (outside.pack(grid)[0] - predicted.mean(0)).square()
        drawn = {
            key: torch.as_tensor(found[key].values[:, 0].mean(0, keepdims=True))
            for key in DRAWN if key in found
        }  # fmt: skip
        mean = predicted.mean(0, keepdim=True)
        noise_sd = as_drawn(outside, likelihoods.of(outside), drawn, mean).deviations(mean)
        assert noise_sd is not None
        as_found, declared = (
            float((miss / (sd**2 + variance)).mean()) for sd in (noise_sd[0], noise)
        )
        s = " ".join(f"{float(v):.3f}" for v in drawn["noise_scale"].flatten())
        t = f"{float(drawn['model_error']):.4f}" if error is not None else "–"
        chi2 = found["chi2_found" if "chi2_found" in found else "chi2"].values[:, 0]
        moves = "–"
        if maps_sd is not None:
            moves = f"{float(found['unknowns_acceptance'].mean()):.2f}"
        counts = f"{inside.samples}, {outside.samples}"
        print(f"| {name} | {counts} | {as_found:.3f} ({declared:.3f}) | {s} | "
              f"{chi2.mean():.3f} | {moves} | {t} | {seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("draws", type=int, nargs="?", default=8)
    parser.add_argument("--only", choices=["all", "around"], help="one of the two masks")
    parser.add_argument("--maps", type=float, help="draw coil maps, with this standard deviation")
    parser.add_argument("--error", type=float, help="draw a model error, of this half-width")
    parser.add_argument("--by", choices=["coil"], help="a scale of the noise for each coil")
    args = parser.parse_args()
    main(args.draws, args.only, args.maps, args.error, args.by)
