"""The groups of a merged store: files of its parts by hard link where they line up, else copied."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from sciinv.errors import StoreError
from sciinv.store import blocks

AXES = ("draw", "item")
_hard_link = os.link


@dataclass(frozen=True)
class Shard:
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


def merge_group(
    root: Path,
    group: str,
    parts: list[Shard],
    first: Shard,
    coords: Mapping[str, np.ndarray],
    known: dict[str, Mapping[str, Any]],
) -> None:
    """Write one group of the whole: linked where a part's files line up, else read and written."""
    source = first.groups[group]
    cut = [d for d in AXES if d in source.dims]
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
        held = _by_block(holders, used)
        for block in blocks.selections({d: len(coords[d]) for d in axes}, used):
            there = held[tuple(s.start // used[str(d)] for d, s in block.items())]
            found = [(p, o) for p in there if (o := p.overlap(block)) is not None]
            alike = len(found) == 1 and _array_layout(found[0][0].path / group / name) == layout
            if not (alike and _link(target, found[0][0], group, name, block, grid, known, root)):
                _assemble(root, group, name, template, found, block)


def _by_block(parts: list[Shard], grid: Mapping[str, int]) -> dict[tuple[int, ...], list[Shard]]:
    """Return which shards hold something of each block of the grid, by the block's number."""
    found: dict[tuple[int, ...], list[Shard]] = defaultdict(list)
    for part in parts:
        covered = [
            range(part.start[d] // n, -(-(part.start[d] + part.size[d]) // n))
            for d, n in grid.items()
        ]
        for number in itertools.product(*covered):
            found[number].append(part)
    return found


def _template(
    source: xr.Dataset,
    group: str,
    parts: list[Shard],
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


def _grid(first: Shard, group: str, source: xr.Dataset, cut: list[str]) -> dict[str, int]:
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
    part: Shard,
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
    found: list[tuple[Shard, blocks.Selection]],
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


def _check_same(parts: list[Shard], group: str, name: str) -> None:
    """Raise where jobs of the same items were given different measurements."""
    seen: dict[tuple[int, int], Shard] = {}
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
