"""Diffusion priors p(x0): Gaussians, mixtures, scale mixtures, learned networks; load and save."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciinv.priors.base import Prior
    from sciinv.priors.gaussian import Gaussian
    from sciinv.priors.learned.files import save
    from sciinv.priors.learned.network import LearnedPrior
    from sciinv.priors.mixture import GaussianMixture
    from sciinv.priors.scales.prior import ScaleMixture
    from sciinv.priors.wrapped.load import load
    from sciinv.priors.wrapped.prior import WrappedPrior

_WHERE = {
    "Gaussian": "gaussian",
    "GaussianMixture": "mixture",
    "LearnedPrior": "learned.network",
    "Prior": "base",
    "ScaleMixture": "scales.prior",
    "load": "wrapped.load",
    "WrappedPrior": "wrapped.prior",
    "save": "learned.files",
}
__all__ = [
    "Gaussian",
    "GaussianMixture",
    "LearnedPrior",
    "Prior",
    "ScaleMixture",
    "WrappedPrior",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    # Networks and safetensors are imported when they are first asked for.
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
