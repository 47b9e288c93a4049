"""Maps of a posterior from its draws: mean, sd, quantiles, their Monte-Carlo error; out of core."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import xarray as xr

import sciinv
from sciinv.errors import ConfigError, StoreError
from sciinv.store import blocks
from sciinv.store.atomic import read_seal, written_aside
from sciinv.uncertainty import alignment
from sciinv.uncertainty.asked import check_levels, check_thresholds
from sciinv.uncertainty.draws import Posterior, as_dataset, is_complex, kept, magnitude

Transform = str | Callable[[np.ndarray], np.ndarray]

MEMORY = 2**26  # bytes, where the caller sets no limit and an item fits into it
_MOST = 2**29  # bytes, where one item is larger
_WORKERS = 2  # blocks in memory at once
_COPIES = 1.5  # memory of one block ÷ its bytes, while it is read and summarized; tested
_SHARD_BYTES = 2**24  # of one file of a summary store: written whole
_SLICE = 2**20  # bytes of a block that are read or summarized at once, at most
# While it is read and summarized a slice takes up to 6 times its bytes beside the block (measured:
# 5.7). What _COPIES leaves for that is a sixth of the limit: 6 slices fit into it.
_SLICES = 36
_room = threading.BoundedSemaphore(_WORKERS)  # keeps the bound under any dask scheduler


def summarize(
    posterior: Posterior,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    transform: Transform = "auto",
    memory: int | None = None,
    thresholds: Sequence[float] = (),
    align: bool = False,
) -> xr.Dataset:
    """Return pixel-wise summaries of the n posterior draws of each item.

    Draws that "failed" (`sciinv.samplers.outliers`) are left out, so n may differ between items.
    Draws are independent by construction, so the Monte-Carlo standard errors of mean and sd are
        mcse_mean = sd / √n,   mcse_sd = sd / √(2 (n − 1))   (the latter for a near-normal pixel).

    Args:
        posterior: A posterior store, its path, or a sampler's dataset.
        quantiles: Levels in [0, 1], rising; numpy's linear rule on all draws.
        transform: What is summarized: "identity"; "magnitude" (√(real² + imag²) of two channels,
            with the phase beside it); "auto", the magnitude for channels (real, imag), else the
            identity; or a pixel-wise function of an array [draw, item, channel, y, x].
        memory: Bytes that the draws being read may take; if None, 64 MiB, or what one item takes up
            to 512 MiB. The maps of one file of the summary, up to 16 MiB each, come on top.
        thresholds: Values t for which the map P(x > t) is wanted.
        align: Move the draws of an item onto each other first (`sciinv.uncertainty.alignment`): for
            measurements that do not say where in the field the source is.

    Returns:
        Dataset, each variable [item, channel, y, x] in the image's units: `mean`, `sd` (n − 1),
        `mcse_mean`, `mcse_sd`, `interval_width` (last minus first quantile); `quantiles` with a
        first dimension `quantile`; `probability` with a first dimension `threshold`; for a
        magnitude, `phase_mean` and `phase_sd` (circular, rad). It is computed where it fits into
        half of `memory`, else backed by dask: `write_summary` then writes it block by block.

    Raises:
        StoreError: No such store, fewer than two draws, or values that are not finite.
        ConfigError: A quantile outside [0, 1], an unknown transform, or too little memory (for
            `align`, for all draws of an item).
    """
    dataset = as_dataset(posterior)
    image = dataset["image"]
    levels = check_levels(quantiles)
    name, function = _transform(transform, image)
    limit = _limit(image) if memory is None else int(memory)
    draws, items, _, rows, columns = image.shape
    counted = kept(dataset)
    n = np.full(items, draws) if counted is None else counted.sum(0)
    if n.min() < 2:
        raise StoreError(
            "One draw says nothing of the uncertainty",
            expected="at least two draws" + (" that did not fail" if draws > 1 else ""),
            got=int(n.min()),
            remedy="sample more draws",
        )
    limits = check_thresholds(thresholds)
    probe = _kernel(image[:, :1, :, :1, :1], function, name, levels, limits)
    n_items, n_rows = _block(image, limit)
    if align and n_rows < rows:
        raise ConfigError(
            "All draws of one item do not fit into the memory, which aligning them takes",
            expected=f"at least {int(_COPIES * _WORKERS * image[:, :1].nbytes) + 1} bytes",
            got=limit,
            remedy="allow more memory, or leave `align` out",
        )
    slice_bytes = min(_SLICE, limit // _SLICES)
    grid = []
    for a in range(0, items, n_items):
        row = []
        for b in range(0, rows, n_rows):
            part = image[:, a : a + n_items, :, b : b + n_rows]
            delayed = dask.delayed(_kernel)(
                part, function, name, levels, limits, slice_bytes, align,
                None if counted is None else counted[:, a : a + n_items],
            )  # fmt: skip
            shape = (probe.shape[0], part.shape[1], probe.shape[2], part.shape[3], columns)
            row.append(dask.array.from_delayed(delayed, shape, probe.dtype))
        grid.append(row)
    stack = dask.array.concatenate([dask.array.concatenate(r, axis=3) for r in grid], axis=1)
    out = _unpack(stack, image, name, levels, limits, n)
    out.attrs = {
        **{str(k): v for k, v in dataset.attrs.items() if isinstance(v, str | int | float)},
        "draws": int(n.min()),
        "failed": int(draws * items - n.sum()),
        "transform": name,
        "aligned": int(align),
        "sciinv_version": sciinv.__version__,
    }
    return out.compute() if stack.nbytes <= limit // 2 else out


def write_summary(
    summary: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    memory: int | None = None,
) -> Path:
    """Write a summary store: Zarr v3, streamed item by item, written aside, sealed and renamed.

    Args:
        summary: What `summarize` returned.
        path: The store to make.
        overwrite: Replace a store that is there already.
        memory: Bytes that the maps being written may take (of one item at least): all of one file's
            items are held twice. If None, files of 16 MiB.

    Raises:
        StoreError: The name is taken, or the disk is full or read-only.
    """
    items = {"item": summary.sizes["item"]}
    step = 1
    if summary["mean"].chunks is not None:
        step = summary["mean"].chunksizes["item"][0]
    fits = blocks.fitting(blocks.unit_bytes(summary, {"item"}), items, _SHARD_BYTES)["item"]
    if memory is not None:
        held = 2 * sum(v.nbytes for v in summary.data_vars.values()) // max(1, items["item"])
        fits = min(fits, memory // max(1, held))
    grid = {"item": min(items["item"], max(1, fits // step) * step)}
    with written_aside(path, "summary", overwrite=overwrite) as root, blocks.quiet_zarr():
        names = blocks.create(root, "", summary, grid)
        for selection in blocks.selections(items, grid):
            blocks.fill(root, "", summary[names].isel(selection), selection)
        blocks.consolidate(root)
    return Path(path)


def open_summary(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a summary store; values are read when they are used.

    Raises:
        StoreError: No such store, or one that is not whole.
    """
    read_seal(path, "summary")
    return xr.open_dataset(path, engine="zarr", chunks=None, cache=False, consolidated=True)


