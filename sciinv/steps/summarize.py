"""The step summarize: maps of a posterior store, and the quantities of the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciinv.config import SUMMARY


def summarize(
    posterior: str | Path,
    out: str | Path,
    quantities: str | Path | None = None,
    *,
    display: Mapping[str, Any] | None = None,
    domain: Sequence[str] = (),
    scheduler: str | None = None,
    memory: int | None = None,
    check: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the summary store of a posterior store, and the field's quantities; out of core.

    Args:
        posterior: The posterior store.
        out: The summary store to make.
        quantities: The JSON file of the quantities to make.
        display: `transform`, `thresholds`, `quantiles` and `align` of `uncertainty.summarize`.
        domain: Names of quantities, see `sciinv.quantities.measure`.
        scheduler: Address of a dask scheduler whose workers read and summarize; they need the
            posterior store under the same path. This process alone if None.
        memory: Bytes that draws (half) and maps (half) may take in each process, beside what the
            program itself takes.
        check: The file of `check_prior` on this posterior: its numbers go into the store's
            attributes.
        overwrite: Replace a store of ours, and the file of the quantities, that are there already.

    Raises:
        SciinvError: A name is taken; the scheduler does not answer; see `uncertainty.summarize` and
            `domain.measure`.
    """
    from sciinv import store, uncertainty
    from sciinv.quantities import measure as field

    store.check_free(out, "summary", overwrite)
    if quantities is not None:
        store.check_new([quantities], overwrite)
        draws = uncertainty.as_dataset(posterior)
        found = field.measure(draws["image"], domain, uncertainty.kept(draws))
        field.write(found, quantities)
    wanted = {k: v for k, v in (display or {}).items() if k in SUMMARY}
    with uncertainty.workers(scheduler):
        half = None if memory is None else memory // 2
        summary = uncertainty.summarize(posterior, **wanted, memory=half)
        if check is not None:
            from sciinv.steps.check_prior import numbers

            summary.attrs |= numbers(json.loads(Path(check).read_text(encoding="utf-8")))
        return uncertainty.write_summary(summary, out, overwrite=overwrite, memory=half)
