"""Which reader reads a file: told by its first bytes and its content, not by its name."""

from __future__ import annotations

import glob
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts import bart, fastmri, frame_files, ismrmrd
from sciinv.readers.parts.hdf5 import opened
from sciinv.readers.parts.kspace_plain import PAIRS
from sciinv.readers.parts.sinogram_files import ZARR, matlab_arrays

# Files of other programs: (what they hold, what they are, what to do with them).
FOREIGN_HDF5 = (
    (
        ("Header", "Data/visdata"),
        "visibilities as UVH5",
        'write them as UVFITS with pyuvdata: UVData.from_file(FILE).write_uvfits("a.uvfits")',
    ),
    (
        ("entry/instrument/detector/image_key",),
        "a tomography scan as NXtomo (NeXus)",
        "write the projections, flats and darks (image_key 0, 1, 2) as exchange/data, data_white, "
        "data_dark and theta",
    ),
)
CASA = (
    "a measurement set of CASA",
    'export it as UVFITS: exportuvfits(vis=..., fitsfile="a.uvfits")',
)
IMAGES = ("images, not raw data", "images make a prior: sciinv train; raw data make a measurement")
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_STARTS = (0, 512, 1024, 2048)  # bytes; MATLAB 7.3 puts a block of text before
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def guess(path: str | Path) -> str:
    """Return the name of the reader whose format a file or folder has.

    Raises:
        DataError: It is not there, or is of no format that a reader knows.
    """
    path = Path(path)
    found = _of_folder(path) if path.is_dir() else None
    if bart.beside(path, ".hdr").is_file() and bart.beside(path, ".cfl").is_file():
        found = "kspace"
    elif path.is_file():
        try:
            found = _of_file(path)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                "The file cannot be opened as what its first bytes say",
                where=path,
                expected="a whole file",
                got=f"{type(error).__name__}: {error}",
                remedy="copy or download it again; or name its reader (--reader)",
            ) from error
    elif not path.exists() and glob.has_magic(str(path)):
        found = _of_tiffs(frame_files.tiffs(path))
    elif not path.exists():
        raise DataError(
            "The raw data are not there",
            where=path,
            expected="a file or a folder",
            got="nothing of this name",
            remedy="check the path",
        )
    if found is None:
        kind, remedy = _foreign(path)
        raise DataError(
            "No reader knows what is in this file",
            where=path,
            expected="k-space (fastMRI, ISMRMRD, BART, arrays of complex numbers), UVFITS, a "
            "Helsinki scan, DXchange, TIFF projections, or a sinogram as NumPy, MATLAB, HDF5, Zarr "
            "or TIFF",
            got=kind or _described(path),
            remedy=remedy or "name its reader (--reader), or write one: --reader FILE.py:FUNCTION",
        )
    return found


def _of_folder(path: Path) -> str | None:
    if any((path / name).exists() for name in ZARR):
        return "store" if _is_measurement(path) else "sinogram"
    files = [p for p in path.iterdir() if frame_files.is_tiff(p)]
    inner = [p for p in path.iterdir() if p.is_dir()]
    if files:
        return _of_tiffs(files)
    # The folder of a scan, with folders of projections and flats in it.
    scan = any(frame_files.FLATS.match(p.name) for p in inner)
    return "projections" if scan and any(map(frame_files.is_tiff, path.glob("*/*"))) else None


def _of_tiffs(files: list[Path]) -> str:
    """Return whether TIFF files are projections, or sinograms.

    Projections lie beside flats, or hold whole numbers in more than one frame: counts. Line
    integrals have fractions.
    """
    from PIL import Image

    if frame_files.fields(files, frame_files.FLATS):
        return "projections"
    try:
        with Image.open(min(files, key=frame_files.natural)) as image:
            several = len(files) > 1 or getattr(image, "n_frames", 1) > 1
            return "projections" if several and image.mode[0] in "ILRP" else "sinogram"
    except (OSError, ValueError, SyntaxError):  # damaged, or numbers that Pillow does not know
        return "sinogram"


def _is_measurement(path: Path) -> bool:
    import zarr

    try:
        root = zarr.open(path, mode="r")
        return isinstance(root, zarr.Group) and "y" in root and "operator" in root.attrs
    except Exception:  # a foreign or damaged folder: its reader says what is wrong with it
        return False


def _of_file(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(2880)
        for place in HDF5_STARTS:
            stream.seek(place)
            if stream.read(8) == HDF5:
                return _of_hdf5(path)
    if start.startswith(b"SIMPLE  ="):
        # Visibilities are "random groups": the first axis of the array has length 0.
        groups = (b"GROUPS  =", b"NAXIS1  =                    0")
        return "uvfits" if any(mark in start for mark in groups) else None
    if start.startswith(b"MATLAB 5.0"):
        return _of_matlab(path)
    if start.startswith(b"\x93NUMPY"):
        return _of_array(np.load(path, mmap_mode="r", allow_pickle=False))
    if start.startswith(TIFF):
        return _of_tiffs([path])
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "sinogram" if any(n.endswith(".npy") for n in archive.namelist()) else None
    return None


def _of_hdf5(path: Path) -> str | None:
    with opened(path) as file:
        if any(all(name in file for name in names) for names, _, _ in FOREIGN_HDF5):
            return None
        if ismrmrd.group_of(file) is not None or fastmri.recognises(file):
            return "kspace"
        if "exchange/data" in file:
            return "dxchange"
        if any(name.startswith("CtData") for name in file):
            return "htc2022"
        arrays: list[h5py.Dataset] = []
        file.visititems(lambda _, v: arrays.append(v) if isinstance(v, h5py.Dataset) else None)
        largest = max(arrays, key=lambda a: a.size or 0, default=None)
        return None if largest is None else _of_array(largest)


def _of_matlab(path: Path) -> str | None:
    import scipy.io

    content = scipy.io.whosmat(path)
    if any(name.startswith("CtData") for name, _, _ in content):
        return "htc2022"
    if any(len(shape) >= 3 for _, shape, _ in content):
        return "kspace"
    planes = [s for s in matlab_arrays(path).values() if len(s) == 2]
    return "sinogram" if len(planes) == 1 else None


def _of_array(array: Any) -> str | None:
    pair = tuple(array.dtype.names or ())
    if array.dtype.kind == "c" or pair in PAIRS:
        return "kspace"
    return "sinogram" if array.dtype.kind in "fiu" and array.ndim in (2, 3) else None


def _foreign(path: Path) -> tuple[str, str]:
    """Return what a file of another program is, and what turns it into one that is read."""
    if path.is_dir():
        return CASA if (path / "table.dat").is_file() else ("", "")
    if h5py.is_hdf5(path):
        with opened(path) as file:
            for names, kind, remedy in FOREIGN_HDF5:
                if all(name in file for name in names):
                    return kind, remedy
            return f"an HDF5 file with {', '.join(sorted(file)[:6]) or 'nothing'}", ""
    with path.open("rb") as stream:
        start = stream.read(352)
    nifti = path.name.endswith((".nii", ".nii.gz")) or start[344:348] in (b"n+1\0", b"ni1\0")
    return IMAGES if nifti or start[128:132] == b"DICM" else ("", "")


def _described(path: Path) -> str:
    if path.is_dir():
        return f"a folder with {', '.join(sorted(p.name for p in path.iterdir())[:6]) or 'nothing'}"
    with path.open("rb") as stream:
        return f"a file of {path.stat().st_size} bytes that begins with {stream.read(16)!r}"
