"""ISMRMRD HDF5: acquisitions with headers, read with h5py alone; noise scans are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.hdf5 import check_size, opened
from sciinv.readers.parts.ismrmrd_lines import (
    LOOPS,
    NOISE_SCAN,
    REVERSED,
    Lines,
    Places,
    imaging,
    places,
    reference,
)
from sciinv.readers.parts.kspace_base import (
    Choice,
    KSpace,
    checked,
    number,
    parsed_header,
    size,
    without_oversampling,
)

HEAD = {
    "flags", "number_of_samples", "active_channels", "discard_pre", "discard_post",
    "center_sample", "sample_time_us", "idx",
}  # fmt: skip


def group_of(file: h5py.File) -> str | None:
    """Return the name of the group that holds an ISMRMRD data set, or None."""
    for name, value in file.items():
        if isinstance(value, h5py.Group) and "xml" in value and "data" in value:
            return str(name)
    return None


class Reader:
    """Cartesian scans, two- or three-dimensional; items are slices.

    Lines are placed by `ismrmrd_lines.places`; readout oversampling is removed where readouts are
    whole. Averages are averaged; where some samples were measured more often than others, each
    counts as often as it was (`KSpace.counts`). Separate reference lines make the coil maps only
    (`KSpace.calibration`). Noise scans become `noise`, whose variance is taken in proportion to
    the bandwidth (1 / sample time).

    Of a three-dimensional scan the partitions along z become slices, by the orthonormal inverse
    DFT along kz, which leaves the noise as it is; that needs every partition kz of each measured
    (ky, kx). Lines are added one by one with their phase, so that no volume is held in memory;
    every slice reads its slab once. Slices beyond the reconstructed matrix are left out.

    Source: Inati et al., "ISMRM raw data format", Magnetic Resonance in Medicine 77:411, 2017.
    """

    @staticmethod
    def count(path: Path, dataset: str | None = None, choice: Choice | None = None) -> int:
        """Return the number of slices."""
        with opened(path) as file:
            group, heads = _acquisitions(file, path)
            lines = imaging(heads, parsed_header(_xml(group), path), path, choice or Choice())
        return lines.kept * len(np.unique(heads["idx"]["slice"][lines.index]))

    @staticmethod
    def load(
        path: Path, item: int, dataset: str | None = None, choice: Choice | None = None
    ) -> KSpace:
        """Return one slice, its readout oversampling removed."""
        choice = choice or Choice()
        calibration = None
        with opened(path) as file:
            group, heads = _acquisitions(file, path)
            root = parsed_header(_xml(group), path)
            lines = imaging(heads, root, path, choice)
            slices = heads["idx"]["slice"]
            which = int(np.unique(slices[lines.index])[item // lines.kept])
            mine = lines.index[slices[lines.index] == which]
            z = lines.depth // 2 - lines.kept // 2 + item % lines.kept
            kspace, counts, field = _image_grid(group, heads, mine, lines, path, z)
            doubts = list(lines.doubts)
            told = _oversampling_doubt(heads[mine], lines, path)
            doubts += [told] if told else []
            of_maps = reference(heads, root, path, which) if choice.reference_lines else None
            if of_maps is not None:
                ref_z = of_maps.depth // 2 if of_maps.depth != lines.depth else z
                grid, _, ref_field = _image_grid(group, heads, of_maps.index, of_maps, path, ref_z)
                if np.allclose(field, ref_field, rtol=0.01):
                    calibration = _embedded(grid, kspace.shape)
                else:
                    doubts.append(
                        "The separate reference lines were measured over another field of view "
                        f"({ref_field[1]:.4g} × {ref_field[0]:.4g} mm) and were not used."
                    )
            noise = _noise(group, heads, path)
        level = counts[counts > 0]
        even = level.size == 0 or np.ptp(level) < 1e-6
        ratio = 1.0 / float(level[0]) if even else 1.0
        if noise is not None:
            scan = heads[(heads["flags"] & NOISE_SCAN) != 0]
            times = float(scan["sample_time_us"][0]), float(heads["sample_time_us"][mine[0]])
            ratio *= times[0] / times[1] if min(times) > 0 else 1.0
        rows, columns = kspace.shape[-2:]
        return KSpace(
            checked(kspace, path),
            title=f"ISMRMRD {path.stem}, slice {which}"
            + (f", partition {item % lines.kept}" if lines.depth > 1 else ""),
            pixel_mm=(field[0] / rows, field[1] / columns) if min(field) > 0 else None,
            slice_mm=_thickness(lines, path),
            noise=noise,
            noise_variance_ratio=ratio,
            calibration=calibration,
            counts=None if even else counts,
            doubts=tuple(doubts),
            orientation=_orientation(heads[mine]) if lines.depth == 1 else None,
        )


def _orientation(heads: np.ndarray) -> tuple[tuple[float, float, float], ...] | None:
    """Return position, read, phase and slice direction; None where they are no right angles."""
    names = ("position", "read_dir", "phase_dir", "slice_dir")
    if not len(heads) or not {*names} <= {*(heads.dtype.names or ())}:
        return None
    found = np.stack([np.asarray(heads[n][0], np.float64) for n in names])
    turned = found[1:] @ found[1:].T
    if found.shape != (4, 3) or not np.allclose(turned, np.eye(3), atol=1e-3):
        return None  # many converters leave them 0
    return tuple((float(x), float(y), float(z)) for x, y, z in found)


def _acquisitions(file: h5py.File, path: Path) -> tuple[h5py.Group, np.ndarray]:
    name = group_of(file)
    group = file[name] if name is not None else None
    fields = _fields(group)
    if group is None or not fields >= HEAD:
        raise DataError(
            "The file holds no ISMRMRD acquisitions",
            where=path,
            expected="a group with `xml` and `data`, of records (head, traj, data)",
            got=sorted(file) if group is None else f"{name}/data with fields {sorted(fields)}",
            remedy="convert the scanner's raw data to ISMRMRD",
        )
    check_size(group["data"].shape, group["data"].dtype.itemsize, f"{path}: {name}/data")
    return group, group["data"].fields("head")[:]


def _fields(group: object) -> set[str]:
    # The names in the acquisitions' headers; empty where the records are not (head, …, data).
    data = group.get("data") if isinstance(group, h5py.Group) else None
    if not isinstance(data, h5py.Dataset) or not {"head", "data"} <= set(data.dtype.names or ()):
        return set()
    head = data.dtype["head"]
    counters = head["idx"].names or () if "idx" in (head.names or ()) else ()
    known = {"kspace_encode_step_1", "kspace_encode_step_2", "slice", *LOOPS} <= set(counters)
    return set(head.names or ()) if known and data.ndim == 1 else set()


def _xml(group: h5py.Group) -> bytes | str:
    value = group["xml"][()]
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else b""
    return value if isinstance(value, bytes | str) else bytes(value)


def _image_grid(
    group: h5py.Group, heads: np.ndarray, index: np.ndarray, lines: Lines, path: Path, z: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return k-space [coil, ky, kx], how often each sample was measured, and (rows, columns) mm.

    The columns' field is that of the image whose readout oversampling is removed; 0 where the
    header does not say it.
    """
    one = int(index[0])
    coils = int(heads["active_channels"][one])
    _samples(group["data"][one], coils, f"{path}: acquisition {one}")  # before its header counts
    at = places(heads[index], Lines(index, lines.encoding, lines.depth, lines.kept), path)
    kspace, counts = _grid(group, heads, index, at, path, z)
    width = kspace.shape[-1]
    columns = size(lines.encoding, "reconSpace/matrixSize/x", path, width)
    # The recon matrix may be interpolated: the fields decide what is cut away.
    encoded, wanted = (
        number(lines.encoding, f"{space}/fieldOfView_mm/x", path, 0.0, zero=True)
        for space in ("encodedSpace", "reconSpace")
    )
    encoded *= at.oversampled
    if min(encoded, wanted) > 0 and abs(wanted * width / (encoded * columns) - 1) > 0.02:
        columns = min(width, round(width * wanted / encoded))
    whole = without_oversampling(kspace, axis=-1, size=columns)
    if whole.shape != kspace.shape:  # the crop mixes the noise along each line
        with np.errstate(divide="ignore"):
            line = 1 / (1 / counts).mean(1, keepdims=True)
        counts = np.where(np.any(whole != 0, axis=0), line, 0)
    height = number(lines.encoding, "encodedSpace/fieldOfView_mm/y", path, 0.0, zero=True)
    return whole, counts, (height, encoded * whole.shape[-1] / width)


