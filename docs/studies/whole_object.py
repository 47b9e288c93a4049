"""Do the widths of p(x0 | x_t) know errors of an object as a whole? Brightness, place, size.

    python docs/studies/whole_object.py PRIOR [IMAGES]

Draws of the prior itself (seed 31) are noised and denoised at levels of σ. The error e = x0 − D is
compared with what the local widths C make of it (κ = 1) along directions g: a change of brightness
(D itself), of phase (complex images), of place, of size, the sum of all pixels, and white noise,
which is what the widths were fitted to. A cell has mean (gᵀe)² ÷ mean gᵀC g, then the mean
of the ratios image by image; 1 is right, 3 is what the default's κ = 3 covers.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from sciinv import priors
from sciinv.priors.draws import prior_draws

SEED, LEVELS, REPEATS = 31, 9, 3


def directions(d: Tensor, generator: torch.Generator) -> dict[str, list[Tensor]]:
    """Return directions by name of denoised images counted from their offset, [N, C, H, W] each."""
    gx, gy = (torch.gradient(d, dim=axis)[0] for axis in (-1, -2))
    weight = d.abs().sum(1, keepdim=True)
    weight = weight / weight.sum((-2, -1), keepdim=True).clamp_min(1e-30)
    row = torch.arange(d.shape[-2], dtype=d.dtype)[:, None]
    column = torch.arange(d.shape[-1], dtype=d.dtype)
    y = row - (weight * row).sum((-2, -1), keepdim=True)
    x = column - (weight * column).sum((-2, -1), keepdim=True)
    found = {"brightness": [d], "place": [gx, gy], "size": [x * gx + y * gy]}
    if d.shape[1] == 2:
        found["phase"] = [torch.stack([-d[:, 1], d[:, 0]], 1)]
    one = torch.zeros_like(d)
    one[:, 0] = 1.0
    found["sum"] = [one]
    found["white"] = [torch.randn(d.shape, generator=generator) for _ in range(REPEATS)]
    return found


def main(name: str, count: int) -> None:
    """Print a row per level."""
    prior = priors.load(f"data/priors/{name}.safetensors")
    x0 = prior_draws(prior, count, prior.train_shape, SEED)
    generator = torch.Generator().manual_seed(SEED)
    lowest = max(prior.sigma_min, 0.01 * prior.scale)
    for i, sigma in enumerate(np.geomspace(prior.sigma_max, lowest, LEVELS).tolist()):
        with torch.no_grad():
            noise = torch.randn(x0.shape, generator=generator)
            x_hat = torch.cat([prior(x, sigma) for x in (x0 + sigma * noise).split(8)])
            c = prior.local_covariance(x_hat, sigma, 1.0)
        error, cells = x0 - x_hat, []
        every = directions(x_hat - prior.offset, generator)
        if not i:
            print("| σ, u | " + " | ".join(every) + " |\n|" + "---|" * (len(every) + 1))
        for along in every.values():
            seen = torch.cat([(g * error).flatten(1).double().sum(1).square() for g in along])
            told = torch.cat([(g * c(g)).flatten(1).double().sum(1) for g in along])
            cells.append(f"{seen.mean() / told.mean():.2g}, {(seen / told).mean():.2g}")
        print(f"| {sigma / prior.scale:.2g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24)
