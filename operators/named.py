"""Operators by name or by file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from sciinv.errors import ConfigError, OperatorError, SciinvError
from sciinv.registry import find as known
from sciinv.registry import from_file

# name -> (module, class, what it is)
REGISTRY: dict[str, tuple[str, str, str]] = {
    "mri": ("mri", "MultiCoilMRI", "multi-coil Cartesian MRI, y_c = M F S_c x"),
    "mri-noncartesian": (
        "mri_noncartesian",
        "NonCartesianMRI",
        "multi-coil MRI along a trajectory (radial, spiral); needs the extra nufft",
    ),
    "ct": ("ct", "CT", "X-ray CT, parallel or fan beam, line integrals of attenuation"),
    "ct-counts": ("ct", "CTCounts", "X-ray CT photon counts, Poisson, I0 exp(−line integral)"),
    "visibilities": ("interferometry", "Visibilities", "complex visibilities of a sky image"),
    "closures": (
        "interferometry",
        "Closures",
        "closure phases, log closure amplitudes and total flux of a sky image",
    ),
}


def find(name: str) -> type:
    """Return the operator class called `name`, or the class in "FILE.py:CLASS".

    Args:
        name: A key of `REGISTRY`, or a path and a class name joined by a colon.

    Raises:
        ConfigError: The name is not known, the file or the class is not there.
        OperatorError: The file cannot be imported, or the class is not a deepinv Physics.
    """
    if ".py" in name:
        return from_file(
            name, "operator", _is_physics, OperatorError, "a subclass of deepinv.physics.Physics"
        )
    module, cls, _ = known("operator", name, REGISTRY, also="FILE.py:CLASS")
    return getattr(importlib.import_module(f"sciinv.operators.{module}"), cls)


def _is_physics(value: Any) -> bool:
    from deepinv.physics import Physics

    return isinstance(value, type) and issubclass(value, Physics)


def load(name: str, **params: Any) -> Any:
    """Build an operator by name or by file: `load("ct", angles=…)`, `load("mine.py:Mine")`.

    Args:
        name: A key of `REGISTRY`, or "FILE.py:CLASS".
        **params: The constructor's own arguments; an unknown one is an error.

    Returns:
        A deepinv `Physics`.

    Raises:
        ConfigError: The name or a parameter is not known, or a parameter is missing.
        OperatorError: The operator refuses its parameters.
    """
    cls = find(name)
    known = inspect.signature(cls).parameters
    swallows = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = [] if swallows else sorted(set(params) - set(known))
    missing = sorted(
        k
        for k, p in known.items()
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and k not in params
    )
    if unknown or missing:
        raise ConfigError(
            "The operator's parameters do not match",
            where=name,
            expected=", ".join(known),
            got=f"unknown: {unknown or 'none'}; missing: {missing or 'none'}",
            remedy="correct the spelling, or give the missing parameters",
        )
    return made(cls, name, params)


def made(cls: type, name: str, params: Mapping[str, Any]) -> Any:
    """Return the operator; whatever its constructor raises is told as its refusal.

    Raises:
        OperatorError: The constructor refuses its parameters.
    """
    try:
        return cls(**params)
    except SciinvError:
        raise
    except Exception as error:
        raise OperatorError(
            "The operator refuses its parameters",
            where=name,
            expected=", ".join(inspect.signature(cls).parameters),
            got=f"{type(error).__name__}: {error}; from {_short(params)}",
            remedy="correct the parameter's kind or value; the docstring of the class tells them",
        ) from error


def _short(params: Mapping[str, Any]) -> str:
    """Return parameters as text, arrays by their shape."""
    shown = {k: f"{v.dtype} {list(v.shape)}" if hasattr(v, "shape") else v
             for k, v in params.items()}  # fmt: skip
    return ", ".join(f"{k} = {str(v)[:60]}" for k, v in shown.items()) or "no parameters"
