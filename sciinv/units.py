"""Whether a prior and an operator mean the same by a pixel of value 1.

A unit is written as an optional factor, a unit and an optional remark in parentheses:
"1/mm", "0.6 Jy/pixel", "Jy/pixel (total flux 1 Jy)".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sciinv.errors import PriorError

SILENT = ("", "arbitrary units")  # these say nothing, and fit everything
# What the readers' scaling and the prior cards call the same quantity.
ALIASES = {"99th percentile of the slice's magnitude": "1 = 99th percentile"}
PIXELS_ALIKE = 0.1  # relative difference of two pixels that a prior need not tell apart
_FORM = re.compile(
    r"(?:(?P<factor>\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s+)?(?P<name>[^(]*?)\s*(?:\((?P<remark>.*)\))?"
)


@dataclass(frozen=True)
class Unit:
    """A pixel's value 1 in words.

    Attributes:
        factor: In units of `name`.
        name: The unit itself.
        normalised: Whether images are scaled to a total of 1, so that the factor is the object's.
    """

    factor: float
    name: str
    normalised: bool

    @classmethod
    def of(cls, text: str) -> Unit:
        """Read a unit from its text."""
        found = _FORM.fullmatch(ALIASES.get(text.strip(), text.strip()))
        if found is None:
            return cls(1.0, text.strip(), False)
        factor, name, remark = found.group("factor", "name", "remark")
        return cls(float(factor or 1), name.strip(), (remark or "").startswith("total "))


def is_length(axis_units: str) -> bool:
    """Whether an axis is measured in a unit of length or angle, and not in pixels or unknown."""
    return axis_units.strip().lower() not in ("", "px", "pixel", "pixels", "1", "unknown")


def pixel_doubt(pixel: float, pixel_unit: str, operator: float, operator_unit: str) -> str | None:
    """Return a sentence where the prior's pixels are not of the operator's size, else None.

    Args:
        pixel: Side of the pixels that the prior was trained on.
        pixel_unit: Its unit.
        operator: Side of the operator's pixels.
        operator_unit: Its unit.
    """
    if not (pixel > 0 and operator > 0):
        return None
    if not is_length(operator_unit):
        return (
            f"The size of the operator's pixels is not known; the prior was trained on pixels of "
            f"{pixel:.4g} {pixel_unit}, and knows no other size."
        )
    if operator_unit != pixel_unit or abs(operator / pixel - 1) <= PIXELS_ALIKE:
        return None
    return (
        f"The prior was trained on pixels of {pixel:.4g} {pixel_unit}, and the operator's are of "
        f"{operator:.4g} {operator_unit}: its objects are {pixel / operator:.3g} times the size "
        "of those that it knows."
    )


def check(prior: str, operator: str, *, where: object = None) -> None:
    """Raise `PriorError` unless a prior's images have the unit of an operator's.

    A prior of images that are normalised to a total of 1, such as "Jy/pixel (total flux 1 Jy)",
    fits any factor of the same unit: there the factor is the total of the object.

    Args:
        prior: Unit of the prior's pixel values.
        operator: Unit of the pixel values of the operator's image.
        where: What the error names.
    """
    if prior.strip() in SILENT or operator.strip() in SILENT:
        return
    p, o = Unit.of(prior), Unit.of(operator)
    if p.name == o.name and (p.normalised or abs(p.factor / o.factor - 1) < 1e-6):
        return
    raise PriorError(
        "The prior and the operator have different units",
        where=where,
        expected=f"images in the operator's unit, {operator!r}",
        got=f"a prior of images in {prior!r}",
        remedy="give the operator and its data in the prior's unit, or choose a prior of this unit",
    )
