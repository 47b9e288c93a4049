"""The posterior store: draws in ArviZ's layout, an xarray DataTree on Zarr v3."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import sciinv
from sciinv.errors import StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, written_aside

IMAGE_DIMS = ("draw", "item", "channel", "y", "x")
GROUPS = ("posterior", "sample_stats", "posterior_predictive", "observed_data", "constant_data")


def to_tree(
    dataset: xr.Dataset,
    *,
    observed: xr.Dataset | None = None,
    predictive: xr.Dataset | None = None,
) -> xr.DataTree:
    """Return a sampler's dataset in ArviZ's layout.

    Args:
        dataset: "image" [draw, item, channel, y, x]; every other variable with a dimension `draw`
            is a statistic of the draws; the rest is constant data. Missing integer coordinates of
            draw and item count from 0.
        observed: The measurement, variables [item, …] (group `observed_data`).
        predictive: Predicted measurements or their summaries, variables [draw, item, …] (group
            `posterior_predictive`).

    Returns:
        Groups `posterior`, `sample_stats` and so on, each draw variable with dimensions
        (chain = 1, draw, …). Draws are independent, so one chain holds them all.

    Raises:
        StoreError: "image" is missing or has other dimensions.
    """
    if "image" not in dataset or dataset["image"].dims != IMAGE_DIMS:
        raise StoreError(
            "The dataset holds no posterior draws",
            expected=f"a variable image with dimensions {IMAGE_DIMS}",
            got=dataset["image"].dims if "image" in dataset else list(dataset.data_vars),
            remedy="pass what a sampler's sample() returned",
        )
    for name in ("draw", "item"):
        if name not in dataset.coords:
            dataset = dataset.assign_coords({name: np.arange(dataset.sizes[name])})
    axes = {k: dataset.coords[k].variable for k in ("draw", "item")}
    stats = [k for k, v in dataset.data_vars.items() if "draw" in v.dims and k != "image"]
    constant = [k for k, v in dataset.data_vars.items() if "draw" not in v.dims]
    groups = {"posterior": _chained(dataset[["image"]], axes)}
    if stats:
        groups["sample_stats"] = _chained(dataset[stats], axes)
    if constant:
        groups["constant_data"] = dataset[constant]
    if predictive is not None:
        groups["posterior_predictive"] = _chained(predictive, axes)
    if observed is not None:
        names = [k for k, v in observed.data_vars.items() if "item" in v.dims]
        groups["observed_data"] = observed[names].assign_coords(item=axes["item"])
    for group in groups.values():
        group.attrs = {}
    tree = xr.DataTree.from_dict({f"/{k}": v for k, v in groups.items()})
    tree.attrs = dict(dataset.attrs)
    return tree


def to_dataset(tree: xr.DataTree) -> xr.Dataset:
    """Return the sampler's flat dataset of a tree: the inverse of `to_tree`; stays lazy.

    Several chains are laid end to end along `draw`, which then counts from 0.
    """
    parts = [
        tree[g].to_dataset() for g in ("posterior", "sample_stats", "constant_data") if g in tree
    ]
    chains = parts[0].sizes.get("chain", 1)
    flat = []
    for part in parts:
        if "chain" in part.dims and chains == 1:
            part = part.isel(chain=0, drop=True)
        elif "chain" in part.dims:
            part = xr.concat([part.isel(chain=c, drop=True) for c in range(chains)], "draw")
            part = part.assign_coords(draw=np.arange(part.sizes["draw"]))
        flat.append(part)
    merged = xr.merge(flat, join="exact", combine_attrs="override", compat="equals")
    merged.attrs = dict(tree.attrs)
    return merged


def write_posterior(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    observed: xr.Dataset | None = None,
    predictive: xr.Dataset | None = None,
    provenance: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write draws as a posterior store: one chunk per image, one shard file per block of draws.

    Args:
        dataset: What a sampler returned, see `to_tree`. Its attributes are kept at the root.
        path: The store to make; written aside, sealed and renamed.
        observed: The measurement, see `to_tree`.
        predictive: Predicted measurements, see `to_tree`.
        provenance: Attributes on how it was made (see `sciinv.store.provenance`); values that
            Zarr's JSON cannot hold plainly are kept as JSON text.
        shard: (draws, items) of one shard file. Jobs whose stores are to be merged without copying
            pass the same pair: the size of a full job, in a smaller last job too. By default one
            file holds the whole, up to 256 MiB.
        overwrite: Replace a store that is there already.

    Returns:
        The path.

    Raises:
        StoreError: No "image" of the right dimensions, values that are not finite, a name that is
            taken, a disk that is full or read-only.
    """
    tree = to_tree(dataset, observed=observed, predictive=predictive)
    check_finite(tree["posterior"].to_dataset()["image"], path)
    sizes = {k: int(dataset.sizes[k]) for k in ("draw", "item")}
    grid: dict[str, int]
    if shard is None:
        grid = blocks.fitting(blocks.unit_bytes(dataset[["image"]], {"draw", "item"}), sizes)
    else:
        grid = {"draw": shard[0], "item": shard[1]}
    attrs: dict[str, Any] = {"sciinv_version": sciinv.__version__}
    attrs |= {str(k): v for k, v in tree.attrs.items()} | dict(provenance or {})
    with written_aside(path, "posterior", overwrite=overwrite) as root, blocks.quiet_zarr():
        write_root(root, attrs)
        for name, group in tree.children.items():
            part = group.to_dataset()
            names = blocks.create(root, name, part, grid)
            used = {d: n for d, n in grid.items() if d in part.dims}
            for selection in blocks.selections(part.sizes, used):
                blocks.fill(root, name, part[names].isel(selection), selection)
        blocks.consolidate(root)
    return Path(path)


def open_posterior(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a posterior store; values are read when they are used, image by image.

    Returns:
        The tree; `to_dataset` gives the sampler's flat dataset again.

    Raises:
        StoreError: No such store, or one that is not whole.
    """
    read_seal(path, "posterior")
    return xr.open_datatree(path, engine="zarr", chunks=None, cache=False, consolidated=True)


def write_root(root: Path, attrs: Mapping[str, Any]) -> None:
    """Write the root group with its attributes, nested ones as JSON text."""
    plain = {
        k: v if isinstance(v, str | int | float | bool) else json.dumps(v, default=str)
        for k, v in attrs.items()
        if v is not None
    }
    xr.Dataset(attrs=plain).to_zarr(root, mode="w", zarr_format=3, consolidated=False)


def check_finite(image: xr.DataArray, path: str | os.PathLike[str]) -> None:
    """Raise `StoreError` with the first draw and item that hold a value that is not finite."""
    for draw in range(image.sizes["draw"]):
        part = image.isel(draw=draw)
        bad = ~np.isfinite(part.values)
        if bad.any():
            others = tuple(i for i, d in enumerate(part.dims) if d != "item")
            item = int(np.argmax(bad.any(axis=others)))
            raise StoreError(
                "The draws hold values that are not finite",
                where=path,
                expected="finite pixel values",
                got=f"{int(bad.sum())} in draw {int(part['draw'])}, "
                f"the first in item {part['item'].values[item]}",
                remedy="a chain diverged: check the noise and the operator of this item",
            )


def _chained(dataset: xr.Dataset, axes: Mapping[str, xr.Variable]) -> xr.Dataset:
    dataset = dataset.transpose("draw", "item", ..., missing_dims="ignore")
    coords = {k: v for k, v in axes.items() if k in dataset.dims}
    return dataset.assign_coords(coords).expand_dims(chain=[0])
