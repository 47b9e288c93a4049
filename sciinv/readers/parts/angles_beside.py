"""View angles that lie beside a sinogram in the same file, or beside projections in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.readers.parts.sinogram_files import matlab_array, matlab_arrays

ANGLE_FILES = (".txt", ".csv", ".dat", ".npy")
NAMES = ("angles", "angle", "theta", "thetas", "rotation_angle", "view_angles")


def known_options(reader: str, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that raw data tell of themselves, for readers that need angles.

    Args:
        reader: The reader's name.
        path: The file or folder.
        given: The options that the user gave.
    """
    if "angles" in given:
        return {}
    if reader == "sinogram":
        return options_of(path, given.get("dataset"))
    return _file_beside(path) if reader == "projections" else {}


def _file_beside(path: Path) -> dict[str, Any]:
    """Return the file of angles in a folder of projections or in the one above it."""
    here = path if path.is_dir() else path.parent
    for folder in (here, here.absolute().parent):
        files = [p for p in folder.glob("*") if p.suffix.lower() in ANGLE_FILES]
        named = sorted(p for p in files if _bare(p.stem)[0] in NAMES)
        if named:
            unit = {"angle_unit": "radians"} if _bare(named[0].stem)[1] == "rad" else {}
            return {"angles": str(named[0]), **unit}
    return {}


def options_of(path: Path, dataset: str | None = None) -> dict[str, Any]:
    """Return `angles`, and `dataset` and `axes` where they are needed, as the file says them.

    Args:
        path: A .npz, MATLAB or HDF5 file; of others nothing is known.
        dataset: Name of the sinogram, where the user gave it.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                arrays = {k: archive[k].shape for k in archive.files}
                named = _angles(arrays)
                values = None if named is None else np.asarray(archive[named])
        elif suffix == ".mat" and not h5py.is_hdf5(path):
            # MATLAB keeps numbers as arrays of one: they are no sinogram's neighbours here.
            arrays = {k: s for k, s in matlab_arrays(path).items() if s}
            named = _angles(arrays)
            values = None if named is None else matlab_array(path, named)
        elif suffix in (".h5", ".hdf5", ".hdf", ".nxs", ".mat"):
            with h5py.File(path, "r") as file:
                arrays = {}
                file.visititems(
                    lambda k, v: arrays.update({k: v.shape}) if hasattr(v, "shape") else None
                )
                named = _angles(arrays)
                values = None if named is None else np.asarray(file[named])
        else:
            return {}
    except (OSError, ValueError, KeyError):
        return {}  # the reader says what is wrong with the file
    sinograms = [k for k, shape in arrays.items() if len(shape) in (2, 3)]
    out: dict[str, Any] = {}
    chosen = dataset or (sinograms[0] if len(sinograms) == 1 else None)
    if dataset is None and chosen is not None and len(arrays) > 1:
        out["dataset"] = chosen
    if values is None or values.ndim != 1 or chosen not in arrays:
        return out
    shape = arrays[chosen]
    if values.size not in shape:
        return out
    out["angles"] = _written(values.astype(float))
    if named is not None and _bare(named)[1] == "rad":
        out |= {"angles": [float(f"{v:.10g}") for v in values], "angle_unit": "radians"}
    axes = ["slice"] * len(shape)
    axes[shape.index(values.size)] = "angle"
    axes[max(i for i, a in enumerate(axes) if a == "slice")] = "detector"
    if axes != ["angle", "detector"]:
        out["axes"] = axes
    return out


def _angles(arrays: dict[str, tuple[int, ...]]) -> str | None:
    return next((k for k in arrays if _bare(k)[0] in NAMES), None)


def _bare(name: str) -> tuple[str, str]:
    """Return a name without its folder and unit, and the unit: ("angles", "rad") of anglesRad."""
    bare = name.rpartition("/")[2].lower()
    for word, unit in (("radians", "rad"), ("rad", "rad"), ("degrees", "deg"), ("deg", "deg")):
        if bare.endswith(word):
            return bare.removesuffix(word).rstrip("_"), unit
    return bare, ""


def _written(values: np.ndarray) -> str | list[float]:
    """Return angles as "FIRST:END:N" where they are evenly spaced, else as a list."""
    n = values.size
    if n > 2:
        step = (values[-1] - values[0]) / (n - 1)
        even = values[0] + step * np.arange(n)
        # A text is taken for degrees; angles of two turns in radians reach 12.6.
        if step and np.abs(values).max() > 13 and np.allclose(values, even, rtol=0, atol=1e-6):
            return f"{values[0]:.10g}:{values[0] + n * step:.10g}:{n}"
    return [float(f"{v:.10g}") for v in values]
