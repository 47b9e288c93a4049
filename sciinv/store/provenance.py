"""Where a result comes from: versions, files by their hash, configuration, machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sciinv
from sciinv.store.atomic import sha256


def provenance(
    *,
    operator: str | None = None,
    operator_file: str | os.PathLike[str] | None = None,
    prior_file: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str | None = None,
    command: str | None = None,
    **timings: float,
) -> dict[str, Any]:
    """Return the attributes that say how draws were made.

    Args:
        operator: Registry name, or "FILE.py:CLASS".
        operator_file: Its file; kept by SHA-256.
        prior_file: The prior's file; kept by name and SHA-256.
        config: The configuration that decides the draws; kept as JSON with its SHA-256. Leave
            out what does not change them (paths, batch sizes): stores are merged only when equal.
        seed: The seed.
        device: Where it ran, e.g. "cpu" or "NVIDIA H100".
        command: The command line.
        **timings: Seconds by name.
    """
    text = json.dumps(config or {}, sort_keys=True, default=str)
    libraries = {k: _version(k) for k in ("torch", "deepinv", "numpy", "zarr", "xarray")}
    found = {
        "sciinv_version": sciinv.__version__,
        "operator": operator,
        "operator_hash": sha256(Path(operator_file)) if operator_file else None,
        "prior": Path(prior_file).name if prior_file else None,
        "prior_hash": sha256(Path(prior_file)) if prior_file else None,
        "config": text,
        "config_hash": hashlib.sha256(text.encode()).hexdigest(),
        "seed": seed,
        "device": device,
        "command": command,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": json.dumps(libraries),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **{f"seconds_{k}": float(v) for k, v in timings.items()},
    }
    return {k: v for k, v in found.items() if v is not None}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
