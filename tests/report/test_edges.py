"""The report where a number is missing, infinite, or no length."""

from __future__ import annotations

import json
import math
import re
import warnings

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sciinv import plots, uncertainty
from sciinv.operators.base import ImageSpec
from sciinv.plots import style
from sciinv.plots.panel import scale_bar
from sciinv.report import Problem, write_report
from sciinv.report.findings import _fit, assess
from sciinv.report.packed import unpacked
from sciinv.steps.report import _grid_words
from sciinv.units import pixel_doubt

from .test_page import draws


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


@pytest.mark.parametrize("chi2", [0.5, 0.86, 0.95, 1.0, 1.1, 1.25, 1.31, 1.6])
@pytest.mark.parametrize("components", [50, 137, 4000])
def test_text_and_bands_of_the_fit_are_of_one_interval(chi2, components):
    """A page never says that draws fit which its figures show outside of the green band."""
    data = draws(24, 16)
    data["chi2"] = data["chi2"] * chi2
    stats = data[["chi2"]].isel(item=0)
    summary = uncertainty.summarize(data).isel(item=0, channel=0)
    judged = assess(summary, stats, components=components)
    (patch,) = [
        p
        for p in plots.fit_figure(stats["chi2"].values, components).axes[0].patches
        if p.get_label().startswith("1 ±")
    ]
    low, high = patch.get_x(), patch.get_x() + patch.get_width()
    assert (low, high) == pytest.approx((1 - judged.chi2_half, 1 + judged.chi2_half))
    fits = any("they explain the data" in f.text for f in judged.findings)
    assert fits == (low <= chi2 <= high)


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_the_probability_above_a_threshold_is_on_the_page(tmp_path, t):
    data = draws(24, 16)
    problem = Problem("Blob", data, summary=uncertainty.summarize(data, thresholds=(t,)))
    text = write_report(problem, tmp_path / "a.html").read_text()
    assert f"P(x &gt; {t})" in text
    assert "P(x &gt; t), any t" in text
    (data_of_page,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    (view,) = [v for v in json.loads(data_of_page)["views"] if v["key"] == "p0"]
    exact = (data["image"].values[:, 0, 0] > t).mean(0)
    error = np.abs(unpacked(view, exact.shape) - exact).max()
    assert error <= view["step"] / 2 * (1 + 1e-9)
