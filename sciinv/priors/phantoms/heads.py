"""Complex axial slices of whole heads of many people, in any contrast, with coil-like shading.

Three sources: label maps whose tissues are given intensities (the idea of SynthSeg, Billot et al.
2023), clinical volumes with contrasts of their own, and one T1 head recoloured (`brains`). People
are either trained on or held out, never both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from torch import Tensor

from sciinv.priors.phantoms import brains as recoloured
from sciinv.priors.phantoms.family import Family
from sciinv.priors.phantoms.head_sources import (
    BLOOD,
    BONE,
    DEEP,
    EYE,
    FAT,
    GREY,
    LIQUOR,
    MARROW,
    MUSCLE,
    SKIN,
    SOFT,
    WHITE,
    Clinical,
    Heads,
    Labels,
    read_heads,
    split,
)

CANVAS = (256, 216)  # rows (anterior at the top), columns, pixels of 1 mm
SHAPE = (232, 184)  # of a training image
CROP = 96
FINE = 2  # labels are read on a grid this much finer
# Ranges of intensity: white, grey, deep grey, liquor, skin, muscle, blood, bone, marrow, eye, fat.
_ORDER = (WHITE, GREY, DEEP, LIQUOR, SKIN, MUSCLE, BLOOD, BONE, MARROW, EYE, FAT)
_CONTRASTS = {
    "t1": "0.9-1.0 0.5-0.78 0.68-0.92 0.08-0.35 0.6-1.2 0.35-0.65 0.0-0.7 0.0-0.12 0.5-1.4 0.1-0.3 "
    "0.9-1.7",
    "t2": "0.28-0.5 0.42-0.68 0.3-0.55 0.85-1.2 0.2-0.7 0.12-0.35 0.0-0.5 0.0-0.1 0.2-0.8 0.8-1.2 "
    "0.3-1.0",
    "flair": "0.5-0.75 0.6-0.95 0.5-0.85 0.03-0.25 0.3-0.9 0.2-0.45 0.0-0.4 0.0-0.1 0.3-0.9 "
    "0.05-0.3 0.4-1.1",
    "pd": "0.6-0.85 0.75-1.0 0.7-0.95 0.5-1.1 0.4-1.0 0.4-0.8 0.0-0.7 0.0-0.15 0.4-1.1 0.6-1.1 "
    "0.5-1.2",
    "any": "0.05-1.0 0.05-1.0 0.05-1.0 0.0-1.0 0.05-1.2 0.05-1.0 0.0-1.0 0.0-0.4 0.05-1.2 0.0-1.0 "
    "0.05-1.4",
}


def _intensities(rng: np.random.Generator) -> np.ndarray:
    """Return the intensity of each tissue in a contrast drawn at random."""
    kind = rng.choice(list(_CONTRASTS), p=(0.27, 0.22, 0.2, 0.16, 0.15))
    out = np.zeros(13)
    for tissue, text in zip(_ORDER, _CONTRASTS[kind].split(), strict=True):
        low, high = map(float, text.split("-"))
        out[tissue] = rng.uniform(low, high)
    return out


def _field(rng: np.random.Generator, cells: int) -> np.ndarray:
    """A smooth random field of about unit size, `cells` cells across the longer side."""
    step = max(CANVAS) / cells
    size = [int(np.ceil(n / step)) + 4 for n in CANVAS]
    coarse = torch.from_numpy(rng.standard_normal(size).astype(np.float32))
    fine = F.interpolate(coarse[None, None], scale_factor=step, mode="bicubic")[0, 0].numpy()
    edge = int(step)
    y, x = (int(rng.integers(edge, f - n - edge)) for f, n in zip(fine.shape, CANVAS, strict=True))
    return fine[y : y + CANVAS[0], x : x + CANVAS[1]]


def _finer(image: np.ndarray) -> np.ndarray:
    fine = F.interpolate(torch.from_numpy(image)[None, None], scale_factor=FINE, mode="bilinear")
    return fine[0, 0].numpy()


def _texture(rng: np.random.Generator, sd: float) -> np.ndarray:
    out = gaussian_filter(rng.standard_normal(CANVAS).astype(np.float32), sd)
    return out / out.std()


def _plane(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where each pixel is in the head, mm to the left-right and back-front of its middle.

    Turned, scaled by 0.85–1.15, shifted and smoothly deformed by a few mm.
    """
    axes = (np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in CANVAS)
    row, col = np.meshgrid(*axes, indexing="ij")
    for size, cells in ((rng.uniform(0.5, 3.5), 5), (rng.uniform(0, 0.7), 16)):
        row = row + np.float32(size) * _field(rng, cells)
        col = col + np.float32(size) * _field(rng, cells)
    scale = rng.uniform(0.87, 1.13) * np.array([1.0, rng.uniform(0.95, 1.05)])
    turn = np.radians(rng.normal(0, 6))
    right = (np.cos(turn) * col + np.sin(turn) * row) / scale[0] + rng.normal(0, 3)
    front = -(np.cos(turn) * row - np.sin(turn) * col) / scale[1] + rng.normal(0, 4)
    if rng.random() < 0.5:
        right = -right
    return right.astype(np.float32), front.astype(np.float32)


