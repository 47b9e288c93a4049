"""What training on marred images did to a prior: errors, dents, measured scans from few views.

    python docs/studies/mended.py errors ct|blackhole BEFORE     BEFORE is the file of before
    python docs/studies/mended.py dents BEFORE
    python docs/studies/mended.py scans FILE ta:30 tb:30 01a:30 …
    python docs/studies/mended.py join NETWORK ABOVE ALONE
    python docs/studies/mended.py replace FILE
    python docs/studies/mended.py moves

`errors`: SIMULATED. Root mean square error per pixel on 48 images of the family (seed 903, no
training's), clean and marred, with the same noise for both priors. `dents`: SIMULATED. A round dent
of 7 pixels is cut into the rim of eight discs (seed 902); the share of its depth that D keeps, 0
for a perfect prior. `scans`: measured Helsinki scans as `workflows/configs/helsinki.yaml` draws
them (seed 2026, 8 draws in one micro-batch), with the prior FILE; phantoms beyond the two that ship
come from the folder HTC2022. Draws that failed are left out of the mean, as in the report. `join`
puts the network of `sciinv train workflows/configs/train-ct-mended.yaml` between the two of
data/priors/ct.safetensors as `train-ct.yaml` makes it: with a share from ABOVE on, alone from ALONE
to where the one for high noise begins. Widths from ABOVE on are measured anew, the local ones on 64
of the prior's own images. `replace` writes the prior of `sciinv train
workflows/configs/train-blackhole-mended.yaml`, with the local widths of `sciinv fit-widths`, into
data/priors/blackhole.safetensors; its stationary widths are measured anew on 512 held-out images,
as on the training's 128 one of 24 was below its neighbour's. `moves` fits how far D misplaces edges
(`sciinv.priors.widths.moves`; 64 discs, 12 levels) and writes it into data/priors/ct.safetensors.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import torch
from high_noise import remeasure
from unknown_scans import REPO, file_of

from sciinv import priors, samplers
from sciinv.arithmetic import fixed_arithmetic
from sciinv.operators.from_store import from_measurement
from sciinv.priors.base import Prior
from sciinv.priors.learned import evaluation, files
from sciinv.priors.learned.copies import remade, with_network
from sciinv.priors.phantoms import discs, family
from sciinv.priors.widths import moves, stationary
from sciinv.quantities.segmentation import score
from sciinv.readers import htc2022

SEED, IMAGES = 903, 48
SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
FAMILIES = {"ct": "discs", "blackhole": "blackholes"}
DENT = 7  # pixels
HELD = 31  # seed of the training of the black-hole prior, whose block 0 is held out
MOVES = 971  # seed of the displacements
WIDTHS = 905  # seed of what the widths of the joined prior are measured on


def denoised(prior: Prior, u: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return D_u of images u with the same noise for every prior, units of u."""
    noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(SEED))
    parts = (u + sigma * noise).split(16)
    with torch.no_grad():
        found = [
            prior(prior.offset + prior.scale * part, float(prior.scale * sigma)) for part in parts
        ]
    return (torch.cat(found) - prior.offset) / prior.scale


