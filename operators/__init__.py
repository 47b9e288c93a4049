"""Forward operators, one file per modality, found by name or by file.

A swap is a matter of one file: `load("path/to/mine.py:MyScanner", …)` takes a class from any file.
"""

from __future__ import annotations

from typing import Any

from sciinv.operators.named import REGISTRY, find, load

__all__ = ["REGISTRY", "find", "from_measurement", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it is loaded when an operator is first built.
    if name == "from_measurement":
        from sciinv.operators.from_store import from_measurement

        return from_measurement
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
