"""sciinv: raw scientific measurements to images with uncertainty that can be trusted."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBMODULES = (
    "calibration",
    "conditionals",
    "diffusion",
    "errors",
    "kernels",
    "likelihoods",
    "metrics",
    "operators",
    "plots",
    "priors",
    "readers",
    "report",
    "samplers",
    "seeds",
    "store",
    "uncertainty",
)


def __getattr__(name: str) -> Any:
    # torch and deepinv take seconds to import: a submodule is loaded when it is first named.
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
