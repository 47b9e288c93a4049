"""Widths of p(x0 | x_t) fitted to the denoiser's own error: stationary, and local."""

from sciinv.priors.widths.stationary import FittedWidths, measure

__all__ = ["FittedWidths", "measure"]
