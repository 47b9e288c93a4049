"""Local widths for a learned prior: fitted on its own draws, and added to its file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from sciinv.arithmetic import fixed_arithmetic
from sciinv.priors.draws import prior_draws
from sciinv.priors.learned import files
from sciinv.priors.widths import local, moves

LEVELS = 16


@fixed_arithmetic()
def add_local(
    path: str | Path,
    images: int = 256,
    pairs: int = 3072,
    steps: int = 2000,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fit the local widths of the prior in a file, and write them into it; all else is kept.

    The images are the prior's own draws (reverse SDE, 100 steps): p(x0 | x_t) is that of the prior,
    not of what it was trained on.

    Args:
        path: File of a learned prior, as `sciinv train` writes it.
        images: Draws of the prior.
        pairs: Noised images for the fit, and as many for the correlations.
        steps: Steps of the fit.
        seed: Seed of everything.
        say: Takes a line of progress.

    Returns:
        The file.

    Raises:
        PriorError: It is no readable prior of ours.
    """
    prior = files.load(path)
    with safe_open(path, framework="pt") as stored:
        first = next(k for k in stored.keys() if k.startswith("network."))  # noqa: SIM118
        storage = stored.get_tensor(first).dtype
    say(f"{prior.name}: {images} draws of the prior")
    own = prior_draws(prior, images, prior.train_shape, seed)
    say(f"{prior.name}: {2 * pairs} denoised images, {steps} steps")
    ends = (math.log10(prior.sigma_min), math.log10(prior.sigma_max))
    prior.local = local.fit(
        prior, own, torch.logspace(*ends, LEVELS), offset=prior.offset, unit=prior.sigma_data,
        pairs=pairs, steps=steps, seed=seed, say=lambda line: say(f"{prior.name}: {line}"),
    )  # fmt: skip
    if prior.moves is not None:  # they are what the widths leave
        prior.moves = moves.fit(prior, prior.local, own, prior.moves.sigmas, seed=seed)
    prior.metadata["local"] = {"images": images, "pairs": pairs, "steps": steps, "seed": seed}
    files.save(prior, path, storage=storage)
    return Path(path)
