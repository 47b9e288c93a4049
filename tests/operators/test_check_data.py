"""Data that an operator cannot have measured are refused when a store is opened with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import operators
from sciinv.errors import OperatorError
from sciinv.operators.interferometry import Visibilities

SCAN = {"angles": [0.0, 90.0], "image_size": 4, "pixel_mm": 1.0, "detectors": 4, "detector_mm": 1.0}


def test_negative_counts_are_no_counts_but_gradients_may_be_negative() -> None:
    physics = operators.load("ct-counts", **SCAN, blank_counts=100.0)
    y = torch.full((1, 1, 2, 4), 50.0)
    physics.check_data(y)
    y[0, 0, 1, 2] = -1
    with pytest.raises(OperatorError, match=r"counts of 0 or more[\s\S]*-1"):
        physics.check_data(y)
    physics.A_vjp(torch.zeros(1, 1, 4, 4), y)


def test_values_that_are_not_finite_or_beyond_any_scan_are_refused() -> None:
    ct = operators.load("ct", **SCAN)
    for value in (float("nan"), float("inf"), 1e6):
        with pytest.raises(OperatorError, match="data cannot be those of CT"):
            ct.check_data(torch.full((1, 1, 2, 4), value))
    vis = Visibilities(np.ones(3), np.ones(3), 1.0, image_size=8, field_of_view_uas=100.0)
    with pytest.raises(OperatorError, match="Jy"):
        vis.check_data(torch.full((1, 2, 3), 1e25))


def test_lengths_in_detector_pixels_are_not_called_mm() -> None:
    spec = operators.load("ct", **SCAN, length_unit="pixel").image_spec
    assert (spec.axis_units, spec.units) == ("pixel", "1/pixel")
    assert operators.load("ct", **SCAN).image_spec.axis_units == "mm"
