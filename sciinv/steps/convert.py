"""Raw data of many items → one measurement store: read in parallel, written in order, streamed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array
import numpy as np
import xarray as xr

from sciinv import store
from sciinv.config import Data
from sciinv.errors import ConfigError, DataError
from sciinv.steps.source import ITEM_OPTIONS, Source


def convert(
    data: Data,
    out: str | Path,
    *,
    items: Sequence[int] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a measurement store, item by item; memory does not grow with their number.

    Items are read by `workers` processes, at most 2 × `workers` ahead of the one being written. A
    reader that cannot select items (no argument `item` or `rows`) is read in one go.

    Args:
        data: The reader, its path and options.
        out: The store to make.
        items: The items to take; all of the file if None.
        workers: Processes that read.
        progress: Called with (items written, items).
        overwrite: Replace a store of ours that is there already.

    Raises:
        StoreError: The name is taken.
        DataError: The data cannot be read, or items differ in what all must share.
        ConfigError: The reader cannot select items.
    """
    source = Source.of(data)
    if source.item_option is None and items is not None:
        raise ConfigError(
            "The reader cannot select items",
            where=f"reader {data.reader}",
            expected=f"an argument {' or '.join(ITEM_OPTIONS)}",
            got="none",
            remedy="leave out --items, or give the reader such an argument",
        )
    store.check_free(out, "measurement", overwrite)
    chosen = list(items) if items is not None else source.items()
    if chosen is None:
        return store.write_measurement(source.recorded(source.read()), out, overwrite=overwrite)
    first = _read(data, chosen[0])
    with _executor(workers) as pool:
        ahead = Ahead(pool, data, chosen, first, 2 * workers, progress)
        # The store takes one block of items after the other: reading is what runs in parallel.
        with dask.config.set(scheduler="synchronous"):
            lazy = _lazy(first, chosen, ahead.take)
            return store.write_measurement(source.recorded(lazy), out, overwrite=overwrite)


class Ahead:
    """Items read ahead of their use, in order, at most `limit` at a time."""

    def __init__(
        self,
        pool: Executor,
        data: Data,
        items: Sequence[int],
        first: xr.Dataset,
        limit: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.pool, self.data, self.items = pool, data, items
        self.first, self.limit, self.progress = first, max(1, limit), progress
        self.pending: dict[int, Future[xr.Dataset]] = {}
        self.submitted: set[int] = set()
        self.done = 0

    def take(self, position: int) -> xr.Dataset:
        """Return the item at this position; each is asked for once, in nearly rising order."""
        for k in range(position, min(len(self.items), position + self.limit)):
            if k not in self.submitted:
                self.submitted.add(k)
                self.pending[k] = self.pool.submit(_read, self.data, self.items[k])
        found = self.pending.pop(position).result()
        _check_alike(found, self.first, self.items[position])
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, len(self.items))
        return found


def _lazy(first: xr.Dataset, items: Sequence[int], take: Callable[[int], xr.Dataset]) -> xr.Dataset:
    """Return the dataset of all items, each read when its values are asked for."""
    parts = [dask.delayed(take)(i) for i in range(len(items))]
    out = first.drop_dims("item").assign_attrs(first.attrs)
    for name, like in first.data_vars.items():
        if "item" not in like.dims:
            continue
        arrays = [
            dask.array.from_delayed(dask.delayed(_values)(p, name), like.shape, like.dtype)
            for p in parts
        ]
        axis = like.dims.index("item")
        out[name] = (like.dims, dask.array.concatenate(arrays, axis), like.attrs)
    return out.assign_coords(item=np.asarray(items))


def _values(dataset: xr.Dataset, name: str) -> np.ndarray:
    return dataset[name].values


def _read(data: Data, item: int) -> xr.Dataset:
    # The source is resolved here: this runs in a process that has not seen the reader's file.
    found = Source.of(data).of_item(item).read()
    return found.reset_coords([k for k, c in found.coords.items() if k not in found.dims])


def _check_alike(found: xr.Dataset, first: xr.Dataset, item: int) -> None:
    """Raise unless an item has the shapes of the first, and the same values in what all share."""
    for name, like in first.data_vars.items():
        same = name in found and found[name].shape == like.shape
        if same and "item" not in like.dims:
            same = bool(found[name].identical(like) or np.array_equal(found[name], like))
        if not same:
            raise DataError(
                f"Item {item} does not go into one store with the others: {name} differs",
                expected=f"{name} as in the first item, {list(like.shape)}",
                got=list(found[name].shape) if name in found else "no such array",
                remedy="convert items that were measured alike into a store of their own",
            )


def _executor(workers: int) -> Executor:
    if workers == 1:
        return ThreadPoolExecutor(1)  # no second process that imports torch anew
    # Spawned, not forked: a fork copies the locks of torch's and HDF5's threads.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
