"""A DICOM object of maps or draws: one multi-frame secondary capture with its rescaling."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.registry import library
from sciinv.steps.export_places import MM, step_of

# Of the patient, the study and the place, taken over from a file of the same study.
TAKEN = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "StudyDescription", "BodyPartExamined",
)  # fmt: skip
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word
LEVELS = 65535


def dicom(image: xr.DataArray) -> bytes:
    """Return a multi-frame object: frames are items within layers, values 16 bits wide.

    value = slope · stored + intercept, with a step of (largest − smallest) / 65535. Numbers of the
    object come from a hash of the values and of the study: the same image gives the same file.

    Source: DICOM PS3.3, A.8.4.

    Raises:
        ConfigError: pydicom is not installed.
        DataError: The file of the same study is no DICOM file, or the image is not finite.
    """
    pydicom = library("pydicom", "This format", "export")
    values = image.values.reshape(-1, *image.shape[2:]).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("DICOM holds finite numbers only", expected="a finite image",
                        got="NaN or infinity", remedy="export it as FITS or NetCDF")  # fmt: skip
    low, high = float(values.min()), float(values.max())
    slope = (high - low) / LEVELS or 1.0
    stored = np.rint((values - low) / slope).astype("<u2")
    like = image.attrs.get("like")
    study = _read(pydicom, Path(str(like))) if like else None
    digest = hashlib.sha256(stored.tobytes() + str(getattr(study, "StudyInstanceUID", "")).encode())

    def uid(what: str) -> str:
        number = int.from_bytes(hashlib.sha256(digest.digest() + what.encode()).digest()[:15])
        return f"2.25.{number}"  # PS3.5, B.2

    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = SECONDARY_CAPTURE, uid("instance")
    made.StudyInstanceUID, made.SeriesInstanceUID = uid("study"), uid("series")
    made.PatientName, made.PatientID = "", ""
    for name in TAKEN:
        if study is not None and name in study:
            setattr(made, name, getattr(study, name))
    made.Modality = str(getattr(study, "Modality", "OT"))
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.Manufacturer = "sciinv"
    made.SeriesDescription = f"posterior {', '.join(map(str, image['layer'].values))}"[:64]
    made.SeriesNumber, made.InstanceNumber = 1, 1
    made.DerivationDescription = f"Posterior maps or draws of {image.attrs['source']}"
    made.ImageComments = "; ".join(
        f"frame {k * image.sizes['item'] + 1}: {layer}" for k, layer in enumerate(_layers(image))
    )
    _pixels(made, stored, image)
    made.RescaleIntercept, made.RescaleSlope = _decimal(low), _decimal(slope)
    made.RescaleType = str(image.attrs["units"]).encode("ascii", "ignore").decode()[:16] or "US"
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta = meta
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def _layers(image: xr.DataArray) -> list[str]:
    return [str(v) for v in image["layer"].values]


def _pixels(made: Any, stored: np.ndarray, image: xr.DataArray) -> None:
    made.NumberOfFrames = len(stored)
    made.Rows, made.Columns = stored.shape[1:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.BurnedInAnnotation = "NO"
    made.PresentationLUTShape = "IDENTITY"
    made.FrameIncrementPointer = 0x00181063  # frame time, in ms: frames have no other order
    made.FrameTime = 1
    sides = [step_of(image, axis) for axis in ("y", "x")]
    if all(unit in MM for _, unit in sides):
        made.PixelSpacing = [_decimal(abs(step) * MM[unit]) for step, unit in sides]
    made.PixelData = stored.tobytes()


def _decimal(value: float) -> str:
    """Return a number as DICOM's decimal string, of 16 characters at most."""
    for digits in range(12, 4, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.4g}"


def _read(pydicom: Any, path: Path) -> Any:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # pydicom raises many kinds
        raise DataError("The file of the same study cannot be read", where=path,
                        expected="a DICOM object", got=f"{type(error).__name__}: {error}",
                        remedy="name another file of the study with --like") from error  # fmt: skip
