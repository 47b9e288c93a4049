"""All images of a folder, with the subject of each."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sciinv.errors import ConfigError, DataError, SciinvError
from sciinv.images.formats import FORMATS, read, suffix_of
from sciinv.images.formats.base import Options, Stack

MOST = 400_000_000  # pixels that are kept; from larger sets every n-th slice is taken
PERSON = re.compile(r"(sub|subject|patient|pat|case|person|id)[-_ ]?([A-Za-z0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSet:
    """Images of one size.

    Attributes:
        values: [N, H, W] float32 or complex64, in `units`.
        names: File (and slice) of each.
        subjects: Subject of each.
        units: Unit of a value, "" where no file says it.
        pixel: (row, column) side of a pixel, or None.
        pixel_unit: Its unit.
        arbitrary: True where the unit is another one in each file.
        notes: What was done and left out, in sentences.
    """

    values: np.ndarray
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    units: str = ""
    pixel: tuple[float, float] | None = None
    pixel_unit: str = ""
    arbitrary: bool = False
    notes: tuple[str, ...] = ()

    @property
    def complex(self) -> bool:
        """Whether the images are complex."""
        return self.values.dtype.kind == "c"

    def take(self, keep: np.ndarray, *notes: str) -> ImageSet:
        """Return the chosen images, with further notes."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        return ImageSet(
            self.values[index],
            tuple(self.names[i] for i in index),
            tuple(self.subjects[i] for i in index),
            self.units,
            self.pixel,
            self.pixel_unit,
            self.arbitrary,
            self.notes + notes,
        )


@dataclass(frozen=True)
class Subjects:
    """How the subject of a file is known.

    Attributes:
        pattern: Regular expression; its first group in a file's path is the subject.
        table: CSV file with the columns `file` and `subject`.
    """

    pattern: str | None = None
    table: Path | None = None


@dataclass
class _Found:
    stacks: list[Stack] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def files_of(path: Path) -> list[Path]:
    """Return the image files of a folder in the order of their names, or the one file.

    Raises:
        DataError: There are none.
    """
    if not path.exists():
        raise DataError("There are no such images", where=path, expected="a file or a folder",
                        remedy="check the path")  # fmt: skip
    if path.is_file() or suffix_of(path) == ".zarr":
        return [path]
    stores = [p.parent for name in ("zarr.json", ".zgroup", ".zarray") for p in path.rglob(name)]
    tops = [s for s in dict.fromkeys(stores) if not any(s != t and t in s.parents for t in stores)]
    loose = [
        p
        for p in path.rglob("*")
        if p.is_file() and not p.name.startswith(".") and not any(t in p.parents for t in tops)
    ]
    found = [p for p in loose if suffix_of(p)] + tops
    if not found:
        raise DataError(
            "The folder holds no images",
            where=path,
            expected=f"files of {', '.join(FORMATS)}",
            got=", ".join(sorted({p.suffix or p.name for p in loose})[:8]) or "an empty folder",
            remedy="name the folder of the images themselves",
        )
    return sorted(found)


