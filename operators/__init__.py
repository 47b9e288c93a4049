"""Forward operators, one file per modality, found by name or by file.

A swap is a matter of one file: `load("path/to/mine.py:MyScanner", …)` takes a class from any file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from sciinv.errors import ConfigError, OperatorError

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

__all__ = ["REGISTRY", "find", "from_measurement", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it is loaded when an operator is first built.
    if name == "from_measurement":
        from .build import from_measurement

        return from_measurement
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def find(name: str) -> type:
    """Return the operator class called `name`, or the class in "FILE.py:CLASS".

    Args:
        name: A key of `REGISTRY`, or a path and a class name joined by a colon.

    Raises:
        ConfigError: The name is not known, the file or the class is not there.
        OperatorError: The file cannot be imported, or the class is not a deepinv Physics.
    """
    if ".py" in name:
        return _from_file(name)
    if name not in REGISTRY:
        raise ConfigError(
            "There is no operator of this name",
            expected=f"one of {', '.join(sorted(REGISTRY))}, or FILE.py:CLASS",
            got=name,
            remedy="name a known operator, or the file and class of your own",
        )
    module, cls, _ = REGISTRY[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), cls)


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
    return cls(**params)


def _from_file(name: str) -> type:
    path_text, _, cls_name = name.rpartition(":")
    if not path_text.endswith(".py"):
        raise ConfigError(
            "An operator in a file is named by the file and its class",
            expected="FILE.py:CLASS",
            got=name,
            remedy="append a colon and the name of the class",
        )
    path = Path(path_text).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(
            "The operator's file is not there",
            where=path,
            expected="a Python file",
            got="no such file",
            remedy="check the path; it is taken from the working directory",
        )
    module_name = f"sciinv_operator_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise OperatorError(
            "The operator's file cannot be imported",
            where=path,
            got=f"{type(error).__name__}: {error}",
            remedy=f"run `python {path.name}` in its folder and mend what it says",
        ) from error
    cls = getattr(module, cls_name, None)
    from deepinv.physics import Physics

    if not (isinstance(cls, type) and issubclass(cls, Physics)):
        classes = [
            k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Physics)
        ]
        raise OperatorError(
            "The file holds no such operator",
            where=path,
            expected="a subclass of deepinv.physics.Physics",
            got=f"{cls_name!r}; the file has {', '.join(classes) or 'none'}",
            remedy="name one of the classes there, or derive yours from Physics",
        )
    return cls
