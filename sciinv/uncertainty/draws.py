"""The draws that a summary is made of: opened, read in blocks, as magnitude where complex."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from sciinv import store

Posterior = str | os.PathLike[str] | xr.DataTree | xr.Dataset


def as_dataset(posterior: Posterior) -> xr.Dataset:
    """Return a sampler's flat dataset from a store, its path, or such a dataset."""
    if isinstance(posterior, xr.Dataset):
        if "image" not in posterior or posterior["image"].dims != store.IMAGE_DIMS:
            store.to_tree(posterior)  # raises; of a right one it would read every draw
        return posterior
    tree = posterior if isinstance(posterior, xr.DataTree) else store.open_posterior(posterior)
    return store.to_dataset(tree)


def is_complex(image: xr.DataArray) -> bool:
    """Whether the channels are the real and imaginary part of one image."""
    names = image.coords["channel"].values if "channel" in image.coords else []
    return [str(n) for n in names] == ["real", "imag"]


def magnitude(values: np.ndarray) -> np.ndarray:
    """Return √(real² + imag²), [draw, item, 1, y, x], of [draw, item, 2, y, x]."""
    return np.hypot(values[:, :, :1], values[:, :, 1:])


def kept(dataset: xr.Dataset) -> np.ndarray | None:
    """Return which draws of each item count, [draw, item] bool; None where all do.

    Those that "failed" stand where the data exclude them (`sciinv.samplers.outliers`).
    """
    if "failed" not in dataset:
        return None
    failed = dataset["failed"].transpose("draw", "item").values > 0
    return ~failed if failed.any() else None