def _transform(
    transform: Transform, image: xr.DataArray
) -> tuple[str, Callable[[np.ndarray], np.ndarray] | None]:
    if callable(transform):
        return getattr(transform, "__name__", "function"), transform
    if transform == "auto":
        transform = "magnitude" if is_complex(image) else "identity"
    if transform == "identity":
        return transform, None
    if transform == "magnitude" and image.sizes["channel"] == 2:
        return transform, magnitude
    raise ConfigError(
        "The draws cannot be transformed so",
        expected="identity, magnitude (of two channels), auto, or a function",
        got=f"{transform!r} of {image.sizes['channel']} channel(s)",
        remedy="choose a transform that fits the image",
    )


def _block(image: xr.DataArray, limit: int) -> tuple[int, int]:
    """Return how many items, and rows of each, are read at once with all their draws."""
    draws, items, channels, rows, columns = image.shape
    row = draws * channels * columns * image.dtype.itemsize
    room = int(limit / (_COPIES * _WORKERS * row))
    if room < 1:
        raise ConfigError(
            "All draws of one image row do not fit into the memory",
            expected=f"at least {int(_COPIES * _WORKERS * row) + 1} bytes",
            got=limit,
            remedy="allow more memory",
        )
    return (min(items, room // rows), rows) if room >= rows else (1, min(rows, room))


def _limit(image: xr.DataArray) -> int:
    """Return the memory for all draws of one item at once, within bounds."""
    item = image.nbytes // max(1, image.sizes["item"])
    return min(_MOST, max(MEMORY, math.ceil(_COPIES * _WORKERS * item)))


def _kernel(
    part: xr.DataArray,
    function: Callable[[np.ndarray], np.ndarray] | None,
    name: str,
    levels: tuple[float, ...],
    limits: tuple[float, ...],
    slice_bytes: int = _SLICE,
    align: bool = False,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """Return all summaries of one block, stacked: [summary, item, channel, y, x], its dtype.

    Order: mean, sd, quantiles, probabilities, phase mean and sd.
    """
    with _room:
        values = _read(part, slice_bytes)
        if align:
            for i in range(values.shape[1]):
                good = slice(None) if counted is None else counted[:, i]
                values[good, i] = alignment.aligned(values[good, i])
        _, items, _, rows, columns = values.shape
        step = max(1, slice_bytes // max(1, values[:, 0, :, 0].nbytes))
        out: np.ndarray | None = None
        for i in range(items):
            for a in range(0, rows, step):
                piece = values[:, i : i + 1, :, a : a + step]
                if not np.isfinite(piece).all():
                    bad = np.argwhere(~np.isfinite(piece))[0]
                    raise StoreError(
                        "The draws hold values that are not finite",
                        expected="finite pixel values",
                        got=f"the first in draw {int(part['draw'][bad[0]])}, "
                        f"item {part['item'].values[i]}",
                        remedy="sample these draws again; verify the store",
                    )
                if counted is not None:
                    piece = piece[counted[:, i]]
                found = _summaries(piece, function, name, levels, limits)
                if out is None:
                    shape = (found.shape[0], items, found.shape[2], rows, columns)
                    out = np.empty(shape, values.dtype)
                out[:, i : i + 1, :, a : a + step] = found
        assert out is not None
        return out


def _read(part: xr.DataArray, slice_bytes: int) -> np.ndarray:
    """Return the values, read a few draws at a time.

    A reader of Zarr holds every chunk of a selection until it is done, and a chunk is a whole image
    where `part` is but some of its rows.
    """
    # segmentations and counts have means that are no integers
    values = np.empty(part.shape, part.dtype if part.dtype.kind == "f" else np.float64)
    chunk = part.encoding.get("chunks", (part[:1, :1].nbytes,))
    image_bytes = int(np.prod(chunk)) * part.dtype.itemsize
    step = max(1, slice_bytes // (image_bytes * part.sizes["item"]))
    for a in range(0, part.sizes["draw"], step):
        # A selection of its own: xarray keeps what it read with the array that was asked.
        values[a : a + step] = part.isel(draw=slice(a, a + step)).values
    return values


def _summaries(
    values: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray] | None,
    name: str,
    levels: tuple[float, ...],
    limits: tuple[float, ...],
) -> np.ndarray:
    phase = _phase(values) if name == "magnitude" else []
    shape = values.shape
    if function is not None:
        values = np.asarray(function(values))
        if values.ndim != 5 or values.shape[:2] + values.shape[3:] != shape[:2] + shape[3:]:
            raise ConfigError(
                "The transform does not work pixel by pixel",
                expected=f"[{shape[0]}, {shape[1]}, any, {shape[3]}, {shape[4]}]",
                got=list(values.shape),
                remedy="return one value, or a few channels, per pixel",
            )
    if values.dtype.kind != "f":  # of a transform, as a segmentation
        values = values.astype(np.float64)
    mean, sd = _moments(values)
    ordered = np.quantile(values, levels, axis=0)
    probabilities = [np.asarray((values > t).mean(axis=0)) for t in limits]
    return np.stack([mean, sd, *ordered, *probabilities, *phase])


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd (n − 1) over the draws in float64, without a float64 copy of them."""
    mean = values.mean(axis=0, dtype=np.float64)
    total = np.zeros_like(mean)
    for draw in values:
        total += (draw - mean) ** 2
    return mean, np.sqrt(total / (len(values) - 1))


def _phase(values: np.ndarray) -> list[np.ndarray]:
    """Return the circular mean and sd of the phase: arg and √(−2 ln |·|) of the mean of e^{iφ}."""
    length = np.maximum(magnitude(values), np.finfo(values.dtype).tiny)
    mean = (values / length).mean(axis=0, dtype=np.float64)
    resultant = np.clip(np.hypot(mean[:, :1], mean[:, 1:]), np.finfo(np.float64).tiny, 1.0)
    return [np.arctan2(mean[:, 1:], mean[:, :1]), np.sqrt(-2 * np.log(resultant))]


def _unpack(
    stack: Any,
    image: xr.DataArray,
    name: str,
    levels: tuple[float, ...],
    limits: tuple[float, ...],
    n: np.ndarray,
) -> xr.Dataset:
    q = len(levels)
    draws = n.reshape(-1, 1, 1, 1).astype(stack.dtype)
    units = image.attrs.get("units", "")
    dims = ("item", "channel", "y", "x")
    about: Mapping[str, str] = {"units": units}
    sd = stack[1]
    out: dict[str, Any] = {
        "mean": (dims, stack[0], {**about, "long_name": "posterior mean"}),
        "sd": (dims, sd, {**about, "long_name": "posterior standard deviation"}),
        "quantiles": (("quantile", *dims), stack[2 : 2 + q], about),
        "interval_width": (
            dims,
            stack[1 + q] - stack[2],
            {**about, "long_name": "width of the central credible interval",
             "level": levels[-1] - levels[0]},
        ),
        "mcse_mean": (dims, sd / np.sqrt(draws), about),
        "mcse_sd": (dims, sd / np.sqrt(2 * (draws - 1)), about),
    }  # fmt: skip
    coords: dict[str, Any] = {
        str(k): v for k, v in image.coords.items() if "draw" not in v.dims and k != "channel"
    }
    coords["quantile"] = list(levels)
    if limits:
        probabilities = stack[2 + q : 2 + q + len(limits)]
        out["probability"] = (("threshold", *dims), probabilities, {"units": "1"})
        coords["threshold"] = ("threshold", list(limits), about)
    if name == "magnitude":
        out["phase_mean"] = (dims, stack[-2], {"units": "rad"})
        out["phase_sd"] = (dims, stack[-1], {"units": "rad"})
        coords["channel"] = ["magnitude"]
    elif stack.shape[2] == image.sizes["channel"] and "channel" in image.coords:
        coords["channel"] = image.coords["channel"]
    return xr.Dataset(out, coords=coords)
