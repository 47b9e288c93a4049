"""Complex axial slices of one head in many contrasts, shapes, coil shadings and phases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    map_coordinates,
    spline_filter,
    zoom,
)
from torch import Tensor

from sciinv.errors import ConfigError, DataError
from sciinv.priors.phantoms.family import Family, dihedral
from sciinv.registry import library

CANVAS = 232  # pixels of 1 mm: a head and the air around it
CROP = 96
AIR, CSF, GREY, WHITE, FAT, TOP = 6.0, 35.0, 85.0, 113.0, 170.0, 254.0  # Colin27's intensities


@dataclass(frozen=True)
class Head:
    """A head volume, 1 mm, axes (right, anterior, superior).

    Attributes:
        spline: Cubic spline coefficients of the intensities.
        depth: Distance from the skin in mm, 0 outside.
    """

    spline: np.ndarray
    depth: np.ndarray


def read_head(path: str | None) -> Head:
    """Return the head in a NIfTI file (Colin27, `ch2.nii.gz`)."""
    if path is None:
        raise ConfigError(
            "The brain family is made from a head volume",
            where="source",
            expected="the path of Colin27, 1 mm, as NIfTI (Debian: mricron-data, ch2.nii.gz)",
            got="none",
            remedy="add `source: PATH` to the training configuration",
        )
    if not Path(path).is_file():
        raise DataError("There is no such head volume", where=path)
    nibabel = library("nibabel", "Reading NIfTI", "train")
    try:
        volume = np.asarray(nibabel.load(path).get_fdata(dtype=np.float32))
    except Exception as error:  # nibabel raises many kinds
        raise DataError("The head volume cannot be read", where=path, got=error) from error
    _check_volume(volume, path)
    solid = gaussian_filter(volume, 1.5) > 15
    solid = np.stack([binary_fill_holes(s) for s in np.moveaxis(solid, 2, 0)], axis=2)
    depth = distance_transform_edt(np.pad(solid, ((1, 1), (1, 1), (1, 0))))[1:-1, 1:-1, 1:]
    return Head(spline_filter(volume, order=3).astype(np.float32), depth.astype(np.float32))


def _check_volume(volume: np.ndarray, path: str) -> None:
    """Raise unless the tissues' intensities are near Colin27's, which the contrasts start from."""
    where, expected = path, "a head volume [x, y, z] with the intensities of Colin27, 0 … 254"
    if volume.ndim != 3 or min(volume.shape) < 32:
        raise DataError(
            "The source is no head volume",
            where=where,
            expected=f"{expected}, of at least 32 voxels along each axis",
            got=f"shape {list(volume.shape)}",
            remedy="give one volume, not a slice or a series",
        )
    if not np.isfinite(volume).all():
        raise DataError(
            "The head volume holds values that are not finite",
            where=where,
            expected=expected,
            got=f"{int((~np.isfinite(volume)).sum())} of {volume.size} values",
            remedy="set them to 0, the value of air",
        )
    low, top = float(volume.min()), float(np.quantile(volume, 0.999))
    if not 0.6 * GREY <= top <= 4 * TOP or low < -TOP:
        raise DataError(
            "The head volume is in other intensities than the contrasts are made from",
            where=where,
            expected=f"{expected}: white matter near {WHITE:g}, air below {CSF:g}",
            got=f"values from {low:.3g}, one in a thousand above {top:.3g}",
            remedy="take Colin27 as it is distributed (ch2.nii.gz), or multiply the volume so that "
            f"its white matter is at {WHITE:g}",
        )


def _curve(rng: np.random.Generator, inside: bool) -> PchipInterpolator:
    """A map from Colin27's T1 intensities to another contrast; air stays 0."""
    kind = rng.choice(["t1", "t2", "pd"], p=[0.4, 0.3, 0.3]) if inside else "skin"
    knots = np.array([0, AIR, CSF, GREY, WHITE, FAT, TOP])
    if kind == "t1":
        gamma = rng.uniform(0.6, 1.6)
        values = (knots / WHITE) ** gamma * np.exp(0.06 * rng.standard_normal(7))
        values = np.maximum.accumulate(values)
    elif kind == "t2":
        csf, grey = rng.uniform(0.75, 1.2), rng.uniform(0.4, 0.7)
        white = grey * rng.uniform(0.5, 0.9)
        values = np.array([0, 0.1, csf, grey, white, rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.8)])
    elif kind == "pd":
        csf, grey = rng.uniform(0.05, 1.0), rng.uniform(0.5, 1.0)
        white = grey * rng.uniform(0.6, 1.3)
        values = np.array([0, 0.05, csf, grey, white, rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)])
    else:
        gamma, top = rng.uniform(0.5, 2.0), rng.uniform(0.15, 1.2)
        values = top * (knots / FAT) ** gamma
    values[0] = 0
    return PchipInterpolator(knots, values)


