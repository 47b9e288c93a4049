"""DICOM: single images and multi-frame objects, in the unit that the rescale attributes give."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.images.formats.base import Options, Stack, numeric
from sciinv.registry import library

UNITS = {"CT": "HU"}


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, as many without a suffix do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read(path: Path, options: Options) -> Stack:
    """Return the frames, rescaled; MONOCHROME1 is turned so that more is brighter."""
    pydicom = library("pydicom", "Reading DICOM", "train")
    try:
        data = pydicom.dcmread(path)
    except Exception as error:  # pydicom raises many kinds
        raise DataError("The DICOM file cannot be read", where=path, expected="a DICOM object",
                        got=f"{type(error).__name__}: {error}",
                        remedy="export it again, or leave it out") from error  # fmt: skip
    if not any(k in data for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DataError(
            "The DICOM file holds no pixel data",
            where=path,
            expected="an image object",
            got=str(data.get("SOPClassUID", "no SOP class")),
            remedy="leave DICOMDIR, reports and structure sets out of the folder",
        )
    try:
        values = data.pixel_array
    except Exception as error:  # a codec that is not installed, or damaged data
        raise DataError(
            "The DICOM pixels cannot be decoded",
            where=path,
            expected="uncompressed pixels, or a codec for them",
            got=f"{type(error).__name__}: {error}",
            remedy="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress it",
        ) from error
    if int(data.get("SamplesPerPixel", 1)) != 1:
        raise DataError("The DICOM image is in colour", where=path, expected="one sample a pixel",
                        got=data.get("PhotometricInterpretation", "?"),
                        remedy="leave it out; a prior is of one quantity")  # fmt: skip
    values = numeric(np.asarray(values), path)
    slope, intercept = (float(data.get(f"Rescale{k}", d) or d) for k, d in
                        (("Slope", 1.0), ("Intercept", 0.0)))  # fmt: skip
    values = values * np.float32(slope) + np.float32(intercept)
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.max() + values.min() - values
    spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    modality = str(data.get("Modality", ""))
    units = str(data.get("RescaleType", "")).replace("US", "") or UNITS.get(modality, "")
    subject = str(data.get("PatientID", "") or data.get("SeriesInstanceUID", "")) or None
    return Stack(
        values if values.ndim == 3 else values[None],
        units,
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        "" if spacing is None else "mm",
        subject,
        arbitrary=modality == "MR",
    )
