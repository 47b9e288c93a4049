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
