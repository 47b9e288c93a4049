"""What a summary is asked for: levels of quantiles, thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sciinv.errors import ConfigError


def check_levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Return the levels of quantiles; raise `ConfigError` unless they rise within [0, 1]."""
    levels = tuple(float(q) for q in quantiles)
    # NaN compares as false: it is asked for by name.
    if (
        not levels
        or not np.isfinite(levels).all()
        or list(levels) != sorted(set(levels))
        or levels[0] < 0
        or levels[-1] > 1
    ):
        raise ConfigError(
            "The quantiles are not levels",
            expected="numbers in [0, 1], rising",
            got=list(quantiles),
            remedy="give e.g. (0.05, 0.5, 0.95)",
        )
    return levels


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Return the values t of maps P(x > t); raise `ConfigError` for NaN."""
    limits = tuple(float(t) for t in thresholds)
    if np.isnan(limits).any():
        raise ConfigError(
            "A threshold is no number",
            expected="values t in the units of the image, for maps of P(x > t)",
            got=list(limits),
            remedy="leave NaN out",
        )
    return limits
