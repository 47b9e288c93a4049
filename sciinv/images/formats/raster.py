"""PNG, TIFF, JPEG and BMP, of any depth; pages of a TIFF are slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.images.formats.base import Options, Stack, numeric
from sciinv.registry import library


def read(path: Path, options: Options) -> Stack:
    """Return the pages of a raster image; grey images stored as colour are taken as grey."""
    image_module = library("PIL.Image", "Reading PNG and TIFF", "train")
    pages = []
    try:
        with image_module.open(path) as file:
            for page in range(getattr(file, "n_frames", 1)):
                file.seek(page)
                # a palette's numbers are no intensities
                shown = file.convert("RGB") if file.mode in ("P", "CMYK", "YCbCr") else file
                pages.append(np.asarray(shown))
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        raise DataError(
            "The image cannot be read",
            where=path,
            expected="a whole PNG, TIFF, JPEG or BMP",
            got=error,
            remedy="export it again, or move it out of the folder",
        ) from error
    grey = [_grey(page, path) for page in pages]
    if len({g.shape for g in grey}) > 1:
        grey = grey[:1]  # a preview rides along
    note = "" if pages[0].ndim == 2 else "grey images stored as colour"
    return Stack(numeric(np.stack(grey), path), note=note)


def _grey(page: np.ndarray, path: Path) -> np.ndarray:
    if page.dtype == bool:
        page = page.astype(np.uint8)
    if page.ndim == 2:
        return page
    colours = page[..., :3] if page.shape[-1] in (3, 4) else page[..., :1]
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    raise DataError(
        "The image is in colour",
        where=path,
        expected="grey values: one channel, or three that are the same",
        got=f"{page.shape[-1]} channels that differ",
        remedy="save one channel as a grey image; a prior is of one quantity",
    )
