"""Draws of a block, and the check before the first: measurement, operator, prior and sampler."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from sciinv import checks, likelihoods, memory, operators, priors, samplers, store, units
from sciinv.config import Operator, Prior, Sampler
from sciinv.errors import ConfigError, OperatorError
from sciinv.places import locate, located_name
from sciinv.priors.base import Prior as DiffusionPrior

Progress = Callable[[int, int], None]


def load_prior(prior: Prior, shape: tuple[int, int, int], units: str = "") -> DiffusionPrior:
    """Return the prior of a configuration for images of this (C, H, W)."""
    if prior.path is not None:
        path = locate(prior.path)
        if path.suffix == ".safetensors":  # weights and numbers: nothing in it can be run
            return priors.load(path)
        return priors.load(path, run=located_name(prior.network) if prior.network else False)
    power = gaussian_power(shape[1:], prior.sd, prior.length)
    return priors.Gaussian(torch.full(shape, prior.mean), power_spectrum=power, units=units)


def gaussian_power(shape: tuple[int, int], sd: float, length: float) -> Tensor:
    """Return the power spectrum [H, W] of a Gaussian-shaped correlation exp(−r²/2ℓ²).

    P(k) ∝ exp(−2π² ℓ² |k|²), k in cycles per pixel, scaled to a mean of sd²; at least 1e−6 of
    its mean, so that no direction has the variance 0.
    """
    ky, kx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    k2 = ky[:, None] ** 2 + kx[None, :] ** 2
    power = torch.exp(-2 * torch.pi**2 * length**2 * k2)
    power = (power / power.mean()).clamp_min(1e-6)
    return (sd**2 * power / power.mean()).float()


def build(
    measurement: xr.Dataset, operator: Operator, item: int = 0, device: str = "cpu"
) -> tuple[Any, Tensor]:
    """Return the operator and the measurement [1, …] of one item, on a device."""
    name = located_name(operator.name) if operator.name else None
    physics, y = operators.from_measurement(measurement, item, name, **dict(operator.params))
    return physics.to(device), y.to(device)


def method(sampler: Sampler, model: DiffusionPrior, micro_batch: int | None = None) -> Any:
    """Return the sampler of a configuration; "daps-published" is the released code's setting.

    Args:
        sampler: Its kind and settings.
        model: The prior.
        micro_batch: Replaces the configuration's.
    """
    settings = {k: v for k, v in sampler.settings.items() if (k, v) != ("micro_batch", "auto")}
    if micro_batch is not None and sampler.kind != "particles":  # its group is its batch
        settings["micro_batch"] = micro_batch
    if sampler.kind == "daps-published":
        return samplers.DAPS.published(model, **settings)
    return samplers.build(sampler.kind, model, **settings)


def check(
    measurement: str | Path,
    operator: Operator,
    prior: Prior,
    out: str | Path,
    sampler: Sampler | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Check once, before the first draw, that measurement, operator and prior belong together.

    Args:
        measurement: The measurement store.
        operator: The operator and its parameters.
        prior: The prior.
        out: A JSON file with what was found.
        sampler: The sampler; where its `micro_batch` is "auto", the largest that fits into the
            memory is found here, once, so that all jobs of the run round alike.
        device: Where draws will be made.

    Raises:
        SciinvError: The operator's adjoint is wrong, it does not fit the measurement, it says no
            noise, or the prior does not fit its image or has other units.
    """
    dataset = store.open_measurement(measurement)
    physics, y = build(dataset, operator)
    results = checks.check_operator(physics, y)
    failed = [r for r in results if not r.ok]
    if failed:
        raise OperatorError(
            f"The operator fails the check of its {failed[0].name}",
            where=operator.name or dataset.attrs["operator"],
            expected=failed[0].expected,
            got=failed[0].got,
            remedy=failed[0].remedy,
        )
    spec = physics.image_spec
    model = load_prior(prior, spec.shape, spec.units)
    model.check(spec.shape)
    units.check(model.units, spec.units, where=operator.name or dataset.attrs["operator"])
    found = {
        "operator": operator.name or dataset.attrs["operator"],
        "image": {"shape": list(spec.shape), "units": spec.units},
        "measurement": {"shape": list(y.shape[1:]), "units": dataset.attrs["units"]},
        "likelihood": type(likelihoods.of(physics)).__name__,
        "prior": {"kind": type(model).__name__, "units": model.units},
        "checks": {r.name: r.got for r in results},
    }
    if sampler is not None and sampler.settings.get("micro_batch") == "auto":
        _check_device(device)
        torch.set_num_threads(1)
        physics, y, model = physics.to(device), y.to(device), model.to(device)
        few = {"dps": {"steps": 2}, "langevin": {"iterations": 2}}.get(sampler.kind, {"levels": 2})
        trial = replace(sampler, settings={**sampler.settings, **few})
        found["micro_batch"] = memory.probe(lambda n: method(trial, model, n), y, physics)
    store.write_file(out, json.dumps(found, indent=1, default=str).encode())
    return found


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
        progress: Called with (levels done, levels in all).
        say: Takes lines of progress.
        overwrite: Replace a store of ours that is there already: for jobs that own their output.

    Raises:
        SciinvError: The name is taken; see `Sampler.sample` and `store.write_posterior`.
    """
    _check_device(device)
    store.check_free(out, "posterior", overwrite)
    torch.set_num_threads(1)
    dataset = store.open_measurement(measurement)
    parts = []
    physics, shared = None, _is_shared(dataset)
    for row, item in enumerate(items):
        if physics is None or not shared:
            physics, y = build(dataset, operator, item, device)
        else:
            y = torch.from_numpy(dataset["y"].isel(item=[item]).values).to(y)
        if row == 0:
            spec = physics.image_spec
            model = load_prior(prior, spec.shape, spec.units).to(device)
            lanes = micro_batch or int(getattr(method(sampler, model), "micro_batch", 1))
            started = lanes

        def attempt(n: int, physics: Any, model: DiffusionPrior, y: Tensor, row: int) -> xr.Dataset:
            return method(sampler, model, n).sample(
                y,
                physics,
                draws=list(draws),
                seed=seed,
                items=[items[row]],
                progress=_scaled(progress, row, len(items)),
            )

        once = partial(attempt, physics=physics, model=model, y=y, row=row)
        part, lanes = memory.halving(once, lanes, say)
        parts.append(part)
    posterior = xr.concat(parts, "item", combine_attrs="override")
    about = store.provenance(
        operator=operator.name or dataset.attrs["operator"],
        operator_file=locate(operator.files[0]) if operator.files else None,
        prior_file=locate(prior.path) if prior.path else None,
        config=identity(operator, prior, sampler),
        seed=seed,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
    )
    about |= {"measurement": str(Path(measurement).absolute()), "micro_batch": lanes}
    about["measurement_hash"] = store.content_hash(measurement)
    if prior.path:
        about["prior_path"] = str(locate(prior.path).absolute())
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
        "prior": {k: getattr(prior, k) for k in ("kind", "mean", "sd", "length")},
        "sampler": {"kind": sampler.kind, **sampler.settings},
    }


def _scaled(progress: Progress | None, row: int, rows: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(row * total + done, rows * total)


def _is_shared(dataset: xr.Dataset) -> bool:
    """Whether one operator serves all items: nothing but y differs between them."""
    return not any(
        "item" in v.dims and v.dtype.kind in "fiubc"
        for k, v in dataset.variables.items()
        if k not in ("y", "item")
    )


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "There is no GPU that torch can use",
            where="run.device",
            expected="a CUDA device",
            got="none",
            remedy="set device: cpu, or ask the cluster for a GPU (resource gpu)",
        )
