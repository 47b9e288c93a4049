"""k-space files of Cartesian MRI → the measurement dataset of the operator "mri".

Formats: fastMRI HDF5, ISMRMRD HDF5, BART .cfl/.hdr, plain HDF5 and .npy arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.readers.parts import bart, fastmri, ismrmrd
from sciinv.readers.parts.kspace_base import KSpace, Reader, checked, opened_hdf5

UNITS = "1 = 99th percentile"  # of the image: what the scaling makes of a pixel of value 1
NOISE_RULES = {
    "given": "noise sd given by the user",
    "scan": "coils prewhitened with the covariance of the file's noise scan",
    "floor": "floor under the outer k-space: mean |k|²/2 over the coils fitted as sd² + a r^-3.5",
}


def read(
    path: str | Path,
    item: int | Sequence[int] | None = 0,
    *,
    mask: np.ndarray | None = None,
    coil_maps: np.ndarray | None = None,
    noise_sd: float | None = None,
    dataset: str | None = None,
    pixel_mm: float | Sequence[float] | None = None,
    sets: int = 1,
) -> xr.Dataset:
    """Read k-space into a measurement dataset; slices are read one by one.

    Per slice: prewhitening, where the file has a noise scan; the mask of the measured (non-zero)
    samples; ESPIRiT sensitivities; and a scale. The k-space is divided by `scale`, the 99th
    percentile of the magnitude of its CG-SENSE image, so that the 99th percentile of |x| is
    about 1.

    Args:
        path: A .npy, .h5/.hdf5 or .cfl/.hdr file.
        item: Slice, slices, or None for all.
        mask: Undersample further: bool [ky, kx]; samples that it leaves out are dropped.
        coil_maps: Sensitivities to use instead of ESPIRiT's, complex [coil, ky, kx] or
            [set, coil, ky, kx].
        noise_sd: Noise per real component in the file's units, equal and independent in every
            coil; without it the file's noise scan is used, else the floor of the outer k-space.
        dataset: Name of the array in a plain HDF5 file.
        pixel_mm: Pixel size, mm, where the file does not say it (else 1).
        sets: Sets of ESPIRiT maps: 2 (soft-SENSE) where the object is larger than the field of
            view.

    Returns:
        Dataset with `y` (item, part, coil, sample), `mask` (ky, kx), `coil_maps` (item, part,
        coil, row, column; with several sets item, part, set, coil, row, column), `noise_sd`
        (item), `scale` (item), and the attributes of a measurement store. A fully sampled fastMRI
        file also gives `reference` (item, reference_row, reference_column): its own
        reconstruction divided by the scale, which shows the centre of the image where it is
        smaller.

    Raises:
        DataError: A file that cannot be read, or that does not hold such k-space.
    """
    path = Path(path)
    source = _reader(path, dataset)
    count = source.count(path, dataset)
    wanted = _items(item, count, path)
    slices = [source.load(path, i, dataset) for i in wanted]
    parts = [_measurement(k, path, mask, coil_maps, noise_sd, sets) for k in slices]
    masks = [p[0] for p in parts]
    different = [wanted[i] for i, m in enumerate(masks) if not np.array_equal(m, masks[0])]
    if different:
        raise DataError(
            "The slices were sampled differently",
            where=path,
            expected=f"the mask of item {wanted[0]}",
            got=f"another one in items {different[:8]}",
            remedy="read these items one by one, each into a store of its own",
        )
    first = slices[0]
    pixel = first.pixel_mm if pixel_mm is None else pixel_mm
    out = xr.concat([p[1] for p in parts], dim="item").assign_coords(item=np.asarray(wanted))
    out["mask"] = ("ky", "kx"), masks[0]
    out.attrs = {
        "operator": "mri",
        "params": json.dumps(
            {"pixel_mm": np.broadcast_to(pixel or 1.0, 2).tolist(), "units": UNITS}
        ),
        "units": "k-space divided by `scale`",
        "source": path.name,
        "title": first.title,
        "noise": NOISE_RULES[parts[0][2]],
        "scaling": "99th percentile of the magnitude of the CG-SENSE image",
    }
    return out


def items(path: str | Path, dataset: str | None = None) -> int:
    """Return how many slices a k-space file holds."""
    path = Path(path)
    return _reader(path, dataset).count(path, dataset)


class _Plain:
    """Arrays without a header: (coil, ky, kx) or (item, coil, ky, kx) in .npy or HDF5."""

    @staticmethod
    def count(path: Path, dataset: str | None) -> int:
        with _opened_array(path, dataset) as array:
            return 1 if array.ndim == 3 else array.shape[0]

    @staticmethod
    def load(path: Path, item: int, dataset: str | None) -> KSpace:
        with _opened_array(path, dataset) as array:
            values = np.array(array if array.ndim == 3 else array[item])
        return KSpace(checked(values, path), title=f"k-space of {path.stem}")


@contextmanager
def _opened_array(path: Path, dataset: str | None) -> Iterator[np.ndarray | h5py.Dataset]:
    # The array of a .npy or plain HDF5 file, not yet in memory; checked for its shape.
    if path.suffix == ".npy":
        yield _array_shape(_npy(path), path)
    else:
        with opened_hdf5(path) as file:
            yield _array_shape(_in_hdf5(file, path, dataset), path)


def _array_shape(array: Any, path: Path) -> Any:
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            "The k-space array has the wrong shape",
            where=path,
            expected="(coil, ky, kx) or (item, coil, ky, kx), none of them 0",
            got=tuple(array.shape),
            remedy="add an axis for a single coil; put the axes in this order",
        )
    return array


def _npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of the header raises whatever it meets
        raise DataError(
            "The .npy file cannot be read",
            where=path,
            expected="a NumPy array of complex numbers",
            got=f"{type(error).__name__}: {error}",
            remedy="write it with np.save, or copy it again if it was cut off",
        ) from error


def _in_hdf5(file: h5py.File, path: Path, dataset: str | None) -> h5py.Dataset:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, value: h5py.Dataset | h5py.Group) -> None:
        if isinstance(value, h5py.Dataset):
            found[name] = value

    file.visititems(visit)
    if dataset is not None and dataset.strip("/") in found:
        return found[dataset.strip("/")]
    candidates = [n for n, d in found.items() if d.dtype.kind == "c" and d.ndim in (3, 4)]
    if dataset is None and len(candidates) == 1:
        return found[candidates[0]]
    raise DataError(
        "The HDF5 file does not say which array is the k-space",
        where=path,
        expected=dataset or "one complex array (coil, ky, kx) or (item, coil, ky, kx)",
        got=", ".join(f"{n} {d.dtype} {d.shape}" for n, d in found.items()) or "no array",
        remedy="name it: read(path, dataset=…)",
    )


def _reader(path: Path, dataset: str | None) -> type[Reader]:
    if not path.is_file() and path.suffix not in ("", ".cfl", ".hdr"):
        raise DataError(
            "The k-space file is not there",
            where=path,
            expected="a file",
            got="a folder" if path.is_dir() else "nothing",
            remedy="check the path",
        )
    if path.suffix in ("", ".cfl", ".hdr"):
        return bart.Reader
    if path.suffix == ".npy":
        return _Plain
    if path.suffix not in (".h5", ".hdf5", ".mrd"):
        raise DataError(
            "The file's format is not known",
            where=path,
            expected=".npy, .h5, .hdf5, .mrd, .cfl or .hdr",
            got=path.suffix,
            remedy="convert the data, e.g. to a NumPy array (coil, ky, kx)",
        )
    if dataset is not None:
        return _Plain
    with opened_hdf5(path) as file:
        if ismrmrd.group_of(file) is not None:
            return ismrmrd.Reader
        if fastmri.recognises(file):
            return fastmri.Reader
    return _Plain


def _items(item: int | Sequence[int] | None, count: int, path: Path) -> list[int]:
    wanted = list(range(count)) if item is None else [item] if isinstance(item, int) else list(item)
    if not wanted or min(wanted) < 0 or max(wanted) >= count:
        raise DataError(
            "The file has no such item",
            where=path,
            expected=f"0 … {count - 1}",
            got=item,
            remedy="choose a slice that the file holds",
        )
    return wanted


def _measurement(
    k: KSpace,
    path: Path,
    mask: np.ndarray | None,
    coil_maps: np.ndarray | None,
    noise_sd: float | None,
    sets: int,
) -> tuple[np.ndarray, xr.Dataset, str]:
    kspace, rule = k.kspace, "floor"
    measured = mri_masks.from_kspace(kspace)
    kept = measured if mask is None else _undersampled(measured, mask, path)
    if noise_sd is not None:
        rule, raw_sd = "given", float(noise_sd)
        if not raw_sd > 0:
            raise DataError(
                "The noise must be positive",
                expected="noise_sd > 0, in the file's units",
                got=noise_sd,
                remedy="leave it out to have it estimated",
            )
    elif k.noise is not None:
        covariance = mri_coils.noise_covariance(k.noise) * k.noise_variance_ratio
        rule, raw_sd, kspace = "scan", 1.0, mri_coils.prewhiten(kspace, covariance)
    else:
        raw_sd = mri_coils.noise_floor(kspace, measured)
    kspace = kspace * kept
    if coil_maps is None:
        maps, _ = mri_coils.espirit(kspace, kept, sets=sets)
    else:
        maps = np.asarray(coil_maps, np.complex64)
        if maps.shape[-3:] != kspace.shape or maps.ndim > 4:
            raise DataError(
                "The coil maps do not fit the k-space",
                where=path,
                expected=f"complex {kspace.shape}",
                got=maps.shape,
                remedy="give maps for this file's coils and grid, or leave them to be estimated",
            )
    y = _two_parts(kspace[:, kept])
    scale = image_scale(y, kept, maps, raw_sd)
    data = {
        "y": (("part", "coil", "sample"), (y / scale).astype(np.float32)),
        "coil_maps": (
            ("part", *(("set",) if maps.ndim == 4 else ()), "coil", "row", "column"),
            _two_parts(maps),
        ),
        "noise_sd": ((), np.float64(raw_sd / scale)),
        "scale": ((), np.float64(scale)),
    }
    if k.reference is not None:
        dims = ("reference_row", "reference_column")
        data["reference"] = dims, (k.reference / scale).astype(np.float32)
    return kept, xr.Dataset(data, coords={"part": ["real", "imag"]}), rule


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


def image_scale(y: np.ndarray, mask: np.ndarray, maps: np.ndarray, noise_sd: float) -> float:
    """Return the 99th percentile of |x| of the CG-SENSE image of packed samples.

    A low-resolution image would do for smooth objects, but blurs a bright rim of fat away: on
    the head in `data/mri` its percentile is a third lower.

    Args:
        y: Measured samples, real [2, coil, sample].
        mask: [ky, kx].
        maps: Complex [coil, row, column] or [set, coil, row, column].
        noise_sd: Per real component of y.
    """
    import torch

    from sciinv.operators.mri import MultiCoilMRI

    size = float(np.sqrt(np.mean(np.square(y, dtype=np.float64))))  # raw units can be tiny
    physics = MultiCoilMRI(mask, maps, noise_sd / size)
    x = physics.classical(torch.from_numpy(y / np.float32(size))[None])["CG-SENSE"]
    magnitude = np.hypot(*x[0].numpy()) if len(x[0]) == 2 else physics.combined(x)[0].numpy()
    return size * float(np.quantile(magnitude, 0.99))
