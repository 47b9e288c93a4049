"""ISMRMRD HDF5: acquisitions with headers, read with h5py alone; noise scans are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.kspace_base import (
    KSpace,
    checked,
    number,
    opened_hdf5,
    parsed_header,
    size,
    without_oversampling,
)


def _bits(*flags: int) -> int:
    # ISMRMRD counts flags from 1.
    return sum(1 << (flag - 1) for flag in flags)


NOISE_SCAN = _bits(19)
REVERSED = _bits(22)
# Navigators, phase correction, feedback, dummies, coil correction, phase stabilisation.
NOT_IMAGING = _bits(19, 23, 24, 26, 27, 28, 29, 30, 31)
HEAD = {
    "flags", "number_of_samples", "active_channels", "discard_pre", "discard_post",
    "center_sample", "sample_time_us", "idx",
}  # fmt: skip
LOOPS = ("contrast", "phase", "repetition", "set", "average")


def group_of(file: h5py.File) -> str | None:
    """Return the name of the group that holds an ISMRMRD data set, or None."""
    for name, value in file.items():
        if isinstance(value, h5py.Group) and "xml" in value and "data" in value:
            return str(name)
    return None


class Reader:
    """Cartesian scans, two- or three-dimensional; items are slices.

    Lines go to ky = kspace_encode_step_1 − centre + N // 2 (rows), samples along kx with the
    centre sample at N // 2, reversed lines first turned round; readout oversampling is removed
    where readouts are whole. Of several contrasts, phases, repetitions or sets the first is read,
    and averages are averaged. Noise scans become `noise`, whose variance is taken in proportion
    to the bandwidth (1 / sample time).

    Of a three-dimensional scan the partitions along z become slices, by the orthonormal inverse
    DFT along kz, which leaves the noise as it is; that needs every partition kz of each measured
    (ky, kx). Lines are added one by one with their phase, so that no volume is held in memory;
    every slice reads its slab once. Slices beyond the reconstructed matrix are left out.

    Source: Inati et al., "ISMRM raw data format", Magnetic Resonance in Medicine 77:411, 2017.
    """

    @staticmethod
    def count(path: Path, dataset: str | None = None) -> int:
        """Return the number of slices."""
        with opened_hdf5(path) as file:
            group, heads = _acquisitions(file, path)
            root = parsed_header(_xml(group), path)
        _, kept = _depth(root, path)
        return kept * len(np.unique(_imaging(heads, path)["idx"]["slice"]))

    @staticmethod
    def load(path: Path, item: int, dataset: str | None = None) -> KSpace:
        """Return one slice, by its position among the slices of the file."""
        with opened_hdf5(path) as file:
            group, heads = _acquisitions(file, path)
            imaging = _imaging(heads, path)
            root = parsed_header(_xml(group), path)
            _check_cartesian(root, path)
            depth, kept = _depth(root, path)
            which = np.unique(imaging["idx"]["slice"])[item // kept]
            wanted = _is_imaging(heads) & (heads["idx"]["slice"] == which)
            for loop in LOOPS[:-1]:
                wanted &= heads["idx"][loop] == imaging["idx"][loop].min()
            z = depth // 2 - kept // 2 + item % kept
            kspace, averages = _grid(group, heads, np.flatnonzero(wanted), root, path, depth, z)
            noise = _noise(group, heads, path)
        columns = size(root, "encoding/reconSpace/matrixSize/x", path, kspace.shape[-1])
        kspace = without_oversampling(checked(kspace, path), axis=-1, size=columns)
        ratio = 1.0 / averages
        if noise is not None:
            scan = heads[(heads["flags"] & NOISE_SCAN) != 0]
            times = float(scan["sample_time_us"][0]), float(imaging["sample_time_us"][0])
            ratio *= times[0] / times[1] if min(times) > 0 else 1.0
        return KSpace(
            kspace,
            title=f"ISMRMRD {path.stem}, slice {which}"
            + (f", partition {item % kept}" if depth > 1 else ""),
            pixel_mm=_pixel(root, path),
            noise=noise,
            noise_variance_ratio=ratio,
        )


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
    return group, group["data"].fields("head")[:]


def _fields(group: object) -> set[str]:
    # The names in the acquisitions' headers; empty where the records are not (head, …, data).
    data = group.get("data") if isinstance(group, h5py.Group) else None
    if not isinstance(data, h5py.Dataset) or not {"head", "data"} <= set(data.dtype.names or ()):
        return set()
    head = data.dtype["head"]
    counters = head["idx"].names or () if "idx" in (head.names or ()) else ()
    known = {"kspace_encode_step_1", "kspace_encode_step_2", "slice", *LOOPS} <= set(counters)
    return set(head.names or ()) if known else set()


def _is_imaging(heads: np.ndarray) -> np.ndarray:
    return (heads["flags"] & NOT_IMAGING) == 0


def _imaging(heads: np.ndarray, path: Path) -> np.ndarray:
    imaging = heads[_is_imaging(heads)]
    if not len(imaging):
        raise DataError(
            "The ISMRMRD file holds no imaging acquisitions",
            where=path,
            expected="acquisitions that are no noise scan, navigator or dummy",
            got=f"{len(heads)} others",
            remedy="take the file of the scan itself",
        )
    return imaging


def _xml(group: h5py.Group) -> bytes | str:
    value = group["xml"][()]
    value = value.flat[0] if isinstance(value, np.ndarray) else value
    return value if isinstance(value, bytes | str) else bytes(value)


def _check_cartesian(root: ElementTree.Element, path: Path) -> None:
    kind = root.findtext("encoding/trajectory", "cartesian")
    if kind != "cartesian":
        raise DataError(
            "The ISMRMRD scan is no Cartesian one",
            where=path,
            expected="trajectory cartesian",
            got=f"trajectory {kind}",
            remedy='write it as arrays for the operator "mri-noncartesian", or grid it',
        )


def _depth(root: ElementTree.Element, path: Path) -> tuple[int, int]:
    # Encoded partitions, and how many of them the reconstructed matrix keeps.
    depth = size(root, "encoding/encodedSpace/matrixSize/z", path, 1)
    return depth, min(depth, size(root, "encoding/reconSpace/matrixSize/z", path, depth))


def _grid(
    group: h5py.Group,
    heads: np.ndarray,
    chosen: np.ndarray,
    root: ElementTree.Element,
    path: Path,
    depth: int,
    z: int,
) -> tuple[np.ndarray, float]:
    # Sum the acquisitions into [coil, ky, kx] and divide by how often each sample was measured.
    height, width = (size(root, f"encoding/encodedSpace/matrixSize/{a}", path) for a in "yx")
    centre, centre_z = (
        int(number(root, f"encoding/encodingLimits/{step}/center", path, n // 2, zero=True))
        for step, n in (("kspace_encoding_step_1", height), ("kspace_encoding_step_2", depth))
    )
    coils = int(heads["active_channels"][chosen[0]])
    grid = np.zeros((coils, height, width), np.complex64)
    times = np.zeros((depth, height, width), np.uint16)
    for index in chosen:
        record = group["data"][int(index)]
        head = record["head"]
        line = _samples(record, coils, f"{path}: acquisition {index}")
        first, last = int(head["discard_pre"]), line.shape[1] - int(head["discard_post"])
        if int(head["flags"]) & REVERSED:
            line = line[:, ::-1]
        start = width // 2 - int(head["center_sample"])
        ky = int(head["idx"]["kspace_encode_step_1"]) - centre + height // 2
        kz = int(head["idx"]["kspace_encode_step_2"]) - centre_z + depth // 2 if depth > 1 else 0
        begin, end = max(first, -start), min(last, width - start)
        if not 0 <= ky < height or not 0 <= kz < depth or begin >= end:
            raise DataError(
                "An ISMRMRD acquisition lies outside of the encoded matrix",
                where=f"{path}: acquisition {index}",
                expected=f"ky in 0 … {height - 1}, kz in 0 … {depth - 1}, and samples within "
                f"{width} columns",
                got=f"ky {ky}, kz {kz}, {line.shape[1]} samples around "
                f"{int(head['center_sample'])}",
                remedy="check the header's matrix size and encoding limits",
            )
        if depth > 1:
            turns = (kz - depth // 2) * (z - depth // 2) / depth
            line = line * np.complex64(np.exp(2j * np.pi * turns) / np.sqrt(depth))
        grid[:, ky, start + begin : start + end] += line[:, begin:end]
        times[kz, ky, start + begin : start + end] += 1
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
    measured = times[times > 0]
    if measured.min() != measured.max():
        raise DataError(
            "Some lines were measured more often than others",
            where=path,
            expected="the same number of averages for every sample",
            got=f"from {measured.min()} to {measured.max()}",
            remedy="average or leave out the repeated lines before the conversion",
        )
    return grid / np.maximum(times[0], 1), float(measured[0])


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


def _pixel(root: ElementTree.Element, path: Path) -> tuple[float, float] | None:
    space = "encoding/reconSpace"
    if root.find(space) is None:
        return None
    rows, columns = (
        number(root, f"{space}/fieldOfView_mm/{axis}", path)
        / size(root, f"{space}/matrixSize/{axis}", path)
        for axis in "yx"
    )
    return rows, columns
