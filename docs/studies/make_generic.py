"""The shipped generic priors: python docs/studies/make_generic.py TRAINED --out data/priors.

TRAINED is what `sciinv train workflows/configs/train-generic.yaml` wrote. The level from which the
Wiener filter of the family serves is the least of a grid from which on it errs less than the
network on held-out images of the family, 128 × 128. The complex prior is the same network on both
parts; whether the slow phase is taken off first is decided on held-out images with smooth phases.
Writes generic.safetensors and generic-complex.safetensors without local widths (`sciinv fit-widths`
adds them), their card and pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciinv.arithmetic import fixed_arithmetic
from sciinv.priors import widths
from sciinv.priors.learned import evaluation, files, generic
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.phantoms import generic as images
from sciinv.priors.phantoms.brains import random_phase

SEED = 5  # of the training: its block 0 was held out
SIDE, COUNT = 128, 48
GRID = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 20.0, 40.0)


def held_out() -> tuple[Tensor, Tensor]:
    """Return held-out images u [N, 1, 128, 128], and whole canvases that the filter is made of."""
    generator = torch.Generator().manual_seed(SEED)

    def varied(block: int, count: int) -> Tensor:
        pool = images.FAMILY.pool(SEED, block, count, None).float()
        return pool * (images.CONTRAST * torch.randn(count, 1, 1, 1, generator=generator)).exp()

    return varied(0, COUNT)[..., :SIDE, :SIDE], varied(1, 384)


def errors(denoise: Callable[[Tensor, float], Tensor], x0: Tensor, sigma: float) -> float:
    """Return the root mean square error a pixel, with the same noise for every denoiser."""
    generator = torch.Generator().manual_seed(int(1e6 * sigma))
    total = 0.0
    with torch.no_grad():
        for part in x0.split(8):
            x = part + sigma * torch.randn(part.shape, generator=generator)
            total += float((denoise(x, sigma) - part).square().sum())
    return (total / x0.numel()) ** 0.5


def with_phase(x0: Tensor) -> Tensor:
    """Return [N, 2, H, W]: the images with smooth phases."""
    angle = random_phase(len(x0), SIDE, torch.Generator().manual_seed(1))
    return torch.cat([x0 * angle.cos(), x0 * angle.sin()], 1)


def measured(prior: LearnedPrior, x0: Tensor) -> LearnedPrior:
    """Return the prior with the stationary widths of its error on held-out images."""
    ends = np.log10(prior.sigma_min), np.log10(prior.sigma_max)
    prior.widths = widths.measure(prior, x0, torch.logspace(*ends, 16), seed=SEED)
    return prior


@fixed_arithmetic()
def make(trained: Path, out: Path) -> None:
    """Write both priors, and print their errors."""
    x0, canvases = held_out()
    network = files.load(trained)
    network.widths = None
    filtered = generic.linear_above(network, canvases, 1e-9)  # serves every level
    table = [(s, errors(filtered, x0, s), errors(network, x0, s)) for s in GRID]
    above = GRID[-1]
    for sigma, linear, learned in reversed(table):
        if linear > learned:
            break
        above = sigma
    print(f"the filter serves from σ = {above:g} u")
    real = measured(generic.linear_above(network, canvases, above), x0[:48])
    files.save(real, out / "generic.safetensors", storage=torch.float16)
    z0 = with_phase(x0)
    kinds = [generic.complex_of(real, phase) for phase in (False, True)]
    both = [(s, *(errors(k, z0, s) for k in kinds)) for s in GRID if s < above]
    better = sum(turned < plain for _, plain, turned in both) * 2 > len(both)
    print(f"the slow phase is {'taken off' if better else 'left'}")
    files.save(measured(kinds[better], z0[:32]), out / "generic-complex.safetensors",
               storage=torch.float16)  # fmt: skip
    drawn = evaluation.unconditional(real, 32, (1, 96, 96), seed=SEED)
    evaluation.picture(drawn, out / "generic-samples.png")
    evaluation.picture(x0[:32, :, :96, :96], out / "generic-training.png")
    pictures = {
        "Unconditional samples (Heun, 24 levels)": "generic-samples.png",
        "Held-out images of the family": "generic-training.png",
    }
    rows = [evaluation.ErrorRow(*row) for row in table]
    more = [
        f"From σ = {above:g} on the Wiener filter of the family serves instead of the network.",
        "",
        "## Complex images",
        "",
        "`generic-complex.safetensors` is the same network on real and imaginary part, the slow "
        f"phase {'taken off first' if better else 'left as it is'}. Errors on the images above "
        "with smooth phases:",
        "",
        "| σ | phase left | phase taken off |",
        "|---|---|---|",
        *(f"| {s:g} | {plain:.3g} | {turned:.3g} |" for s, plain, turned in both),
        "",
    ]
    card = evaluation.card(network, rows, images.FAMILY.limits, pictures)
    (out / "generic.md").write_text(card.rstrip() + "\n\n" + "\n".join(more))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--out", type=Path, default=Path("data/priors"))
    chosen = parser.parse_args()
    make(chosen.trained, chosen.out)
