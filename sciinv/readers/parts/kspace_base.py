"""What the k-space readers share: one slice of k-space, its checks, and readout oversampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

import numpy as np

from sciinv.errors import DataError

LARGEST = 1e15  # squares of larger values leave single precision


@dataclass(frozen=True)
class KSpace:
    """One slice of Cartesian k-space; its centre, and the image's, at index N // 2.

    Attributes:
        kspace: Complex [coil, ky, kx], 0 where nothing was measured.
        title: What it is, for people.
        pixel_mm: Pixel size (row, column), mm, where the file says it.
        noise: Samples of a scan without signal, complex [coil, sample], if there is one.
        noise_variance_ratio: Noise variance of `kspace` divided by that of `noise`.
        reference: Magnitude image that came with the data, [row, column].
        slice_mm: Thickness of the slice, mm, where the file says it.
        calibration: Reference lines for the coil maps, on the grid of `kspace`, 0 elsewhere.
        counts: How often each sample was measured, [ky, kx], where that varies; `kspace` is the
            mean, and `noise_variance_ratio` is that of a single measurement.
        doubts: Sentences of doubt about what was read.
        orientation: Centre of the slice (mm), and unit vectors along a row, along a column and
            across the slice, each [x, y, z] of the patient: to the left, to the back, to the head.
    """

    kspace: np.ndarray
    title: str = ""
    pixel_mm: tuple[float, float] | None = None
    noise: np.ndarray | None = None
    noise_variance_ratio: float = 1.0
    reference: np.ndarray | None = None
    slice_mm: float | None = None
    calibration: np.ndarray | None = None
    counts: np.ndarray | None = None
    doubts: tuple[str, ...] = ()
    orientation: tuple[tuple[float, float, float], ...] | None = None


@dataclass(frozen=True)
class Choice:
    """What to read of a file that holds several scans; the options of `kspace.read`.

    Attributes:
        counters: Which contrast, phase, repetition, set or average, by name.
        encoding: Number of the encoding space.
        reference_lines: Whether separate reference lines make the coil maps.
        axes: Order of the axes of a plain array; None for (item,) coil, ky, kx.
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    encoding: int | None = None
    reference_lines: bool = True
    axes: tuple[str, ...] | None = None


class Reader(Protocol):
    """A format: how many slices a file holds, and one of them."""

    @staticmethod
    def count(path: Path, dataset: str | None, choice: Choice | None = None) -> int:
        """Return the number of slices."""

    @staticmethod
    def load(path: Path, item: int, dataset: str | None, choice: Choice | None = None) -> KSpace:
        """Return one slice."""


def checked(values: np.ndarray, path: Path) -> np.ndarray:
    """Return k-space as complex64; raise `DataError` unless complex [coil, ky, kx] and finite."""
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            "The k-space has the wrong shape",
            where=path,
            expected="(coil, ky, kx), none of them 0",
            got=tuple(values.shape),
            remedy="add an axis for a single coil; put the axes in this order",
        )
    if values.dtype.kind != "c":
        raise DataError(
            "The k-space is not complex",
            where=path,
            expected="complex64 or complex128",
            got=f"{values.dtype} {values.shape}",
            remedy="join real and imaginary part: real + 1j * imag; images are no k-space",
        )
    bad = ~(np.abs(values) < LARGEST)
    if bad.any():
        coil, ky, kx = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            "The k-space holds values that are not finite",
            where=path,
            expected=f"numbers below {LARGEST:g}; 0 where nothing was measured",
            got=f"{int(bad.sum())} NaN, infinite or too large, first at {coil=}, {ky=}, {kx=}",
            remedy="set samples that were not measured to 0",
        )
    if not values.any():
        raise DataError(
            "The k-space holds nothing but zeros",
            where=path,
            expected="measured samples",
            got="zeros",
            remedy="check which slice and which array of the file was read",
        )
    return values.astype(np.complex64)


def parsed_header(text: bytes | str, path: Path) -> ElementTree.Element:
    """Return the root of an ISMRMRD XML header without namespaces."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(
            "The file's ISMRMRD header is no XML",
            where=path,
            expected="an <ismrmrdHeader> element",
            got=str(error),
            remedy="convert the raw data again",
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def number(
    root: ElementTree.Element,
    where: str,
    path: Path,
    default: float | None = None,
    *,
    zero: bool = False,
) -> float:
    """Return a number of the header by its path, e.g. "encoding/encodedSpace/matrixSize/x".

    Raises:
        DataError: It is not there and has no default, is no number, or not positive (with `zero`:
            negative).
    """
    text = root.findtext(where)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not (0 <= value < 1e6 and (zero or value > 0)):
        raise DataError(
            "The file's ISMRMRD header lacks a number",
            where=f"{path}: {where}",
            expected="a number, 0 or more" if zero else "a number above 0",
            got=repr(text),
            remedy="convert the raw data again, or read the arrays as plain HDF5",
        )
    return value


def size(root: ElementTree.Element, where: str, path: Path, default: int | None = None) -> int:
    """Return a whole number of at least 1 of the header; see `number`."""
    return max(1, round(number(root, where, path, default)))


def without_oversampling(kspace: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Return k-space whose image is cropped to `size` along the fully sampled readout.

    Crops in the image and transforms back; the DFT is orthonormal, so the noise keeps its sd.
    Partly sampled readouts cannot be cropped: the k-space is then returned as it is.

    Args:
        kspace: Complex [coil, ky, kx].
        axis: The readout, -2 (ky) or -1 (kx).
        size: Number of samples to keep.
    """
    length = kspace.shape[axis]
    measured = np.any(kspace != 0, axis=0)
    lines = measured.any(axis=axis, keepdims=True)
    if size >= length or not np.array_equal(measured, np.broadcast_to(lines, measured.shape)):
        return kspace
    shifted = np.fft.ifftshift(kspace, axes=axis)
    image = np.fft.fftshift(np.fft.ifft(shifted, axis=axis, norm="ortho"), axes=axis)
    start = length // 2 - size // 2
    image = np.take(image, np.arange(start, start + size), axis=axis)
    back = np.fft.fft(np.fft.ifftshift(image, axes=axis), axis=axis, norm="ortho")
    out = np.fft.fftshift(back, axes=axis)
    return np.where(np.broadcast_to(lines, out.shape[1:]), out, 0).astype(kspace.dtype)
