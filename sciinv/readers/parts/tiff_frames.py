"""Rows of TIFF frames: pages of files, each checked to be a grey picture that is all there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.hdf5 import check_size
from sciinv.registry import library


@dataclass(frozen=True)
class Frames:
    """Frames in files, as their headers say.

    Attributes:
        files: The files.
        count: Number of frames of all files.
        shape: Rows and columns of each.
        dtype: That of the first file.
        fill: The value that stands for no data, where the files state one.
        inverted: Whether the files say that 0 is white.
    """

    files: tuple[Path, ...]
    count: int
    shape: tuple[int, int]
    dtype: np.dtype
    fill: float | None = None
    inverted: bool = False


def headers(files: Sequence[Path], what: str) -> Frames:
    """Return what the headers of files say, of their first pages and the number of pages.

    Args:
        files: TIFF files, of one page or more.
        what: "projections", "flats" or "darks", for messages.

    Raises:
        ConfigError: tifffile is not installed.
        DataError: A file is damaged, a page is no grey picture, or pages differ in size or dtype.
    """
    count = 0
    seen: dict[tuple[Any, Any], tuple[Path, Any]] = {}
    for file in files:
        with _opened(file) as tiff:
            pages = _pages(tiff, file)
            count += len(pages)
            for page in pages:
                _check_grey(page, file)
                seen.setdefault((page.shape, page.dtype), (file, page))
    if len(seen) > 1:
        raise DataError(
            f"The {what} differ in size or type",
            where=files[0].parent,
            expected="frames of one detector window and one type",
            got="; ".join(f"{s} {d} in {f.name}" for (s, d), (f, _) in list(seen.items())[:3]),
            remedy="keep the frames of one scan; a preview or thumbnail is none of them",
        )
    ((shape, dtype), (file, page)) = next(iter(seen.items()))
    if len(shape) != 2 or 0 in shape:
        raise DataError(
            f"The {what} are no pictures",
            where=file,
            expected="[row, column], none of them 0",
            got=list(shape),
            remedy="check which files were named",
        )
    fill = page.tags.get("GDAL_NODATA")
    return Frames(
        tuple(files), count, (int(shape[0]), int(shape[1])), np.dtype(dtype),
        None if fill is None else float(page.nodata), int(page.photometric) == 0,
    )  # fmt: skip


def rows(frames: Frames, chosen: Sequence[int]) -> np.ndarray:
    """Return rows of all frames, [frame, row, column], in the dtype of the files.

    A page is read as a whole and let go; only its rows are kept.

    Raises:
        DataError: A file is damaged, or the rows are larger than any memory.
    """
    shape = (frames.count, len(chosen), frames.shape[1])
    check_size(shape, frames.dtype.itemsize, frames.files[0].parent)
    check_size(frames.shape, frames.dtype.itemsize, frames.files[0])
    out = np.empty(shape, frames.dtype.newbyteorder("="))
    n = 0
    for file in frames.files:
        with _opened(file) as tiff:
            for page in _pages(tiff, file):
                out[n] = page.asarray()[list(chosen)]
                n += 1
    return out


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a TIFF file; what tifffile raises or complains of becomes a `DataError`.

    tifffile ends a damaged chain of pages with a line in its log and without an error, so that a
    file that was cut off would be a scan with fewer views.
    """
    tifffile = library("tifffile", "Reading TIFF projections", "export")
    said = _Said()
    log = logging.getLogger("tifffile")
    log.addHandler(said)
    passed_on, log.propagate = log.propagate, False
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    except DataError:
        raise
    except MemoryError as error:
        raise _unreadable(path, "a frame larger than the memory") from error
    except Exception as error:  # codecs raise errors of their own
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    finally:
        log.removeHandler(said)
        log.propagate = passed_on


class _Said(logging.Handler):
    """Raises where the library says that a page is not there."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "invalid page offset" in message or "missing data" in message:
            raise ValueError(message)


def _pages(tiff: Any, path: Path) -> list[Any]:
    """Return the pages of a file, all of whose bytes are there."""
    pages = [page.aspage() for page in tiff.pages]
    if not pages:
        raise _unreadable(path, "no page")
    if tiff.is_imagej and len(pages) == 1 and len(tiff.series[0]) > 1:
        raise DataError(
            "The TIFF stack has one page alone, and its other frames lie behind it",
            where=path,
            expected="a page for every frame",
            got=f"a stack of ImageJ above 4 GB, {list(tiff.series[0].shape)}",
            remedy="save it as an image sequence, a file for every projection",
        )
    size = path.stat().st_size
    for page in pages:
        ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if not ends or max(ends) > size or 0 in page.databytecounts:
            raise _unreadable(path, f"data up to byte {max(ends, default=0)} of {size}")
    return pages


def _unreadable(path: Path, got: str) -> DataError:
    return DataError(
        "The TIFF file cannot be read",
        where=path,
        expected="a whole file of pictures",
        got=got[:200],
        remedy="copy it again; where a compression is not known, pip install imagecodecs",
    )


def _check_grey(page: Any, path: Path) -> None:
    """Raise `DataError` unless a page is a picture of one grey value a pixel."""
    kind = getattr(page.photometric, "name", str(page.photometric))
    if kind not in ("MINISBLACK", "MINISWHITE") or page.samplesperpixel != 1:
        raise DataError(
            "The TIFF file is a coloured picture",
            where=path,
            expected="counts: one grey value a pixel",
            got=f"{kind.lower()}, {page.samplesperpixel} values a pixel",
            remedy="take the frames as the detector wrote them, not those of a viewer; a grey "
            "picture saved as RGB or palette has lost its counts",
        )
    if page.dtype is None or page.dtype.kind not in "fiu":
        raise DataError(
            "The TIFF file does not hold real numbers",
            where=path,
            expected="integers of 8 bits and more, or floating point",
            got=page.dtype or f"{page.bitspersample} bits",
            remedy="take the frames as the detector wrote them",
        )
