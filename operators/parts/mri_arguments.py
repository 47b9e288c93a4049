"""The arguments of the MRI operator: checked, and brought to one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import WeightedNoise
from sciinv.operators.base import ImageSpec


def as_mask(mask: Any) -> Tensor:
    """Return the sampling mask as bool [ky, kx]."""
    kept = torch.as_tensor(np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask))
    while kept.ndim > 2 and kept.shape[0] == 1:
        kept = kept[0]
    if kept.ndim != 2:
        raise OperatorError(
            "The sampling mask has the wrong number of dimensions",
            where="mask",
            expected="[ky, kx]",
            got=list(kept.shape),
            remedy="repeat a mask of phase-encoding lines along the readout",
        )
    if kept.dtype != torch.bool and not bool(((kept == 0) | (kept == 1)).all()):
        raise OperatorError(
            "The sampling mask holds other values than 0 and 1",
            where="mask",
            expected="bool, or 0 and 1",
            got=f"{kept.dtype} from {kept.min()} to {kept.max()}",
            remedy="pass `weights > 0`",
        )
    if not bool(kept.any()):
        raise OperatorError(
            "The sampling mask keeps no sample",
            where="mask",
            expected="at least one measured sample",
            got="all False",
            remedy="check how the mask was read",
        )
    return kept.bool()


def as_maps(coil_maps: Any, image_shape: Sequence[int] | None) -> Tensor:
    """Return the coil maps as complex [set, coil, H, W], cropped to the image."""
    maps = torch.as_tensor(coil_maps).detach().cpu()
    while maps.ndim > 3 + (not maps.is_complex()) and maps.shape[0] == 1:
        maps = maps[0]
    if not maps.is_complex() and maps.ndim in (4, 5) and maps.shape[0] == 2:
        maps = maps if maps.dtype == torch.float64 else maps.float()
        maps = torch.complex(maps[0], maps[1])
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4 or not maps.is_complex() or 0 in maps.shape:
        raise OperatorError(
            "The coil maps have the wrong shape or dtype",
            where="coil_maps",
            expected="complex [coil, H, W] or [set, coil, H, W], or real with a first axis of 2",
            got=f"{maps.dtype} {list(maps.shape)}",
            remedy="use operators.parts.mri_coils.espirit, or complex ones for a single coil",
        )
    if not bool(torch.isfinite(torch.view_as_real(maps)).all()):
        raise OperatorError(
            "The coil maps hold values that are not finite",
            where="coil_maps",
            expected="finite numbers",
            got="NaN or infinity",
            remedy="set the maps to 0 where they are not known",
        )
    if maps.dtype not in (torch.complex64, torch.complex128):
        maps = maps.to(torch.complex64)
    if image_shape is None:
        return maps
    (h, w), (rows, columns) = (int(n) for n in image_shape), maps.shape[-2:]
    if not (0 < h <= rows and 0 < w <= columns):
        raise OperatorError(
            "The image does not fit into the coil maps",
            where="image_shape",
            expected=f"from 1 × 1 to {rows} × {columns}",
            got=f"{h} × {w}",
            remedy="give a smaller image_shape, or larger maps",
        )
    top, left = rows // 2 - h // 2, columns // 2 - w // 2
    return maps[..., top : top + h, left : left + w]


def noise(noise_sd: Any, coils: int, samples: int | None = None) -> GaussianNoise | WeightedNoise:
    """Return the noise model of y: white, or a standard deviation per coil or per sample."""
    sd = torch.as_tensor(noise_sd).detach().cpu()
    sd = sd if sd.is_floating_point() else sd.float()
    if sd.numel() not in (1, coils, samples) or not bool(((sd > 0) & torch.isfinite(sd)).all()):
        raise OperatorError(
            "The noise's standard deviation does not fit",
            where="noise_sd",
            expected=f"a finite positive number, or {coils} of them (one per coil)"
            + (f", or {samples} (one per sample)" if samples else ""),
            got=sd.tolist() if sd.numel() < 9 else f"{sd.numel()} values",
            remedy="estimate it with sciinv.operators.parts.mri_coils.noise_floor",
        )
    if sd.numel() == 1:
        return GaussianNoise(sigma=float(sd.flatten()[0]))
    per_coil = sd.numel() == coils
    return WeightedNoise(sd.reshape((1, 1, coils, 1) if per_coil else (1, 1, 1, sd.numel())))


def image_spec(
    h: int, w: int, pixel_mm: float | Sequence[float] | None, sets: int, units: str
) -> ImageSpec:
    """Return the image: two channels per set, coordinates from the centre pixel in mm.

    In pixels where `pixel_mm` is None: nothing is then known of the image's size.
    """
    pixel = np.broadcast_to(np.asarray(1.0 if pixel_mm is None else pixel_mm, dtype=float), 2)
    if not (np.isfinite(pixel).all() and (pixel > 0).all()):
        raise OperatorError(
            "The pixel size must be positive",
            where="pixel_mm",
            expected="mm > 0",
            got=pixel.tolist(),
            remedy="divide the field of view by the number of pixels",
        )
    rows, columns = (np.arange(n) - n // 2 for n in (h, w))
    return ImageSpec(
        shape=(2 * sets, h, w),
        units=units,
        y=rows * pixel[0],
        x=columns * pixel[1],
        axis_units="pixel" if pixel_mm is None else "mm",
        channels=("real", "imag")
        if sets == 1
        else tuple(f"{part} {s + 1}" for s in range(sets) for part in ("real", "imag")),
    )
