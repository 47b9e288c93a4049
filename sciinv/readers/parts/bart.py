"""BART's .cfl/.hdr pair: complex64, column-major, dimensions READ, PHS1, PHS2, COIL, …, SLICE."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.kspace_base import Choice, KSpace, checked

COIL, SLICE = 3, 13


class Reader:
    """Two-dimensional k-space: of READ, PHS1, PHS2 two are longer than 1, in order ky and kx.

    Source: the BART toolbox, `doc/` (dimensions) and `bart fft -u` (centred, orthonormal).
    """

    @staticmethod
    def count(path: Path, dataset: str | None = None, choice: Choice | None = None) -> int:
        """Return the length of the dimension SLICE."""
        return _dimensions(path)[SLICE]

    @staticmethod
    def load(
        path: Path, item: int, dataset: str | None = None, choice: Choice | None = None
    ) -> KSpace:
        """Return one slice."""
        dims = _dimensions(path)
        data = beside(path, ".cfl")
        expected = math.prod(dims) * 8
        size = data.stat().st_size if data.is_file() else None
        if size != expected:
            raise DataError(
                "The .cfl file does not match its header",
                where=data,
                expected=f"{expected} bytes for the dimensions {dims}",
                got="no file" if size is None else f"{size} bytes",
                remedy="copy both files again",
            )
        array = np.memmap(data, np.complex64, mode="r", shape=dims, order="F")
        plane = np.take(array, item, axis=SLICE).reshape(*dims[:3], dims[COIL])
        plane = plane.squeeze(axis=next(i for i in (0, 2, 1) if dims[i] == 1))
        kspace = checked(np.ascontiguousarray(np.moveaxis(plane, -1, 0)), data)
        return KSpace(kspace, title=f"k-space of {path.stem}")


def beside(path: Path, suffix: str) -> Path:
    """Return the pair's file of this suffix; a prefix may have dots, as in "scan.v2"."""
    if path.suffix in (".cfl", ".hdr"):
        return path.with_suffix(suffix)
    return path.parent / (path.name + suffix)  # of "." the name is empty


def _dimensions(path: Path) -> tuple[int, ...]:
    header = beside(path, ".hdr")
    if not header.is_file():
        raise DataError(
            "The BART header is not there",
            where=header,
            expected="a .hdr file beside the .cfl file",
            got="nothing",
            remedy="check the path; copy both files",
        )
    try:
        lines = header.read_text().splitlines()
        dims = tuple(int(n) for n in lines[lines.index("# Dimensions") + 1].split())
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataError(
            "The BART header cannot be read",
            where=header,
            expected='a line "# Dimensions" and a line of whole numbers',
            got=f"{type(error).__name__}: {error}",
            remedy="write the data with BART again",
        ) from error
    dims = dims + (1,) * (16 - len(dims))
    other = [i for i in range(len(dims)) if i not in (0, 1, 2, COIL, SLICE)]
    planar = sum(n > 1 for n in dims[:3]) == 2
    if min(dims) < 1 or not planar or any(dims[i] != 1 for i in other):
        raise DataError(
            "The BART array is no two-dimensional multi-coil k-space",
            where=header,
            expected="two of READ, PHS1, PHS2 longer than 1, then COIL and SLICE, all others 1",
            got=dims,
            remedy="cut it with `bart slice`, 3-D data after `bart fft -iu` along the readout",
        )
    return dims
