"""Plain arrays of CT: NumPy, MATLAB, HDF5, Zarr and TIFF, read slice by slice where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts import hdf5, special
from sciinv.readers.parts.frame_files import is_tiff, natural
from sciinv.readers.parts.options import numbers_among

ZARR = ("zarr.json", ".zarray", ".zgroup")  # what a Zarr folder holds, of either version


def opened_array(path: Path, dataset: str | None, *, partial: bool = False) -> Any:
    """Return an array-like of the file with `shape` and slicing, read as late as the format can.

    Args:
        path: The file or folder.
        dataset: Name of the array in it.
        partial: Whether parts that were never written are allowed.

    Raises:
        DataError: It cannot be read, or parts of it are missing.
    """
    if not path.exists():
        raise DataError(
            "The sinogram is not there",
            where=path,
            expected="a .npy, MATLAB, HDF5, Zarr or TIFF file",
            got="no such file",
            remedy="check the path",
        )
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                array = archive[_named(path, dataset, list(archive.files))]
        elif suffix == ".mat" and not h5py.is_hdf5(path):
            shapes = matlab_arrays(path)
            name = _named(path, dataset, [k for k, s in shapes.items() if len(s) > 1] or [*shapes])
            array = matlab_array(path, name)
        elif suffix in (".h5", ".hdf5", ".hdf", ".nxs", ".mat"):
            array = _from_hdf5(path, dataset, partial)
        elif suffix == ".zarr" or any((path / name).exists() for name in ZARR):
            array = _from_zarr(path, dataset, partial)
        elif suffix in (".tif", ".tiff") or path.is_dir():
            array = _from_tiff(path)
        else:
            raise DataError(
                "The format of the sinogram is not known",
                where=path,
                expected=".npy, .npz, .mat, .h5, .zarr, .tif or a folder of .tif",
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


def matlab_arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a MATLAB file's arrays, without axes of one (before version 7.3)."""
    import scipy.io

    numbers = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32",
               "int64", "uint64")  # fmt: skip
    found = [(k, shape) for k, shape, kind in scipy.io.whosmat(path) if kind in numbers]
    return {k: tuple(n for n in shape if n != 1) for k, shape in found}


def matlab_array(path: Path, name: str) -> np.ndarray:
    """Return an array of a MATLAB file without its axes of one."""
    import scipy.io

    return np.squeeze(scipy.io.loadmat(path, variable_names=[name])[name])


def _from_hdf5(path: Path, dataset: str | None, partial: bool) -> np.ndarray:
    with hdf5.opened(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        array = hdf5.checked_array(file[_named(path, dataset, names)], path)
        if not partial:
            hdf5.check_written(array, path)
        hdf5.check_size(array.shape, array.dtype.itemsize, path)
        return _with_fill(np.asarray(array[()]), array.fillvalue)


def _from_zarr(path: Path, dataset: str | None, partial: bool) -> Any:
    import zarr

    root: Any = zarr.open(path, mode="r")
    if not isinstance(root, zarr.Array):
        root = root[_named(path, dataset, [name for name, _ in root.arrays()])]
    missing = int(root.nchunks) - int(root.nchunks_initialized)
    if missing > 0 and not partial:
        raise DataError(
            "Parts of the Zarr array are missing",
            where=path,
            expected=f"{root.nchunks} chunks",
            got=f"{root.nchunks - missing}; the others read as the fill value {root.fill_value}",
            remedy="copy the store again; or read with mask=True, so that they carry no data",
        )
    hdf5.check_size(root.shape, root.dtype.itemsize, path)
    return _with_fill(root[...], root.fill_value, missing > 0) if missing > 0 else root


def _with_fill(values: np.ndarray, fill: object, also_zero: bool = False) -> np.ndarray:
    """Return the values; those at a fill value that is not 0 become NaN, or at any, if asked."""
    number = np.asarray(fill)
    if values.dtype.kind not in "iuf":
        return values
    if number.size != 1 or number.dtype.kind not in "iuf" or not (also_zero or float(number)):
        return values
    here = values == number.reshape(())
    return np.where(here, np.nan, values.astype(np.float64)) if here.any() else values


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
        files = sorted((p for p in path.iterdir() if is_tiff(p)), key=natural)
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


def chosen(
    array: Any, axes: Sequence[str], slices: int | Sequence[int] | None, path: Path
) -> list[int]:
    """Return the numbers of the slices to read."""
    if "slice" not in axes:
        if slices is not None:
            raise DataError(
                "The array has no axis of slices",
                where=f"{path}: slices",
                expected='axes with "slice" among them',
                got=f"slices={slices}, axes {list(axes)}",
                remedy="leave slices out, or name the three axes with the option axes",
            )
        return [0]
    n = array.shape[list(axes).index("slice")]
    return numbers_among(
        slices, n, path, "slices", absent="The slice is not in the stack",
        remedy="choose slices of the stack",
    )  # fmt: skip


def stacked(
    array: Any, axes: list[str], items: list[int], path: Path, no_data_value: float | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return slices [item, angle, detector] in float64, where they hold no data, and whether they
    are whole numbers above 1 throughout.
    """
    raw = [_slice(array, axes, i, path) for i in items]
    gone = np.stack([special.no_data(one, no_data_value) for one in raw])
    if no_data_value == 0:
        gone |= np.stack(raw) == 0
    y = np.stack(raw).astype(np.float64)
    some = y[~gone]
    whole = bool(some.size and (some == np.rint(some)).all() and some.min() >= 0)
    return y, gone, whole


def _slice(array: Any, axes: list[str], item: int, path: Path) -> np.ndarray:
    """Return one [angle, detector] in the file's dtype, reading no other where that can be."""
    index = tuple(item if axis == "slice" else slice(None) for axis in axes)
    try:
        one = np.asarray(array[index])
    except Exception as error:
        raise DataError(
            "The sinogram cannot be read",
            where=path,
            got=f"{type(error).__name__}: {error}",
            remedy="copy or download it again if it was cut off",
        ) from error
    rest = [axis for axis in axes if axis != "slice"]
    return one if rest == ["angle", "detector"] else one.T