def _of_labels(rng: np.random.Generator, head: Labels) -> np.ndarray:
    """Give the labels of a slice intensities; partial volumes come from a finer grid and planes."""
    right, front = (_finer(a) for a in _plane(rng))
    low, top = head.brain
    height = (
        rng.uniform(low - 25, top + 8) if rng.random() < 0.3 else rng.uniform(low + 25, top - 12)
    )
    tilt = np.tan(np.radians(rng.normal(0, 7, 2)))
    thickness = rng.uniform(1, 4.5)
    planes = 1 if thickness < 1.8 else 3
    i, j = (
        np.rint(a + c).astype(np.int32) for a, c in zip((right, front), head.middle, strict=True)
    )
    size = head.volume.shape
    inside = (i >= 0) & (i < size[0]) & (j >= 0) & (j < size[1])
    i, j = i.clip(0, size[0] - 1), j.clip(0, size[1] - 1)
    values = _intensities(rng)
    each = values[head.tissue] * np.exp(rng.uniform(0, 0.1) * rng.standard_normal(len(head.tissue)))
    each = each.astype(np.float32)
    shape = right.shape
    mixed = _finer(_field(rng, int(rng.integers(14, 40))))
    reach, total = rng.uniform(2, 12), np.zeros(shape, np.float32)
    skin = None
    for p in range(planes):
        z = height + thickness * (p - (planes - 1) / 2) / planes
        k = np.rint(z + tilt[0] * right + tilt[1] * front).astype(np.int32)
        ok = inside & (k >= 0) & (k < size[2])
        label = np.where(ok, head.volume[i, j, k.clip(0, size[2] - 1)], 0)
        image = each[label]
        if skin is None:  # fat lies under the skin, muscle deeper, in strands
            depth = distance_transform_edt(label[::FINE, ::FINE] > 0).astype(np.float32)
            skin = np.repeat(np.repeat(depth, FINE, 0), FINE, 1)
            fat = 1 / (1 + np.exp(-((reach - skin) / 1.5 + 2.5 * mixed)))
            soft = values[MUSCLE] + (values[FAT] - values[MUSCLE]) * fat
        total += np.where(head.tissue[label] == SOFT, soft, image)
    out = total.reshape(CANVAS[0], FINE, CANVAS[1], FINE).mean((1, 3)) / planes
    out *= 1 + rng.uniform(0, 0.07) * _texture(rng, rng.uniform(0.7, 3))
    return gaussian_filter(out, rng.uniform(0.3, 0.7))


def _of_clinical(rng: np.random.Generator, head: Clinical) -> np.ndarray:
    """One slice of a volume, brought to 1 mm, with its contrast bent by a monotone curve."""
    count = len(head.slices)
    at = int(rng.integers(0, count)) if rng.random() < 0.3 else int(count * rng.uniform(0.25, 0.9))
    right, front = _plane(rng)
    where = np.stack(
        [right / head.pixel[0] + head.middle[0], front / head.pixel[1] + head.middle[1]]
    )
    out = map_coordinates(head.slices[at], where, order=3, prefilter=False, mode="constant")
    air = map_coordinates(head.air[at], where, order=1, mode="constant", cval=1)
    out = out.clip(0, None) * (1 - air)
    if rng.random() < 0.7:
        top = max(float(np.percentile(out, 99.5)), 1e-3)
        knots = np.linspace(0, 1, 5)
        steps = np.exp(0.5 * rng.standard_normal(4))
        curve = PchipInterpolator(knots, np.concatenate([[0], steps.cumsum() / steps.sum()]))
        out = curve((out / top).clip(0, 1)) + (out / top - 1).clip(0, None)
    return gaussian_filter(out, rng.uniform(0.3, 0.6))


