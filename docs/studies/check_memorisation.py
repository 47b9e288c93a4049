"""Are a prior's samples copies of training images?

    python docs/studies/check_memorisation.py [PRIOR …]

Of 16 unconditional samples of each shipped prior the nearest image of its training set is sought,
and the nearest of as many images that training never showed (the same generator, other seeds). Both
in all eight orientations; at shifts of up to 2 pixels for the two families whose images are whole,
at every position of the slice for the brains, whose magnitudes are compared at half the resolution.
A distance ratio near 1 says that the training images are no nearer than any others of the class.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciinv import priors
from sciinv.priors.learned.evaluation import unconditional
from sciinv.priors.phantoms import family

REPO = Path(__file__).resolve().parents[2]
HEAD = "/usr/share/mricron/templates/ch2.nii.gz"
# prior: family, seed of its training, images of a block, first blocks of the training set
PRIORS = {
    "blackhole": ("blackholes", 1, 256, 8),
    "ct": ("discs", 2, 128, 8),
    "mri": ("brains", 3, 64, 4),
}
BLOCK_OF_OTHERS = 10_000_000
SAMPLES, SHIFT = 16, 2


def orientations(x: Tensor) -> Tensor:
    """Return the eight orientations of images [N, C, H, H], [N, 8, C, H, H]."""
    turned = [torch.rot90(x, k, (-2, -1)) for k in range(4)]
    return torch.stack([*turned, *(t.flip(-1) for t in turned)], 1)


def nearest_whole(samples: Tensor, known: Tensor) -> Tensor:
    """Return the least distance of each sample to any known image, over small shifts."""
    least = torch.full((len(samples),), torch.inf)
    flat = known.flatten(1)
    power = flat.square().sum(1)
    for dy in range(-SHIFT, SHIFT + 1):
        for dx in range(-SHIFT, SHIFT + 1):
            moved = orientations(torch.roll(samples, (dy, dx), (-2, -1))).flatten(2)
            for i, each in enumerate(moved):
                square = each.square().sum(1)[:, None] + power - 2 * each @ flat.T
                least[i] = min(least[i], square.min())
    return least.clamp_min(0).sqrt()


def nearest_part(samples: Tensor, known: Tensor) -> Tensor:
    """Return the least distance of each sample to any part of any known image."""
    size, room = samples.shape[-1], known.shape[-1]
    least = torch.full((len(samples),), torch.inf)
    for image in known[:, 0]:
        window = torch.ones(1, 1, size, size)
        power = torch.nn.functional.conv2d(image.square()[None, None], window)[0, 0]
        spectrum = torch.fft.rfft2(image)
        for i, sample in enumerate(samples):
            for each in orientations(sample[None])[0, :, 0]:
                product = spectrum * torch.fft.rfft2(each, s=(room, room)).conj()
                inner = torch.fft.irfft2(product, s=(room, room))
                inner = inner[: room - size + 1, : room - size + 1]
                square = power + each.square().sum() - 2 * inner
                least[i] = min(least[i], square.min())
    return least.clamp_min(0).sqrt()


def check(name: str) -> dict[str, object]:
    """Return the nearest distances of one prior's samples, root mean square per pixel in u."""
    kind, seed, size, blocks = PRIORS[name]
    made = family(kind)
    source = made.source(HEAD if kind == "brains" else None)
    prior = priors.load(REPO / f"data/priors/{name}.safetensors")
    samples = (unconditional(prior, SAMPLES, made.shape, seed=0) - made.offset) / made.scale
    shown, others = (
        torch.cat([made.pool(seed, first + b, size, source) for b in range(blocks)]).float()
        for first in (1, BLOCK_OF_OTHERS)
    )
    find = nearest_whole
    if kind == "brains":
        find = nearest_part
        samples = torch.nn.functional.avg_pool2d(samples.norm(dim=1, keepdim=True), 2)
        shown, others = (torch.nn.functional.avg_pool2d(x, 2) for x in (shown, others))
    pixels = samples[0].numel() ** 0.5
    near, far = (find(samples, x) / pixels for x in (shown, others))
    # what images that are no samples have: from the unseen ones to the training set
    fresh = made.pool(seed, 2 * BLOCK_OF_OTHERS, SAMPLES, source).float()
    if kind == "brains":
        fresh = torch.nn.functional.avg_pool2d(fresh[..., 68:164, 68:164], 2)
    unseen = find(fresh, shown) / pixels
    ratio = (near / far).numpy()
    return {
        "images": len(shown),
        "nearest in training": near.mean().item(),
        "nearest among others": far.mean().item(),
        "ratio": float(np.median(ratio)),
        "ratios": sorted(ratio.round(3).tolist()),
        "unseen images to training": unseen.mean().item(),
        "rms of a sample": float(samples.square().mean().sqrt()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("priors", nargs="*", metavar="PRIOR")
    torch.set_num_threads(1)
    for chosen in parser.parse_args().priors or PRIORS:
        sys.stdout.write(f"{chosen}: {json.dumps(check(chosen))}\n")
        sys.stdout.flush()
