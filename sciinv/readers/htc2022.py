"""The Helsinki Tomography Challenge 2022: fan-beam sinograms of acrylic discs, limited angles.

Source: Meaney et al., Zenodo 10.5281/zenodo.8041800.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import xarray as xr
from scipy.optimize import least_squares

from sciinv.errors import DataError
from sciinv.readers.parts import looks_ct, looks_single
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import check_options, is_number
from sciinv.readers.parts.transmission import binned, estimated_noise
from sciinv.readers.parts.view_angles import degrees
from sciinv.readers.sinogram import check_finite, measurement

# y = a L − b L² of L mm acrylic, in 1/mm and 1/mm²: `fit_beam_hardening` of the challenge's
# htc2022_solid_disc_full.mat (rms 0.016; a third or fourth power improves it by less than 1 %).
ACRYLIC_A, ACRYLIC_B = 0.04319, 1.7295e-4
ACRYLIC = 0.038  # 1/mm: the attenuation that acrylic is given once its spectrum is corrected
AIR = 0.03  # line integrals below this are air
_GEOMETRY = ("distanceSourceOrigin", "distanceSourceDetector", "pixelSizePost", "angles")


def read(
    path: str | os.PathLike[str],
    *,
    angles: tuple[float, float] | None = None,
    detector_binning: int = 4,
    image_size: int = 128,
    linearise: bool = True,
    model_error: float = 0.015,
    noise_in_air: float | None = None,
    angle_unit: str | None = None,
) -> xr.Dataset:
    """Read a challenge sinogram (`htc2022_*_full.mat` or `_limited.mat`) as a CT measurement.

    In this order: the level of the air beside the object is set to 0; the spectrum of the tube is
    corrected; neighbouring detector elements are averaged. A laboratory tube's soft rays are
    absorbed first, so that y = a L − b L² of the length L of acrylic, not µ L; `linearise` solves
    this for L and returns y = 0.038 L. Left out, the data contradict any image by 0.04 to 0.08.

    The noise is that of counting, sd(y) = sd_0 exp(y/2) before linearisation and times its slope
    after it. sd_0 is the median absolute deviation between successive views of air, of the binned
    data read, ÷ √2; without air in view, `transmission.estimated_noise`. On the shipped scans
    this is 0.0024, and second differences agree within 20 % through any thickness. To it
    `model_error` is added in quadrature. Its default is what these scans leave unexplained on the
    challenge's own segmentation: 0.015 (drift, scatter, what is left of the spectrum; largest
    where the object is thick) of which 0.007 alone come from edges on 128² pixels.

    Args:
        path: The .mat file (MATLAB 5).
        angles: First and last view angle to use, degrees, both included; None uses all views.
        detector_binning: Elements to average; 4 makes 140 of 560.
        image_size: Pixels a side of the challenge's field of view, 512 × 0.1483 mm.
        linearise: Whether to correct the tube's spectrum.
        model_error: Standard deviation in units of y; 0 leaves the counting noise alone.
        noise_in_air: sd_0; None estimates it from the views read.
        angle_unit: "degrees" or "radians" of the file's angles; None takes degrees, unless they
            look like radians.

    Raises:
        DataError: The file is damaged, is of another layout, or holds no view in the range.
    """
    check_options(read, path, locals())
    path = Path(path)
    limits = _range(angles, path)
    y, theta, geometry = _sinogram(path)
    theta, told = degrees(theta, len(theta), path, angle_unit)
    if limits is not None:
        low, high = limits
        keep = (theta >= low - 1e-6) & (theta <= high + 1e-6)
        if not keep.any():
            raise DataError(
                "The scan has no views in this range",
                where=path,
                expected=f"angles from {theta.min():g}° to {theta.max():g}°",
                got=f"{low:g}° to {high:g}°",
                remedy="choose a range within the scan",
            )
        y, theta = y[keep], theta[keep]
    told += looks_ct.check_integrals(
        y[None], path, given_noise=True, whole=False, sure=False,
        remedy="check the file against its original; other scans are read as plain sinograms",
    )  # fmt: skip
    looks_single.check_zeros(y, np.full_like(y, AIR), path, remedy="copy or download it again")
    air = air_level(y)
    y = y - air
    raw = binned(y, detector_binning, path)
    in_air = air_noise(raw) if noise_in_air is None else float(noise_in_air)
    sd = in_air * np.exp(0.5 * raw)
    if linearise:
        y = linearised(y, path)
        sd = sd * _slope(raw)
        raw = binned(y, detector_binning, path)
    field = 512 * geometry["pixel"] / geometry["magnification"]
    noise = np.hypot(sd, model_error)[None]
    told += looks_ct.air_doubts(raw[None], noise)
    empty = [d for d in looks_ct.noise_doubts(raw, noise[0]) if "no object" in d]
    told += empty + looks_single.spike_doubts(raw, noise[0])
    out = measurement(
        raw[None],
        noise,
        theta,
        image_size=image_size,
        pixel_mm=field / image_size,
        detector_mm=geometry["pixel"] * detector_binning,
        geometry="fan",
        source_origin_mm=geometry["source_origin"],
        origin_detector_mm=geometry["source_detector"] - geometry["source_origin"],
        source=str(path),
        title=geometry["title"],
        notes={
            "detector_binning": detector_binning,
            "air_level": air,
            "noise_in_air": in_air,
            "model_error": model_error,
            "linearised": int(linearise),
        },
    )
    return with_warnings(out, told)


def _range(angles: object, path: Path) -> tuple[float, float] | None:
    if angles is None:
        return None
    pair = list(angles) if isinstance(angles, list | tuple | np.ndarray) else []
    if len(pair) != 2 or not all(is_number(v) for v in pair):
        raise DataError(
            "The range of angles cannot be so", where=f"{path}: angles", got=repr(angles)[:60],
            expected="two numbers, the first and the last view angle in degrees",
            remedy="give for instance [0, 90], or leave it out for all views",
        )  # fmt: skip
    return float(pair[0]), float(pair[1])


def read_segmentation(path: str | os.PathLike[str]) -> np.ndarray:
    """Return a reference segmentation, bool [512, 512], True in acrylic; row 0 at the top.

    Raises:
        DataError: The file is damaged or holds no such image.
    """
    path = Path(path)
    content = _matlab(path)
    images = {
        k: v for k, v in content.items() if not k.startswith("__") and getattr(v, "ndim", 0) == 2
    }
    if len(images) != 1:
        raise DataError(
            "The file holds no segmentation",
            where=path,
            expected="one image of 0 and 1",
            got=", ".join(k for k in content if not k.startswith("__")) or "nothing",
            remedy="give a file htc2022_*_recon_fbp_seg.mat",
        )
    image = next(iter(images.values()))
    if image.dtype.kind not in "biuf" or not np.isin(image, (0, 1)).all():
        raise DataError(
            "The image is no segmentation",
            where=path,
            expected="0 and 1",
            got=f"{image.dtype}, {np.unique(image)[:5]}",
            remedy="give a file htc2022_*_recon_fbp_seg.mat",
        )
    return image.astype(bool)


def air_level(y: np.ndarray) -> float:
    """Return the level of the outermost elements, a fiftieth on each side; 0 where not air."""
    n = max(1, y.shape[1] // 50)
    level = float(np.median(np.concatenate([y[:, :n], y[:, -n:]], axis=1)))
    return level if abs(level) < AIR else 0.0


def air_noise(y: np.ndarray) -> float:
    """Return sd_0, the noise of air, from the differences of successive views, [angle, element]."""
    air = (np.abs(y[1:]) < AIR) & (np.abs(y[:-1]) < AIR)
    if air.sum() < 50:
        return float(np.median(estimated_noise(y) * np.exp(-0.5 * y)))
    return 1.4826 * float(np.median(np.abs(np.diff(y, axis=0)[air]))) / np.sqrt(2)


def linearised(y: np.ndarray, where: object = None) -> np.ndarray:
    """Return 0.038 L of the line integrals y = a L − b L² through L mm of acrylic.

    Raises:
        DataError: A value that no length of acrylic gives.
    """
    most = ACRYLIC_A**2 / (4 * ACRYLIC_B)
    if float(y.max()) >= 0.98 * most:
        raise DataError(
            "The attenuation is out of the range of the spectrum's correction",
            where=where,
            expected=f"line integrals below {0.98 * most:.3g}",
            got=f"up to {float(y.max()):.4g}",
            remedy="read with linearise=False",
        )
    root = np.sqrt(ACRYLIC_A**2 - 4 * ACRYLIC_B * y)
    return ACRYLIC * (ACRYLIC_A - root) / (2 * ACRYLIC_B)


def _slope(y: np.ndarray) -> np.ndarray:
    """Return the derivative of `linearised`."""
    return ACRYLIC / np.sqrt(ACRYLIC_A**2 - 4 * ACRYLIC_B * y)


def fit_beam_hardening(path: str | os.PathLike[str]) -> tuple[float, float, float]:
    """Fit y = a L − b L² to the scan of a solid disc; its place and radius are fitted with it.

    Args:
        path: htc2022_solid_disc_full.mat of the challenge.

    Returns:
        a in 1/mm, b in 1/mm², and the disc's radius in mm.
    """
    y, theta, geometry = _sinogram(Path(path))
    y = y - air_level(y)
    origin, distance = geometry["source_origin"], geometry["source_detector"]
    n = y.shape[1]
    u = (np.arange(n) - (n - 1) / 2) * geometry["pixel"]
    c, s = np.cos(np.deg2rad(theta))[:, None], np.sin(np.deg2rad(theta))[:, None]

    def residual(p: np.ndarray) -> np.ndarray:
        t, h = p[0] * c + p[1] * s, origin - p[0] * s + p[1] * c
        apart = (u * h - distance * t) / np.hypot(u, distance)
        chord = 2 * np.sqrt(np.clip(p[2] ** 2 - apart**2, 0, None))
        return ((p[3] - p[4] * chord) * chord - y)[::8, ::3].ravel()

    start = np.array([0.0, 0.0, 35.0, ACRYLIC, 1e-4])
    fit = least_squares(
        residual, start, loss="soft_l1", f_scale=0.02, x_scale=[1, 1, 1, 1e-2, 1e-4]
    )
    return float(fit.x[3]), float(fit.x[4]), float(fit.x[2])


def _sinogram(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return line integrals [angle, element], angles in degrees, and the scanner's numbers."""
    content = _matlab(path)
    scans = [v for k, v in content.items() if k.startswith("CtData")]
    if len(scans) != 1 or not hasattr(scans[0], "_fieldnames"):
        raise DataError(
            "The file holds no challenge scan",
            where=path,
            expected="a structure CtDataFull or CtDataLimited",
            got=", ".join(k for k in content if not k.startswith("__")) or "nothing",
            remedy="give a file htc2022_*_full.mat",
        )
    scan = scans[0]
    found: Any = getattr(scan, "parameters", None)
    missing = [k for k in _GEOMETRY if not hasattr(found, k)]
    if not hasattr(scan, "sinogram") or missing:
        raise DataError(
            "The scan lacks fields",
            where=path,
            expected=f"sinogram and parameters {', '.join(_GEOMETRY)}",
            got=f"no {', '.join(missing) or 'sinogram'}",
            remedy="give a file htc2022_*_full.mat",
        )
    y = np.atleast_2d(np.asarray(scan.sinogram))
    if y.dtype.kind != "f" or y.ndim != 2:
        raise DataError(
            "The sinogram has the wrong type",
            where=path,
            expected="floating point [angle, detector]",
            got=f"{y.dtype} {list(y.shape)}",
            remedy="give a file htc2022_*_full.mat",
        )
    theta = _real(found.angles, "angles", path)
    if theta.shape != y.shape[:1] or not np.isfinite(theta).all():
        raise DataError(
            "The view angles do not match the sinogram",
            where=path,
            expected=f"{y.shape[0]} finite angles",
            got=f"{theta.size} angles, {int((~np.isfinite(theta)).sum())} not finite",
            remedy="check the file against its original",
        )
    wanted = float(_real(getattr(found, "numDetectorsPost", y.shape[1]), "number", path, 1)[0])
    if wanted != y.shape[1]:
        raise DataError(
            "The number of detector elements does not match",
            where=path,
            expected=f"{wanted:g}, as numDetectorsPost says",
            got=y.shape[1],
            remedy="check the file against its original",
        )
    check_finite(y, path)
    lengths = [float(_real(getattr(found, k), k, path, 1)[0]) for k in _GEOMETRY[:3]]
    if not 0 < lengths[0] < lengths[1] or not lengths[2] > 0:
        raise DataError(
            "The scanner's distances cannot be",
            where=path,
            expected="0 < source to origin < source to detector, pixel above 0",
            got=lengths,
            remedy="check the file against its original",
        )
    geometry = {
        "source_origin": lengths[0],
        "source_detector": lengths[1],
        "pixel": lengths[2],
        "magnification": lengths[1] / lengths[0],
        "title": str(getattr(found, "projectName", path.stem)).strip("_ ") or path.stem,
    }
    return y.astype(np.float64), theta, geometry


def _real(value: Any, name: str, path: Path, count: int | None = None) -> np.ndarray:
    """Return a parameter as real numbers, [n]."""
    try:
        found = np.atleast_1d(np.asarray(value))
        good = found.dtype.kind in "biuf" and found.ndim == 1 and count in (None, found.size)
    except (TypeError, ValueError):
        good = False
    if not good or not found.size:
        raise DataError(
            "A parameter of the scan is no number",
            where=f"{path}: {name}",
            expected="one real number" if count == 1 else "real numbers, one a view",
            got=str(value)[:60] or "nothing",
            remedy="check the file against its original",
        )
    return found.astype(np.float64)


def _matlab(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise DataError(
            "The file is not there",
            where=path,
            expected="a MATLAB 5 file",
            got="no such file",
            remedy="check the path",
        )
    try:
        return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # SciPy raises many kinds on a damaged file
        raise DataError(
            "The MATLAB file cannot be read",
            where=path,
            expected="a whole MATLAB 5 file",
            got=f"{type(error).__name__}: {error}",
            remedy="copy or download it again; save MATLAB 7.3 files with -v7",
        ) from error
