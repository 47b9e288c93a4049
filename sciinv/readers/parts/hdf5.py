"""HDF5 as every reader opens it: errors that name the cause, and no data that are not there."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError

LARGEST_READ = 64 << 30  # bytes of one array: beyond any slice, and beyond any damaged header
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, AttributeError)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; whatever HDF5 stumbles over inside becomes a `DataError`.

    The compression filters of the package hdf5plugin are used where it is installed.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except DAMAGED as error:  # h5py raises any of these on damaged metadata
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error of an HDF5 file that cannot be read, with a remedy for its cause."""
    text = f"{type(error).__name__}: {error}"
    low = text.lower()
    expected, remedy = (
        "a whole HDF5 file",
        ("check the format; copy or download it again if it was cut off"),
    )
    if isinstance(error, FileNotFoundError) or not path.exists():
        expected, text, remedy = "a file", "no such file", "check the path"
    elif "lock file" in low:  # "sblock" stands in the message of a file that was cut off
        expected = "a file that no other program has open for writing"
        remedy = (
            "wait until the program that writes it has closed it; where none does (a network "
            "disk without locks), set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
        )
    elif "filter" in low or "plugin" in low:
        expected = "data whose compression filter is installed"
        remedy = "install the package that holds such filters: pip install hdf5plugin"
    elif "permission" in low:
        expected, remedy = "a file that may be read", "ask its owner for permission to read it"
    return DataError(
        "The HDF5 file cannot be read", where=path, expected=expected, got=text, remedy=remedy
    )


def checked_array(array: h5py.Dataset, path: Path) -> h5py.Dataset:
    """Return an array of a file unless part of what it shows lies elsewhere or nowhere.

    Raises:
        DataError: It is stored outside of the file, a source of a virtual array is missing, it
            is empty, or larger than any memory.
    """
    where = f"{path}: {array.name}"
    if array.external:
        raise DataError(
            "An array of the HDF5 file lies in another, plain file",
            where=where,
            expected="data within the file, or a virtual dataset of HDF5 files",
            got=", ".join(str(part[0]) for part in array.external[:3]),
            remedy="copy it into one file, e.g. with h5repack or h5py",
        )
    if array.is_virtual:
        _check_virtual(array, path, where)
    size = int(np.prod([int(n) for n in array.shape], dtype=object)) * array.dtype.itemsize
    if array.shape and array.id.get_storage_size() == 0 and size and not array.is_virtual:
        raise DataError(
            "An array of the HDF5 file was never written",
            where=where,
            expected=f"{size} bytes of data",
            got=f"a header alone, so that every value reads as the fill value {array.fillvalue}",
            remedy="take the file that the scan left, or copy it again once the writer is done",
        )
    return array


def _check_virtual(array: h5py.Dataset, path: Path, where: str) -> None:
    for source in array.virtual_sources():
        name = source.file_name
        if name == "." or "%" in name:
            continue
        place = Path(name) if os.path.isabs(name) else path.parent / name
        missing = not place.is_file()
        if not missing:
            try:
                with h5py.File(place, "r") as file:
                    missing = source.dset_name not in file
            except OSError:
                missing = True
        if missing:
            raise DataError(
                "A part of the virtual dataset is missing",
                where=where,
                expected=f"{source.dset_name} in {place}",
                got="no such file or array, so that its values read as the fill value",
                remedy="put the missing file beside this one",
            )


def unwritten_chunks(array: h5py.Dataset) -> tuple[int, int]:
    """Return how many chunks of an array were never written, and how many there are."""
    if array.chunks is None or array.is_virtual:
        return 0, 1
    grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    count = int(np.prod(grid, dtype=object))
    return max(0, count - int(array.id.get_num_chunks())), count


def check_written(array: h5py.Dataset, path: Path) -> None:
    """Raise `DataError` where chunks of measured values were never written."""
    missing, count = unwritten_chunks(array)
    if missing:
        raise DataError(
            "Parts of an array of the HDF5 file were never written",
            where=f"{path}: {array.name}",
            expected=f"{count} chunks",
            got=f"{count - missing}; the others read as the fill value {array.fillvalue}",
            remedy="take the whole file, or copy it again once its writer is done",
        )


def check_size(shape: Any, itemsize: int, where: object) -> None:
    """Raise `DataError` before an array is allocated that no memory holds."""
    size = int(np.prod([int(n) for n in shape], dtype=object)) * itemsize
    if size > LARGEST_READ:
        raise DataError(
            "The array is larger than can be read at once",
            where=where,
            expected=f"at most {LARGEST_READ >> 30} GiB in one slice",
            got=f"shape {list(shape)}, {size / 2**30:.4g} GiB",
            remedy="check the header; read fewer slices or rows at a time",
        )
