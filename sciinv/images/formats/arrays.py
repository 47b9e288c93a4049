"""Arrays: .npy, .npz, HDF5 and Zarr; k-space in fastMRI's layout becomes complex images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.images.formats import kspace
from sciinv.images.formats.base import Options, Stack, axis_of, cut, numeric
from sciinv.readers.parts.hdf5 import opened


def read_numpy(path: Path, options: Options) -> Stack:
    """Return the images of a .npy or .npz file; objects in it are never unpickled."""
    try:
        loaded = np.load(path, allow_pickle=False)
        named = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            "The array cannot be read",
            where=path,
            expected="a .npy or .npz of numbers",
            got=error,
            remedy="save it again with numpy.save(..., allow_pickle=False)",
        ) from error
    array = named[_choose(named, options, path)]
    return Stack(np.ascontiguousarray(cut(numeric(array, path), axis_of(options, path), path)))


def read_hdf5(path: Path, options: Options) -> Stack:
    """Return the images of an HDF5 file; `kspace` of fastMRI unless --dataset names another."""
    with opened(path) as file:
        named: dict[str, Any] = {}
        file.visititems(lambda k, v: named.update({k: v}) if isinstance(v, h5py.Dataset) else None)
        if options.dataset in (None, "kspace") and "kspace" in named:
            return kspace.images_of(path)
        return _of(named, options, path)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def read_zarr(path: Path, options: Options) -> Stack:
    """Return the images of a Zarr array or group."""
    import zarr

    try:
        store = zarr.open(str(path), mode="r")
        if isinstance(store, zarr.Array):
            named: dict[str, Any] = {"": store}
        else:
            named = {k: v for k, v in store.members(max_depth=None) if isinstance(v, zarr.Array)}
    except (OSError, ValueError, KeyError) as error:
        raise DataError("The Zarr store cannot be read", where=path, got=error,
                        expected="a Zarr array or group",
                        remedy="write it again") from error  # fmt: skip
    return _of(named, options, path)


def _of(named: Mapping[str, Any], options: Options, path: Path) -> Stack:
    name = _choose(named, options, path)
    array = named[name]
    about = {k: array.attrs[k] for k in array.attrs}
    values = np.asarray(array[...])
    if values.dtype.names == ("r", "i") or values.dtype.names == ("real", "imag"):
        first, second = values.dtype.names
        values = values[first] + 1j * values[second]
    pixel = about.get("pixel_mm", about.get("pixel_size"))
    side = None if pixel is None else np.broadcast_to(np.asarray(pixel, float), 2)
    return Stack(
        np.ascontiguousarray(cut(numeric(values, path), axis_of(options, path), path)),
        str(about.get("units", "")),
        None if side is None else (float(side[0]), float(side[1])),
        "" if side is None else str(about.get("pixel_unit", "mm")),
        arbitrary=name.startswith("reconstruction_"),
    )


def _choose(named: Mapping[str, Any], options: Options, path: Path) -> str:
    """Return the name of the array to take: the one that is named, or the only one that fits."""
    fits = [k for k, v in named.items() if v.ndim in (2, 3, 4) and min(v.shape[-2:]) >= 8]
    if options.dataset is not None and "" not in named:
        if options.dataset in named:
            return options.dataset
    elif len(fits) == 1:
        return fits[0]
    shown = ", ".join(f"{k or 'the array'} {list(v.shape)}" for k, v in list(named.items())[:8])
    raise DataError(
        "It is not clear which array of the file holds the images",
        where=path,
        expected=options.dataset or "one array of images [slice, row, column]",
        got=shown or "no array",
        remedy=f"--dataset {fits[0]}" if fits and fits[0] else "save the images as one array",
    )
