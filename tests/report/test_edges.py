"""The report where a number is missing, infinite, or no length."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sciinv import plots
from sciinv.operators.base import ImageSpec
from sciinv.plots import style
from sciinv.plots.panel import scale_bar
from sciinv.report.findings import _fit
from sciinv.steps.report import _grid_words
from sciinv.units import pixel_doubt


def spec(rows: int, columns: int, unit: str) -> ImageSpec:
    return ImageSpec(
        (1, rows, columns), "1/mm", 5.0 * np.arange(rows), 5.0 * np.arange(columns), unit
    )


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_chi2_that_is_not_finite_is_a_doubt_and_no_traceback(bad):
    figure = plots.fit_figure([1.0, bad, bad], 100)
    assert "2 of 3 draws: not finite" in figure.axes[0].get_title()
    style.png(plots.fit_figure([bad, bad], 100))
    (found,) = _fit(bad, 0.1, 200)
    assert found.warning
    assert "not a finite number" in found.text


def test_an_image_one_pixel_wide_is_described():
    assert _grid_words(spec(3, 1, "mm")) == "3 × 1 pixels of 5 mm, 1/mm"
    assert _grid_words(spec(1, 1, "mm")) == "1 × 1 pixels of unknown size, 1/mm"


@pytest.mark.parametrize("unit", ["px", "pixel", ""])
def test_pixels_of_unknown_size_have_no_length(unit):
    assert "of unknown size" in _grid_words(spec(3, 4, unit))
    axis = {"units": unit} if unit else {}
    panel = xr.DataArray(
        np.zeros((3, 4)),
        dims=("y", "x"),
        coords={"y": ("y", np.arange(3.0), axis), "x": ("x", np.arange(4.0), axis)},
    )
    axes = Figure().add_subplot()
    scale_bar(axes, panel)
    assert not axes.texts
    assert not axes.lines
    panel["x"].attrs["units"] = "mm"
    scale_bar(axes, panel)
    assert axes.texts[0].get_text() == "1 mm"


def test_signs_that_the_font_lacks_are_told_once():
    style._tell_of_glyphs.cache_clear()
    figure = Figure()
    figure.add_subplot().set_title("脳の断面")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        style.png(figure)
        style.png(figure)
    told = [w for w in caught if "signs of a title" in str(w.message)]
    assert len(told) == len(caught) <= 1


@pytest.mark.parametrize(
    ("operator", "unit", "word"),
    [(1.05, "mm", None), (2.0, "mm", "0.5 times"), (1.0, "pixel", "not known"), (2, "µas", None)],
)
def test_a_prior_of_other_pixels_than_the_operators_is_a_doubt(operator, unit, word):
    found = pixel_doubt(1.0, "mm", operator, unit)
    assert (found is None) if word is None else (word in found)
