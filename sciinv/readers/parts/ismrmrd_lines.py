"""Which acquisitions of an ISMRMRD file are read, and where their samples lie in k-space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.readers.parts.kspace_base import Choice, number, size


def _bits(*flags: int) -> int:
    # ISMRMRD counts flags from 1.
    return sum(1 << (flag - 1) for flag in flags)


NOISE_SCAN = _bits(19)
REFERENCE, REFERENCE_AND_IMAGING = _bits(20), _bits(21)
REVERSED = _bits(22)
# Noise, navigators, phase correction, feedback, dummies, coil correction, phase stabilisation.
NOT_IMAGING = _bits(19, 23, 24, 26, 27, 28, 29, 30, 31)
LOOPS = ("contrast", "phase", "repetition", "set", "average")


@dataclass(frozen=True)
class Lines:
    """The acquisitions of one k-space, and the encoding space that they fill.

    Attributes:
        index: Their numbers in the file.
        encoding: The header's element of the encoding space.
        depth: Encoded partitions; 1 for a two-dimensional scan.
        kept: Partitions of the reconstructed matrix.
        doubts: What to tell.
    """

    index: NDArray[np.int64]
    encoding: ElementTree.Element
    depth: int
    kept: int
    doubts: tuple[str, ...] = ()


@dataclass
class _Scan:
    heads: np.ndarray
    root: ElementTree.Element
    path: Path
    doubts: list[str] = field(default_factory=list)

    def spaces(self) -> NDArray[np.int64]:
        names = self.heads.dtype.names or ()
        if "encoding_space_ref" not in names:
            return np.zeros(len(self.heads), np.int64)
        return self.heads["encoding_space_ref"].astype(np.int64)

    def encoding(self, space: int) -> ElementTree.Element:
        found = self.root.findall("encoding")
        if space >= len(found):
            raise DataError(
                "The ISMRMRD header does not describe an encoding space that is used",
                where=self.path,
                expected=f"a number below {len(found)}, the encodings of the header",
                got=space,
                remedy="convert the raw data again, with its whole header",
            )
        return found[space]


def imaging(heads: np.ndarray, root: ElementTree.Element, path: Path, choice: Choice) -> Lines:
    """Return the imaging acquisitions of all slices.

    Left out are noise scans, navigators and the like; reference lines (flag 20) where they were
    measured separately: in an encoding space of their own, where the header says so
    (calibrationMode separate or external), or where they repeat imaging lines. Of several
    contrasts, phases, repetitions and sets the first is taken, or those of `choice.counters`.

    Raises:
        DataError: There are none, or they are of several encoding spaces.
    """
    scan = _Scan(heads, root, path)
    flags = heads["flags"]
    taken = (flags & NOT_IMAGING) == 0
    taken &= ~_separate(scan, taken)
    if not taken.any():
        raise DataError(
            "The ISMRMRD file holds no imaging acquisitions",
            where=path,
            expected="acquisitions that are no noise scan, navigator, reference or dummy",
            got=f"{len(heads)} others",
            remedy="take the file of the scan itself",
        )
    spaces = scan.spaces()
    present = np.unique(spaces[taken])
    if choice.encoding is None and len(present) > 1:
        raise DataError(
            "The ISMRMRD file holds imaging lines of several encoding spaces",
            where=path,
            expected="one, since each has a grid of its own",
            got=", ".join(f"{s} ({int((taken & (spaces == s)).sum())} lines)" for s in present),
            remedy="choose one with the reader's option encoding",
        )
    space = int(present[0]) if choice.encoding is None else choice.encoding
    taken &= spaces == space
    taken = _loops(scan, taken, choice.counters)
    encoding = scan.encoding(space)
    _check_cartesian(encoding, path)
    depth, kept = _depth(scan, encoding, taken)
    return Lines(np.flatnonzero(taken), encoding, depth, kept, tuple(scan.doubts))


def reference(
    heads: np.ndarray, root: ElementTree.Element, path: Path, item_slice: int
) -> Lines | None:
    """Return the separate reference lines of a slice, or None where there are none."""
    scan = _Scan(heads, root, path)
    taken = _separate(scan, (heads["flags"] & NOT_IMAGING) == 0)
    taken &= heads["idx"]["slice"] == item_slice
    if not taken.any():
        return None
    space = int(scan.spaces()[taken][0])
    taken &= scan.spaces() == space
    taken = _loops(scan, taken, {})
    encoding = scan.encoding(space)
    depth, kept = _depth(scan, encoding, taken)
    return Lines(np.flatnonzero(taken), encoding, depth, kept)


def _separate(scan: _Scan, imaging: NDArray[np.bool_]) -> NDArray[np.bool_]:
    flags = scan.heads["flags"]
    marked = imaging & ((flags & REFERENCE) != 0) & ((flags & REFERENCE_AND_IMAGING) == 0)
    rest = imaging & ~marked
    if not marked.any() or not rest.any():
        return np.zeros(len(flags), bool)
    spaces = scan.spaces()
    own = marked & ~np.isin(spaces, spaces[rest])
    modes = {e.findtext("parallelImaging/calibrationMode", "") for e in scan.root.iter("encoding")}
    if {m.strip().lower() for m in modes} & {"separate", "external"}:
        return marked
    index = scan.heads["idx"]
    names = ("slice", "kspace_encode_step_1", "kspace_encode_step_2", *LOOPS)
    keys = np.stack([index[n].astype(np.int64) for n in names], axis=1)
    other = {tuple(k) for k in keys[rest]}
    repeats = marked & ~own
    if any(tuple(k) in other for k in keys[repeats]):
        return marked
    return own


def _loops(scan: _Scan, taken: NDArray[np.bool_], counters: Mapping[str, int]) -> NDArray[np.bool_]:
    index = scan.heads["idx"]
    for name in LOOPS:
        present = np.unique(index[name][taken])
        if name in counters:
            here = int(counters[name])
            if here not in present:
                raise DataError(
                    f"The ISMRMRD file holds no such {name}",
                    where=scan.path,
                    expected=f"one of {present.tolist()}",
                    got=here,
                    remedy="correct the option counters",
                )
        elif name == "average" or len(present) < 2:
            continue
        else:
            here = int(present[0])
            scan.doubts.append(
                f"The file holds {len(present)} of the counter {name}; number {here} was read "
                f'(choose with counters={{"{name}": …}}).'
            )
        taken = taken & (index[name] == here)
    return taken


def _check_cartesian(encoding: ElementTree.Element, path: Path) -> None:
    kind = encoding.findtext("trajectory", "cartesian").strip()
    if kind.lower() != "cartesian":
        raise DataError(
            "The ISMRMRD scan is no Cartesian one",
            where=path,
            expected="trajectory cartesian",
            got=f"trajectory {kind}",
            remedy='write it as arrays for the operator "mri-noncartesian", or grid it',
        )


def _depth(scan: _Scan, encoding: ElementTree.Element, taken: NDArray[np.bool_]) -> tuple[int, int]:
    # Encoded partitions, and how many of them the reconstructed matrix keeps.
    depth = size(encoding, "encodedSpace/matrixSize/z", scan.path, 1)
    steps = np.unique(scan.heads["idx"]["kspace_encode_step_2"][taken])
    if depth > 1 and len(steps) == 1:
        scan.doubts.append(
            f"The header declares {depth} partitions, but all lines are of one: the scan was read "
            "as a two-dimensional one."
        )
        return 1, 1
    if depth == 1 and len(steps) > 1:
        raise DataError(
            "The ISMRMRD lines are of more partitions than the header says",
            where=scan.path,
            expected="kspace_encode_step_2 of one value in a scan with encodedSpace z = 1",
            got=f"{len(steps)} values, {int(steps.min())} to {int(steps.max())}",
            remedy="mend encodedSpace/matrixSize/z in the header",
        )
    kept = min(depth, size(encoding, "reconSpace/matrixSize/z", scan.path, depth))
    return depth, kept


@dataclass(frozen=True)
class Places:
    """Where each acquisition lies on the grid; arrays over the acquisitions.

    Attributes:
        ky, kz: Line and partition, from 0.
        first, last: The samples that are used, of the line once it runs forward.
        start: Column of that line's sample 0.
        shape: (partitions, lines, columns) of the grid.
        oversampled: Factor by which readouts are longer than the header's matrix.
    """

    ky: NDArray[np.int64]
    kz: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    start: NDArray[np.int64]
    shape: tuple[int, int, int]
    oversampled: int = 1


def places(heads: np.ndarray, lines: Lines, path: Path) -> Places:
    """Return where the acquisitions `heads` (those of `lines`, of one slice) lie.

    Lines go to ky = kspace_encode_step_1 − centre + N // 2, samples to columns with the centre
    sample at N // 2. Of a reversed line the first acquired samples are the last ones.

    Raises:
        DataError: A line lies outside of the matrix, or has more samples than it.
    """
    depth = lines.depth
    height, width = (size(lines.encoding, f"encodedSpace/matrixSize/{a}", path) for a in "yx")
    centre, centre_z = (
        int(number(lines.encoding, f"encodingLimits/{step}/center", path, n // 2, zero=True))
        for step, n in (("kspace_encoding_step_1", height), ("kspace_encoding_step_2", depth))
    )
    count = heads["number_of_samples"].astype(np.int64)
    pre, post = (heads[f"discard_{k}"].astype(np.int64) for k in ("pre", "post"))
    turned = (heads["flags"] & REVERSED) != 0
    first = np.where(turned, post, pre)
    last = count - np.where(turned, pre, post)
    longest = int((last - first).max())
    factor = 1
    if longest == 2 * width:
        factor, width = 2, longest
    middle = _centres(heads, turned, width)
    start = width // 2 - middle
    index = heads["idx"]
    ky = index["kspace_encode_step_1"].astype(np.int64) - centre + height // 2
    kz = index["kspace_encode_step_2"].astype(np.int64) - centre_z + depth // 2
    if depth == 1:
        kz = np.zeros_like(kz)
    outside = (ky < 0) | (ky >= height) | (kz < 0) | (kz >= depth)
    outside |= (np.maximum(first, -start) >= np.minimum(last, width - start)) | (longest > width)
    if outside.any():
        i = int(np.argmax(outside))
        raise DataError(
            "An ISMRMRD acquisition lies outside of the encoded matrix",
            where=f"{path}: acquisition {lines.index[i] if i < len(lines.index) else i}",
            expected=f"ky in 0 … {height - 1}, kz in 0 … {depth - 1}, and at most {width} samples "
            f"within {width} columns",
            got=f"ky {ky[i]}, kz {kz[i]}, {last[i] - first[i]} samples around {middle[i]}; the "
            f"longest line has {longest}",
            remedy="check the header's matrix size and encoding limits",
        )
    first, last = np.maximum(first, -start), np.minimum(last, width - start)
    return Places(ky, kz, first, last, start, (depth, height, width), factor)


def _centres(heads: np.ndarray, turned: NDArray[np.bool_], width: int) -> NDArray[np.int64]:
    """Return the centre sample of each line once it runs forward.

    Of a reversed line of n samples whose `center_sample` c is the index in the stored order, that
    is n − 1 − c; Siemens' converter counts so that it is n − c; others write it as if the line
    were turned already. The rule that gives reversed lines the centre of the forward ones of the
    same length is taken; where none does, that of the standard.
    """
    count, centre = (heads[k].astype(np.int64) for k in ("number_of_samples", "center_sample"))
    if not turned.any():
        return centre
    rules = (count - 1 - centre, count - centre, centre)
    pairs = np.stack([count[~turned], centre[~turned]], axis=1)
    forward = {(int(n), int(c)) for n, c in pairs} or {(width, width // 2)}
    for rule in rules:
        if {(int(n), int(c)) for n, c in zip(count[turned], rule[turned], strict=True)} <= forward:
            return np.where(turned, rule, centre)
    return np.where(turned, rules[0], centre)
