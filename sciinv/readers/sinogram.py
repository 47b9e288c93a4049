"""Plain sinograms of line integrals: .npy, HDF5, Zarr, TIFF; and the CT measurement itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts.transmission import (
    binned,
    estimated_noise,
    rotation_centre,
    without_rings,
)

AXES = ("slice", "angle", "detector")


def measurement(
    y: np.ndarray,
    noise_sd: np.ndarray,
    angles: np.ndarray,
    *,
    image_size: int,
    pixel_mm: float,
    detector_mm: float,
    geometry: str = "parallel",
    source_origin_mm: float | None = None,
    origin_detector_mm: float | None = None,
    detector_offset_mm: float = 0.0,
    source: str,
    title: str,
    notes: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Return the measurement of the operator "ct".

    Args:
        y: Line integrals, [item, angle, detector].
        noise_sd: Their standard deviation, the same shape; infinite: no data.
        angles: View angles, degrees, [angle].
        image_size: Rows and columns of the image.
        pixel_mm: Side of a pixel, mm.
        detector_mm: Pitch of the detector elements, mm.
        geometry: "parallel" or "fan".
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        detector_offset_mm: Shift of the detector, mm.
        source: The file that was read.
        title: What it is, for people.
        notes: What was done to the data; kept as attributes.

    Returns:
        Variables y [item, channel, angle, detector], noise_sd [item, angle, detector] and angles
        [angle], float32 but for the angles; params in JSON.

    Raises:
        DataError: Shapes differ, or y is not finite.
    """
    if y.ndim != 3 or y.shape != noise_sd.shape or y.shape[1] != len(angles):
        raise DataError(
            "The sinogram does not match its angles",
            where=source,
            expected="[item, angle, detector] with one angle a view",
            got=f"{list(y.shape)}, {len(angles)} angles",
            remedy="check the order of the axes, and the number of angles",
        )
    check_finite(y, source)
    if not np.isfinite(angles).all():
        raise DataError(
            "The view angles are not finite",
            where=source,
            expected="degrees",
            got=f"{int((~np.isfinite(angles)).sum())} of {len(angles)} not finite",
            remedy="give the angles",
        )
    params = {
        "image_size": int(image_size),
        "pixel_mm": float(pixel_mm),
        "detectors": int(y.shape[-1]),
        "detector_mm": float(detector_mm),
        "geometry": geometry,
        "source_origin_mm": source_origin_mm,
        "origin_detector_mm": origin_detector_mm,
        "detector_offset_mm": float(detector_offset_mm),
    }
    return xr.Dataset(
        {
            "y": (("item", "channel", "angle", "detector"), y[:, None].astype(np.float32)),
            "noise_sd": (("item", "angle", "detector"), noise_sd.astype(np.float32)),
            "angles": (("angle",), np.asarray(angles, np.float64), {"units": "degrees"}),
        },
        attrs={
            "operator": "ct",
            "params": json.dumps({k: v for k, v in params.items() if v is not None}),
            "units": "1",
            "source": Path(source).name,
            "title": title,
            **(notes or {}),
        },
    )


