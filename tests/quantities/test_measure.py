"""Quantities of the fields on images whose answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr

from sciinv.errors import ConfigError
from sciinv.quantities import measure as domain


def draws(images, pixel=0.5, units="1/mm", axis="mm"):
    """Return images [draw, H, W] as the draws of one item."""
    images = np.asarray(images, dtype="f4")
    coords = {
        k: (k, pixel * np.arange(n), {"units": axis})
        for k, n in zip("yx", images.shape[1:], strict=True)
    }
    dims = ("draw", "item", "channel", "y", "x")
    return xr.DataArray(images[:, None, None], dims=dims, coords=coords, attrs={"units": units})


def plate(*holes, value=0.04, size=24):
    image = np.zeros((size, size))
    image[2:-2, 2:-2] = value
    for row, column, side in holes:
        image[row : row + side, column : column + side] = 0
    return image


def test_holes_are_counted_and_measured_in_every_draw():
    image = draws([plate((5, 5, 3), (12, 12, 4)), plate((5, 5, 3)), plate()])
    found = domain.measure(image, ["holes"])[0]
    assert found["Holes"]["values"] == [2, 1, 0]
    # 9 + 16, 9 and 0 pixels of 0.25 mm²; the plate has 20² pixels.
    assert found["Area of the holes"]["values"] == [6.25, 2.25, 0]
    assert found["Area of the material"]["values"] == [93.75, 97.75, 100]
    assert found["Area of the holes"]["units"] == "mm²"
    assert found["Value of the material"]["mean"] == pytest.approx(0.04, rel=1e-6)


def test_notches_and_specks_are_no_holes():
    notch, speck = plate((0, 8, 4)), plate((8, 8, 1))
    assert domain.measure(draws([notch, speck]), ["holes"])[0]["Holes"]["values"] == [0, 0]


def test_empty_image_has_no_material_to_measure():
    found = domain.measure(draws(np.zeros((2, 8, 8))), ["holes"])[0]
    assert found["Holes"]["mean"] is None
    assert found["Holes"]["measured"] == 0
    assert domain.spoken(found)["Holes"] == "not found in any draw"
    json.dumps(found, allow_nan=False)


def test_ring_of_known_diameter_is_found():
    pixel, size = 2.0, 64
    axis = pixel * (np.arange(size) - (size - 1) / 2)
    radius = np.hypot(axis[:, None], axis[None, :])
    ring = np.exp(-((radius - 21.0) ** 2) / (2 * 4.0**2))
    image = draws([ring, 0 * ring], pixel, "Jy", "µas")
    found = domain.measure(image, ["ring", "total"])[0]
    # Interpolation between pixels of 2 µas.
    assert found["Ring diameter"]["mean"] == pytest.approx(42.0, abs=0.5)
    json.dumps(found, allow_nan=False)  # one draw has no sd: null, not NaN
    assert domain.spoken(found)["Ring diameter: draws that show it"] == "1 of 2"
    alone = {
        k: q for k, q in found.items() if k.startswith(("Ring", "Brightest", "Asym", "Centre"))
    }
    told = domain.spoken(alone)
    assert told["Draws that show them"] == "1 of 2"
    assert not [name for name in told if name.endswith("draws that show it")]
    assert found["Sum of the image"]["values"][0] == pytest.approx(ring.sum(), rel=1e-5)


def test_angles_are_averaged_on_the_circle():
    one = domain.Quantity(np.array([350.0, 10.0]), "°", 360.0).summary()
    assert min(one["mean"], 360 - one["mean"]) == pytest.approx(0, abs=1e-9)
    # R = cos 10°, sd = √(−2 ln R)
    assert one["sd"] == pytest.approx(
        math.degrees(math.sqrt(-2 * math.log(math.cos(math.radians(10))))), rel=1e-9
    )


def test_unknown_quantity_lists_the_known_ones():
    with pytest.raises(ConfigError, match="ring, holes, total"):
        domain.measure(draws([plate()]), ["rings"])
