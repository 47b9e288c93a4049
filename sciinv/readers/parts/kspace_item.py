"""One slice of k-space → the variables of its measurement: coils, noise, maps and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.readers.parts import looks_mri
from sciinv.readers.parts.kspace_base import KSpace


@dataclass(frozen=True)
class How:
    """The options of `read` that make a measurement of k-space."""

    path: Path
    mask: np.ndarray | None
    coil_maps: np.ndarray | None
    noise_sd: float | None
    noise_scan: bool
    coils: Sequence[int] | None
    sets: int


@dataclass(frozen=True)
class Part:
    """One item: its mask [ky, kx], its variables, where its noise is from, and doubts."""

    kept: np.ndarray
    data: xr.Dataset
    rule: str
    doubts: list[str]


def measurement(k: KSpace, how: How, common: float | None) -> Part:
    """Return the measurement of one slice, divided by `common`, or by its own scale if None.

    Raises:
        DataError: The k-space is none, or options do not fit it.
    """
    path = how.path
    used = _coils(k.kspace, how.coils, path)
    doubts = []
    if how.coils is None and not used.all():
        doubts.append(f"Coils {np.flatnonzero(~used).tolist()} measured nothing and were left out.")
    # not copied where none is left out: rounding depends on the order in memory
    kspace, rule = (k.kspace if used.all() else k.kspace[used]), "floor"
    doubts += looks_mri.check_kspace(kspace, path)
    measured = mri_masks.from_kspace(kspace)
    lost = looks_mri.lost_samples(kspace, path)
    if lost.any():
        measured, kspace = measured & ~lost, np.where(lost, 0, kspace)
        doubts.append(
            f"{int(lost.sum())} samples are exactly 0 in some coils, or in one of their parts: "
            "they were taken as not measured."
        )
    doubts += looks_mri.spike_doubts(kspace, path)
    kept = measured if how.mask is None else _undersampled(measured, how.mask, path)
    calibration = None if k.calibration is None else k.calibration[used]
    if how.noise_sd is not None:
        rule, raw_sd = "given", float(how.noise_sd)
    elif k.noise is not None and how.noise_scan:
        covariance = mri_coils.noise_covariance(k.noise[used]) * k.noise_variance_ratio
        rule, raw_sd, kspace = "scan", 1.0, mri_coils.prewhiten(kspace, covariance)
        if calibration is not None:
            calibration = mri_coils.prewhiten(calibration, covariance)
    else:
        raw_sd = _floor(kspace, measured, k.counts)
    if rule == "floor" and k.counts is None:
        doubts += looks_mri.rounding_doubts(kspace, measured, raw_sd)
    if rule != "floor" and k.counts is None:
        doubts += looks_mri.check_noise(kspace, measured, raw_sd, path)
    kspace = kspace * kept
    if how.coil_maps is not None:
        maps = np.asarray(how.coil_maps, np.complex64)
        if maps.ndim in (3, 4) and maps.shape[-3] == len(used):
            maps = maps[..., used, :, :]
        if maps.shape[-3:] != kspace.shape or maps.ndim > 4:
            raise DataError(
                "The coil maps do not fit the k-space",
                where=path,
                expected=f"complex {kspace.shape}",
                got=maps.shape,
                remedy="give maps for this file's coils and grid, or leave them to be estimated",
            )
    else:
        maps = _estimated_maps(kspace, kept, calibration, how)
    y = _two_parts(kspace[:, kept])
    sd: np.ndarray | float = raw_sd
    if k.counts is not None:
        sd = raw_sd / np.sqrt(k.counts[kept])
    scale = image_scale(y, kept, maps, sd, path) if common is None else common
    data = {
        "y": (("part", "coil", "sample"), (y / scale).astype(np.float32)),
        "coil_maps": (
            ("part", *(("set",) if maps.ndim == 4 else ()), "coil", "row", "column"),
            _two_parts(maps),
        ),
        "noise_sd": (("sample",) if np.ndim(sd) else (), np.asarray(sd / scale, np.float64)),
        "scale": ((), np.float64(scale)),
    }
    if k.reference is not None:
        dims = ("reference_row", "reference_column")
        data["reference"] = dims, (k.reference / scale).astype(np.float32)
    return Part(kept, xr.Dataset(data, coords={"part": ["real", "imag"]}), rule, doubts)


def _estimated_maps(
    kspace: np.ndarray, kept: np.ndarray, calibration: np.ndarray | None, how: How
) -> np.ndarray:
    try:
        if calibration is not None:
            return mri_coils.espirit(calibration, sets=how.sets)[0]
        return mri_coils.espirit(kspace, kept, sets=how.sets)[0]
    except DataError as error:
        if "calibration region" not in str(error):
            raise
        raise DataError(
            "The k-space has no calibration region that is large enough for coil maps",
            where=how.path,
            expected=f"a fully sampled centre of {error.expected}",
            got=error.got,
            remedy="give the maps with the option coil_maps, an array or a .npy file; or read all "
            "lines that the file has (counters, reference_lines, mask left out)",
        ) from error


def _coils(kspace: np.ndarray, coils: Sequence[int] | None, path: Path) -> np.ndarray:
    if coils is None:
        return looks_mri.live_coils(kspace)
    used = np.zeros(len(kspace), bool)
    try:
        chosen = [int(c) for c in np.atleast_1d(np.asarray(coils))]
    except (TypeError, ValueError):
        chosen = []
    if not chosen or min(chosen) < 0 or max(chosen) >= len(kspace) or not kspace[chosen].any():
        raise DataError("The file has no such coils with data", where=path,
                        expected=f"numbers from 0 to {len(kspace) - 1}", got=coils,
                        remedy="correct the option coils, or leave it out")  # fmt: skip
    used[chosen] = True
    return used


def _floor(kspace: np.ndarray, measured: np.ndarray, counts: np.ndarray | None) -> float:
    """Return the noise of a sample that was measured once; that of the usual number, without."""
    if counts is None:
        return mri_coils.noise_floor(kspace, measured)
    levels, often = np.unique(counts[measured], return_counts=True)
    usual = float(levels[np.argmax(often)])
    return mri_coils.noise_floor(kspace, measured & (counts == usual)) * usual**0.5


def _two_parts(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag]).astype(np.float32)


def _undersampled(measured: np.ndarray, mask: np.ndarray, path: Path) -> np.ndarray:
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != measured.shape or not (mask & measured).any():
        raise DataError(
            "The undersampling mask does not fit the k-space",
            where=path,
            expected=f"bool {measured.shape} that keeps some measured sample",
            got=f"{mask.shape} that keeps {int(mask.sum())}",
            remedy="make it with sciinv.operators.parts.mri_masks for this shape",
        )
    return measured & mask


def image_scale(
    y: np.ndarray,
    mask: np.ndarray,
    maps: np.ndarray,
    noise_sd: float | np.ndarray,
    where: object = None,
) -> float:
    """Return the 99th percentile of |x| of the CG-SENSE image of packed samples.

    A low-resolution image would do for smooth objects, but blurs a bright rim of fat away: on
    the head in `data/mri` its percentile is a third lower.

    Args:
        y: Measured samples, real [2, coil, sample].
        mask: [ky, kx].
        maps: Complex [coil, row, column] or [set, coil, row, column].
        noise_sd: Per real component of y: a number or [sample].
        where: The file, for an error.

    Raises:
        DataError: The image is 0 in so many pixels that its percentile is.
    """
    import torch

    from sciinv.operators.mri import MultiCoilMRI

    size = float(np.sqrt(np.mean(np.square(y, dtype=np.float64))))  # raw units can be tiny
    physics = MultiCoilMRI(mask, maps, noise_sd / size)
    x = physics.classical(torch.from_numpy(y / np.float32(size))[None])["CG-SENSE"]
    magnitude = np.hypot(*x[0].numpy()) if len(x[0]) == 2 else physics.combined(x)[0].numpy()
    scale = size * float(np.quantile(magnitude, 0.99))
    if not 0 < scale < np.inf:
        raise DataError(
            "The image of the k-space has no scale",
            where=where,
            expected="an object that fills more than a hundredth of the image",
            got=f"{scale:g} as the 99th percentile of |x|",
            remedy="check the coil maps and the array, or give scale",
        )
    return scale
