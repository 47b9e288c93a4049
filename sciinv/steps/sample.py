"""Draws of a block, and the check before the first: measurement, operator, prior and sampler."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from deepinv.physics import Physics
from torch import Tensor

from sciinv import store
from sciinv.config import Operator, Prior, Sampler
from sciinv.config.paths import locate
from sciinv.priors.base import Prior as DiffusionPrior
from sciinv.samplers.lanes import blocks
from sciinv.steps import settings
from sciinv.steps.build import _check_device, build, doubts, generic_file, load_prior, method
from sciinv.steps.generic import scale_for
from sciinv.steps.micro_batch import halving

Progress = Callable[[int, int], None]


def sample_shard(
    measurement: str | Path,
    out: str | Path,
    *,
    operator: Operator,
    prior: Prior,
    sampler: Sampler,
    draws: Sequence[int],
    items: Sequence[int],
    seed: int = 0,
    device: str = "cpu",
    shard: tuple[int, int] | None = None,
    micro_batch: int | None = None,
    found: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw a block of draws of a block of items, and write it as a posterior store.

    Draw i of item j has the same bits in whatever block; on a CPU, torch runs on one thread.

    Args:
        measurement: The measurement store.
        out: The posterior store to make.
        operator: The operator and its parameters.
        prior: The prior.
        sampler: The sampler and its settings.
        draws: Numbers of the draws, contiguous.
        items: Positions of the items, contiguous.
        seed: Seed of the run.
        device: "cpu" or "cuda".
        shard: (draws, items) of a full job.
        micro_batch: Draws computed together; the sampler's own by default. It is halved where it
            does not fit into the memory, and the store then says so: its draws have the same random
            numbers as any others, but their rounding is that of the smaller micro-batch.
        found: What the check before the first draw found: "micro_batch", "inflate", "scale".
        progress: Called with (levels done, levels in all).
        say: Takes lines of progress.
        overwrite: Replace a store of ours that is there already: for jobs that own their output.

    Raises:
        SciinvError: The name is taken; see `Sampler.sample` and `store.write_posterior`.
    """
    _check_device(device)
    store.check_free(out, "posterior", overwrite)
    sampler = settings.found(sampler, dict(found or {}))
    micro_batch = micro_batch or (found or {}).get("micro_batch")
    dataset = store.open_measurement(measurement)
    parts = []
    physics, shared = None, _is_shared(dataset)
    size = int(sampler.settings.get("item_batch", 1)) if shared else 1
    together = [[items[k] for k in block if k is not None] for block in blocks(items, size)]
    told_of = _by_rows(progress, len(together))
    for row, block in enumerate(together):
        read: list[int] = []
        if physics is None or not shared:
            physics, y = build(dataset, operator, block[0], device)
            read = block[:1]
        if block != read:
            y = torch.from_numpy(dataset["y"].isel(item=block).values).to(y)
        if row == 0:
            spec = physics.image_spec
            scale = scale_for(prior, dataset, operator, found)
            model = load_prior(prior, spec.shape, spec.units, *scale).to(device)
            lanes = micro_batch or int(getattr(method(sampler, model), "micro_batch", 1))
            started = lanes
            told = doubts(model, spec)
            if say is not None:
                for sentence in told:
                    say(f"warning: {sentence}")

        def attempt(
            n: int, physics: Physics, model: DiffusionPrior, y: Tensor, row: int, block: list[int]
        ) -> xr.Dataset:
            return method(sampler, model, n).sample(
                y,
                physics,
                draws=list(draws),
                seed=seed,
                items=block,
                progress=partial(told_of, row),
            )

        once = partial(attempt, physics=physics, model=model, y=y, row=row, block=block)
        part, lanes = halving(once, lanes, say)
        parts.append(part)
    path = generic_file(spec.shape[0]) if prior.kind == "generic" else prior.path
    posterior = xr.concat(parts, "item", combine_attrs="override")
    about = store.provenance(
        operator=operator.name or dataset.attrs["operator"],
        operator_file=locate(operator.files[0]) if operator.files else None,
        prior_file=locate(path) if path else None,
        config=identity(operator, prior, sampler),
        seed=seed,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
    )
    about |= {"measurement": str(Path(measurement).absolute()), "micro_batch": lanes}
    about["measurement_hash"] = store.content_hash(measurement)
    if prior.path:
        about["prior_path"] = str(locate(prior.path).absolute())
    if prior.kind == "generic":
        about["prior_scale"] = float(model.scale)
    if told:
        about["doubts"] = json.dumps(told, ensure_ascii=False)
    if "slice_mm" in dataset.attrs:
        about["slice_mm"] = float(dataset.attrs["slice_mm"])
    if lanes != started:
        about["micro_batch_at_start"] = started
    observed = dataset[["y"]].isel(item=list(items)).assign_coords(item=list(items))
    return store.write_posterior(
        posterior, out, observed=observed, provenance=about, shard=shard, overwrite=overwrite
    )


def identity(operator: Operator, prior: Prior, sampler: Sampler) -> dict[str, Any]:
    """Return what decides the draws beside data, seed and files: kept in the store, hashed."""
    return {
        "operator": {"name": operator.name, "params": dict(operator.params)},
        "prior": {k: getattr(prior, k) for k in ("kind", "mean", "sd", "length")}
        | ({"scale": prior.scale} if prior.scale else {}),
        "sampler": {"kind": sampler.kind, **sampler.settings},
    }


def _by_rows(progress: Progress | None, rows: int) -> Callable[[int, int, int], None]:
    """Return a callback (row, levels done, levels in all of the row) that tells those of all rows.

    A row's levels grow where draws are made anew; those to come are taken as short as any so far.
    """
    totals: dict[int, int] = {}

    def report(row: int, done: int, total: int) -> None:
        totals[row] = total
        before = sum(t for r, t in totals.items() if r < row)
        ahead = (rows - row - 1) * min(totals.values())
        if progress is not None:
            progress(before + done, before + total + ahead)

    return report


def _is_shared(dataset: xr.Dataset) -> bool:
    """Whether one operator serves all items: nothing but y differs between them."""
    return not any(
        "item" in v.dims and v.dtype.kind in "fiubc"
        for k, v in dataset.variables.items()
        if k not in ("y", "item")
    )
