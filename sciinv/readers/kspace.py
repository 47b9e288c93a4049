"""k-space files of Cartesian MRI → the measurement dataset of the operator "mri".

Formats: fastMRI HDF5, ISMRMRD HDF5, BART .cfl/.hdr; plain HDF5, MATLAB and .npy arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from sciinv.errors import DataError
from sciinv.readers.parts import bart, fastmri, ismrmrd, kspace_plain
from sciinv.readers.parts.hdf5 import opened
from sciinv.readers.parts.kspace_base import Choice, Reader
from sciinv.readers.parts.kspace_item import How, image_scale, measurement
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import LENGTH, check_options, is_number

__all__ = ["image_scale", "items", "read"]

UNITS = "1 = 99th percentile"  # of the image: what the scaling makes of a pixel of value 1
NOISE_RULES = {
    "given": "noise sd given by the user",
    "scan": "coils prewhitened with the covariance of the file's noise scan",
    "floor": "floor under the outer k-space: mean |k|²/2 over the coils fitted as sd² + a r^-3.5",
}


def read(
    path: str | Path,
    item: int | Sequence[int] | None = 0,
    *,
    mask: np.ndarray | str | None = None,
    coil_maps: np.ndarray | str | None = None,
    noise_sd: float | None = None,
    noise_scan: bool = True,
    dataset: str | None = None,
    axes: Sequence[str] | None = None,
    coils: Sequence[int] | None = None,
    counters: Mapping[str, int] | None = None,
    encoding: int | None = None,
    reference_lines: bool = True,
    pixel_mm: float | Sequence[float] | None = None,
    scale: float | Literal["volume", "slice"] = "volume",
    sets: int = 1,
) -> xr.Dataset:
    """Read k-space into a measurement dataset; slices are read one by one.

    Per slice: prewhitening, where the file has a noise scan; the mask of the measured (non-zero)
    samples; ESPIRiT sensitivities; and a scale. The k-space is divided by `scale`, the 99th
    percentile of the magnitude of a CG-SENSE image, so that the 99th percentile of |x| is
    about 1; the slices of a file share the scale of its middle one. What looks wrong is told in
    the attribute `warnings`.

    Args:
        path: A .npy, .mat, .h5/.hdf5/.mrd or .cfl/.hdr file.
        item: Slice, slices, or None for all.
        mask: Undersample further: bool [ky, kx], or the path of a .npy file that holds it;
            samples that it leaves out are dropped.
        coil_maps: Sensitivities to use instead of ESPIRiT's, complex [coil, ky, kx] or
            [set, coil, ky, kx], or the path of a .npy file that holds them.
        noise_sd: Noise per real component in the file's units, equal and independent in every
            coil, of the k-space as read; where samples were measured a different number of times,
            of one measurement. Without it the file's noise scan is used, else the floor of the
            outer k-space.
        noise_scan: Whether to use the file's noise scan.
        dataset: Name of the array in a plain HDF5 or MATLAB file.
        axes: Order of the axes of a plain array, of "item", "coil", "ky" and "kx"; None takes
            (item,) coil, ky, kx.
        coils: Coils to use, by number from 0; None takes all that measured anything.
        counters: Which contrast, phase, repetition, set or average of an ISMRMRD file, by name,
            e.g. {"average": 0}; without, the first of each, and the mean of all averages.
        encoding: Number of the encoding space of an ISMRMRD file that has imaging lines in several.
        reference_lines: Whether separate reference lines of an ISMRMRD file make the coil maps; if
            not, they are left out.
        pixel_mm: Pixel size, mm, where the file does not say it; without, lengths are in pixels.
        scale: What to divide by: a number in the file's units (after prewhitening), or the 99th
            percentile of the file's middle slice ("volume") or of each slice ("slice").
        sets: Sets of ESPIRiT maps: 2 (soft-SENSE) where the object is larger than the field of
            view.

    Returns:
        Dataset with `y` (item, part, coil, sample), `mask` (ky, kx), `coil_maps` (item, part,
        coil, row, column; with several sets item, part, set, coil, row, column), `noise_sd`
        (item; item, sample where samples were measured a different number of times), `scale`
        (item), and the attributes of a measurement store. A fully sampled fastMRI
        file also gives `reference` (item, reference_row, reference_column): its own
        reconstruction divided by the scale, which shows the centre of the image where it is
        smaller.

    Raises:
        DataError: A file that cannot be read, or that does not hold such k-space.
    """
    check_options(read, path, locals())
    _check_kinds(path, counters, pixel_mm)
    path = Path(path)
    choice = Choice(
        counters=dict(counters or {}),
        encoding=encoding,
        reference_lines=reference_lines,
        axes=None if axes is None else tuple(axes),
    )
    source = _reader(path, dataset)
    _check_choice(choice, source, path)
    count = source.count(path, dataset, choice)
    wanted = _items(item, count, path)
    kept = kspace_plain.given_array(mask, path, "mask", "biuf")
    maps = kspace_plain.given_array(coil_maps, path, "coil_maps", "fc")
    how = How(path, kept, maps, noise_sd, noise_scan, coils, sets)
    common = _common_scale(scale, source, path, dataset, choice, count, wanted, how)
    slices = [source.load(path, i, dataset, choice) for i in wanted]
    parts = [measurement(k, how, common) for k in slices]
    masks = [p.kept for p in parts]
    different = [wanted[i] for i, m in enumerate(masks) if not np.array_equal(m, masks[0])]
    if different:
        raise DataError(
            "The slices were sampled differently",
            where=path,
            expected=f"the mask of item {wanted[0]}",
            got=f"another one in items {different[:8]}",
            remedy="read these items one by one, each into a store of its own",
        )
    first = slices[0]
    pixel = first.pixel_mm if pixel_mm is None else np.broadcast_to(pixel_mm, 2).tolist()
    out = xr.concat([p.data for p in parts], dim="item").assign_coords(item=np.asarray(wanted))
    out["mask"] = ("ky", "kx"), masks[0]
    out.attrs = {
        "operator": "mri",
        "params": json.dumps({"pixel_mm": pixel and [float(p) for p in pixel], "units": UNITS}),
        "units": "k-space divided by `scale`",
        "source": path.name,
        "title": first.title,
        "noise": NOISE_RULES[parts[0].rule],
        "scaling": "99th percentile of the magnitude of the CG-SENSE image",
    }
    if first.slice_mm:
        out.attrs["slice_mm"] = float(first.slice_mm)
    if all(k.orientation for k in slices):
        out.attrs["orientation"] = json.dumps([k.orientation for k in slices])
    told = [d for k, p in zip(slices, parts, strict=True) for d in (*k.doubts, *p.doubts)]
    return with_warnings(out, told)


def items(
    path: str | Path,
    dataset: str | None = None,
    axes: Sequence[str] | None = None,
    encoding: int | None = None,
    counters: Mapping[str, int] | None = None,
) -> int:
    """Return how many slices a k-space file holds; the options are those of `read`."""
    path = Path(path)
    choice = Choice(
        counters=dict(counters or {}), encoding=encoding, axes=None if axes is None else tuple(axes)
    )
    return _reader(path, dataset).count(path, dataset, choice)


def _reader(path: Path, dataset: str | None) -> type[Reader]:
    if bart.beside(path, ".hdr").is_file() and not path.is_file():
        return bart.Reader
    if not path.is_file() and path.suffix not in ("", ".cfl", ".hdr"):
        raise DataError(
            "The k-space file is not there",
            where=path,
            expected="a file",
            got="a folder" if path.is_dir() else "nothing",
            remedy="check the path",
        )
    if path.suffix in ("", ".cfl", ".hdr"):
        return bart.Reader
    if path.suffix in (".npy", ".mat"):
        return kspace_plain.Reader
    if path.suffix not in (".h5", ".hdf5", ".mrd"):
        raise DataError(
            "The file's format is not known",
            where=path,
            expected=".npy, .mat, .h5, .hdf5, .mrd, .cfl or .hdr",
            got=path.suffix,
            remedy="convert the data, e.g. to a NumPy array (coil, ky, kx)",
        )
    if dataset is not None:
        return kspace_plain.Reader
    with opened(path) as file:
        if ismrmrd.group_of(file) is not None:
            return ismrmrd.Reader
        if fastmri.recognises(file):
            return fastmri.Reader
    return kspace_plain.Reader


def _check_choice(choice: Choice, source: type[Reader], path: Path) -> None:
    plain, scanner = source is kspace_plain.Reader, source is ismrmrd.Reader
    wrong = [k for k in ("counters", "encoding") if getattr(choice, k) not in (None, {})]
    unknown = sorted(set(choice.counters) - set(ismrmrd.LOOPS))
    told = None
    if wrong and not scanner:
        told = f"{', '.join(wrong)} for a file that is not ISMRMRD"
    elif unknown:
        told = f"the counters {', '.join(map(str, unknown))}"
    elif choice.axes is not None and not plain:
        told = "axes for a file whose format says its axes"
    if told:
        raise DataError(
            "An option does not fit the file",
            where=path,
            expected=f"counters of {', '.join(ismrmrd.LOOPS)} and encoding for ISMRMRD; axes for "
            "plain arrays",
            got=told,
            remedy="leave that option out",
        )


def _check_kinds(path: str | Path, counters: object, pixel: object) -> None:
    """Raise `DataError` where an option of several forms has none of them."""
    sides = np.ravel(np.asarray(pixel, object)) if pixel is not None else np.ones(1)
    right = len(sides) in (1, 2) and all(is_number(v) and LENGTH.holds(float(v)) for v in sides)
    told = None
    if not right:
        told = "pixel_mm", f"one number or two (row, column), {LENGTH}", pixel
    elif counters is not None and not isinstance(counters, Mapping):
        told = "counters", 'names with numbers, e.g. {"average": 0}', counters
    if told:
        raise DataError(
            "An option of the reader cannot be so",
            where=f"{path}: {told[0]}",
            expected=told[1],
            got=repr(told[2])[:60],
            remedy=f"correct {told[0]}, or leave it out",
        )


def _items(item: int | Sequence[int] | None, count: int, path: Path) -> list[int]:
    try:
        wanted = list(range(count)) if item is None else [int(i) for i in np.atleast_1d(item)]
    except (TypeError, ValueError):
        wanted = []
    if len(set(wanted)) < len(wanted) or (item is not None and not _whole(item)):
        wanted = []
    if not wanted or min(wanted) < 0 or max(wanted) >= count:
        raise DataError(
            "The file has no such item",
            where=path,
            expected=f"0 … {count - 1}, each once",
            got=item,
            remedy="choose a slice that the file holds, or None for all",
        )
    return wanted


def _whole(item: object) -> bool:
    return all(is_number(v, whole=True) for v in np.atleast_1d(np.asarray(item, object)))


_SCALES: dict[tuple[object, ...], float] = {}  # of volumes, since items may be read one by one


def _common_scale(
    scale: float | str,
    source: type[Reader],
    path: Path,
    dataset: str | None,
    choice: Choice,
    count: int,
    wanted: list[int],
    how: How,
) -> float | None:
    """Return the scale of all slices; None where each has its own."""
    if scale == "slice" or (scale == "volume" and count == 1):
        return None
    if scale != "volume":
        number = float(scale) if isinstance(scale, int | float) else float("nan")
        if not 0 < number < float("inf"):
            raise DataError("The scale cannot be so", where=path,
                            expected='a number above 0, "volume" or "slice"', got=scale,
                            remedy="leave it out")  # fmt: skip
        return number
    middle = count // 2
    if wanted == [middle]:
        return None
    stat = path.stat() if path.is_file() else None
    arrays = [None if v is None else np.asarray(v).tobytes() for v in (how.mask, how.coil_maps)]
    rest = how.noise_sd, how.noise_scan, how.coils and tuple(how.coils), how.sets
    key = (str(path.absolute()), stat and stat.st_mtime_ns, dataset, str(choice), *arrays, *rest)
    if key not in _SCALES:
        one = measurement(source.load(path, middle, dataset, choice), how, None)
        _SCALES.clear()
        _SCALES[key] = float(one.data["scale"])
    return _SCALES[key]