def read(
    path: str | os.PathLike[str],
    angles: Sequence[float] | np.ndarray,
    *,
    dataset: str | None = None,
    axes: Sequence[str] = ("angle", "detector"),
    slices: int | Sequence[int] | None = None,
    geometry: str = "parallel",
    detector_mm: float = 1.0,
    source_origin_mm: float | None = None,
    origin_detector_mm: float | None = None,
    rotation_axis: float | None = None,
    image_size: int | None = None,
    pixel_mm: float | None = None,
    detector_binning: int = 1,
    noise_sd: float | None = None,
    scale: float = 1.0,
    remove_rings: bool = False,
) -> xr.Dataset:
    """Read line integrals from a plain array and return a CT measurement.

    Args:
        path: A .npy file, an HDF5 file, a Zarr array or group, a multi-page TIFF file, or a
            folder of TIFF files in the order of their names.
        angles: View angles, degrees, [angle].
        dataset: Name of the array in an HDF5 or Zarr group; None where there is only one.
        axes: Order of the array's axes: "angle" and "detector", and "slice" for three axes.
        slices: Which slices of three axes; None takes all.
        geometry: "parallel" or "fan".
        detector_mm: Pitch of the elements, mm. The default makes the pitch the unit of length.
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        rotation_axis: Element at which the axis is seen, from 0; None takes the middle of the
            detector for a fan, and finds it from the data for a parallel beam that covers half a
            turn.
        image_size: Pixels a side; None takes as many as there are (binned) elements.
        pixel_mm: Side of a pixel; None covers the detector as seen at the axis.
        detector_binning: Elements to average.
        noise_sd: Standard deviation of a (binned) line integral; None estimates it from the data
            (`transmission.estimated_noise`).
        scale: Factor from the file's values to line integrals.
        remove_rings: Whether to remove the elements' constant errors.

    Raises:
        DataError: The file cannot be read, or does not hold what the arguments say.
    """
    path = Path(path)
    if sorted(axes) not in (["angle", "detector"], ["angle", "detector", "slice"]):
        raise DataError(
            "The axes are not those of a sinogram",
            where=path,
            expected='"angle" and "detector", and "slice" where there are three',
            got=list(axes),
            remedy="name the axes in the order of the array",
        )
    array = _opened(path, dataset)
    if len(array.shape) != len(axes) or 0 in array.shape:
        raise DataError(
            "The array does not have these axes",
            where=path,
            expected=f"{len(axes)} axes: {', '.join(axes)}",
            got=f"shape {list(array.shape)}",
            remedy="name the axes in the order of the array",
        )
    angles = np.asarray(angles, np.float64)
    views = array.shape[list(axes).index("angle")]
    if angles.ndim != 1 or len(angles) != views:
        raise DataError(
            "The number of angles does not match the sinogram",
            where=path,
            expected=f"{views} angles for the axes {', '.join(axes)} of {list(array.shape)}",
            got=list(angles.shape),
            remedy="check the order of the axes, and the angles",
        )
    y = np.stack([_slice(array, list(axes), i, path) for i in _chosen(array, axes, slices, path)])
    check_finite(y, path)
    y = binned(y * scale, detector_binning, path)
    if remove_rings:
        y = np.stack([without_rings(one) for one in y])
    n = y.shape[-1]
    pitch = detector_mm * detector_binning
    notes: dict[str, Any] = {"detector_binning": detector_binning}
    if rotation_axis is not None:
        centre = (rotation_axis + 0.5) / detector_binning - 0.5
    elif geometry == "parallel" and _half_turn(angles):
        centre = float(np.median([rotation_centre(one, angles) for one in y]))
        notes["rotation_axis_found"] = (centre + 0.5) * detector_binning - 0.5
    else:
        centre = (n - 1) / 2
    if noise_sd is None:
        sd = np.stack([estimated_noise(one) for one in y])
        notes["noise"] = "from second differences of neighbouring samples, sd_0 exp(y/2)"
    else:
        sd = np.full_like(y, noise_sd)
    size = image_size or n
    if pixel_mm is None:
        shrink = 1.0
        if geometry == "fan" and source_origin_mm and origin_detector_mm is not None:
            shrink = source_origin_mm / (source_origin_mm + origin_detector_mm)
        pixel_mm = n * pitch * shrink / size
    return measurement(
        y,
        sd,
        angles,
        image_size=size,
        pixel_mm=pixel_mm,
        detector_mm=pitch,
        geometry=geometry,
        source_origin_mm=source_origin_mm,
        origin_detector_mm=origin_detector_mm,
        detector_offset_mm=((n - 1) / 2 - centre) * pitch,
        source=str(path),
        title=path.stem,
        notes=notes,
    )


def check_finite(y: np.ndarray, where: object) -> None:
    """Raise `DataError` unless all line integrals are finite and not all the same."""
    bad = ~np.isfinite(y)
    if bad.any():
        at = [int(i) for i in np.argwhere(bad)[0]]
        raise DataError(
            "The sinogram holds values that are not finite",
            where=where,
            expected="finite line integrals",
            got=f"{int(bad.sum())} of {bad.size} NaN or infinite, the first at {at}",
            remedy="repair them, or read the raw counts, whose bad pixels are masked",
        )
    if y.size and float(y.min()) == float(y.max()):
        raise DataError(
            "The sinogram is empty",
            where=where,
            expected="line integrals that differ",
            got=f"{float(y.flat[0]):.4g} everywhere",
            remedy="check which array of the file was read",
        )
    if float(np.abs(y).max()) > 1e4:
        raise DataError(
            "The values are no line integrals",
            where=where,
            expected="attenuations −log(I/I0), of the order of 1",
            got=f"up to {float(np.abs(y).max()):.4g}",
            remedy="check the byte order and `scale`; raw counts need flat and dark fields",
        )


