"""A prior of one's own images: the family that they make, and a training run that fits the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sciinv.priors.learned.network import EDMNetwork, NetworkSpec
from sciinv.priors.learned.precision import cast, chosen
from sciinv.priors.learned.recipes import TrainConfig
from sciinv.priors.phantoms.brains import random_phase
from sciinv.priors.phantoms.family import Family

WHOLE = 160  # images of up to so many pixels a side are learned whole, larger ones by crops
ENOUGH = 40_000  # a network that can be shown fewer images in the time is too large
SIZES = ((48, 96, 192, 192), (32, 64, 128, 128), (24, 48, 96, 128), (16, 32, 64, 64))
BATCH_PIXELS = 65_536
TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "left-right": lambda x: x.flip(-1),
    "up-down": lambda x: x.flip(-2),
    "half turn": lambda x: x.flip((-2, -1)),
    "transposed": lambda x: x.transpose(-1, -2),
    "quarter turn": lambda x: torch.rot90(x, 1, (-2, -1)),
}


@dataclass(frozen=True)
class OwnImages(Family):
    """Images that are there, instead of a generator.

    Attributes:
        train: Images to train on, u [N, C, H', W'].
        held: Images that are held out, for block 0.
    """

    train: Tensor = field(default_factory=lambda: torch.empty(0))
    held: Tensor = field(default_factory=lambda: torch.empty(0))

    def pool(self, seed: int, block: int, count: int, source: object) -> Tensor:
        """Return `count` images drawn from one side, each once before any is there twice."""
        images = self.held if block == 0 else self.train
        rng = np.random.default_rng([seed, block])
        turns = -(-count // len(images))
        order = np.concatenate([rng.permutation(len(images)) for _ in range(turns)])[:count]
        return images[torch.from_numpy(order if block else np.arange(count) % len(images))].half()


def family_of(
    train: np.ndarray,
    held: np.ndarray,
    *,
    offset: float,
    scale: float,
    crop: tuple[int, int] | None,
    turns: Sequence[str] = (),
    phase: str = "none",
    units: str = "",
    pixel: float = 1.0,
    pixel_unit: str = "pixel",
    summary: str = "",
    limits: str = "",
    licence: str = "the user's own images",
) -> OwnImages:
    """Return the family of real or complex images [N, H, W]; u = (x − offset)/scale.

    Args:
        train: Images to train on.
        held: Images that are held out.
        offset: Physical value of u = 0.
        scale: Physical value of one unit of u.
        crop: (H, W) of the crops to learn; None: whole images of this one size.
        turns: Orientations to train with beside the images' own, of `TURNS`.
        phase: "none"; "measured" (complex images: one random constant phase each, since that of a
            measurement is arbitrary); "simulated" (real images are given smooth phases).
        units: Unit of a value.
        pixel: Side of a pixel.
        pixel_unit: Its unit.
        summary: One phrase on the class, for the card.
        limits: What a prior of it is not good for.
        licence: Where the images are from.
    """
    both = [_channels((v - offset) / scale) for v in (train, held)]
    h, w = crop or train.shape[1:]
    channels = 2 if train.dtype.kind == "c" or phase == "simulated" else 1

    def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
        return _augmented(batch, generator, (h, w), turns, phase)

    return OwnImages(
        name="own images", shape=(channels, h, w), fixed_size=crop is None, offset=offset,
        scale=scale, units=units, pixel=pixel, pixel_unit=pixel_unit, generate=_never,
        augment=augment, source=lambda path: None, licence=licence, summary=summary,
        limits=limits, train=both[0], held=both[1],
    )  # fmt: skip


def _never(rng: np.random.Generator, source: object) -> np.ndarray:
    raise NotImplementedError  # pool() has the images


def _channels(u: np.ndarray) -> Tensor:
    if u.dtype.kind == "c":
        return torch.from_numpy(np.stack([u.real, u.imag], 1).astype(np.float32))
    return torch.from_numpy(u[:, None].astype(np.float32))


def _augmented(
    batch: Tensor,
    generator: torch.Generator,
    shape: tuple[int, int],
    turns: Sequence[str],
    phase: str,
) -> Tensor:
    h, w = shape
    out = []
    for image in batch:
        pick = int(torch.randint(0, len(turns) + 1, (), generator=generator))
        turned = TURNS[turns[pick - 1]](image) if pick else image
        room = (turned.shape[-2] - h, turned.shape[-1] - w)
        y, x = (int(torch.randint(0, r + 1, (), generator=generator)) for r in room)
        out.append(turned[:, y : y + h, x : x + w])
    images = torch.stack(out)
    if phase == "simulated":
        angle = random_phase(len(images), max(h, w), generator)[..., :h, :w]
        return torch.cat([images * angle.cos(), images * angle.sin()], 1)
    if phase == "measured":
        angle = 2 * torch.pi * torch.rand(len(images), 1, 1, 1, generator=generator)
        re, im, c, s = images[:, :1], images[:, 1:], angle.cos(), angle.sin()
        return torch.cat([c * re - s * im, s * re + c * im], 1)
    return images


def seconds_per_image(spec: NetworkSpec, shape: tuple[int, int, int], batch: int) -> float:
    """Return how long a step of training takes here, per image."""
    device = chosen("auto")
    network = EDMNetwork(spec, 1.0, (0.01, 50.0)).to(device).to(memory_format=torch.channels_last)
    x = torch.zeros(batch, *shape, device=device).contiguous(memory_format=torch.channels_last)
    least = float("inf")
    for _ in range(2):
        begin = time.monotonic()
        with cast(device):
            out = network.raw(x, torch.ones(batch, 1, 1, 1, device=device))
        out.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        least = min(least, time.monotonic() - begin)
    return least / batch


def plan(
    kind: OwnImages,
    minutes: float,
    *,
    name: str,
    strongest: float,
    noise: float = 0.0,
    seed: int = 0,
    folder: str = ".",
    command: str = "",
) -> tuple[TrainConfig, list[str]]:
    """Return a training run for the images and the time, and what was chosen, in sentences.

    Args:
        kind: The images.
        minutes: Time of the training itself.
        name: Name of the prior.
        strongest: sd of the set's strongest pattern, physical (`images.inspect`).
        noise: sd of the white noise in the images, physical.
        seed: Seed of everything.
        folder: Where checkpoints and results go.
        command: What the card says.
    """
    c, h, w = kind.shape
    batch = int(np.clip(BATCH_PIXELS // (h * w), 4, 16))
    patch = 1 if min(h, w) <= 40 else 2 if min(h, w) <= 128 else 4
    mean = (h, w) if kind.fixed_size and c == 1 else None
    rows = []
    for nc in SIZES:
        spec = NetworkSpec(c, nc, 2, patch, True, mean, c == 2)
        each = seconds_per_image(spec, kind.shape, batch)
        shown = 60 * minutes / each
        rows.append(f"{nc}: {1e3 * each:.0f} ms an image, {shown:,.0f} in {minutes:.0f} minutes")
        if shown >= ENOUGH:
            break
    # Above three times the strongest pattern's sd nothing shows through the noise.
    sigma_max = float(np.clip(3 * strongest / kind.scale, 10.0, 80.0))
    sigma_min = 0.01
    # Shown so few images, a network that starts from nothing ends above the error of the best
    # linear filter at most levels, in faint noise even above that of the noisy image; one that
    # adds to the filter is below it from the first steps (docs/evidence/generic.md).
    short = shown < ENOUGH
    train = len(kind.train)
    config = TrainConfig(
        name=name, family=kind.name, nc=nc, nb=2, patch=patch, highpass=True,
        mean=mean is not None, phase=c == 2, linear=short, sigma_data=1.0, sigma_min=sigma_min,
        sigma_max=sigma_max, p_mean=-0.5, p_std=1.6, batch=batch, minutes=minutes,
        pool=max(min(train // 32 * 32, 4096), 32), block=32, refresh=25, ema=3000,
        warmup=100, validation=len(kind.held), seed=seed, checkpoint_every=250,
        command=command, output=folder, checkpoints=folder,
    )  # fmt: skip
    return config, [
        f"σ from {sigma_min * kind.scale:.4g} to {sigma_max * kind.scale:.4g} "
        f"({sigma_min:g} to {sigma_max:.3g} times the spread of the images)"
        + (f"; noise in the images has {noise / kind.scale:.2g}" if noise > sigma_min else ""),
        f"network {nc}, {patch} × {patch} pixels folded, batch {batch}: the largest of which "
        f"{ENOUGH:,} images can be shown ({'; '.join(rows)})"
        if not short
        else f"network {nc}, the smallest, added to the set's Wiener filter: only {shown:,.0f} "
        "images can be shown in the time",
        f"learned {'whole' if kind.fixed_size else f'by crops of {h} × {w}'}"
        + (", for this size only" if kind.fixed_size else ", for any size"),
    ]
