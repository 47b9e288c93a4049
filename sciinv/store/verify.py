"""Whether a store is whole, undamaged and finite."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from sciinv.errors import StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, sha256
from sciinv.store.ours import walk

# Variables in which a value that is not finite is damage, and not a missing statistic.
_FINITE = ("image", "y", "mean", "sd", "quantiles")


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        path: The store.
        kind: "measurement", "posterior" or "summary"; "" where the seal cannot be read.
        files: Number of files looked at.
        bytes: Their size.
        problems: One sentence for each thing that is wrong; empty for a sound store.
    """

    path: Path
    kind: str
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        head = (
            f"{self.path}: {self.kind or 'unknown'} store, {self.files} files, {self.bytes} bytes"
        )
        if self.ok:
            return f"{head}: whole, every checksum right, every value finite"
        return "\n".join([f"{head}: {len(self.problems)} problem(s)", *self.problems])

    def check(self) -> None:
        """Raise `StoreError` unless the store is sound."""
        if self.problems:
            raise StoreError(
                "The store is damaged",
                where=self.path,
                expected="a whole store with the checksums of its seal and finite values",
                got="; ".join(self.problems[:5]),
                remedy="remove the store and run the step that writes it again",
            )


def verify(path: str | os.PathLike[str]) -> Verification:
    """Check a store's seal, the checksum of each file, and that its images are finite.

    Memory stays at one shard file whatever the size of the store. A damaged store is a finding,
    not an exception: ask the result's `ok`, print it, or call its `check()`.
    """
    root = Path(path)
    try:
        content = read_seal(root)
    except StoreError as error:
        return Verification(root, "", 0, 0, (str(error),))
    files = content["files"]
    total = sum(entry["bytes"] for entry in files.values())
    problems = [
        f"{name}: its bytes have changed since it was written"
        for name, entry in files.items()
        if sha256(root / name) != entry["sha256"]
    ]
    problems += [
        f"{name}: does not belong to the store" for name in walk(root) if name not in files
    ]
    if not problems:
        tree = xr.open_datatree(root, engine="zarr", chunks=None, cache=False, consolidated=True)
        for group in tree.subtree:
            for name, variable in group.data_vars.items():
                if name in _FINITE and variable.dtype.kind in "fc":
                    problems += _not_finite(f"{group.path.strip('/')}/{name}".strip("/"), variable)
    return Verification(root, str(content.get("kind", "")), len(files), total, tuple(problems))


def _not_finite(name: str, variable: xr.DataArray) -> list[str]:
    files = variable.encoding.get("shards") or variable.encoding.get("chunks") or variable.shape
    grid = dict(zip(map(str, variable.dims), files, strict=True))
    for selection in blocks.selections(variable.sizes, grid):
        count = int((~np.isfinite(variable.isel(selection).values)).sum())
        if count:
            where = ", ".join(f"{d} {s.start}" for d, s in selection.items())
            return [f"{name}: {count} values are not finite at {where or 'the whole array'}"]
    return []
