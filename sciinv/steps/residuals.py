"""What the draws of one item leave of its data, laid out where the data live."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import SciinvError
from sciinv.likelihoods import Gaussian
from sciinv.model_error import DRAWN, as_drawn
from sciinv.operators.base import declared
from sciinv.plots.residuals import Folded, Residuals
from sciinv.steps.residual_image import folded, on_grid
from sciinv.uncertainty.draws import kept
from sciinv.uncertainty.misfits import misfits
from sciinv.uncertainty.neighbours import Neighbours, neighbours

DRAWS = 16  # of which the mean square is taken: more change the figure by less than a line's width
_GROUPS = 30  # by place, where the data have no natural ones
_WORDS = {"angle": "view", "detector": "detector element"}  # of the axes of a sinogram
_SIDE = {"angle": "views", "detector": "detector elements"}
_SIDE |= {"row": "rows", "column": "columns", "y": "rows", "x": "columns"}
_SIDE |= dict.fromkeys(("coil", "part", "channel"), "")  # without an order
_MAP = 512  # rows and columns of a map, at most: a figure shows no more


def residuals_of(dataset: xr.Dataset, physics: Any, y: Tensor, one: xr.Dataset) -> Residuals | None:
    """Return (y − A x) ÷ sd of an item's draws; None where the noise has no sd per datum.

    The instrument and the noise level are those of each draw, where they were drawn.

    Args:
        dataset: The measurement.
        physics: Its operator, for this item.
        y: The item's data, [1, …].
        one: The item's draws and their statistics [draw].
    """
    try:
        sd = _sd(physics, y)
    except SciinvError:
        return None
    if sd is None:
        return None
    one = _settled(one)
    count = min(DRAWS, one.sizes["draw"])
    parts = [_left(physics, y, sd, one, k) for k in range(count)]
    each = [(left / own)[0].double().numpy() for left, own in parts]
    typical = torch.stack([own.square().expand_as(y) for _, own in parts]).mean(0).sqrt()
    alike = [(left / typical)[0].double().numpy() for left, _ in parts]  # one noise for all draws
    valid = torch.isfinite(sd).expand_as(y)[0].numpy()
    each, alike = ([np.where(valid, r, np.nan) for r in group] for group in (each, alike))
    square = np.mean([r**2 for r in each], axis=0)
    laid = _laid_out(dataset, physics, each[0], square, count)
    if laid is None:
        return None
    return replace(
        laid,
        neighbours=_side_by_side(dataset, each),
        image=_in_the_image(dataset, each[0]),
        misfits=misfits(alike),
    )


def _settled(one: xr.Dataset) -> xr.Dataset:
    """Return the draws that did not fail, which the maps are of; all where every one failed."""
    counted = kept(one.expand_dims("item"))
    stands = () if counted is None else np.flatnonzero(counted[:, 0])
    return one.isel(draw=stands) if len(stands) else one


def _in_the_image(dataset: xr.Dataset, residual: NDArray[Any]) -> Folded | None:
    """Return what a draw leaves of k-space on a grid, in the image."""
    if [d for d in dataset["y"].dims if d != "item"] != ["part", "coil", "sample"]:
        return None
    return folded(dataset["mask"].values.astype(bool), residual) if "mask" in dataset else None


def _side_by_side(dataset: xr.Dataset, each: list[NDArray[Any]]) -> tuple[Neighbours, ...]:
    """Return the correlation of residuals along the axes of the data on which they have neighbours.

    Values without an order, and closures, whose noise is correlated, have none.
    """
    names = [str(d) for d in dataset["y"].dims if d != "item"]
    if "mask" in dataset and names[-1:] == ["sample"]:
        mask = dataset["mask"].values.astype(bool)
        rows, columns = (f"{d} samples" for d in dataset["mask"].dims[-2:])
        return neighbours([on_grid(mask, r) for r in each], {rows: -2, columns: -1})
    if "trajectory" in dataset or {"u", "v"} <= set(dataset.variables) or each[0].ndim < 2:
        return ()
    axes = {_SIDE.get(d, f"{d} numbers"): k for k, d in zip((-2, -1), names[-2:], strict=True)}
    return neighbours(each, {name: k for name, k in axes.items() if name})


def _sd(physics: Any, y: Tensor) -> Tensor | None:
    noise = likelihoods.of(physics)
    if isinstance(noise, likelihoods.Poisson):
        return y.clamp_min(1.0).sqrt()  # of the counts themselves: nearly that of their expectation
    return noise.deviations(y) if isinstance(noise, Gaussian) else None


def _left(physics: Any, y: Tensor, sd: Tensor, one: xr.Dataset, k: int) -> tuple[Tensor, Tensor]:
    """Return y − A x − offsets of one draw, and the sd of its noise as it was drawn."""
    draw = one.isel(draw=k)
    unknowns = [u for u in getattr(physics, "unknowns", ()) if u.name in draw]
    theta = [np.atleast_1d(draw[u.name].values) for u in unknowns if u.groups is None]
    operator = physics
    if theta and len(theta) == sum(u.groups is None for u in physics.unknowns):
        operator = physics.at(torch.as_tensor(np.concatenate(theta))[None].to(y))
    with torch.no_grad():
        u = operator.A(torch.as_tensor(draw["image"].values[None]).to(y))
    for unknown in unknowns:
        if unknown.groups is not None:
            values = torch.as_tensor(np.atleast_1d(draw[unknown.name].values)).to(y)
            groups = unknown.groups.expand(y.shape[1:])
            u = u + torch.where(groups >= 0, values[groups.clamp_min(0)], 0.0)
    noise = likelihoods.of(physics)
    difference = noise.difference(y, u) if isinstance(noise, Gaussian) else y - u
    drawn = {name: torch.as_tensor(draw[name].values[None]) for name in DRAWN if name in draw}
    if drawn and isinstance(noise, Gaussian):
        found = as_drawn(declared(physics, y), noise, drawn, y).deviations(y)
        sd = sd if found is None else found
    return difference, sd


def _laid_out(
    dataset: xr.Dataset, physics: Any, first: NDArray[Any], square: NDArray[Any], count: int
) -> Residuals | None:
    names = [str(d) for d in dataset["y"].dims if d != "item"]
    if not np.isfinite(square).any():
        return None
    if "mask" in dataset and names[-1:] == ["sample"]:
        return _kspace(dataset["mask"].values.astype(bool), first, square, count)
    if "trajectory" in dataset and names[-1:] == ["sample"]:
        return _trajectory(dataset["trajectory"].values, first, square, count)
    if {"u", "v"} <= set(dataset.variables):
        return _baselines(dataset, physics, first, square, count)
    if first.ndim >= 2 and first.shape[-1] > 1 and first.shape[-2] > 1:
        return _plane(dataset, names, first, square, count)
    flat, power = first.ravel(), square.ravel()
    number = np.arange(flat.size, dtype=float)
    by, rms, counts = _grouped(number, power)
    return Residuals(flat, False, number, ("number of the value", "residual ÷ noise sd"),
                     by, "number of the value", rms, counts, count)  # fmt: skip


def _kspace(mask: NDArray[Any], first: NDArray[Any], square: NDArray[Any], count: int) -> Residuals:
    """k-space: root mean squares over coils and both parts of each measured point."""
    axes = tuple(range(first.ndim - 1))
    grid = np.full(mask.shape, np.nan)
    grid[mask] = np.sqrt(np.nanmean(first**2, axis=axes))
    rows, columns = np.nonzero(mask)
    radius = np.hypot(rows - mask.shape[0] / 2, columns - mask.shape[1] / 2)
    along = np.broadcast_to(radius, square.shape).ravel()
    by, rms, counts = _grouped(along, square.ravel())
    label = "distance from the centre of k-space, samples"
    axes_ = ("kx, samples", "ky, samples")
    return Residuals(grid, True, None, axes_, by, label, rms, counts, count)


def _trajectory(
    points: NDArray[Any], first: NDArray[Any], square: NDArray[Any], count: int
) -> Residuals:
    """k-space off a grid: root mean squares over coils and both parts of each sample."""
    radius = np.hypot(*np.asarray(points, dtype=float).reshape(-1, 2).T)
    label = "distance from the centre of k-space, cycles per field of view"
    sizes = np.sqrt(np.nanmean(first**2, axis=tuple(range(first.ndim - 1))))
    along = np.broadcast_to(radius, square.shape).ravel()
    by, rms, counts = _grouped(along, square.ravel())
    return Residuals(sizes, True, radius, (label, "size ÷ noise sd"), by, label, rms, counts,
                     count)  # fmt: skip


def _baselines(
    dataset: xr.Dataset, physics: Any, first: NDArray[Any], square: NDArray[Any], count: int
) -> Residuals:
    """Interferometry: by baseline, a closure by the longest of its baselines."""
    length = np.hypot(dataset["u"].values, dataset["v"].values) / 1e9
    length = length[0] if length.ndim == 2 else length
    label = "baseline, Gλ"
    if hasattr(physics, "triangles"):
        label = "longest baseline of the closure, Gλ"
        parts = [length[np.asarray(physics.triangles)].max(1)]
        for name in ("quadrangles", "amplitudes"):
            index = np.asarray(getattr(physics, name))
            if len(index):
                parts.append(length[index].reshape(len(index), -1).max(1))
        along = np.concatenate(parts)
        # The last datum is the total flux: that of the baseline 0.
        along = np.append(along, np.zeros(first.shape[-1] - len(along)))
    else:
        along = length
    along = np.broadcast_to(along, first.shape).ravel()
    by, rms, counts = _grouped(along, square.ravel())
    return Residuals(first.ravel(), False, along, (label, "residual ÷ noise sd"), by, label, rms,
                     counts, count)  # fmt: skip


def _plane(
    dataset: xr.Dataset, names: list[str], first: NDArray[Any], square: NDArray[Any], count: int
) -> Residuals:
    """A sinogram or another plane: signed, the first of several; grouped by its rows."""
    plane = first.reshape(-1, *first.shape[-2:])[0]
    steps = [max(1, -(-n // _MAP)) for n in plane.shape]
    flat = square.reshape(-1, *square.shape[-2:])
    row = names[-2]
    by, axis = np.arange(flat.shape[1], dtype=float), f"{row} number"
    if row == "angle" and "angles" in dataset and dataset["angles"].size == len(by):
        by = dataset["angles"].values.ravel().astype(float)
        axis = f"view angle, {dataset['angles'].attrs.get('units', 'degrees')}"
    along = np.broadcast_to(by[None, :, None], flat.shape).ravel()
    places, rms, counts = _grouped(along, flat.ravel(), 4 * _GROUPS)
    return Residuals(plane[:: steps[0], :: steps[1]], False, None,
                     (_WORDS.get(names[-1], names[-1]), _WORDS.get(row, row)),
                     places, axis, rms, counts, count)  # fmt: skip


def _grouped(
    along: NDArray[Any], square: NDArray[Any], groups: int = _GROUPS
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return centre, root mean square and number of values of groups of about equal number."""
    known = np.isfinite(square)
    along, square = along[known], square[known]
    edges = np.unique(np.quantile(along, np.linspace(0, 1, groups + 1)))
    index = np.clip(np.searchsorted(edges, along, "right") - 1, 0, max(0, len(edges) - 2))
    counts = np.bincount(index)
    kept = counts > 0
    centres = np.bincount(index, along)[kept] / counts[kept]
    return centres, np.sqrt(np.bincount(index, square)[kept] / counts[kept]), counts[kept]
