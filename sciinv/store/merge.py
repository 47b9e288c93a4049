"""One posterior store from the stores of many jobs: their shard files are linked, not copied."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciinv.errors import StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, written_aside
from sciinv.store.linking import AXES, Shard, merge_group
from sciinv.store.posterior import open_posterior, write_root

# What has to be the same for draws to be of one posterior.
SAME = (
    "config_hash",
    "operator",
    "operator_hash",
    "prior_hash",
    "measurement_hash",
    "seed",
    "sciinv_version",
)


def merge_posteriors(
    shards: Iterable[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    draws: int | None = None,
    items: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Make one posterior store of the stores of many jobs.

    Each job holds the draws × items of a rectangle, told by its coordinates `draw` and `item`.
    Where a job's shard file has the place and the layout of a file of the whole it becomes one by
    a hard link (a copy, across file systems); other blocks are read and written one at a time.

    Args:
        shards: The jobs' posterior stores, in any order.
        path: The store to make; the jobs' stores may be removed afterwards.
        draws: Draws that the whole must have, where known.
        items: Items that the whole must have, where known.
        overwrite: Replace a store that is there already.

    Returns:
        The path.

    Raises:
        StoreError: A shard is not whole; two overlap; one is missing; they come from different
            configurations, operators, priors or measurements; see also `write_posterior`.
    """
    parts = _read(shards)
    coords = _place(parts)
    _check_count(coords, {"draw": draws, "item": items})
    _check_tiling(parts, coords)
    first = min(parts, key=lambda p: (p.start["draw"], p.start["item"]))
    known: dict[str, Mapping[str, Any]] = {}
    aside = written_aside(path, "posterior", overwrite=overwrite, known=known)
    with aside as root, blocks.quiet_zarr():
        write_root(root, _attributes(parts))
        for name in first.groups:
            merge_group(root, name, parts, first, coords, known)
        blocks.consolidate(root)
    return Path(path)


def _read(paths: Iterable[str | os.PathLike[str]]) -> list[Shard]:
    parts = []
    for path in sorted({Path(p) for p in paths}):
        files = read_seal(path, "posterior")["files"]
        tree = open_posterior(path)
        groups = {k: group.to_dataset() for k, group in tree.children.items()}
        size = {d: int(groups["posterior"].sizes[d]) for d in AXES}
        parts.append(Shard(path, groups, tree.attrs, files, {}, size))
    if not parts:
        raise StoreError(
            "There are no stores to merge",
            expected="at least one posterior store",
            got="none",
            remedy="run the sampling step first",
        )
    reference = parts[0]
    for part in parts[1:]:
        for key in SAME:
            ours, theirs = (p.attrs.get(key) for p in (reference, part))
            if ours != theirs:
                raise StoreError(
                    f"The stores do not belong together: {key} differs",
                    where=part.path,
                    expected=f"{ours!r}, as in {reference.path}",
                    got=repr(theirs),
                    remedy="remove the stores of the older run and sample them again",
                )
        if _shape(part) != _shape(reference):
            raise StoreError(
                "The stores do not belong together: their variables differ",
                where=part.path,
                expected=f"{_shape(reference)}, as in {reference.path}",
                got=_shape(part),
                remedy="remove the stores of the older run and sample them again",
            )
    return parts


def _shape(part: Shard) -> dict[str, Any]:
    """Names, dtypes and lengths of all variables, but for the axes that shards cut."""
    return {
        f"{group}/{name}": (str(v.dtype), [n for d, n in v.sizes.items() if d not in AXES])
        for group, dataset in part.groups.items()
        for name, v in dataset.data_vars.items()
    }


def _place(parts: list[Shard]) -> dict[str, np.ndarray]:
    """Find where each rectangle stands; return the coordinates of the whole."""
    coords: dict[str, np.ndarray] = {}
    for axis in AXES:
        values = [p.groups["posterior"][axis].values for p in parts]
        whole = np.unique(np.concatenate(values))
        start = 0 if axis == "draw" else int(whole[0])
        missing = np.setdiff1d(np.arange(start, int(whole[-1]) + 1), whole)
        if missing.size:
            raise StoreError(
                f"There is a gap: no store holds {axis} {int(missing[0])}",
                where=f"{len(parts)} stores in {parts[0].path.parent}",
                expected=f"every {axis} from {start} to {int(whole[-1])}",
                got=f"{missing.size} missing",
                remedy="sample the missing part, then merge again",
            )
        coords[axis] = whole
        for part, own in zip(parts, values, strict=True):
            if (np.diff(own) != 1).any():
                raise StoreError(
                    f"A store's coordinate {axis} does not rise in steps of 1",
                    where=part.path,
                    got=own.tolist()[:20],
                    remedy="let each job sample one contiguous range",
                )
            part.start[axis] = int(np.searchsorted(whole, own[0]))
    return coords


def _check_count(coords: Mapping[str, np.ndarray], expected: Mapping[str, int | None]) -> None:
    for axis, count in expected.items():
        if count is not None and len(coords[axis]) != count:
            raise StoreError(
                f"The stores do not hold the expected number of {axis}s",
                expected=count,
                got=len(coords[axis]),
                remedy="sample the missing part, or leave out the stores that do not belong",
            )


def _check_tiling(parts: list[Shard], coords: Mapping[str, np.ndarray]) -> None:
    """Raise unless every draw of every item is in exactly one store."""
    edges = {
        d: np.unique([e for p in parts for e in (p.start[d], p.start[d] + p.size[d])]) for d in AXES
    }
    owner = np.full([len(edges[d]) - 1 for d in AXES], -1)
    for i, part in enumerate(parts):
        cells = tuple(
            slice(*np.searchsorted(edges[d], [part.start[d], part.start[d] + part.size[d]]))
            for d in AXES
        )
        if (owner[cells] >= 0).any():
            other = parts[int(owner[cells].max())]
            raise StoreError(
                "Two stores hold the same draws of the same items",
                where=part.path,
                expected="each draw of each item in one store",
                got=f"an overlap with {other.path}",
                remedy="leave one of the two out",
            )
        owner[cells] = i
    if (owner < 0).any():
        d, i = np.argwhere(owner < 0)[0]
        raise StoreError(
            "There is a gap between the stores",
            expected=f"{len(coords['draw'])} draws of each of {len(coords['item'])} items",
            got=f"no draw {coords['draw'][edges['draw'][d]]} "
            f"of item {coords['item'][edges['item'][i]]}",
            remedy="sample the missing part, then merge again",
        )


def _attributes(parts: list[Shard]) -> dict[str, Any]:
    """Attributes of the whole: the common ones, and each job's own under `shards`."""
    all_attrs = [dict(p.attrs) for p in parts]
    common = {k: v for k, v in all_attrs[0].items() if all(a.get(k) == v for a in all_attrs)}
    own = [
        {
            "draws": [p.start["draw"], p.start["draw"] + p.size["draw"]],
            "items": [p.start["item"], p.start["item"] + p.size["item"]],
            **{str(k): v for k, v in a.items() if k not in common},
        }
        for p, a in zip(parts, all_attrs, strict=True)
    ]
    return {**common, "shards": json.dumps(own)}
