"""fastMRI HDF5: `kspace` [slice, coil, ky, kx] or [slice, ky, kx], ISMRMRD header, reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.hdf5 import check_size, checked_array, opened
from sciinv.readers.parts.kspace_base import (
    Choice,
    KSpace,
    checked,
    number,
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
    def count(path: Path, dataset: str | None = None, choice: Choice | None = None) -> int:
        """Return the number of slices."""
        with opened(path) as file:
            return int(_kspace(file, path).shape[0])

    @staticmethod
    def load(
        path: Path, item: int, dataset: str | None = None, choice: Choice | None = None
    ) -> KSpace:
        """Return one slice, and its reference where it fits the image.

        The pixel size is the encoded field of view ÷ the samples along it, so that a recon matrix
        that was interpolated does not matter.
        """
        doubts: list[str] = []
        with opened(path) as file:
            array = _kspace(file, path)
            check_size(array.shape[1:], array.dtype.itemsize, path)
            values, slices = array[item], array.shape[0]
            header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
            reference = _reference(file, item, slices, doubts)
        kspace = checked(values if values.ndim == 3 else values[None], path)
        pixel, thickness = None, None
        if header is None:
            doubts.append(
                "The file has no ismrmrd_header: its pixel size is not known, and readout "
                "oversampling, if there is any, was kept."
            )
        else:
            root = parsed_header(header, path)
            _check_order(root, path, slices, kspace.shape)
            rows, columns = kspace.shape[-2:]
            encoded = [
                number(root, f"encoding/encodedSpace/fieldOfView_mm/{axis}", path, 0.0, zero=True)
                for axis in "xyz"
            ]
            space = "encoding/reconSpace"
            wanted = [
                number(root, f"{space}/fieldOfView_mm/{axis}", path, 0.0, zero=True)
                for axis in "xyz"
            ]
            kept = size(root, f"{space}/matrixSize/x", path)
            if min(encoded[0], wanted[0]) > 0:
                if abs(wanted[0] * rows / (encoded[0] * kept) - 1) > 0.02:
                    kept = min(rows, round(rows * wanted[0] / encoded[0]))
                pixel = (encoded[0] / rows, encoded[1] / columns) if encoded[1] > 0 else None
            elif min(wanted[:2]) > 0:
                kept_columns = size(root, f"{space}/matrixSize/y", path)
                pixel = (wanted[0] / kept, wanted[1] / kept_columns)
            thickness = wanted[2] or encoded[2] or None
            kspace = without_oversampling(kspace, axis=-2, size=kept)
        fully_sampled = bool(np.any(kspace != 0, axis=(0, 1)).all())
        if reference is not None and any(
            n > m for n, m in zip(reference.shape, kspace.shape[-2:], strict=True)
        ):
            doubts.append(
                f"The file's own reconstruction is {reference.shape}, larger than the image of "
                f"its k-space, {kspace.shape[-2:]}: it was left out."
            )
            reference = None
        return KSpace(
            kspace,
            title=f"fastMRI {path.stem}",
            pixel_mm=pixel,
            slice_mm=thickness,
            reference=reference if fully_sampled else None,
            doubts=tuple(doubts),
        )


def _reference(file: h5py.File, item: int, slices: int, doubts: list[str]) -> np.ndarray | None:
    name = next((n for n in REFERENCES if isinstance(file.get(n), h5py.Dataset)), None)
    if name is None:
        return None
    array = file[name]
    told = None
    if array.ndim != 3 or array.shape[0] != slices or array.dtype.kind != "f":
        told = f"{array.dtype} {array.shape}, not [{slices}, rows, columns]"
    else:
        value = np.asarray(array[item])
        if np.isfinite(value).all():
            return value
        told = "not finite everywhere"
    doubts.append(f"The file's own reconstruction {name} is {told}: it was left out.")
    return None


def _check_order(root: Any, path: Path, slices: int, shape: tuple[int, ...]) -> None:
    """Raise `DataError` where the header counts as many slices as there are coils."""
    limit = number(root, "encoding/encodingLimits/slice/maximum", path, 0.0, zero=True)
    stated = int(limit) + 1
    coils = shape[0]
    name = "acquisitionSystemInformation/receiverChannels"
    channels = int(number(root, name, path, 0.0, zero=True))
    if coils == 1 and channels == slices != stated:
        raise DataError(
            "The slices of the k-space look like coils",
            where=path,
            expected=f"[slice, coil, ky, kx] with {channels} coils, as the header says, or slices "
            f"of a single coil, {stated} of them",
            got=f"{slices} slices of one coil",
            remedy="write it as [slice, coil, ky, kx]",
        )
    if stated > 1 and stated == coils != slices:
        raise DataError(
            "The first two axes of the k-space look exchanged",
            where=path,
            expected=f"[slice, coil, ky, kx] with {stated} slices, as the header says",
            got=f"{slices} × {coils}",
            remedy="write it as [slice, coil, ky, kx]",
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
    return checked_array(array, path)
