"""Readers of the fields' raw formats: each `read(path, …)` returns one measurement dataset."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sciinv.errors import DataError
from sciinv.registry import find as known
from sciinv.registry import from_file

READERS: dict[str, str] = {
    "kspace": "Cartesian multi-coil k-space: fastMRI and ISMRMRD HDF5, BART, NumPy",
    "htc2022": "Helsinki tomography challenge 2022, fan-beam sinograms (MATLAB)",
    "uvfits": "visibilities of an interferometer, UVFITS",
    "sinogram": "plain CT sinograms: NumPy, HDF5, Zarr, TIFF",
    "projections": "raw counts as TIFF projections with flats and darks",
    "dxchange": "raw counts of a synchrotron, DXchange HDF5",
}

__all__ = ["READERS", "find", "guess"]


def __getattr__(name: str) -> ModuleType:
    if name in READERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def find(name: str) -> Callable[..., Any]:
    """Return the function that reads: a reader's `read`, or the function in "FILE.py:FUNCTION".

    Raises:
        ConfigError: There is no reader of this name.
        DataError: The file is not there, cannot be imported, or has no such function.
    """
    if ".py" in name:
        return from_file(
            name, "reader", callable, DataError, "a function that returns a measurement"
        )
    known("reader", name, READERS, also="FILE.py:FUNCTION")
    return importlib.import_module(f"{__name__}.{name}").read


def guess(path: str | Path) -> str:
    """Return the name of the reader for a file or folder, by what it holds.

    Raises:
        DataError: It is not there, or no reader knows its format.
    """
    from sciinv.readers.parts.guess import guess as by_content

    return by_content(path)
