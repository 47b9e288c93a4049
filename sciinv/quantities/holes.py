"""Holes in a slice of one material."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import ndimage

from sciinv.quantities.base import Found, Quantity, _pixel


def holes(image: xr.DataArray) -> Found:
    """Count holes in a slice of one material; image [draw, channel, y, x].

    The value of the material is the median of the pixels above half of the draw's 99th percentile;
    material is where a pixel is above half of that value. A hole is a connected region (by sides)
    without material, of at least 4 pixels, that does not touch the edge of the image.
    """
    area = _pixel(image) ** 2
    found = np.array([holes_of(draw, area) for draw in image.isel(channel=0).values])
    units = str(image["x"].attrs.get("units", "px"))
    return {
        "Holes": Quantity(found[:, 0]),
        "Area of the holes": Quantity(found[:, 1], f"{units}²"),
        "Area of the material": Quantity(found[:, 2], f"{units}²"),
        "Value of the material": Quantity(found[:, 3], str(image.attrs.get("units", ""))),
    }


def holes_of(draw: np.ndarray, area: float) -> tuple[float, float, float, float]:
    """Return holes, their area, the material's area and its value, of one image [y, x].

    The one definition, for reports and calibration alike: see `holes`. NaN without material.

    Args:
        draw: The image.
        area: Of a pixel.
    """
    top = float(np.quantile(draw, 0.99))
    if not top > 0:
        return (math.nan,) * 4
    level = float(np.median(draw[draw > top / 2]))
    material = draw > level / 2
    regions, count = ndimage.label(~material)
    outside = set(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    sizes = ndimage.sum_labels(~material, regions, range(1, count + 1))
    inner = [n for k, n in enumerate(sizes, 1) if k not in outside and n >= 4]
    return float(len(inner)), area * float(sum(inner)), area * float(material.sum()), level
