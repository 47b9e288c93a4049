"""Image files by their suffix; each format is a file that offers `read(path, options)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sciinv.errors import DataError
from sciinv.images.formats import arrays, dicom, nifti, raster
from sciinv.images.formats.base import Options, Stack

Read = Callable[[Path, Options], Stack]
FORMATS: dict[str, Read] = {
    **dict.fromkeys((".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"), raster.read),
    **dict.fromkeys((".nii", ".nii.gz"), nifti.read),
    **dict.fromkeys((".dcm", ".ima"), dicom.read),
    **dict.fromkeys((".npy", ".npz"), arrays.read_numpy),
    **dict.fromkeys((".h5", ".hdf5"), arrays.read_hdf5),
    ".zarr": arrays.read_zarr,
}


def suffix_of(path: Path) -> str:
    """Return the suffix by which a file's format is known; ".dcm" for DICOM without one."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    if path.is_dir():
        return ".zarr" if arrays.is_zarr(path) else ""
    if path.suffix.lower() in FORMATS:
        return path.suffix.lower()
    return ".dcm" if dicom.is_dicom(path) else ""


def read(path: Path, options: Options) -> Stack:
    """Return the images of one file.

    Raises:
        DataError: No known format, or the file cannot be used.
        ConfigError: The format's reader is not installed, or an option does not fit.
    """
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise DataError(
            "The file is in no image format that is known",
            where=path,
            expected=", ".join(FORMATS),
            got=path.suffix or "no suffix",
            remedy="convert it, or move it out of the folder",
        )
    return FORMATS[suffix](path, options)
