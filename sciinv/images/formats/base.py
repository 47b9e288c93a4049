"""What the image formats share: options, the images of one file, and how slices are cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciinv.errors import ConfigError, DataError

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Options:
    """How files are read.

    Attributes:
        axis: Axis of a volume along which slices are cut: "0", "1", "2", or a plane's name for
            NIfTI ("axial"); None: the first of an array, axial for NIfTI.
        dataset: Name of the array in an HDF5, Zarr or .npz file.
    """

    axis: str | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class Stack:
    """The images of one file.

    Attributes:
        values: [slice, row, column], float32 or complex64, in the file's own unit.
        units: Unit of a value, "" where the file does not say.
        pixel: (row, column) side of a pixel, or None.
        pixel_unit: Its unit.
        subject: Whom or what the file is of, where the file itself says it.
        arbitrary: True where the unit is the scanner's own, another one in each file.
        note: What was done to get the images, in a sentence.
    """

    values: np.ndarray
    units: str = ""
    pixel: tuple[float, float] | None = None
    pixel_unit: str = ""
    subject: str | None = None
    arbitrary: bool = False
    note: str = ""


def numeric(values: np.ndarray, path: Path) -> np.ndarray:
    """Return the values as float32 or complex64; `DataError` where they are no numbers."""
    if values.dtype.kind == "b" or values.dtype.kind not in "uifc":
        raise DataError(
            "The file's values are no intensities",
            where=path,
            expected="integer, real or complex numbers",
            got=str(values.dtype),
            remedy="name another array with --dataset, or leave the file out",
        )
    return values.astype(np.complex64 if values.dtype.kind == "c" else np.float32)


def cut(values: np.ndarray, axis: int | None, path: Path) -> np.ndarray:
    """Return an array [H, W], [S, H, W] or [S, 1 or 2, H, W] as slices [S, H, W].

    Two channels are the real and the imaginary part.
    """
    if values.ndim == 4 and values.shape[1] in (1, 2) and axis is None:
        two = values.shape[1] == 2 and values.dtype.kind != "c"
        if values.shape[1] == 1 or two:
            values = values[:, 0] + 1j * values[:, 1] if two else values[:, 0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            "The array is no stack of images",
            where=path,
            expected="[row, column], [slice, row, column] or [slice, 1 or 2, row, column]",
            got=list(values.shape),
            remedy="name another array with --dataset, or save one image an entry",
        )
    return np.moveaxis(values, axis or 0, 0)


def axis_of(options: Options, path: Path, names: bool = False) -> int | None:
    """Return the axis that the options name, or None."""
    if options.axis is None:
        return None
    if options.axis in ("0", "1", "2"):
        return int(options.axis)
    if names and options.axis in PLANES:
        return PLANES[options.axis]
    raise ConfigError(
        "There is no such axis to cut slices along",
        where=f"--axis, {path}",
        expected="0, 1 or 2" + (", axial, coronal or sagittal" if names else ""),
        got=options.axis,
        remedy="leave --axis out for the first axis (NIfTI: axial)",
    )
