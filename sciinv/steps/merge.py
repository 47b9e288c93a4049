"""The step merge: the shards of a problem become one posterior store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sciinv import store


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
