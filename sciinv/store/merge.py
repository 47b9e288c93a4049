"""One posterior store from the stores of many jobs: their shard files are linked, not copied."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from sciinv.errors import StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, written_aside
from sciinv.store.posterior import open_posterior, write_root

# What has to be the same for draws to be of one posterior.
SAME = ("config_hash", "operator", "operator_hash", "prior_hash", "seed", "sciinv_version")
_AXES = ("draw", "item")
_hard_link = os.link


@dataclass(frozen=True)
class _Shard:
    """One job's store and where its rectangle of draws × items stands in the whole."""

    path: Path
    groups: Mapping[str, xr.Dataset]
    attrs: Mapping[Any, Any]
    files: Mapping[str, Mapping[str, Any]]
    start: dict[str, int]
    size: Mapping[str, int]

    def overlap(self, block: blocks.Selection) -> blocks.Selection | None:
        """Return the part of `block` that this shard holds, in the whole's indices."""
        part = {}
        for d, s in block.items():
            a = max(s.start, self.start[str(d)])
            b = min(s.stop, self.start[str(d)] + self.size[str(d)])
            if a >= b:
                return None
            part[d] = slice(a, b)
        return part


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
            _merge_group(root, name, parts, first, coords, known)
        blocks.consolidate(root)
    return Path(path)


def _read(paths: Iterable[str | os.PathLike[str]]) -> list[_Shard]:
    parts = []
    for path in sorted({Path(p) for p in paths}):
        files = read_seal(path, "posterior")["files"]
        tree = open_posterior(path)
        groups = {k: group.to_dataset() for k, group in tree.children.items()}
        size = {d: int(groups["posterior"].sizes[d]) for d in _AXES}
        parts.append(_Shard(path, groups, tree.attrs, files, {}, size))
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


def _shape(part: _Shard) -> dict[str, Any]:
    """Names, dtypes and lengths of all variables, but for the axes that shards cut."""
    return {
        f"{group}/{name}": (str(v.dtype), [n for d, n in v.sizes.items() if d not in _AXES])
        for group, dataset in part.groups.items()
        for name, v in dataset.data_vars.items()
    }


def _place(parts: list[_Shard]) -> dict[str, np.ndarray]:
    """Find where each rectangle stands; return the coordinates of the whole."""
    coords: dict[str, np.ndarray] = {}
    for axis in _AXES:
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


