"""The step check-prior: does this prior know this object? And the tournament of several priors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.physics import Physics

from sciinv import likelihoods, priors, samplers, store, uncertainty
from sciinv.arithmetic import fixed_arithmetic
from sciinv.calibration import evidence, predictive, typicality, verdict
from sciinv.config import Operator, Prior, Sampler
from sciinv.config.paths import locate
from sciinv.errors import ConfigError, OperatorError
from sciinv.priors.base import Sampled
from sciinv.steps import settings
from sciinv.steps.build import build, load_prior, method
from sciinv.steps.generic import scale_for
from sciinv.store.atomic import write_file

Progress = Callable[[int, int], None]


@fixed_arithmetic()
def check_prior(
    measurement: str | Path,
    out: str | Path | None = None,
    *,
    operator: Operator,
    prior: Prior,
    sampler: Sampler,
    draws: int = 39,
    item: int = 0,
    seed: int = 0,
    rate: float = verdict.RATE,
    posterior: str | Path | None = None,
    found: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Sample one item, with a tenth of its data left out and with all, and judge the prior.

    Computed on the CPU.

    Args:
        measurement: The measurement store.
        out: The JSON file to make; None: none.
        operator: The operator and its parameters.
        prior: The prior.
        sampler: The sampler and its settings.
        draws: Draws of either run; p-values go down to 1/(draws + 1).
        item: Position of the item.
        seed: Seed of everything.
        rate: Rate of false alarms.
        posterior: A posterior store of all the data under this prior, whose draws save a run.
        found: What the check before the first draw found: "micro_batch", "inflate", "scale".
        progress: Called with (levels done, levels in all) of each run.
        overwrite: Replace an earlier file.

    Returns:
        The verdict, the evidence ("log_evidence", "log_evidence_error", nats; None where it is not
        known), what was checked and the "seconds" that it took: JSON types only.

    Raises:
        SciinvError: See `Sampler.sample`; the item or the rate is out of range.
    """
    begin = time.monotonic()
    if out is not None:
        store.check_new([out], overwrite)
    if not 0 < rate < 1:
        raise ConfigError("The rate of false alarms is a share", expected="0 < rate < 1",
                          got=rate, remedy="take 0.05")  # fmt: skip
    dataset = store.open_measurement(measurement)
    if not 0 <= item < dataset.sizes["item"]:
        raise ConfigError(
            "There is no such item",
            where=str(measurement),
            expected=f"0 … {dataset.sizes['item'] - 1}",
            got=item,
            remedy="items count from 0",
        )
    physics, y = build(dataset, operator, item)
    spec = physics.image_spec
    model = load_prior(prior, spec.shape, spec.units, *scale_for(prior, dataset, operator, found))
    known = dict(found or {})
    run = method(settings.found(sampler, known), model, known.get("micro_batch"))
    if posterior is None:
        post = run.sample(y, physics, draws=draws, seed=seed, items=[item], progress=progress)
    else:
        post = _drawn(posterior, item)
    x = torch.as_tensor(post["image"].values[:, 0]).to(y)
    own = own_images(prior, model, spec.shape)
    typical = typicality.typicality(typicality.statistics(model, x, own.sigmas), own)
    why = ""
    try:
        left_out = predictive.predictive_check(
            run, physics, y, draws, seed, item=item, progress=progress
        )
    except OperatorError:  # counts, say
        left_out = None
        why = "the noise of these data is not Gaussian, and none can be left out"
    value, error = _evidence(post, x, run, model, physics, y, seed)
    judged = verdict.judge(left_out, typical, rate, exact=isinstance(model, Sampled), without=why)
    row = {
        "prior": _named(prior),
        "item": item,
        "draws": draws,
        "seed": seed,
        "log_evidence": value,
        "log_evidence_error": error,
        "chi2": float(post["chi2"].median()),
        "sampler": dict(run.settings()),
        "seconds": round(time.monotonic() - begin, 1),
        **judged.row(),
    }
    if out is not None:
        write_file(out, json.dumps(row, indent=1, ensure_ascii=False).encode())
    return row


