"""Families of synthetic images that the shipped priors are trained on."""

from __future__ import annotations

from sciinv.priors.phantoms import blackholes, brains, discs, generic, heads
from sciinv.priors.phantoms.family import Family, dihedral
from sciinv.registry import find

FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        blackholes.FAMILY,
        brains.FAMILY,
        discs.FAMILY,
        generic.FAMILY,
        heads.FAMILY,
        heads.CROPS,
        heads.ANY,
    )
}

__all__ = ["FAMILIES", "Family", "dihedral", "family"]


def family(name: str) -> Family:
    """Return the family of that name; `ConfigError` lists the known ones."""
    return find("family of images", name, FAMILIES)