def _oversampling_doubt(heads: np.ndarray, lines: Lines, path: Path) -> str | None:
    at = places(heads, lines, path)
    if at.oversampled == 1:
        return None
    return (
        f"Readouts have {at.shape[2]} samples, twice the encoded matrix of the header: they were "
        "taken for oversampled twofold over twice the stated field, and the outer half of the "
        "image cut away."
    )


def _grid(
    group: h5py.Group, heads: np.ndarray, index: np.ndarray, at: Places, path: Path, z: int
) -> tuple[np.ndarray, np.ndarray]:
    # The mean of the acquisitions on the grid, and how often each sample was measured.
    depth, height, width = at.shape
    coils = int(heads["active_channels"][index[0]])
    check_size((coils + depth, height, width), 8, path)
    times = np.zeros((depth, height, width), np.uint16)
    spans = [
        (int(kz), int(ky), slice(int(s + a), int(s + b)), slice(int(a), int(b)))
        for kz, ky, s, a, b in zip(at.kz, at.ky, at.start, at.first, at.last, strict=True)
    ]
    for kz, ky, columns, _ in spans:
        times[kz, ky, columns] += 1
    partitions = np.count_nonzero(times, axis=0)
    if depth > 1 and not np.isin(partitions, (0, depth)).all():
        few = partitions[partitions > 0]
        raise DataError(
            "The partitions of the three-dimensional scan are not all measured",
            where=path,
            expected=f"all {depth} kz of each measured (ky, kx): then slices can be cut",
            got=f"as few as {few.min()}, at {int((few < depth).sum())} of {few.size} places",
            remedy="reconstruct the undersampled volume elsewhere, or fill kz first",
        )
    grid = np.zeros((coils, height, width), np.complex64)
    for number_of, (kz, ky, columns, used) in zip(index, spans, strict=True):
        record = group["data"][int(number_of)]
        line = _samples(record, coils, f"{path}: acquisition {number_of}")
        if int(record["head"]["flags"]) & REVERSED:
            line = line[:, ::-1]
        line = line[:, used]
        if depth > 1:
            turns = (kz - depth // 2) * (z - depth // 2) / depth
            line = line * np.complex64(np.exp(2j * np.pi * turns) / np.sqrt(depth))
            line = line / times[kz, ky, columns].astype(np.float32)
        grid[:, ky, columns] += line
    if depth == 1:
        with np.errstate(invalid="ignore"):  # NaN of the file is told later
            grid = grid / np.maximum(times[0], 1)
        return grid, times[0].astype(np.float64)
    with np.errstate(divide="ignore"):
        counts = depth / (1 / times.astype(np.float64)).sum(0)
    return grid, counts


def _embedded(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return k-space on a grid of another size, cropped or filled with 0 around its centre."""
    out = np.zeros((len(grid), *shape[-2:]), grid.dtype)
    pairs = []
    for small, large in zip(grid.shape[-2:], shape[-2:], strict=True):
        low = max(-(small // 2), -(large // 2))
        high = min(small - small // 2, large - large // 2)
        pairs.append(
            (
                slice(small // 2 + low, small // 2 + high),
                slice(large // 2 + low, large // 2 + high),
            )
        )
    out[:, pairs[0][1], pairs[1][1]] = grid[:, pairs[0][0], pairs[1][0]]
    return out


def _samples(record: Any, coils: int, where: str) -> np.ndarray:
    count = int(record["head"]["number_of_samples"])
    values = np.asarray(record["data"], np.float32)
    if int(record["head"]["active_channels"]) != coils or values.size != 2 * coils * count:
        raise DataError(
            "An ISMRMRD acquisition does not match its header",
            where=where,
            expected=f"{coils} coils × {count} complex samples",
            got=f"{int(record['head']['active_channels'])} coils, {values.size} real numbers",
            remedy="convert the raw data again",
        )
    return values.view(np.complex64).reshape(coils, count)


def _noise(group: h5py.Group, heads: np.ndarray, path: Path) -> np.ndarray | None:
    chosen = np.flatnonzero((heads["flags"] & NOISE_SCAN) != 0)
    if not len(chosen):
        return None
    coils = int(heads["active_channels"][chosen[0]])
    lines = [_samples(group["data"][int(i)], coils, f"{path}: acquisition {i}") for i in chosen]
    return np.concatenate(lines, axis=1)


def _thickness(lines: Lines, path: Path) -> float | None:
    encoding: ElementTree.Element = lines.encoding
    for space, parts in (("encodedSpace", lines.depth), ("reconSpace", 1)):
        field = number(encoding, f"{space}/fieldOfView_mm/z", path, 0.0, zero=True)
        if field > 0:
            return field / max(1, parts)
    return None
