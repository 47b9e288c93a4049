"""fastMRI HDF5: `kspace` [slice, coil, ky, kx] or [slice, ky, kx], ISMRMRD header, reference."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.kspace_base import (
    KSpace,
    checked,
    number,
    opened_hdf5,
    parsed_header,
    size,
    without_oversampling,
)

REFERENCES = ("reconstruction_rss", "reconstruction_esc")


def recognises(file: h5py.File) -> bool:
    """Whether an open HDF5 file is fastMRI's: k-space beside a header or a reconstruction."""
    return "ismrmrd_header" in file or any(name in file for name in REFERENCES)


class Reader:
    """One file, one volume; ky is the readout, and its oversampling is removed.

    Source: Zbontar et al., "fastMRI", arXiv 1811.08839, 2018.
    """

    @staticmethod
    def count(path: Path, dataset: str | None = None) -> int:
        """Return the number of slices."""
        with opened_hdf5(path) as file:
            return int(_kspace(file, path).shape[0])

    @staticmethod
    def load(path: Path, item: int, dataset: str | None = None) -> KSpace:
        """Return one slice, and its reference cropped to the image's size where it is smaller."""
        with opened_hdf5(path) as file:
            values = _kspace(file, path)[item]
            names = [n for n in REFERENCES if n in file]
            reference = np.asarray(file[names[0]][item]) if names else None
            header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
        kspace = checked(values if values.ndim == 3 else values[None], path)
        pixel = None
        if header is not None:
            root = parsed_header(header, path)
            space = "encoding/reconSpace"
            rows, columns = (size(root, f"{space}/matrixSize/{axis}", path) for axis in "xy")
            pixel = (
                number(root, f"{space}/fieldOfView_mm/x", path, rows) / rows,
                number(root, f"{space}/fieldOfView_mm/y", path, columns) / columns,
            )
            kspace = without_oversampling(kspace, axis=-2, size=rows)
        fully_sampled = bool(np.any(kspace != 0, axis=(0, 1)).all())
        return KSpace(
            kspace,
            title=f"fastMRI {path.stem}",
            pixel_mm=pixel,
            reference=reference if fully_sampled else None,
        )


def _kspace(file: h5py.File, path: Path) -> h5py.Dataset:
    array = file.get("kspace")
    if not isinstance(array, h5py.Dataset) or array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            "The fastMRI file holds no k-space",
            where=path,
            expected="an array kspace [slice, coil, ky, kx], or [slice, ky, kx] of a single coil",
            got=f"kspace {array.shape}" if isinstance(array, h5py.Dataset) else sorted(file),
            remedy="take the files with raw k-space, or download it again",
        )
    return array
