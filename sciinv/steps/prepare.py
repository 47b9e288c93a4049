"""The steps from raw data to a report that need no network; the workflow's scripts call them.

raw data → prepare → measurement store → sample (`sciinv.steps.sample`) → shards → merge
→ posterior store → summarize → summary store → report
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from sciinv import store
from sciinv.config import Data
from sciinv.errors import DataError
from sciinv.readers.parts.looks import warnings_of
from sciinv.run.job import Say
from sciinv.steps.convert import convert
from sciinv.steps.source import Source


def prepare(
    data: Data, out: str | Path, items: int = 1, say: Say = print, *, overwrite: bool = False
) -> Path:
    """Read raw data into a measurement store.

    A reader that selects items and tells their number (see `sciinv.steps.convert`) is read item by
    item, so that memory does not grow with them; others are read in one go.

    Args:
        data: The reader, its path and options.
        out: The store to make.
        items: Items that will be sampled, at least.
        say: Takes lines of progress.
        overwrite: Replace a store of ours that is there already: for jobs that own their output.

    Raises:
        DataError: The data cannot be read, or hold fewer items.
    """
    store.check_free(out, "measurement", overwrite)
    source = Source.of(data)
    chosen = source.items()
    dataset = None if chosen else source.read()
    found = len(chosen or ()) if dataset is None else dataset.sizes.get("item", 0)
    if found < items:
        raise DataError(
            "The measurement holds fewer items than shall be sampled",
            where=", ".join(data.paths) or data.reader,
            expected=f"at least {items}",
            got=found,
            remedy="lower `items`, or let the reader's options select more",
        )
    if found > items:
        say(f"the measurement holds {found} items, of which the first {items} are sampled")
    if dataset is None:
        say(f"{found} items, read one by one")
        path = convert(data, out, items=chosen, overwrite=overwrite)
        tell(store.open_measurement(path), say)
        return path
    tell(dataset, say)
    say(f"y {dict(dataset['y'].sizes)}, operator {dataset.attrs.get('operator')}")
    return store.write_measurement(source.recorded(dataset), out, overwrite=overwrite)


def tell(dataset: xr.Dataset, say: Say) -> None:
    """Say what the reader found doubtful in the data."""
    for sentence in warnings_of(dataset):
        say(f"warning: {sentence}")
