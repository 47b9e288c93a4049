"""Zarr v3 groups written block by block: small chunks for reading, few files on the disk."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr

Selection = dict[Hashable, slice]

_SMALL = 1024  # bytes: below this a chunk of one unit costs more index than data
_KEYS = {"name": "default", "separator": "."}  # chunk files beside each other: no folders
_LARGE = 2**30  # bytes: the codecs of Zarr take no chunk of 2 GiB
SHARD_BYTES = 2**28  # of one shard file, where the caller leaves the grid open


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence Zarr's notes on files and metadata beyond its specification; both are meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not recognized as a component.*")
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part.*")
        yield


def create(root: Path, group: str, dataset: xr.Dataset, grid: Mapping[str, int]) -> list[str]:
    """Write a group's metadata and its small variables; return the names left for `fill`.

    A variable with a dimension of the grid is stored in chunks of one unit (length 1 along each
    dimension of the grid), `grid` of them in one shard file. The values of these variables are
    not read here.

    Args:
        root: Folder of the store.
        group: Group inside it; "" for the root group.
        dataset: Names, shapes, dtypes, coordinates and attributes.
        grid: Units per shard file by dimension, e.g. {"draw": 16, "item": 4}.
    """
    template = dataset.copy()
    template.encoding = {}
    encoding: dict[Hashable, dict[str, Any]] = {}
    gridded = []
    for name, variable in dataset.variables.items():
        template[name].encoding = {}
        encoding[name] = {"chunk_key_encoding": _KEYS}
        if name in dataset.coords or variable.dtype.kind not in "fiubc" or 0 in variable.shape:
            continue
        if not set(grid) & set(variable.dims):
            encoding[name]["chunks"] = _split(variable.shape, variable.dtype.itemsize)
            continue
        shards, layout = _layout(variable, grid)
        zeros = dask.array.zeros(variable.shape, dtype=variable.dtype, chunks=shards)
        template = template.assign({name: (variable.dims, zeros, variable.attrs)})
        encoding[name] |= layout
        gridded.append(str(name))
    for name, variable in template.variables.items():
        if variable.dtype.kind == "U":  # fixed-width strings have no Zarr v3 specification
            template = template.assign({name: template[name].astype(object)})
    template.to_zarr(
        root,
        group=group or None,
        mode="w" if group else "a",
        zarr_format=3,
        consolidated=False,
        compute=False,
        encoding=encoding,
    )
    return gridded


def fill(root: Path, group: str, dataset: xr.Dataset, selection: Selection) -> None:
    """Write the values of `dataset`, which stands at `selection` of the group made by `create`.

    The selection must cover whole shard files (or reach the end of the array).
    """
    families: dict[frozenset[Hashable], list[Hashable]] = {}
    for name, variable in dataset.data_vars.items():
        families.setdefault(frozenset(set(variable.dims) & set(selection)), []).append(name)
    for dims, names in families.items():
        part = dataset[names].load().reset_coords(drop=True)
        part = part.drop_vars(list(part.coords))
        for name in names:
            part[name].encoding = {}
        part.to_zarr(
            root,
            group=group or None,
            mode="r+",
            zarr_format=3,
            consolidated=False,
            region={str(d): selection[d] for d in dims},
        )


def consolidate(root: Path) -> None:
    """Put all metadata into the root's zarr.json, so that one read opens the store."""
    with quiet_zarr():
        zarr.consolidate_metadata(root, zarr_format=3)


def selections(sizes: Mapping[Any, int], grid: Mapping[str, int]) -> Iterator[Selection]:
    """Yield the blocks of the grid, last dimension fastest."""
    ranges = [
        [(d, slice(a, min(a + step, sizes[d]))) for a in range(0, sizes[d], step)]
        for d, step in grid.items()
        if d in sizes
    ]
    for combination in itertools.product(*ranges):
        yield dict(combination)


def fitting(unit_bytes: int, sizes: Mapping[str, int], limit: int = SHARD_BYTES) -> dict[str, int]:
    """Return how many units along each dimension make a shard of at most `limit` bytes.

    Dimensions are filled in order: the first is kept whole for as long as it fits.
    """
    grid = {}
    room = max(1, limit // max(1, unit_bytes))
    for name, size in sizes.items():
        grid[name] = max(1, min(size, room))
        room = max(1, room // grid[name])
    return grid


def unit_bytes(dataset: xr.Dataset, dims: set[str]) -> int:
    """Return the bytes of the largest variable for one index along each of `dims`."""
    sizes = [
        v.dtype.itemsize * int(np.prod([n for d, n in v.sizes.items() if d not in dims]))
        for v in dataset.data_vars.values()
        if dims & set(v.dims)
    ]
    return max(sizes, default=1)


def _layout(
    variable: xr.Variable, grid: Mapping[str, int]
) -> tuple[tuple[int, ...], dict[str, Any]]:
    shards = tuple(int(grid.get(str(d), n)) for d, n in variable.sizes.items())
    unit = tuple(1 if d in grid else n for d, n in variable.sizes.items())
    size = int(np.prod(unit)) * variable.dtype.itemsize
    if size > _LARGE:
        chunks = _split(unit, variable.dtype.itemsize)
        return chunks, {"chunks": chunks}
    if size < _SMALL or unit == shards:
        return shards, {"chunks": shards}
    return shards, {"chunks": unit, "shards": shards}


def _split(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    chunks = list(shape)
    axis = 0
    while int(np.prod(chunks)) * itemsize > _LARGE and axis < len(chunks):
        if chunks[axis] > 1:
            chunks[axis] = -(-chunks[axis] // 2)
        else:
            axis += 1
    return tuple(max(1, n) for n in chunks)
