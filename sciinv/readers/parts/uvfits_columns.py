"""Whose data a UVFITS group is: source, frequency set-up and subarray; and the stations' table.

Source: Greisen, "AIPS FITS file format", AIPS Memo 117.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

# Columns that tell groups apart: random parameter -> (option of the reader, what it is).
COLUMNS = {
    "SOURCE": ("source", "sources"),
    "FREQSEL": ("freqsel", "frequency set-ups"),
    "SUBARRAY": ("subarray", "subarrays"),
}


def bad_file(path: Path, what: str, expected: object, got: object, remedy: str) -> DataError:
    """Return the error of a file that is not as it should be."""
    return DataError(what, where=path, expected=expected, got=got, remedy=remedy)


def column(groups: Any, name: str) -> NDArray[np.int64]:
    """Return one of `COLUMNS` for every group; 1 where the file does not have it.

    AIPS writes the subarray into the fraction of BASELINE: 256 a + b + 0.01 (subarray − 1).
    """
    if name in groups.parnames:
        values = np.asarray(groups.par(name), float)
    elif name == "SUBARRAY" and "BASELINE" in groups.parnames:
        code = np.asarray(groups.par("BASELINE"), float)
        values = 1 + np.where(np.abs(code) < 65536, 100 * (code - np.floor(code)), 0)
    else:
        return np.ones(len(groups), np.int64)
    values = np.where(np.isfinite(values), values, -1)
    return np.rint(np.clip(values, -1, 1e9)).astype(np.int64)


def extensions(hdus: Any, name: str) -> list[Any]:
    """Return the extensions of this name, in order of their version."""
    found = [h for h in hdus[1:] if str(h.header.get("EXTNAME", "")).strip() == name]
    return sorted(found, key=lambda h: int(h.header.get("EXTVER", 1)))


def source_table(hdus: Any) -> dict[int, tuple[str, float, float]]:
    """Return name, right ascension and declination (degrees) of each source number of AIPS SU."""
    out = {}
    for table in extensions(hdus, "AIPS SU")[:1]:
        data = table.data
        numbers = data[next(n for n in data.names if n.strip().startswith("ID"))]
        names = texts(data, "SOURCE")
        places = [
            np.asarray(data[n], float) if n in data.names else np.full(len(names), np.nan)
            for n in ("RAEPO", "DECEPO")
        ]
        for number, name, ra, dec in zip(numbers, names, *places, strict=True):
            out[int(number)] = (name, float(ra), float(dec))
    return out


def chosen(
    path: Path,
    groups: Any,
    usable: NDArray[np.bool_],
    name: str,
    option: int | str | None,
    known: dict[int, str],
) -> tuple[NDArray[np.bool_], int]:
    """Return which groups belong to one source, frequency set-up or subarray, and its number.

    Args:
        path: The file.
        groups: Its random groups.
        usable: Groups with data, [G].
        name: One of `COLUMNS`.
        option: The number or name asked for; None where there may be only one.
        known: Names by number.

    Raises:
        DataError: The groups are of several and none was asked for, or of none that was.
    """
    values = column(groups, name)
    present = [int(v) for v in np.unique(values[usable])]
    keyword, what = COLUMNS[name]
    told = ", ".join(
        f"{known.get(v, v)} (number {v}, {int((usable & (values == v)).sum())} rows)"
        for v in present
    )
    if option is None:
        if len(present) > 1:
            raise bad_file(
                path,
                f"The file holds several {what}",
                "one, since a measurement is of one",
                told,
                f"choose one with the reader's option {keyword}, by number or name",
            )
        number = present[0] if present else 1
    else:
        text = str(option).strip().upper()
        by_name = [v for v in present if known.get(v, "").strip().upper() == text]
        by_number = [v for v in present if str(v) == text]
        if len(by_name or by_number) != 1:
            raise bad_file(
                path,
                f"The file holds no data of this {keyword}",
                f"one of {told}",
                option,
                f"correct the option {keyword}",
            )
        number = (by_name or by_number)[0]
    return usable & (values == number), number


def if_frequencies(path: Path, hdus: Any, freqsel: int, count: int) -> NDArray[np.float64]:
    """Return the offset of each IF from the header's frequency, Hz, [count]; 0 without a table.

    Raises:
        DataError: The AIPS FQ table has no row of this set-up, or not as many IFs as the data.
    """
    tables = extensions(hdus, "AIPS FQ")
    if not tables or "IF FREQ" not in tables[0].data.names:
        return np.zeros(count)
    data = tables[0].data
    offsets = np.asarray(data["IF FREQ"], float).reshape(len(data), -1)
    named = np.asarray(data["FRQSEL"]).astype(int).ravel() if "FRQSEL" in data.names else None
    row = 0
    if named is not None and len(named) and (len(named) > 1 or freqsel in named):
        rows = np.flatnonzero(named == freqsel)
        row = int(rows[0]) if len(rows) else -1
    if row < 0 or not len(data) or offsets.shape[1] < count:
        raise bad_file(
            path,
            "The table of frequencies does not fit the data",
            f"AIPS FQ with a row of set-up {freqsel} and {count} IFs",
            f"set-ups {[] if named is None else named.tolist()}, {offsets.shape[1]} IFs",
            "write the file again with its whole AIPS FQ table",
        )
    found = offsets[row, :count]
    if not np.isfinite(found).all():
        raise bad_file(path, "The IF frequencies are not finite", "Hz", found.tolist(),
                       "mend IF FREQ in the AIPS FQ table")  # fmt: skip
    return found


def texts(data: Any, name: str) -> list[str]:
    """Return a column of text; bytes that are no ASCII become U+FFFD."""
    raw = data.view(np.ndarray)[name]
    values = [bytes(v) if isinstance(v, bytes | np.bytes_) else str(v).encode() for v in raw]
    return [v.split(b"\0")[0].decode("ascii", errors="replace").strip() for v in values]


def antennas(
    path: Path, hdus: Any, subarray: int
) -> tuple[tuple[str, ...], list[int], NDArray[np.float64]]:
    """Return names, numbers and geocentric positions (m) of a subarray's stations.

    Stations are told apart by their number: of names that occur twice or are empty, the number
    is made part.

    Raises:
        DataError: There is no such table, or it lists fewer than two stations.
    """
    tables = extensions(hdus, "AIPS AN")
    if not tables:
        raise bad_file(
            path,
            "The file has no antenna table",
            "an extension AIPS AN",
            [h.name for h in hdus[1:]] or "no extension",
            "write the file again with its antenna table",
        )
    versions = [int(h.header.get("EXTVER", 1)) for h in tables]
    table = tables[versions.index(subarray)] if subarray in versions else tables[0]
    data = table.data
    names = texts(data, "ANNAME")
    if len(names) < 2:
        raise bad_file(
            path,
            "The array has fewer than two stations",
            "two stations or more in AIPS AN",
            f"{len(names)}: {', '.join(names)}",
            "an interferometer needs a baseline; check the file",
        )
    numbers = [int(n) for n in data["NOSTA"]]
    if len(set(numbers)) < len(numbers):
        raise bad_file(path, "Two stations have one number", "a NOSTA of its own for each",
                       numbers, "mend NOSTA in the AIPS AN table")  # fmt: skip
    unique = tuple(
        n if n and names.count(n) == 1 else f"{n}#{k}" for n, k in zip(names, numbers, strict=True)
    )
    centre = [float(table.header.get(f"ARRAY{a}", 0.0) or 0.0) for a in "XYZ"]
    positions = np.asarray(data["STABXYZ"], float).reshape(len(names), 3) + np.array(centre)
    return unique, numbers, positions
