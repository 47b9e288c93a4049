"""The step check: measurement, operator and prior belong together, before the first draw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sciinv import likelihoods, store, units
from sciinv.config import Operator, Prior, Sampler
from sciinv.errors import OperatorError
from sciinv.operators.check import check_operator
from sciinv.steps import settings
from sciinv.steps.build import _check_device, build, doubts, load_prior, method
from sciinv.steps.generic import scale_for
from sciinv.steps.micro_batch import probe


def check(
    measurement: str | Path,
    operator: Operator,
    prior: Prior,
    out: str | Path,
    sampler: Sampler | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Check once, before the first draw, that measurement, operator and prior belong together.

    Args:
        measurement: The measurement store.
        operator: The operator and its parameters.
        prior: The prior.
        out: A JSON file with what was found.
        sampler: The sampler; where its `micro_batch` is "auto", the largest that fits into the
            memory is found here, once, so that all jobs of the run round alike; where its `inflate`
            is "auto", so is κ (`steps.settings`).
        device: Where draws will be made.
        seed: Seed of the run, for the truths that κ is found on.

    Raises:
        SciinvError: The operator's adjoint is wrong, it does not fit the measurement, it says no
            noise, or the prior does not fit its image or has other units.
    """
    dataset = store.open_measurement(measurement)
    physics, y = build(dataset, operator)
    results = check_operator(physics, y)
    failed = [r for r in results if r.ok is False]
    if failed:
        raise OperatorError(
            f"The operator fails the check of its {failed[0].name}",
            where=operator.name or dataset.attrs["operator"],
            expected=failed[0].expected,
            got=failed[0].got,
            remedy=failed[0].remedy,
        )
    spec = physics.image_spec
    model = load_prior(prior, spec.shape, spec.units, *scale_for(prior, dataset, operator))
    model.check(spec.shape)
    units.check(model.units, spec.units, where=operator.name or dataset.attrs["operator"])
    found: dict[str, Any] = {
        "operator": operator.name or dataset.attrs["operator"],
        "image": {"shape": list(spec.shape), "units": spec.units},
        "measurement": {"shape": list(y.shape[1:]), "units": dataset.attrs["units"]},
        "likelihood": type(likelihoods.of(physics)).__name__,
        "prior": {"kind": type(model).__name__, "units": model.units}
        | ({"scale": model.scale} if prior.kind == "generic" else {}),
        "doubts": doubts(model, spec),
        "checks": {r.name: r.got for r in results},
    }
    probes = sampler is not None and sampler.settings.get("micro_batch") == "auto"
    if probes or settings.asks(sampler):
        _check_device(device)
        physics, y, model = physics.to(device), y.to(device), model.to(device)
    if sampler is not None and probes:
        few = {"dps": {"steps": 2}, "langevin": {"iterations": 2}}.get(sampler.kind, {"levels": 2})
        given = {k: v for k, v in sampler.settings.items() if (k, v) != ("inflate", "auto")}
        trial = replace(sampler, settings={**given, **few})
        found["micro_batch"] = probe(lambda n: method(trial, model, n), y, physics)
    if sampler is not None and settings.asks(sampler):
        found |= settings.find(sampler, model, physics, seed, found.get("micro_batch"))
    store.write_file(out, json.dumps(found, indent=1, default=str).encode())
    return found
