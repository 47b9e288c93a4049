"""The measurement store: what an instrument measured, and what its operator needs, item by item."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import xarray as xr

import sciinv
from sciinv.config.paths import is_remote
from sciinv.errors import StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, written_aside
from sciinv.store.remote import open_remote

_SHARD_BYTES = 2**22
REQUIRED = ("operator", "params", "units")


def write_measurement(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a measurement store: Zarr v3, one item per chunk, items streamed one block at a time.

    Args:
        dataset: Variable `y` with dimensions (item, …) in the field's words, and the other arrays
            that the operator's constructor takes, under the names it takes them by; those that
            differ between items have the dimension `item`. Attributes: `operator` (registry name
            or "FILE.py:CLASS"), `params` (JSON object, or a dict, of the constructor's scalar
            parameters), `units`, and, as known, `source` and `title`. May be lazy.
        path: The store to make; written aside, sealed and renamed.
        overwrite: Replace a store that is there already.

    Returns:
        The path.

    Raises:
        StoreError: The dataset lacks `y`, an attribute or finite values; the name is taken; the
            disk is full or read-only.
    """
    _check(dataset)
    dataset = dataset.assign_attrs(sciinv_version=sciinv.__version__)
    if not isinstance(dataset.attrs["params"], str):
        dataset.attrs["params"] = json.dumps(dataset.attrs["params"])
    items = {"item": dataset.sizes["item"]}
    grid = blocks.fitting(blocks.unit_bytes(dataset, {"item"}), items, _SHARD_BYTES)
    with written_aside(path, "measurement", overwrite=overwrite) as root, blocks.quiet_zarr():
        names = blocks.create(root, "", dataset, grid)
        for selection in blocks.selections(items, grid):
            part = dataset[names].isel(selection).load()
            _check_finite(part["y"], path)
            blocks.fill(root, "", part, selection)
        blocks.consolidate(root)
    return Path(path)


def open_measurement(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a measurement store; values are read when they are used, item by item.

    Args:
        path: The store's folder, or a URL that fsspec knows.

    Returns:
        The dataset that was written; `attrs["params"]` is JSON (see
        `sciinv.operators.from_measurement`).

    Raises:
        StoreError: No such store, or one that is not whole.
    """
    if is_remote(path):
        return open_remote(os.fspath(path), "measurement")
    read_seal(path, "measurement")
    return xr.open_dataset(path, engine="zarr", chunks=None, cache=False, consolidated=True)


def _check(dataset: xr.Dataset) -> None:
    if "y" not in dataset or not dataset["y"].dims or dataset["y"].dims[0] != "item":
        raise StoreError(
            "The dataset is no measurement",
            expected="a variable y with dimensions (item, …)",
            got=f"{dict(dataset['y'].sizes)} for y" if "y" in dataset else list(dataset.data_vars),
            remedy="name the measured values y and put the dimension item first",
        )
    if dataset["y"].dtype.kind != "f":
        raise StoreError(
            "The measurement y is not real floating point",
            expected="float32 or float64 (complex values as a dimension of two real parts)",
            got=dataset["y"].dtype,
            remedy="store real and imaginary part along a dimension `part` of length 2",
        )
    if 0 in dataset["y"].shape:
        raise StoreError(
            "The measurement is empty",
            expected="at least one item with at least one value",
            got=dict(dataset["y"].sizes),
            remedy="check what was selected from the raw data",
        )
    missing = [k for k in REQUIRED if k not in dataset.attrs]
    if missing:
        raise StoreError(
            "The measurement lacks attributes",
            expected=", ".join(REQUIRED),
            got=f"no {', '.join(missing)}",
            remedy="set dataset.attrs[…]; params may be {}",
        )


def _check_finite(y: xr.DataArray, path: str | os.PathLike[str]) -> None:
    bad = ~np.isfinite(y.values)
    if bad.any():
        first = {d: int(i) for d, i in zip(y.dims, np.argwhere(bad)[0], strict=True)}
        raise StoreError(
            "The measurement holds values that are not finite",
            where=path,
            expected="finite values; an infinite noise sd marks a sample that carries no data",
            got=f"{int(bad.sum())} of {bad.size}, the first at {first}",
            remedy="set these to 0 and their noise sd to infinity, or mask them",
        )
