"""The options of readers: each has the type and the range that it can mean, checked before reading.

Every reader calls `check_options` first. The type is that of its signature, the range is that of
the quantity, and one name means one quantity in every reader.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciinv.errors import DataError


@dataclass(frozen=True)
class Range:
    """What an option may be: from `low` (itself where `closed`) to `high`, in `unit`."""

    low: float
    high: float = math.inf
    closed: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range."""
        above = value >= self.low if self.closed else value > self.low
        return above and value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        """Return the range in words."""
        if self.low == -math.inf:
            return "that is finite"
        high = "" if self.high == math.inf else f" to {self.high:g}"
        return f"{'from' if self.closed else 'above'} {self.low:g}{high} {self.unit}".rstrip()


POSITIVE = Range(0)
LENGTH = Range(0, unit="mm")
NOT_NEGATIVE = Range(0, closed=True)
ANY = Range(-math.inf)
RANGES: dict[str, Range] = {
    "image_size": Range(1, 16384, closed=True, unit="pixels a side"),
    "pixel_mm": LENGTH,
    "detector_mm": LENGTH,
    "source_origin_mm": LENGTH,
    "origin_detector_mm": Range(0, closed=True, unit="mm"),
    "noise_sd": POSITIVE,
    "noise_in_air": POSITIVE,
    "gain": POSITIVE,
    "dark": Range(0, closed=True, unit="counts"),
    "model_error": NOT_NEGATIVE,
    "scan_gap_s": Range(0, unit="s"),
    "scan_limit_s": Range(0, unit="s"),
    "systematic_noise": Range(0, 1, closed=True, unit="of |V|"),
    "snr_min": NOT_NEGATIVE,
    "intra_site_wavelengths": NOT_NEGATIVE,
    "total_flux_jy": Range(0, unit="Jy"),
    "total_flux_sd_jy": Range(0, unit="Jy"),
    "field_of_view_uas": Range(0, unit="µas"),
    "flux_unit_jy": Range(0, unit="Jy"),
}


def check_options(reader: Callable[..., Any], where: object, given: Mapping[str, Any]) -> None:
    """Check the options of a reader that are a number, a whole number, a flag or a list of them.

    Args:
        reader: The reader's `read`; its signature says the types, `RANGES` the ranges.
        where: The file.
        given: The options by name, as `locals()` holds them at the beginning of `read`.

    Raises:
        DataError: One has another type, or lies out of its range.
    """
    for name, parameter in inspect.signature(reader).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        value, annotation = given[name], str(parameter.annotation)
        kinds = {part.strip() for part in annotation.split("|")}
        if value is None and "None" in kinds:
            continue
        kinds -= {"None"}
        limits = RANGES.get(name, ANY)
        if kinds == {"bool"} and not isinstance(value, bool | np.bool_):
            raise _wrong(where, name, "true or false", value, parameter)
        if kinds == {"int"} and not (is_number(value, whole=True) and limits.holds(value)):
            raise _wrong(where, name, f"a whole number {limits}", value, parameter)
        if kinds == {"float"} and not (is_number(value) and limits.holds(value)):
            raise _wrong(where, name, f"a number {limits}", value, parameter)


def is_number(value: object, *, whole: bool = False) -> bool:
    """Whether a value is a real number, and no flag."""
    kind = numbers.Integral if whole else numbers.Real
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def numbers_from(value: object, where: object, name: str, expected: str) -> list[int]:
    """Return one whole number or several as a list, none of them twice.

    Raises:
        DataError: The value is something else.
    """
    several = isinstance(value, list | tuple | range | np.ndarray)
    one: list[Any] = list(value) if several else [value]  # type: ignore[call-overload]
    if not one or not all(is_number(v, whole=True) for v in one) or len(set(one)) < len(one):
        raise DataError(
            "An option of the reader cannot be so",
            where=f"{where}: {name}",
            expected=f"one of {expected}, or several, each once",
            got=value,
            remedy=f"correct {name}, or leave it out",
        )
    return [int(v) for v in one]


def numbers_among(
    value: object, n: int, where: object, name: str, *, absent: str, remedy: str
) -> list[int]:
    """Return the numbers of what is to be read, of n: one, several, or all where None is given.

    Args:
        value: What was given.
        n: How many there are, counted from 0.
        where: The file.
        name: The option, a plural: "rows", "slices".
        absent: What is wrong with a number that is not there.
        remedy: What to do then.

    Raises:
        DataError: The value is no such numbers, or one of them is not there.
    """
    words = f"the {name} 0 to {n - 1}"
    numbers = list(range(n)) if value is None else numbers_from(value, where, name, words)
    if not numbers or min(numbers) < 0 or max(numbers) >= n:
        raise DataError(absent, where=where, expected=f"0 to {n - 1}", got=value, remedy=remedy)
    return numbers


def _wrong(
    where: object, name: str, expected: str, got: object, parameter: inspect.Parameter
) -> DataError:
    usual = "" if parameter.default in (None, parameter.empty) else f" for {parameter.default}"
    remedy = f"correct {name}, or leave it out{usual}"
    if isinstance(got, str) and _reads_as_number(got):
        remedy = f"write {name} as {float(got)!r}, a number without quotes"
    return DataError(
        "An option of the reader cannot be so",
        where=f"{where}: {name}",
        expected=expected,
        got=repr(got)[:80],
        remedy=remedy,
    )


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
