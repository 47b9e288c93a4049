"""Readers of the fields' raw formats: each `read(path, …)` returns one measurement dataset."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sciinv.errors import ConfigError, DataError

READERS: dict[str, str] = {
    "kspace": "Cartesian multi-coil k-space: fastMRI and ISMRMRD HDF5, BART, NumPy",
    "htc2022": "Helsinki tomography challenge 2022, fan-beam sinograms (MATLAB)",
    "uvfits": "visibilities of an interferometer, UVFITS",
    "sinogram": "plain CT sinograms: NumPy, HDF5, Zarr, TIFF",
    "dxchange": "raw counts of a synchrotron, DXchange HDF5",
}

__all__ = ["READERS", "find"]


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
    if name in READERS:
        return importlib.import_module(f"{__name__}.{name}").read
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise ConfigError(
            "There is no reader of this name",
            expected=f"one of {', '.join(READERS)}, or FILE.py:FUNCTION",
            got=name,
            remedy="name a known reader, or the file and function of your own",
        )
    found = getattr(_load(Path(file)), function, None)
    if not callable(found):
        raise DataError(
            "The file holds no such function",
            where=file,
            expected="a function that returns a measurement (xarray.Dataset)",
            got=function,
            remedy="correct the name behind the colon",
        )
    return found


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise DataError(
            "The reader's file is not there",
            where=path.absolute(),
            expected="a Python file",
            got="nothing",
            remedy="check the path",
        )
    spec = importlib.util.spec_from_file_location(f"sciinv_reader_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(
            "The reader's file cannot be imported",
            where=path,
            got=f"{type(error).__name__}: {error}",
            remedy=f"run `python {path.name}` in its folder and mend what it says",
        ) from error
    return module