def collect(
    path: Path,
    options: Options | None = None,
    subjects: Subjects | None = None,
    size: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ImageSet:
    """Return all images of a folder or file.

    Args:
        path: The folder, or one file.
        options: How files are read.
        subjects: How the subject of a file is known.
        size: Cut and pad each about its middle to so many pixels a side; None: all have one size.
        progress: Takes a line.

    Raises:
        DataError: A file cannot be used, or sizes, units or kinds are mixed.
    """
    options, subjects = options or Options(), subjects or Subjects()
    files = files_of(path)
    found = _Found()
    table = _table(subjects.table)
    for number, file in enumerate(files):
        found.stacks.append(read(file, options))
        found.files.append(file)
        if number % 100 == 99:
            progress(f"{number + 1} of {len(files)} files read")
    shapes: dict[tuple[int, ...], list[Path]] = {}
    for stack, file in zip(found.stacks, found.files, strict=True):
        shapes.setdefault(stack.values.shape[1:], []).append(file)
    if size is None and len(shapes) > 1:
        kinds = sorted(shapes.items(), key=lambda item: -len(item[1]))
        raise DataError(
            "The images have different sizes",
            where=path,
            expected="one size",
            got="; ".join(f"{list(s)}: {len(f)} files, as {f[0].name}" for s, f in kinds[:4]),
            remedy="--size N cuts or pads each about its middle to N × N pixels",
        )
    _one("kind", {("complex" if s.values.dtype.kind == "c" else "real"): f.name
                  for s, f in zip(found.stacks, found.files, strict=True)}, path)  # fmt: skip
    _one("unit", {s.units: f.name for s, f in zip(found.stacks, found.files, strict=True)}, path)
    count = sum(len(s.values) for s in found.stacks)
    pixels = count * int(np.prod(next(iter(shapes)) if size is None else (size, size)))
    step = max(1, -(-pixels // MOST))
    notes = [s.note for s in found.stacks if s.note]
    notes = list(dict.fromkeys(notes))
    if step > 1:
        notes.append(f"every {step}th slice is taken: {count} would not fit the memory")
    values, names, whom = [], [], []
    for stack, file in zip(found.stacks, found.files, strict=True):
        for k in range(0, len(stack.values), step):
            values.append(stack.values[k] if size is None else _sized(stack.values[k], size))
            names.append(file.name if len(stack.values) == 1 else f"{file.name}, slice {k}")
            whom.append(_subject(file, path, stack, subjects, table))
    pixel, notes = _pixel(found, notes)
    first = found.stacks[0]
    if len({s.arbitrary for s in found.stacks}) > 1:
        notes.append("some files say that their unit is arbitrary")
    return ImageSet(
        np.stack(values), tuple(names), _whole_subjects(whom, found), first.units, pixel,
        first.pixel_unit, any(s.arbitrary for s in found.stacks), tuple(notes),
    )  # fmt: skip


def _one(what: str, found: dict[str, str], path: Path) -> None:
    if len(found) > 1:
        raise DataError(
            f"The images are not all of one {what}",
            where=path,
            expected=f"one {what}",
            got="; ".join(f"{k or 'none'}: {v}" for k, v in found.items()),
            remedy="put each kind into a folder of its own: a prior is of one quantity",
        )


def _pixel(found: _Found, notes: list[str]) -> tuple[tuple[float, float] | None, list[str]]:
    """Return the median side of a pixel, and a note where files differ by more than 5 %."""
    sides = np.array([s.pixel for s in found.stacks if s.pixel is not None])
    if not len(sides):
        return None, notes
    middle = np.median(sides, axis=0)
    spread = float(sides.max() / sides.min() - 1)
    if spread > 0.05:
        notes = [*notes, f"pixels differ by {100 * spread:.0f} %; the median is written down"]
    return (float(middle[0]), float(middle[1])), notes


def _sized(image: np.ndarray, size: int) -> np.ndarray:
    """Return the middle size × size pixels; what is missing is the border's median."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    fill = np.median(edge.real) if image.dtype.kind == "c" else np.median(edge)
    out = np.full((size, size), fill, image.dtype)
    at = []
    for n in image.shape:
        least = min(n, size)
        at.append((slice((size - least) // 2, (size - least) // 2 + least),
                   slice((n - least) // 2, (n - least) // 2 + least)))  # fmt: skip
    out[at[0][0], at[1][0]] = image[at[0][1], at[1][1]]
    return out


def _table(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {row["file"]: row["subject"] for row in rows}
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise ConfigError("The table of subjects cannot be read", where=path,
                          expected="a CSV file with the columns file and subject", got=error,
                          remedy="write one row a file") from error  # fmt: skip


def _subject(
    file: Path, top: Path, stack: Stack, how: Subjects, table: dict[str, str]
) -> tuple[str, str]:
    """Return (how it is known, the subject)."""
    inner = str(file.relative_to(top)) if top != file else file.name
    if table:
        for key in (inner, file.name, file.stem):
            if key in table:
                return "table", table[key]
        raise DataError("The table of subjects lacks a file", where=inner, expected="its row",
                        remedy="add it, or move the file out")  # fmt: skip
    if how.pattern is not None:
        try:
            match = re.search(how.pattern, inner)
        except re.error as error:
            raise ConfigError("The pattern of subjects is no regular expression", where="--subject",
                              got=error,
                              remedy=r"e.g. --subject '(patient\d+)'") from error  # fmt: skip
        if match is None:
            raise SciinvError("The pattern of subjects does not occur in a file's path",
                              where=inner, expected=how.pattern,
                              remedy="correct --subject, or leave it out")  # fmt: skip
        return "pattern", match.group(1) if match.groups() else match.group(0)
    if stack.subject:
        return "file", stack.subject
    person = PERSON.search(inner)
    if person:
        return "name", person.group(0).lower()
    if len(Path(inner).parts) > 1:
        return "folder", Path(inner).parts[0]
    return "image", file.name


def _whole_subjects(whom: list[tuple[str, str]], found: _Found) -> tuple[str, ...]:
    """Return the subjects; a folder's name counts only where there are several folders."""
    folders = {name for how, name in whom if how == "folder"}
    if len(folders) != 1:
        return tuple(name for _, name in whom)
    files = [f.name for s, f in zip(found.stacks, found.files, strict=True) for _ in s.values]
    files = files if len(files) == len(whom) else [name for _, name in whom]
    return tuple(
        file if how == "folder" else name for (how, name), file in zip(whom, files, strict=True)
    )
