"""Images of nothing in particular: leaves, textures, smooth fields, points and lines of any size.

For objects that nobody has images of. What images of many kinds have in common is here: edges at
all scales (dead leaves: Lee, Mumford & Huang 2001, whose radii follow a power law), smooth fields
and textures with power-law spectra (Field 1987), points and lines, a body on an empty or a lit
background. No object of any field is among them.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sciinv.priors.phantoms.family import Family, dihedral
from sciinv.priors.phantoms.marks import (
    COARSEST,
    FINEST,
    field,
    leaf,
    lines,
    log_uniform,
    points,
    waves,
)

CANVAS, CROP = 144, 64
KINDS = ("leaves", "smooth", "texture", "points", "lines", "sum")
SHARES = (0.42, 0.14, 0.08, 0.08, 0.04, 0.24)
# ln of an image's contrast is N(0, 0.4²): data tell the scale of an object to a factor of about two
CONTRAST = 0.4


def leaves(rng: np.random.Generator, size: int = CANVAS) -> np.ndarray:
    """Return overlapping shapes, each of one value, of a gradient or of a texture; 0 to about 1."""
    count = int(log_uniform(rng, 3, 300))
    power = rng.uniform(0.0, 2.0)  # density of ln r ∝ r^−power
    low, high = FINEST if rng.random() < 0.5 else log_uniform(rng, FINEST, 8), COARSEST
    share = rng.random(count)
    if power > 0.05:
        ends = low**-power, high**-power
        radii = (ends[0] + share * (ends[1] - ends[0])) ** (-1 / power)
    else:
        radii = low * (high / low) ** share
    # The larger lie mostly below: else one of them would hide all others.
    order = np.argsort(-np.log(radii) + rng.uniform(0, 1.5) * rng.standard_normal(count))
    palette = rng.random(int(rng.integers(2, 7))) if rng.random() < 0.5 else None
    grain = _texture(rng, size)
    strength = log_uniform(rng, 0.005, 0.3) if rng.random() < 0.6 else 0.0
    axis = (np.arange(size, dtype=np.float32) - size / 2) / size
    out = np.full((size, size), rng.random(), np.float32)
    for radius in radii[order]:
        rows, cols, cover = leaf(rng, size, float(radius))
        if cover.size == 0:
            continue
        value = rng.random() if palette is None else rng.choice(palette)
        fill = np.full(cover.shape, value, np.float32)
        if strength:
            fill += np.float32(strength * rng.uniform(0, 1)) * grain[rows, cols]
            slope = (strength * rng.standard_normal(2)).astype(np.float32)
            fill += slope[0] * axis[rows, None] + slope[1] * axis[None, cols]
        out[rows, cols] += cover * (fill - out[rows, cols])
    return out


def smooth(rng: np.random.Generator, size: int = CANVAS) -> np.ndarray:
    """Return a random field with structure from a few pixels up, between about 0 and 1."""
    out = field(rng, size, rng.uniform(2.5, 6), log_uniform(rng, 4, COARSEST))
    shape = rng.integers(3)
    if shape == 0:  # skewed: bright clouds on a dark ground
        out = np.exp(rng.uniform(0.3, 1.2) * out)
        return out / np.float32(np.quantile(out, 0.99))
    if shape == 1:  # two phases with a soft wall
        return 0.5 + 0.5 * np.tanh(np.float32(log_uniform(rng, 0.5, 20)) * out)
    return 0.5 + 0.2 * out


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a texture of unit variance."""
    if rng.random() < 0.5:
        return waves(rng, size)
    return field(rng, size, rng.uniform(0, 3), log_uniform(rng, 2, size))