def _half_turn(angles: np.ndarray) -> bool:
    apart = (angles[None, :] - angles[:, None]) % 360
    return bool(np.abs(apart - 180).min() <= 3.0)


def _opened(path: Path, dataset: str | None) -> Any:
    """Return an array-like of the file with `shape` and slicing, read as late as the format can."""
    if not path.exists():
        raise DataError(
            "The sinogram is not there",
            where=path,
            expected="a .npy, HDF5, Zarr or TIFF file",
            got="no such file",
            remedy="check the path",
        )
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        elif suffix in (".h5", ".hdf5", ".hdf", ".nxs"):
            array = _from_hdf5(path, dataset)
        elif suffix == ".zarr" or (path.is_dir() and (path / "zarr.json").exists()):
            array = _from_zarr(path, dataset)
        elif suffix in (".tif", ".tiff") or path.is_dir():
            array = _from_tiff(path)
        else:
            raise DataError(
                "The format of the sinogram is not known",
                where=path,
                expected=".npy, .h5, .zarr, .tif or a folder of .tif",
                got=suffix or "no suffix",
                remedy="convert it, or rename it to what it is",
            )
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "The sinogram cannot be read",
            where=path,
            expected=f"a whole {suffix or 'TIFF'} file of numbers",
            got=f"{type(error).__name__}: {error}",
            remedy="check the format; copy or download it again if it was cut off",
        ) from error
    if array.dtype.kind not in "fiu":
        raise DataError(
            "The sinogram is not real numbers",
            where=path,
            expected="real floating point or integers",
            got=array.dtype,
            remedy="check which array was read",
        )
    return array


def _from_hdf5(path: Path, dataset: str | None) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        return file[_named(path, dataset, names)][()]


def _from_zarr(path: Path, dataset: str | None) -> Any:
    import zarr

    root = zarr.open(path, mode="r")
    if isinstance(root, zarr.Array):
        return root
    return root[_named(path, dataset, [name for name, _ in root.arrays()])]


def _named(path: Path, dataset: str | None, names: list[str]) -> str:
    if dataset is None and len(names) == 1:
        return names[0]
    if dataset is None or dataset.strip("/") not in names:
        raise DataError(
            "The array is not in the file" if dataset else "The file holds several arrays",
            where=path,
            expected=dataset or "the name of one",
            got=", ".join(names[:20]) or "no arrays",
            remedy="name the sinogram with `dataset`",
        )
    return dataset.strip("/")


def _from_tiff(path: Path) -> np.ndarray:
    from PIL import Image, ImageSequence

    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".tif", ".tiff"))
    pages = []
    for file in files:
        with Image.open(file) as image:
            pages += [np.array(page) for page in ImageSequence.Iterator(image)]
    if not pages or len({p.shape for p in pages}) > 1:
        raise DataError(
            "The TIFF stack is no array",
            where=path,
            expected="one or more pages of one size",
            got=f"{len(pages)} pages, sizes {sorted({p.shape for p in pages})}",
            remedy="check which files are in the folder",
        )
    return pages[0] if len(pages) == 1 else np.stack(pages)


def _chosen(
    array: Any, axes: Sequence[str], slices: int | Sequence[int] | None, path: Path
) -> list[int]:
    if "slice" not in axes:
        return [0]
    n = array.shape[list(axes).index("slice")]
    chosen = list(range(n)) if slices is None else [int(i) for i in np.atleast_1d(slices)]
    if not chosen or min(chosen) < 0 or max(chosen) >= n:
        raise DataError(
            "The slice is not in the stack",
            where=path,
            expected=f"0 to {n - 1}",
            got=slices,
            remedy="choose slices of the stack",
        )
    return chosen


def _slice(array: Any, axes: list[str], item: int, path: Path) -> np.ndarray:
    """Return one [angle, detector] in float64; other slices are not read where the format can."""
    index = tuple(item if axis == "slice" else slice(None) for axis in axes)
    try:
        one = np.asarray(array[index], np.float64)
    except Exception as error:
        raise DataError(
            "The sinogram cannot be read",
            where=path,
            got=f"{type(error).__name__}: {error}",
            remedy="copy or download it again if it was cut off",
        ) from error
    rest = [axis for axis in axes if axis != "slice"]
    return one if rest == ["angle", "detector"] else one.T
