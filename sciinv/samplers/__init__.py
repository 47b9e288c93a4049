"""Posterior samplers under one call: DAPS, and DPS and Langevin beside it."""

from __future__ import annotations

import warnings
from typing import Any

from sciinv.errors import ConfigError
from sciinv.priors.base import Prior
from sciinv.registry import find
from sciinv.samplers.base import Sampler
from sciinv.samplers.daps import DAPS
from sciinv.samplers.dps import DPS
from sciinv.samplers.langevin import Langevin
from sciinv.samplers.particles import Particles

# torch says this of itself when forward derivatives are first taken: no user can act on it.
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

SAMPLERS: dict[str, type[Sampler]] = {s.name: s for s in (DAPS, DPS, Langevin, Particles)}

__all__ = ["DAPS", "DPS", "SAMPLERS", "Langevin", "Particles", "Sampler", "build"]


def build(kind: str, prior: Prior, **settings: Any) -> Sampler:
    """Return the sampler called `kind` with its settings.

    Raises:
        ConfigError: The sampler or a setting is not known.
    """
    import inspect

    cls = find("sampler", kind, SAMPLERS)
    known = set(inspect.signature(cls).parameters) - {"prior"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(
            "The sampler does not know this setting",
            where=kind,
            expected=", ".join(sorted(known)),
            got=", ".join(unknown),
            remedy="correct the spelling, or leave it out",
        )
    return cls(prior, **settings)
