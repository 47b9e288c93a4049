"""The ring of a black-hole image."""

from __future__ import annotations

import xarray as xr

from sciinv.quantities.base import Found, Quantity, _pixel


def ring(image: xr.DataArray) -> Found:
    """Measure the ring of an image [draw, channel, y, x]: see `sciinv.quantities.ringfit`."""
    from sciinv.quantities.ringfit import ring_parameters

    rings = ring_parameters(image.isel(channel=0).values, _pixel(image))
    return {
        "Ring diameter": Quantity(rings.diameter, "µas"),
        "Ring width": Quantity(rings.width, "µas"),
        "Brightest at (east of north)": Quantity(rings.position_angle, "°", 360.0),
        "Asymmetry": Quantity(rings.asymmetry),
        "Centre ÷ ring brightness": Quantity(rings.central_fraction),
    }
