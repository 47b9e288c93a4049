"""A small DICOM file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def dicom(path: Path, pixels: np.ndarray | None, **more: object) -> Path:
    """Write a CT slice of unsigned integers; `more` are its further attributes."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID
    data.Modality, data.PatientID = "CT", "p7"
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.PixelSpacing = [0.5, 0.75]
        data.PixelData = pixels.astype("<u2").tobytes()
    for key, value in more.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)
    return path