def _check_tiling(parts: list[_Shard], coords: Mapping[str, np.ndarray]) -> None:
    """Raise unless every draw of every item is in exactly one store."""
    edges = {
        d: np.unique([e for p in parts for e in (p.start[d], p.start[d] + p.size[d])])
        for d in _AXES
    }
    owner = np.full([len(edges[d]) - 1 for d in _AXES], -1)
    for i, part in enumerate(parts):
        cells = tuple(
            slice(*np.searchsorted(edges[d], [part.start[d], part.start[d] + part.size[d]]))
            for d in _AXES
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


def _attributes(parts: list[_Shard]) -> dict[str, Any]:
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


def _merge_group(
    root: Path,
    group: str,
    parts: list[_Shard],
    first: _Shard,
    coords: Mapping[str, np.ndarray],
    known: dict[str, Mapping[str, Any]],
) -> None:
    source = first.groups[group]
    cut = [d for d in _AXES if d in source.dims]
    grid = _grid(first, group, source, cut)
    template = _template(source, group, parts, coords, cut)
    for name in blocks.create(root, group, template, grid):
        axes = [d for d in cut if d in source[name].dims]
        # Arrays without draws are the same in every job of the same items.
        holders = [p for p in parts if "draw" in axes or p.start["draw"] == 0]
        if "draw" not in axes:
            _check_same(parts, group, name)
        target = root / group / name
        layout = _array_layout(target)
        used = {d: grid[d] for d in axes}
        for block in blocks.selections({d: len(coords[d]) for d in axes}, used):
            found = [(p, o) for p in holders if (o := p.overlap(block)) is not None]
            alike = len(found) == 1 and _array_layout(found[0][0].path / group / name) == layout
            if not (alike and _link(target, found[0][0], group, name, block, grid, known, root)):
                _assemble(root, group, name, template, found, block)


def _template(
    source: xr.Dataset,
    group: str,
    parts: list[_Shard],
    coords: Mapping[str, np.ndarray],
    cut: list[str],
) -> xr.Dataset:
    """Return the whole group with its coordinates, and zeros where `source` has values."""
    variables: dict[Hashable, Any] = {}
    for name, v in source.variables.items():
        shape = tuple(len(coords[str(d)]) if d in cut else n for d, n in v.sizes.items())
        if name in cut:
            variables[name] = (v.dims, coords[str(name)], v.attrs)
        elif name in source.coords and set(cut) & set(v.dims):
            # Another coordinate of the items (a file name, a slice position) is put together.
            values = np.empty(shape, dtype=v.dtype)
            (axis,) = v.dims
            for part in parts:
                a = part.start[str(axis)]
                values[a : a + part.size[str(axis)]] = part.groups[group][name].values
            variables[name] = (v.dims, values, v.attrs)
        elif set(cut) & set(v.dims):
            zeros = dask.array.zeros(shape, dtype=v.dtype, chunks=shape)
            variables[name] = (v.dims, zeros, v.attrs)
        else:
            variables[name] = v
    return xr.Dataset(variables, attrs=source.attrs).set_coords(list(source.coords))


def _grid(first: _Shard, group: str, source: xr.Dataset, cut: list[str]) -> dict[str, int]:
    """Return how many draws and items one file of the first store was laid out for."""
    counts: dict[str, Counter[int]] = {d: Counter() for d in cut}
    for name, v in source.data_vars.items():
        shards = _array_layout(first.path / group / str(name))["chunk_grid"]["configuration"]
        for d, n in zip(v.dims, shards["chunk_shape"], strict=True):
            if d in counts:
                counts[str(d)][n] += 1
    return {d: counts[d].most_common(1)[0][0] for d in cut}


def _array_layout(path: Path) -> dict[str, Any]:
    """Return what an array's files depend on: all its metadata but the shape and attributes."""
    meta = json.loads((path / "zarr.json").read_text())
    return {k: v for k, v in meta.items() if k not in ("shape", "attributes")}


def _link(
    target: Path,
    part: _Shard,
    group: str,
    name: str,
    block: blocks.Selection,
    grid: Mapping[str, int],
    known: dict[str, Mapping[str, Any]],
    root: Path,
) -> bool:
    """Link the files of one block of the grid; return False where they do not line up."""
    dims = list(part.groups[group][name].dims)
    if any((s.start - part.start[str(d)]) % grid[str(d)] for d, s in block.items()):
        return False
    overlap = part.overlap(block)
    if overlap != block:
        return False
    there = {d: (s.start - part.start[str(d)]) // grid[str(d)] for d, s in block.items()}
    here = {d: s.start // grid[str(d)] for d, s in block.items()}
    start = f"{group}/{name}/c."
    for file in part.files:
        if not file.startswith(start):
            continue
        key = [int(k) for k in file.removeprefix(start).split(".")]
        if any(key[dims.index(d)] != k for d, k in there.items()):
            continue
        new = [here.get(d, k) for d, k in zip(dims, key, strict=True)]
        linked = target / ".".join(["c", *map(str, new)])
        try:
            _hard_link(part.path / file, linked)
        except OSError:
            shutil.copyfile(part.path / file, linked)
            continue  # a copy is flushed and hashed like any new file
        known[linked.relative_to(root).as_posix()] = part.files[file]
    return True


def _assemble(
    root: Path,
    group: str,
    name: str,
    template: xr.Dataset,
    found: list[tuple[_Shard, blocks.Selection]],
    block: blocks.Selection,
) -> None:
    """Read one block from the stores that hold parts of it, and write it."""
    whole = template[name].isel(block)
    values = np.empty(whole.shape, dtype=whole.dtype)
    for part, overlap in found:
        here = tuple(
            slice(overlap[d].start - block[d].start, overlap[d].stop - block[d].start)
            if d in block
            else slice(None)
            for d in whole.dims
        )
        there = {
            d: slice(s.start - part.start[str(d)], s.stop - part.start[str(d)])
            for d, s in overlap.items()
        }
        values[here] = part.groups[group][name].isel(there).values
    blocks.fill(root, group, xr.Dataset({name: (whole.dims, values)}), block)


def _check_same(parts: list[_Shard], group: str, name: str) -> None:
    """Raise where jobs of the same items were given different measurements."""
    seen: dict[tuple[int, int], _Shard] = {}
    for part in parts:
        key = (part.start["item"], part.size["item"])
        other = seen.setdefault(key, part)
        start = f"{group}/{name}/c."
        sums = [
            {f: e["sha256"] for f, e in p.files.items() if f.startswith(start)}
            for p in (part, other)
        ]
        if sums[0] != sums[1]:
            raise StoreError(
                f"The stores do not belong together: {group}/{name} differs",
                where=part.path,
                expected=f"the values in {other.path}",
                remedy="remove the stores of the older run and sample them again",
            )