def _smooth(rng: np.random.Generator, cells: int) -> np.ndarray:
    """A smooth random field of about unit size on the canvas."""
    coarse = rng.standard_normal((cells + 2, cells + 2))
    fine = zoom(coarse, CANVAS / cells, order=3)
    y, x = ((np.array(fine.shape) - CANVAS) * rng.random(2)).astype(int)
    return fine[y : y + CANVAS, x : x + CANVAS]


def generate(rng: np.random.Generator, source: object) -> np.ndarray:
    """Return the magnitude of one slice u [1, 232, 232]; its 99th percentile is about 1."""
    assert isinstance(source, Head)
    volume = source.spline
    centre = np.array(
        [90.0, 108.0, rng.uniform(12, 158) if rng.random() < 0.4 else rng.uniform(35, 130)]
    )
    grid = np.arange(CANVAS) - (CANVAS - 1) / 2
    row, col = np.meshgrid(grid, grid, indexing="ij")
    row = row + rng.uniform(1, 4) * _smooth(rng, 5) + rng.uniform(0, 0.6) * _smooth(rng, 16)
    col = col + rng.uniform(1, 4) * _smooth(rng, 5) + rng.uniform(0, 0.6) * _smooth(rng, 16)
    size = rng.uniform(0.85, 1.2) * np.array([1.0, rng.uniform(0.93, 1.07)])
    turn = np.radians(rng.normal(0, 8))
    a = (np.cos(turn) * col + np.sin(turn) * row) / size[0] + rng.normal(0, 3)
    b = (np.cos(turn) * row - np.sin(turn) * col) / size[1] + rng.normal(0, 3)
    tilt = np.tan(np.radians(rng.normal(0, 8, 2)))
    where = np.stack([centre[0] + a, centre[1] - b, centre[2] + tilt[0] * a + tilt[1] * b])
    raw = map_coordinates(volume, where, order=3, prefilter=False, mode="constant").clip(0, TOP)
    depth = map_coordinates(source.depth, where, order=1, mode="constant")
    raw *= depth.clip(0, 1)
    brain = 1 / (1 + np.exp(-(depth - rng.uniform(11, 15)) / 1.2))
    out = brain * _curve(rng, True)(raw) + (1 - brain) * _curve(rng, False)(raw)
    out *= np.exp(rng.uniform(0, 0.35) * _smooth(rng, int(rng.integers(2, 5))))
    if rng.random() < 0.3:
        out = gaussian_filter(out, rng.uniform(0.2, 0.6))
    top = np.percentile(out, 99)
    return (out / max(top, 1e-3) * rng.uniform(0.85, 1.1)).clip(0, 2.5)[None].astype(np.float32)


def random_phase(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return smooth phases [N, 1, size, size]: offset, ramp, slow field; every fifth is steep."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    axis = torch.linspace(-0.5, 0.5, size)
    steep = torch.where(uniform(count, 1, 1, 1) < 0.2, 3.0, 1.0)
    ramp = (uniform(count, 2, 1, 1) - 0.5) * 2 * torch.pi * 0.8 * steep
    coarse = torch.randn(count, 1, 5, 5, generator=generator)
    slow = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    slow = slow * uniform(count, 1, 1, 1) * 0.7 * steep
    offset = 2 * torch.pi * uniform(count, 1, 1, 1)
    return offset + ramp[:, :1] * axis + ramp[:, 1:] * axis[:, None] + slow


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, turn and mirror the magnitudes, and give them phases: [B, 2, 96, 96]."""
    room = batch.shape[-1] - CROP + 1
    corners = torch.randint(0, room, (len(batch), 2), generator=generator).tolist()
    crops = torch.stack(
        [m[:, y : y + CROP, x : x + CROP] for m, (y, x) in zip(batch, corners, strict=True)]
    )
    crops = dihedral(crops, generator)
    phase = random_phase(len(crops), CROP, generator)
    return torch.cat([crops * phase.cos(), crops * phase.sin()], 1)


FAMILY = Family(
    name="brains",
    shape=(2, CROP, CROP),
    fixed_size=False,
    offset=0.0,
    scale=1.0,
    units="99th percentile of the slice's magnitude",
    pixel=1.0,
    pixel_unit="mm",
    generate=generate,
    augment=augment,
    source=read_head,
    licence=(
        "Colin27 average brain, Montreal Neurological Institute, McGill University: copying, "
        "modification and distribution permitted with its copyright notice; not shipped here"
    ),
    summary=(
        "complex axial slices (real, imaginary) of Colin27 with skull, 1 mm, crops of 96 × 96: "
        "random T1-, T2- and PD-like contrasts, deformations, shading and smooth phases"
    ),
    limits=(
        "diagnosis, pathology of any kind, other organs, other pixel sizes than about 1 mm, "
        "sagittal and coronal planes: one healthy head was deformed and recoloured, real anatomy "
        "varies more"
    ),
)
