"""Calibration: whether the draws' spread is the error that is made."""

from sciinv.calibration.diagnostics import rank_uniformity, sliced_wasserstein, tarp
from sciinv.calibration.figures import LEVELS, Calibration, measure, run
from sciinv.calibration.simulate import simulate
from sciinv.priors.draws import prior_draws

__all__ = [
    "LEVELS",
    "Calibration",
    "measure",
    "prior_draws",
    "rank_uniformity",
    "run",
    "simulate",
    "sliced_wasserstein",
    "tarp",
]
