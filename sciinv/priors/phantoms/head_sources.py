"""The heads of many people: label maps, clinical volumes and one T1 head, split by person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, spline_filter

from sciinv.errors import ConfigError, DataError
from sciinv.priors.phantoms import brains
from sciinv.registry import library

AIR, WHITE, GREY, DEEP, LIQUOR, SOFT, SKIN, MUSCLE, BLOOD, BONE, MARROW, EYE = range(12)
FAT = 12  # SOFT is a mixture of FAT and MUSCLE
# Label numbers of FreeSurfer inside the skull, 5xx outside; what is not listed is grey matter.
TISSUES = {
    WHITE: (2, 41, 7, 46, 16, 28, 60, 77, 85, 251, 252, 253, 254, 255, 512, 530),
    DEEP: (10, 11, 12, 13, 26, 49, 50, 51, 52, 58),
    LIQUOR: (4, 5, 14, 15, 24, 43, 44, 72),
    BLOOD: (30, 62, 502, 514),
    SOFT: (507,),
    SKIN: (511,),
    MUSCLE: (508, 509),
    BONE: (515,),
    MARROW: (516,),
    EYE: (506,),
}
HELD_LABELS = (17, 18, 19, 20)  # people of the label maps who are held out
HELD_PATIENTS = ("patient03", "patient20")


@dataclass(frozen=True)
class Labels:
    """The label map of one person, 1 mm, axes (right, anterior, superior).

    Attributes:
        volume: Index of each voxel's label, uint8; 0 is air.
        tissue: Tissue of each index (`TISSUES`).
        middle: (right, anterior) voxel in the middle of the head.
        brain: Least and greatest height of the brain, voxels.
    """

    volume: np.ndarray
    tissue: np.ndarray
    middle: tuple[float, float]
    brain: tuple[float, float]


@dataclass(frozen=True)
class Clinical:
    """A volume of one person with thick slices.

    Attributes:
        slices: Cubic spline coefficients of each slice [right, anterior], brain region only.
        air: Where each slice shows air (0 to 1, smooth).
        pixel: Side of a pixel along right and anterior, mm.
        middle: (right, anterior) pixel in the middle of the head.
    """

    slices: np.ndarray
    air: np.ndarray
    pixel: tuple[float, float]
    middle: tuple[float, float]


@dataclass(frozen=True)
class Heads:
    """People to draw slices of."""

    labels: list[Labels]
    clinical: list[Clinical]
    recoloured: brains.Head | None


@dataclass(frozen=True)
class Cohort:
    """People trained on and people held out."""

    trained: Heads
    held: Heads


def split(source: object, held: bool) -> object:
    """Return one side of the cohort."""
    assert isinstance(source, Cohort)
    return source.held if held else source.trained


def read_heads(path: str | None) -> Cohort:
    """Return the people in a folder of `heads/labels`, `heads/ms` and `anat/colin27_ch2.nii.gz`."""
    if path is None:
        raise ConfigError(
            "The head family is made from volumes of many people",
            where="source",
            expected="a folder with heads/labels, heads/ms and anat/colin27_ch2.nii.gz",
            got="none",
            remedy="add `source: FOLDER` to the training configuration",
        )
    folder = Path(path)
    labels = sorted((folder / "heads/labels").glob("*.nii.gz"))
    volumes = sorted((folder / "heads/ms").glob("*.nii.gz"))
    single = folder / "anat/colin27_ch2.nii.gz"
    if not (labels and volumes):
        raise DataError(
            "The folder lacks the heads",
            where=folder,
            expected="heads/labels/training_seg_*.nii.gz and heads/ms/patient*.nii.gz",
            got=f"{len(labels)} label maps and {len(volumes)} volumes",
            remedy="see data/PROVENANCE.md for where they come from",
        )
    number = {p: int(p.name.split(".")[0].split("_")[-1]) for p in labels}
    held_labels = [p for p in labels if number[p] in HELD_LABELS]
    held_volumes = [p for p in volumes if p.name.startswith(HELD_PATIENTS)]
    rest = (
        [p for p in labels if p not in held_labels],
        [p for p in volumes if p not in held_volumes],
    )
    return Cohort(
        Heads(
            [_labels(p) for p in rest[0]],
            [_clinical(p) for p in rest[1]],
            brains.read_head(str(single)) if single.is_file() else None,
        ),
        Heads([_labels(p) for p in held_labels], [_clinical(p) for p in held_volumes], None),
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    nibabel = library("nibabel", "Reading NIfTI", "train")
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return np.asarray(image.dataobj, np.float32), np.asarray(image.header.get_zooms())
    except Exception as error:  # nibabel raises many kinds
        raise DataError("The head volume cannot be read", where=path, got=error) from error


def _labels(path: Path) -> Labels:
    values = _read(path)[0].astype(np.int16)
    numbers, index = np.unique(values, return_inverse=True)
    volume = index.reshape(values.shape).astype(np.uint8)
    tissue_of = {n: t for t, group in TISSUES.items() for n in group}
    tissue = np.array([AIR if n == 0 else tissue_of.get(n, GREY) for n in numbers])
    brain = np.isin(values, (2, 3, 41, 42))
    extent = [np.flatnonzero(brain.any((1, 2))), np.flatnonzero(brain.any((0, 2)))]
    high = np.flatnonzero(brain.any((0, 1)))
    middle = [float(e[0] + e[-1]) / 2 for e in extent]
    return Labels(volume, tissue, (middle[0], middle[1]), (float(high[0]), float(high[-1])))


def _clinical(path: Path) -> Clinical:
    values, pixel = _read(path)
    level = np.percentile(values, 99)
    values = np.moveaxis(values / level, 2, 0)
    # Pixels finer than 1 mm are smoothed, else the coarser grid would alias.
    soft = [0.42 * np.sqrt(max((1 / p) ** 2 - 1, 0)) for p in pixel[:2]]
    values = np.stack([gaussian_filter(s, soft) for s in values])
    solid = np.stack([binary_fill_holes(gaussian_filter(s, 2 / pixel[0]) > 0.07) for s in values])
    air = np.stack([gaussian_filter(1.0 - s, 0.7 / pixel[0]) for s in solid]).astype(np.float32)
    filled = np.flatnonzero(solid.mean((1, 2)) > 0.08)
    middle_slice = np.any(solid[filled], axis=0)
    across, along = np.flatnonzero(middle_slice.any(1)), np.flatnonzero(middle_slice.any(0))
    coefficients = np.stack([spline_filter(values[k], order=3) for k in filled]).astype(np.float32)
    return Clinical(
        coefficients,
        air[filled],
        (float(pixel[0]), float(pixel[1])),
        (float(across[0] + across[-1]) / 2, float(along[0] + along[-1]) / 2),
    )
