"""The steps from raw data to a report that need no network; the workflow's scripts call them.

raw data → prepare → measurement store → sample (`sciinv.sampling`) → shards → merge
→ posterior store → summarize → summary store → report
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from sciinv import readers, store
from sciinv.config import SUMMARY, Data
from sciinv.config_schema import close_to
from sciinv.errors import ConfigError, DataError
from sciinv.jobs import Say
from sciinv.places import is_remote, locate, located_name


def prepare(
    data: Data, out: str | Path, items: int = 1, say: Say = print, *, overwrite: bool = False
) -> Path:
    """Read raw data into a measurement store.

    A reader that selects items and tells their number (see `sciinv.convert`) is read item by item,
    so that memory does not grow with them; others are read in one go.

    Args:
        data: The reader, its path and options.
        out: The store to make.
        items: Items that will be sampled, at least.
        say: Takes lines of progress.
        overwrite: Replace a store of ours that is there already: for jobs that own their output.

    Raises:
        DataError: The data cannot be read, or hold fewer items.
    """
    from sciinv import convert

    store.check_free(out, "measurement", overwrite)
    chosen = convert.all_items(data)
    dataset = None if chosen else read(data)
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
        return convert.convert(data, out, items=chosen, overwrite=overwrite)
    say(f"y {dict(dataset['y'].sizes)}, operator {dataset.attrs.get('operator')}")
    return store.write_measurement(dataset, out, overwrite=overwrite)


def read(data: Data) -> xr.Dataset:
    """Return the measurement dataset of raw data."""
    if data.reader == "store":
        source = data.paths[0]
        return store.open_measurement(source if is_remote(source) else locate(source))
    paths: Sequence[Path] = [locate(p) for p in data.paths]
    function = readers.find(located_name(data.reader))
    arguments: list[Any] = [paths[0] if isinstance(data.path, str) else paths] if paths else []
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments, **data.options)
    except TypeError as error:
        known = list(signature.parameters)[len(arguments) :]
        near = [close_to(k, known) for k in data.options if k not in known]
        raise ConfigError(
            "The reader does not take these options",
            where=f"reader {data.reader}",
            expected=", ".join(known) or "none",
            got=", ".join(data.options) or "none",
            remedy="; ".join(n for n in near if n) or str(error),
        ) from error
    return function(*arguments, **data.options)


def merge(
    shards: Iterable[str | Path],
    out: str | Path,
    *,
    draws: int,
    items: int,
    overwrite: bool = False,
) -> Path:
    """Make one posterior store of the shards; see `store.merge_posteriors`."""
    return store.merge_posteriors(shards, out, draws=draws, items=items, overwrite=overwrite)


def summarize(
    posterior: str | Path,
    out: str | Path,
    quantities: str | Path | None = None,
    *,
    display: Mapping[str, Any] | None = None,
    domain: Sequence[str] = (),
    scheduler: str | None = None,
    memory: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the summary store of a posterior store, and the field's quantities; out of core.

    Args:
        posterior: The posterior store.
        out: The summary store to make.
        quantities: The JSON file of the quantities to make.
        display: `transform`, `thresholds`, `quantiles` and `align` of `uncertainty.summarize`.
        domain: Names of quantities, see `sciinv.domain`.
        scheduler: Address of a dask scheduler whose workers read and summarize; they need the
            posterior store under the same path. This process alone if None.
        memory: Bytes that draws (half) and maps (half) may take in each process, beside what the
            program itself takes.
        overwrite: Replace a store of ours, and the file of the quantities, that are there already.

    Raises:
        SciinvError: A name is taken; the scheduler does not answer; see `uncertainty.summarize` and
            `domain.measure`.
    """
    from sciinv import domain as field
    from sciinv import uncertainty

    store.check_free(out, "summary", overwrite)
    if quantities is not None:
        store.check_new([quantities], overwrite)
        image = uncertainty.as_dataset(posterior)["image"]
        field.write(field.measure(image, domain), quantities)
    wanted = {k: v for k, v in (display or {}).items() if k in SUMMARY}
    with uncertainty.workers(scheduler):
        half = None if memory is None else memory // 2
        summary = uncertainty.summarize(posterior, **wanted, memory=half)
        return uncertainty.write_summary(summary, out, overwrite=overwrite, memory=half)
