"""Whether a posterior store says enough to be made again, and a trial that does it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import sciinv
from sciinv import store
from sciinv.config import Operator, Prior, Sampler, file_of
from sciinv.config.paths import locate, located_name
from sciinv.errors import StoreError
from sciinv.store.atomic import sha256

RECORD = (
    "config", "config_hash", "seed", "operator", "sciinv_version", "versions", "device",
    "measurement", "measurement_hash", "micro_batch",
)  # fmt: skip


def gaps(attrs: Mapping[str, Any]) -> list[str]:
    """Return what a posterior store's record lacks to make it again; empty for a whole record.

    Args:
        attrs: Attributes of the store's root.
    """
    own = json.loads(attrs["shards"]) if "shards" in attrs else [{}]
    missing = [k for k in RECORD if any(k not in attrs and k not in o for o in own)]
    found = [f"the record lacks {', '.join(missing)}"] if missing else []
    if "config" in attrs:
        digest = hashlib.sha256(str(attrs["config"]).encode()).hexdigest()
        if digest != attrs.get("config_hash"):
            found.append("the configuration does not have the hash that stands beside it")
        kind = json.loads(attrs["config"]).get("prior", {}).get("kind")
        if kind == "file" and "prior_hash" not in attrs:
            found.append("the record lacks the hash of the prior's file")
    if file_of(str(attrs.get("operator", ""))) and "operator_hash" not in attrs:
        found.append("the record lacks the hash of the operator's file")
    return found


def redraw(
    path: str | os.PathLike[str],
    measurement: str | os.PathLike[str] | None = None,
    prior: str | os.PathLike[str] | None = None,
    operator: str | None = None,
    network: str | None = None,
) -> str:
    """Draw the first shard of a posterior store again, from its record, and compare the bits.

    Args:
        path: The posterior store.
        measurement: The measurement store, where it is no longer where the record says.
        prior: The prior's file, likewise.
        operator: The FILE.py:CLASS of an operator of one's own: a record's file is not run unasked.
        network: The FILE.py:CLASS of a prior's network, likewise.

    Returns:
        One line on what was compared.

    Raises:
        StoreError: The record lacks something or names code that the caller does not, a file has
            changed, or the bits differ.
    """
    from sciinv.steps.sample import sample_shard

    tree = store.open_posterior(path)
    attrs: dict[str, Any] = {str(k): v for k, v in tree.attrs.items()}
    lacking = gaps(attrs)
    if lacking:
        raise StoreError(
            "The store cannot be drawn again from its own record",
            where=path,
            expected="configuration, seed, versions and hashes",
            got="; ".join(lacking),
            remedy="sample it with `sciinv run` or `sciinv sample`",
        )
    shard = json.loads(attrs["shards"])[0] if "shards" in attrs else {}
    attrs |= {k: v for k, v in shard.items() if k not in ("draws", "items")}
    image = tree["posterior"].to_dataset()["image"].isel(chain=0)
    rows, columns = (range(*shard.get(k, (0, image.sizes[d]))) for k, d in _AXES)
    part = image.isel(draw=list(rows), item=list(columns))
    config = json.loads(attrs["config"])
    name = config["operator"]["name"]
    source = Path(measurement or attrs["measurement"])
    file = prior or attrs.get("prior_path")
    recorded = name or str(attrs["operator"])
    if file_of(recorded):
        name = _own_operator(path, recorded, operator)
    _same("measurement store", source, store.content_hash(source), attrs["measurement_hash"])
    if "prior_hash" in attrs:
        _same("prior", file, sha256(locate(str(file))), attrs["prior_hash"])
    if name and file_of(name):
        found = sha256(locate(file_of(name)[0]))
        _same("operator", located_name(name), found, attrs.get("operator_hash", "none"))
    settings = dict(config["sampler"])
    with tempfile.TemporaryDirectory() as folder:
        again = sample_shard(
            source,
            Path(folder) / "again.zarr",
            operator=Operator(name, config["operator"]["params"]),
            prior=Prior(path=str(file), network=network) if file else _closed_form(config["prior"]),
            sampler=Sampler(settings.pop("kind"), settings),
            draws=part["draw"].values.tolist(),
            items=part["item"].values.tolist(),
            seed=int(attrs["seed"]),
            device="cpu" if attrs["device"] == "cpu" else "cuda",
            micro_batch=int(attrs["micro_batch"]),
        )
        new = store.open_posterior(again)["posterior"].to_dataset()["image"].isel(chain=0).load()
    _compare(path, part.load(), new, attrs)
    return f"{path}: {part.sizes['draw']} draws of {part.sizes['item']} items drawn again: equal"


def _own_operator(path: object, recorded: str, named: str | None) -> str:
    """Return the operator that the user names, where the record names a file of code."""
    if named is None or recorded.rpartition(":")[2] != named.rpartition(":")[2]:
        raise StoreError(
            "The draws were made with an operator of one's own, whose file is not run unasked",
            where=path,
            expected=f"--operator {recorded}",
            got=named or "no operator named",
            remedy="read the file, then name it and its class with --operator",
        )
    return named


def _closed_form(recorded: Mapping[str, Any]) -> Prior:
    """Return the closed-form prior of a record; the record names no file."""
    return Prior(**{k: recorded[k] for k in ("kind", "mean", "sd", "length") if k in recorded})


_AXES = (("draws", "draw"), ("items", "item"))


def _compare(path: object, old: xr.DataArray, new: xr.DataArray, attrs: Mapping[str, Any]) -> None:
    if np.array_equal(old.values, new.values):
        return
    far = float(np.abs(old.values - new.values).max())
    told = {k: attrs[k] for k in ("device", "sciinv_version", "versions")}
    raise StoreError(
        "The draws come out otherwise than they are stored",
        where=path,
        expected=f"equal bits, as made by {told}",
        got=f"largest difference {far:.3g}; here sciinv {sciinv.__version__}",
        remedy="a difference of rounding size comes of another device or library; a larger one of "
        "draws that this configuration did not make",
    )


def _same(what: str, where: object, got: str, expected: str) -> None:
    if got != expected:
        raise StoreError(
            f"The {what} is not the one that the draws were made with",
            where=where,
            expected=f"SHA-256 {expected}",
            got=f"SHA-256 {got}",
            remedy="give the one that was used",
        )
