"""Figures: draws, maps, fit to the data, calibration. Matplotlib objects without global state."""

from sciinv.plots.diagnostics import calibration_figure, fit_figure
from sciinv.plots.maps import draws_figure, map_figure, maps_figure, write_map
from sciinv.plots.measured import measurement_figure
from sciinv.plots.panel import plane, shared_limits
from sciinv.plots.residuals import Residuals, residual_figure
from sciinv.plots.style import SPREAD, colour_map, colours_of, glow, png, vector

__all__ = [
    "SPREAD",
    "Residuals",
    "calibration_figure",
    "colour_map",
    "colours_of",
    "draws_figure",
    "fit_figure",
    "glow",
    "map_figure",
    "maps_figure",
    "measurement_figure",
    "plane",
    "png",
    "residual_figure",
    "shared_limits",
    "vector",
    "write_map",
]