def content(rng: np.random.Generator, kind: str, size: int = CANVAS) -> np.ndarray:
    """Return an image of one of `KINDS` on the whole canvas, values about 0 to 1."""
    if kind == "leaves":
        return leaves(rng, size)
    if kind == "smooth":
        return smooth(rng, size)
    if kind == "texture":
        return rng.random() + log_uniform(rng, 0.02, 0.4) * _texture(rng, size)
    if kind == "points":
        return points(rng, size)
    if kind == "lines":
        return lines(rng, size)
    weight = rng.dirichlet([1.0, 1.0, 0.5, 0.3])
    parts = (leaves, smooth, points, lines)
    out = np.zeros((size, size), np.float32)
    for w, part in zip(weight, parts, strict=True):
        if w > 0.02:
            out += np.float32(w) * part(rng, size)
    return 1.3 * out


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    pick = rng.random()
    if pick < 0.65:
        return np.zeros((size, size), np.float32)
    level = np.full((size, size), rng.random(), np.float32)
    if pick < 0.85:
        return level
    return level + np.float32(rng.uniform(0, 0.3)) * field(rng, size, 5, log_uniform(rng, 40, 500))


def _body(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return which share of each pixel a body of one to three joined shapes covers."""
    out = np.zeros((size, size), np.float32)
    if rng.random() < 0.2:
        wall = field(rng, size, 5, log_uniform(rng, 20, 100)) - rng.uniform(-0.8, 1.0)
        slope = np.hypot(*np.gradient(wall)) + 1e-3
        return np.clip(0.5 + wall / slope, 0, 1).astype(np.float32)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        rows, cols, cover = leaf(rng, size, log_uniform(rng, 0.12, 0.7) * size, inside=True)
        out[rows, cols] = np.maximum(out[rows, cols], cover)
    return out


def image(rng: np.random.Generator, size: int = CANVAS) -> np.ndarray:
    """Return one image u [size, size], most of them within −0.2 … 1.5."""
    kind = str(rng.choice(KINDS, p=SHARES))
    out = content(rng, kind, size)
    sparse = kind in ("points", "lines")
    if sparse:
        out = out + _background(rng, size)
    elif rng.random() < 0.55:
        cover = _body(rng, size)
        out = cover * out + (1 - cover) * _background(rng, size)
    if rng.random() < 0.12:
        # the real part of an image with a phase, as each part of a complex image is
        turn = rng.uniform(0.3, 3) * field(rng, size, 6, log_uniform(rng, 30, 300))
        out = out * np.cos(turn + rng.uniform(0, 2 * np.pi))
    elif rng.random() < 0.1:
        out = out - out.mean()
    if rng.random() < 0.5:
        out = gaussian_filter(out, rng.uniform(0, 1.2))
    return out.astype(np.float32)


def generate(rng: np.random.Generator, source: object = None) -> np.ndarray:
    """Return one image u [1, 144, 144]."""
    return image(rng)[None]


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, turn and mirror, and scale each image's contrast."""
    room = CANVAS - CROP
    corners = torch.randint(0, room + 1, (len(batch), 2), generator=generator).tolist()
    images = torch.stack(
        [x[:, i : i + CROP, j : j + CROP] for x, (i, j) in zip(batch, corners, strict=True)]
    )
    contrast = (CONTRAST * torch.randn(len(batch), 1, 1, 1, generator=generator)).exp()
    return dihedral(images, generator) * contrast


FAMILY = Family(
    name="generic",
    shape=(1, CROP, CROP),
    fixed_size=False,
    offset=0.0,
    scale=1.0,
    units="",
    pixel=1.0,
    pixel_unit="pixel",
    generate=generate,
    augment=augment,
    source=lambda path: None,
    licence="synthetic; BSD-3-Clause with this repository",
    summary=(
        "images of nothing in particular: overlapping shapes with radii from 0.5 to 500 pixels, "
        "textures, smooth fields, points and lines, on an empty or a lit background"
    ),
    limits=(
        "anything of which there are images: it knows edges, smooth parts and textures, and no "
        "object; a prior of one's own images (`sciinv train`) says far more"
    ),
)