def errors(name: str, before: str) -> None:
    """Print errors per level on clean and on marred images."""
    kind = family(FAMILIES[name])
    both = [priors.load(path) for path in (before, REPO / f"data/priors/{name}.safetensors")]
    clean, marred = kind.pairs(SEED, 0, IMAGES, None).float().chunk(2, 1)
    print(
        "| σ, u | clean: before | now | ratio | marred: before | now | ratio |\n" + "|---" * 7, "|"
    )
    for sigma in SIGMAS:
        cells = [f"{sigma:g}"]
        for seen in (clean, marred):
            rms = [(denoised(p, seen, sigma) - clean).square().mean().sqrt() for p in both]
            cells += [f"{rms[0]:.4f}", f"{rms[1]:.4f}", f"{rms[1] / rms[0]:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def dents(before: str) -> None:
    """Print the share of a dent's depth that D keeps."""
    both = [priors.load(path) for path in (before, REPO / "data/priors/ct.safetensors")]
    u = family("discs").pool(902, 0, 8, None).float()
    grid = torch.arange(discs.N).float()
    dented, where = u.clone(), torch.zeros_like(u, dtype=torch.bool)
    for i, image in enumerate(u[:, 0]):
        # on the right of the disc, at its middle row: the rim is the last pixel of acrylic
        row = int((image > 0).sum(1).argmax())
        rim = float((image[row] > 0).nonzero().max())
        where[i, 0] = (grid[:, None] - row) ** 2 + (grid[None] - rim) ** 2 < (DENT / 2) ** 2
        where[i, 0] &= image > 0
        dented[i, 0][where[i, 0]] = -1
    print("| σ, u | before: kept of each dent | mean | now | mean |\n|---|---|---|---|---|")
    for sigma in (8.0, 4.0, 2.0, 1.0, 0.5, 0.25):
        row_of = [f"{sigma:g}"]
        for p in both:
            d = denoised(p, dented, sigma)
            kept = [float(((u - d)[i][w]).sum() / (u - dented)[i][w].sum())
                    for i, w in enumerate(where)]  # fmt: skip
            row_of += [" ".join(f"{k:.2f}" for k in kept), f"{np.mean(kept):.2f}"]
        print("| " + " | ".join(row_of) + " |", flush=True)


def scans(file: str, cases: list[str]) -> None:
    """Print a row per measured scan."""
    prior = priors.load(file)
    print("| scan | mean of what settled | draws | χ² by the declared noise, all | tries; failed "
          "| noise scale | CPU s a draw |\n" + "|---" * 7, "|")  # fmt: skip
    for case in cases:
        phantom, angle = case.split(":")
        ending = "recon_fbp_seg" if phantom[0] != "t" else "full_recon_fbp_seg"
        reference = htc2022.read_segmentation(file_of(phantom, ending))
        scan = htc2022.read(
            file_of(phantom, "full"), angles=(0.0, float(angle)), image_size=discs.N
        )
        physics, y = from_measurement(scan)
        began = time.process_time()
        post = samplers.DAPS(prior, micro_batch=8, noise="auto").sample(
            y, physics, draws=8, seed=2026
        )
        price = (time.process_time() - began) / 8
        one = post.isel(item=0)
        kept = one["failed"].values == 0
        images, chi2 = one["image"].values[:, 0], one["chi2"].values
        each = np.array([score(image, reference) for image in images[kept]])
        noise = one["noise_scale"].values[kept]
        print(
            f"| `{phantom}`, {angle}° | {score(images[kept].mean(0), reference):.3f} "
            f"| {each.mean():.3f} ± {each.std():.3f} | {chi2.min():.3f}–{chi2.max():.3f} "
            f"| {int(one['tries'].sum())}; {int((~kept).sum())} "
            f"| {noise.min():.3f}–{noise.max():.3f} | {price:.1f} |",
            flush=True,
        )


@fixed_arithmetic()
def join(file: str, above: float, alone: float) -> None:
    """Write the network of a file into the disc prior."""
    path = REPO / "data/priors/ct.safetensors"
    before, trained = files.load(path), files.load(file)
    high = before.high_spec
    assert high is not None
    known = {**before.metadata, "training_middle": before.metadata["training_high"]}
    moved = remade(before, high=None, middle=high, metadata=known)
    moved.middle.load_state_dict(before.high.state_dict())
    prior = with_network(moved, "high", trained, above, alone)
    files.save(prior, path, storage=torch.float16)
    prior = files.load(path)  # widths are those of the weights as stored
    kind = family("discs")
    stream = torch.Generator().manual_seed(WIDTHS)
    x0 = kind.offset + kind.scale * kind.augment(kind.pool(WIDTHS, 1, 96, None).float(), stream)
    remeasure(prior, x0, above, WIDTHS)
    files.save(prior, path, storage=torch.float16)
    print("\n".join(evaluation.uppers(prior)))


@fixed_arithmetic()
def replace(file: str) -> None:
    """Write a trained prior in the place of the black-hole prior."""
    path = REPO / "data/priors/blackhole.safetensors"
    before, prior = files.load(path), files.load(file)
    prior.name, prior.inflate = before.name, before.inflate
    kind, stream = family("blackholes"), torch.Generator().manual_seed(1)
    images = kind.augment(kind.pool(HELD, 0, 512, None).float(), stream)
    assert prior.widths is not None
    sigmas = prior.widths.sigmas
    prior.widths = stationary.measure(prior, kind.offset + kind.scale * images, sigmas, seed=HELD)
    files.save(prior, path, storage=torch.float16)


@fixed_arithmetic()
def add_moves() -> None:
    """Write displacements of edges into the disc prior."""
    path = REPO / "data/priors/ct.safetensors"
    prior, kind = files.load(path), family("discs")
    stream = torch.Generator().manual_seed(5)
    u = kind.augment(kind.pool(MOVES, 1, 64, None).float(), stream)
    sigmas = torch.logspace(math.log10(0.3), math.log10(50), 12) * prior.scale
    assert prior.local is not None
    prior.moves = moves.fit(
        prior, prior.local, kind.offset + kind.scale * u, sigmas, seed=MOVES, say=print
    )
    files.save(prior, path, storage=torch.float16)


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *words = sys.argv[1:]
    if what == "errors":
        errors(*words)
    elif what == "dents":
        dents(*words)
    elif what == "replace":
        replace(*words)
    elif what == "moves":
        add_moves()
    elif what == "join":
        join(words[0], float(words[1]), float(words[2]))
    else:
        scans(words[0], words[1:])
