"""Which TIFF files are the frames of a scan: projections, flats and darks, in their right order."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from sciinv.errors import DataError

SUFFIXES = (".tif", ".tiff")
# How beamlines and laboratory scanners name the frames without the object and without the beam.
# A word that goes on is another one ("object", "different"), but for an s or "field".
FLATS = re.compile(
    r"(flat|ff|white|open|ob|blank|bright|reference)s?(?![a-z])|(flat|white|bright)_?field|open_?beam",
    re.IGNORECASE,
)
DARKS = re.compile(r"(dark|df|bias)s?(?![a-z])|dark_?(field|current|frame)", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")


def natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Return a key that orders names by the numbers in them: view_2 before view_10."""
    parts = _DIGITS.split(path.name.lower())
    return tuple((1, int(p), p) if i % 2 else (0, 0, p) for i, p in enumerate(parts))


def is_tiff(path: Path) -> bool:
    """Whether a path is a TIFF file by its name; hidden files (of macOS, "._a.tif") are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def tiffs(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the TIFF files of a folder or glob pattern in the order of their numbers.

    A list stays in its order; a file is a list of one.

    Raises:
        DataError: There is none, or a file of a list is not there.
    """
    if isinstance(where, list | tuple):
        found = [Path(p) for p in where]
        gone = [p for p in found if not p.is_file()]
    else:
        path, gone = Path(str(where)), []
        if path.is_dir():
            found = sorted((p for p in path.iterdir() if is_tiff(p)), key=natural)
        elif path.is_file():
            found = [path]
        else:
            found = sorted((Path(p) for p in glob.glob(str(path)) if is_tiff(Path(p))), key=natural)
    if gone or not found:
        raise DataError(
            "There are no TIFF files",
            where=str(where)[:200],
            expected="a folder of .tif files, a pattern such as scan/proj_*.tif, a list, or a file",
            got=f"no file {gone[0]}" if gone else "none",
            remedy="check the path",
        )
    return found


def projections(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files of the projections, in the order of their numbers.

    Of a folder those that are not named as flats or darks; where it holds none, those of its one
    folder that is not named so.

    Raises:
        DataError: There are none, several scans lie in one folder, or a number occurs twice.
    """
    if isinstance(where, list | tuple):
        return tiffs(where)
    folder = Path(str(where))
    if not folder.is_dir():
        found = tiffs(where)
        return found if len(found) == 1 else [p for p in found if not _is_field(p)] or found
    own = [p for p in folder.iterdir() if is_tiff(p) and not _is_field(p)]
    inner = [p for p in folder.iterdir() if p.is_dir() and not _is_field(p)]
    inner = [p for p in inner if any(is_tiff(q) for q in p.iterdir())]
    if not own and len(inner) > 1:
        raise DataError(
            "Several folders hold TIFF files",
            where=folder,
            expected="one folder of projections, beside those of flats and darks",
            got=", ".join(sorted(p.name for p in inner)[:6]),
            remedy="name the folder of the projections as the path",
        )
    if not own and inner:
        inside = tiffs(inner[0])
        own = [p for p in inside if not _is_field(p)] or inside
    found = sorted(own, key=natural) or tiffs(where)
    series = Counter(_DIGITS.sub("#", p.stem.lower()) for p in found)
    if len(series) > 1:
        raise DataError(
            "The names of the projections are not of one series",
            where=folder,
            expected="names that differ in their numbers alone",
            got=", ".join(f"{n} × {name}" for name, n in series.most_common(4)),
            remedy="name the files of one scan with a pattern, such as scan/proj_*.tif",
        )
    return found


def gaps(files: Sequence[Path]) -> str | None:
    """Return in words which numbers are missing between the first and last file, or None.

    Only where one number of the names differs from file to file, and by the same step as a rule.

    Raises:
        DataError: Two files have the same number.
    """
    numbers = [[int(n) for n in _DIGITS.findall(p.stem)] for p in files]
    if len(files) < 3 or len({len(n) for n in numbers}) != 1:
        return None
    differ = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if not differ or len({tuple(n) for n in numbers}) < len(files):
        twice = next(k for k, n in Counter(map(tuple, numbers)).items() if n > 1)
        names = [p.name for p, n in zip(files, numbers, strict=True) if tuple(n) == twice]
        raise DataError(
            "Two projections have the same number",
            where=files[0].parent,
            expected="names that differ in their numbers",
            got=", ".join(names[:4]),
            remedy="name the files of one scan with a pattern, such as scan/proj_*.tif",
        )
    if len(differ) != 1:
        return None
    found = sorted(differ[0])
    apart = Counter(b - a for a, b in pairwise(found))
    step = min(apart)
    missing = sorted(set(range(found[0], found[-1], step)) - set(found))
    # A step that most of the files do not keep is no numbering: times of day, say.
    if not missing or apart[step] < 0.5 * len(found) or len(missing) > len(found):
        return None
    listed = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
    return f"{len(missing)} of the numbers {found[0]} to {found[-1]}: {listed}"


def fields(files: Sequence[Path], kind: re.Pattern[str]) -> list[Path]:
    """Return the flats or darks that lie with the projections, or beside their folder.

    Names are looked for in the folder of the projections, then in the one above it.

    Args:
        files: The projections.
        kind: `FLATS` or `DARKS`.
    """
    here = files[0].absolute().parent
    own = {p.absolute() for p in files}
    for folder in (here, here.parent):
        entries = sorted(folder.iterdir(), key=natural)
        named = [p for p in entries if kind.match(p.name) and p not in own]
        found = [p for p in named if is_tiff(p)]
        for inner in (p for p in named if p.is_dir()):
            found += sorted((p for p in inner.iterdir() if is_tiff(p)), key=natural)
        if found:
            return found
    return []


def _is_field(path: Path) -> bool:
    return bool(FLATS.match(path.name) or DARKS.match(path.name))