def _named(prior: Prior) -> str:
    if prior.path is not None:
        return str(prior.path)
    gaussian = f"gaussian of sd {prior.sd:g}, length {prior.length:g}"
    return gaussian if prior.kind == "gaussian" else prior.kind


def _drawn(posterior: str | Path, item: int) -> xr.Dataset:
    """Return the draws of one item in a store, without those that failed."""
    draws = uncertainty.as_dataset(posterior)
    if item not in draws["item"].values:
        raise ConfigError("The store has no draws of this item", where=posterior,
                          expected=f"one of {draws['item'].values.tolist()}", got=item,
                          remedy="sample it, or check another item")  # fmt: skip
    one = draws.sel(item=[item])
    kept = uncertainty.kept(one)
    return one if kept is None else one.isel(draw=np.flatnonzero(np.asarray(kept)[:, 0]))


def numbers(found: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return what a check found as attributes of a store; what is not known is left out."""
    left_out, typical = found["predictive"] or {}, found["typicality"] or {}
    values = {
        "prior_check": found["answer"],
        "prior_check_sentence": found["sentence"],
        "prior_check_item": found["item"],
        "prior_check_draws": found["draws"],
        "prior_p": found["p"],
        "prior_p_left_out": left_out.get("p"),
        "prior_chi2_left_out": left_out.get("chi2"),
        "prior_p_typical": typical.get("p"),
        "log_evidence": found["log_evidence"],
        "log_evidence_error": found["log_evidence_error"],
    }
    return {k: v for k, v in values.items() if v is not None}


def compare(
    measurement: str | Path,
    candidates: Sequence[Prior],
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    **given: Any,
) -> list[dict[str, Any]]:
    """Judge several priors on one item, the one of the highest evidence first.

    Args:
        measurement: The measurement store.
        candidates: The priors.
        out: The JSON file to make; None: none.
        overwrite: Replace an earlier file.
        **given: As of `check_prior`.

    Returns:
        What `check_prior` found of each, with "behind": nats behind the first (None: not known).
    """
    if out is not None:
        store.check_new([out], overwrite)
    if len(candidates) < 2:
        raise ConfigError("A tournament takes several priors", expected="two or more",
                          got=len(candidates), remedy="name another one with --prior")  # fmt: skip
    found = [check_prior(measurement, prior=p, **given) for p in candidates]
    found.sort(key=lambda f: np.inf if f["log_evidence"] is None else -f["log_evidence"])
    best = found[0]["log_evidence"]
    for one in found:
        known = best is not None and one["log_evidence"] is not None
        one["behind"] = best - one["log_evidence"] if known else None
    if out is not None:
        write_file(out, json.dumps(found, indent=1, ensure_ascii=False).encode())
    return found


def own_images(prior: Prior, model: priors.Prior, shape: tuple[int, int, int]) -> typicality.Own:
    """Return t of the prior's own images, kept beside its file where it has one."""
    if prior.path is None:  # of the generic one the scale is another each time
        return typicality.own(model, shape)
    return typicality.own_cached(locate(prior.path), shape, lambda: typicality.own(model, shape))


def _evidence(
    post: Any, x: torch.Tensor, run: Any, model: priors.Prior, physics: Physics, y: Any, seed: int
) -> tuple[float | None, float | None]:
    """Return the log evidence and its error, nats, as far as they are known."""
    if isinstance(run, samplers.Particles):
        value, spread = evidence.of_groups(post["log_evidence"].values[:, 0], run.micro_batch)
        return value, spread if np.isfinite(spread) else None
    conditional = getattr(run, "conditional", None)
    if conditional is None or conditional.name in ("score", "published", "reverse"):
        return None, None
    try:
        likelihoods.log_constant(likelihoods.of(physics), y)
    except OperatorError:
        return None, None
    found = evidence.log_evidence(x, model, physics, y, conditional, seed=seed)
    return found.log_evidence, found.error
