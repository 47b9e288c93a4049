"""What a posterior cost and where it comes from: the rows of the last table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import xarray as xr

from sciinv.report.markup import counted, duration
from sciinv.report.parts import Problem


def cost(dataset: xr.Dataset, problem: Problem) -> dict[str, str]:
    """Return the rows on cost and origin: what the store says, then what the caller adds."""
    attrs = dict(dataset.attrs)
    jobs = json.loads(attrs["shards"]) if "shards" in attrs else []
    rows: dict[str, str] = {}
    if "nfe" in dataset:
        rows["Network evaluations"] = f"{float(dataset['nfe'].mean()):.4g} per draw"
    if "seconds" in dataset:
        seconds = dataset["seconds"]
        total = float(seconds.sum())
        rows["Time"] = (
            f"{float(seconds.mean()):.3g} s per draw, {duration(total)} for "
            f"{seconds.sizes['draw']} draws of {counted(seconds.sizes['item'], 'item')}"
        )
    names = {
        "device": "Device", "host": "Machine", "sampler": "Sampler", "operator": "Operator",
        "prior": "Prior", "seed": "Seed", "micro_batch": "Micro-batch", "command": "Command",
        "sciinv_version": "sciinv", "python": "Python", "versions": "Libraries",
        "created": "Created", "config_hash": "Configuration SHA-256",
        "operator_hash": "Operator SHA-256", "prior_hash": "Prior SHA-256",
    }  # fmt: skip
    for key, name in names.items():
        found = [attrs[key]] if key in attrs else sorted({str(j[key]) for j in jobs if key in j})
        if found:
            rows[name] = _origin(key, found)
    if jobs:
        rows["Jobs"] = str(len(jobs))
    return {**rows, **{k: str(v) for k, v in problem.provenance.items()}}


def _origin(key: str, found: Sequence[Any]) -> str:
    if key == "versions":
        return ", ".join(f"{k} {v}" for k, v in json.loads(found[0]).items())
    if key == "created" and len(found) > 1:
        return f"{found[0]} to {found[-1]}"
    shown = ", ".join(str(f) for f in found[:6])
    return f"{shown} and {len(found) - 6} more" if len(found) > 6 else shown
