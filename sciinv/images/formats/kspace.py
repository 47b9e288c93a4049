"""Fully sampled Cartesian k-space as complex coil-combined images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.images.formats.base import Stack
from sciinv.operators.parts.mri_coils import espirit
from sciinv.readers.parts.fastmri import Reader


def images_of(path: Path) -> Stack:
    """Return Σ_c S_c* F⁻¹ y_c of each slice [S, H, W] complex64, S from ESPIRiT (Σ_c |S_c|² = 1).

    Raises:
        DataError: Samples are missing, or the file is no fastMRI volume.
    """
    images, pixel = [], None
    for item in range(Reader.count(path)):
        found = Reader.load(path, item)
        values, pixel = found.kspace, found.pixel_mm
        measured = np.abs(values).any(0)
        if not measured.any(0).all() or not measured.any(1).all():
            raise DataError(
                "The k-space is not fully sampled",
                where=f"{path}, slice {item}",
                expected="every line measured",
                got=f"{100 * measured.mean():.0f} % of the samples",
                remedy="take fully sampled scans, or --dataset reconstruction_rss for magnitudes",
            )
        axes = (-2, -1)
        coil = np.fft.fftshift(
            np.fft.ifft2(np.fft.ifftshift(values, axes=axes), norm="ortho"), axes=axes
        )
        if len(values) == 1:
            images.append(coil[0])
        else:
            images.append((espirit(values)[0].conj() * coil).sum(0))
    return Stack(
        np.stack(images).astype(np.complex64),
        pixel=pixel,
        pixel_unit="" if pixel is None else "mm",
        arbitrary=True,
        note="coils of fully sampled k-space combined with ESPIRiT maps",
    )