def _of_recoloured(rng: np.random.Generator, head: recoloured.Head) -> np.ndarray:
    """One slice of a T1 head in another contrast, as in the family `brains`."""
    square = recoloured.generate(rng, head)[0]
    H, W = CANVAS
    out = np.pad(square, (((H - 232) // 2,) * 2, (0, 0)))
    left = (232 - W) // 2
    return out[:, left : left + W]


def generate(rng: np.random.Generator, source: object) -> np.ndarray:
    """Return the magnitude of one slice u [1, 256, 216]; its 99th percentile is about 1."""
    assert isinstance(source, Heads)
    pick = rng.random()
    if pick < 0.45 and source.labels:
        out = _of_labels(rng, source.labels[rng.integers(len(source.labels))])
    elif pick < 0.85 and source.clinical:
        out = _of_clinical(rng, source.clinical[rng.integers(len(source.clinical))])
    elif source.recoloured is not None:
        out = _of_recoloured(rng, source.recoloured)
    else:
        out = _of_labels(rng, source.labels[rng.integers(len(source.labels))])
    out = out * np.exp(rng.uniform(0, 0.3) * _field(rng, int(rng.integers(2, 5))))
    top = np.percentile(out, 99)
    return (out / max(top, 1e-3) * rng.uniform(0.85, 1.1)).clip(0, 2.5)[None].astype(np.float32)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image up-down or left-right at random."""
    picks = torch.randint(0, 4, (len(batch),), generator=generator).tolist()
    flips: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
    return torch.stack([m.flip(flips[p]) for m, p in zip(batch, picks, strict=True)])


def _complex(batch: Tensor, generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
    """Cut to `shape` about the middle, or anywhere where it is small, and give phases."""
    count, (h, w) = len(batch), shape
    phase = recoloured.random_phase(count, max(batch.shape[-2:]), generator)
    phase = phase[..., : batch.shape[-2], : batch.shape[-1]]
    out = []
    for m, p in zip(batch, phase, strict=True):
        room = [m.shape[-2] - h, m.shape[-1] - w]
        y, x = (int(torch.randint(0, r + 1, (), generator=generator)) for r in room)
        m, p = (a[:, y : y + h, x : x + w] for a in (m, p))
        out.append(torch.cat([m * p.cos(), m * p.sin()]))
    return torch.stack(out)


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror the magnitudes, place them and give them phases: [B, 2, 232, 184]."""
    return _complex(_turned(batch, generator), generator, SHAPE)


def augment_crops(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror, cut and give phases: [B, 2, 96, 96]."""
    if int(torch.randint(0, 2, (), generator=generator)):
        batch = batch.transpose(-1, -2)
    return _complex(_turned(batch, generator), generator, (CROP, CROP))


def vary(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Lay half of the training batches on their side, and cut some to another size."""
    h, w = (int(torch.randint(0, 5, (), generator=generator)) * 8 for _ in range(2))
    if int(torch.randint(0, 2, (), generator=generator)):
        batch = batch[..., h // 2 : batch.shape[-2] - h // 2, w // 4 : batch.shape[-1] - w // 4]
    return batch.transpose(-1, -2) if int(torch.randint(0, 2, (), generator=generator)) else batch


def vary_widely(batch: Tensor, generator: torch.Generator) -> Tensor:
    """As `vary`, with crops of `CROP` × `CROP` anywhere in a third of the batches."""
    if int(torch.randint(0, 3, (), generator=generator)):
        return vary(batch, generator)
    corners = [torch.randint(0, n - CROP + 1, (len(batch),), generator=generator).tolist()
               for n in batch.shape[-2:]]  # fmt: skip
    return torch.stack(
        [m[:, y : y + CROP, x : x + CROP] for m, y, x in zip(batch, *corners, strict=True)]
    )


_LICENCE = (
    "label maps of 20 people of SynthSeg (Apache-2.0), 26 volumes of 7 people of the 3-D MR image "
    "database of multiple sclerosis patients (Lesjak et al. 2016, CC BY), Colin27 (Montreal "
    "Neurological Institute, McGill University, permissive notice); not shipped here"
)
_SUMMARY = (
    "complex axial slices (real, imaginary) of whole heads, 1 mm: 22 people (T1-, T2-, FLAIR-, "
    "PD-like and random contrasts, deformations, shading, smooth phases)"
)
_LIMITS = (
    "diagnosis; pathology other than white-matter lesions; children; other organs; other pixel "
    "sizes than about 1 mm; sagittal and coronal planes; phases that vary faster than a few "
    "radians over 5 cm"
)
FAMILY = Family(
    name="heads",
    shape=(2, *SHAPE),
    fixed_size=False,
    offset=0.0,
    scale=1.0,
    units="99th percentile of the slice's magnitude",
    pixel=1.0,
    pixel_unit="mm",
    generate=generate,
    augment=augment,
    source=read_heads,
    licence=_LICENCE,
    summary=_SUMMARY,
    limits=_LIMITS,
    split=split,
    vary=vary,
)
CROPS = replace(FAMILY, name="head-crops", shape=(2, CROP, CROP), augment=augment_crops, vary=None)
ANY = replace(FAMILY, name="heads-any", vary=vary_widely)
