"""The page to the eye: packed images, units, contrast, hostile text, numbers for images."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciinv.errors import ConfigError
from sciinv.report import Problem, parts, write_report
from sciinv.report.chart import histogram
from sciinv.report.packed import binned, packed, unpacked
from sciinv.report.shown import shown_as

STYLE = Path(__file__).resolve().parents[2] / "sciinv/report/style.css"


def draws(count=24, size=24, units="1/mm"):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.exp(-(x**2 + y**2) / 40) + 0.05 * rng.normal(size=(count, 1, 1, size, size))
    return xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), image.astype("f4"), {"units": units}),
            "chi2": (("draw", "item"), np.ones((count, 1))),
        },
        coords={"y": ("y", y[:, 0], {"units": "mm"}), "x": ("x", x[0], {"units": "mm"})},
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_a_packed_image_comes_back_to_half_a_step(bits):
    image = np.random.default_rng(0).normal(size=(7, 5))
    part = packed(image, bits)
    # Float rounding of low + step · k on top of half a step.
    assert np.abs(unpacked(part, (7, 5)) - image).max() <= part["step"] / 2 * (1 + 1e-9)
    assert part["step"] == pytest.approx(np.ptp(image) / (2**bits - 1))


def test_an_even_image_is_packed_exactly():
    assert (unpacked(packed(np.full((3, 4), 2.5), 8), (3, 4)) == 2.5).all()


def test_bins_at_the_edge_are_means_over_what_is_there():
    assert binned(np.arange(9.0).reshape(3, 3), 2).tolist() == [[2.0, 3.5], [6.5, 8.0]]


def test_a_flux_per_pixel_is_shown_as_brightness_temperature():
    side = 2e-6 / 3600 * math.pi / 180  # 2 µas
    kelvin = 0.6e-26 * 299792458.0**2 / (2 * 1.380649e-23 * (230e9) ** 2 * side**2)
    shown = shown_as("0.6 Jy/pixel", 0.002, (2.0, "µas"), 230e9)
    assert shown.units == "10⁹ K"
    assert shown.factor * 1e9 == pytest.approx(kelvin, rel=1e-12)
    plain = shown_as("0.6 Jy/pixel", 0.002, (2.0, "µas"))
    assert (plain.units, plain.factor) == ("mJy/pixel", pytest.approx(600))


@pytest.mark.parametrize(
    ("units", "word"),
    [("1/mm", "1/mm"), ("1", ""), ("", ""), ("1 = 99th percentile", "normalised signal")],
)
def test_other_units_are_shown_as_they_are_stored(units, word):
    shown = shown_as(units, 1.0, scale=3.5)
    assert (shown.factor, shown.units) == (1.0, word)
    assert ("3.5 in the units of the file" in shown.note) == units.startswith("1 = ")


def test_an_angle_is_counted_on_its_circle():
    text = histogram([359.0, 1.0, 0.5, 358.5], "Angle", "°", period=360)
    assert "central 90 % from -1." in text


def luminance(colour):
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(a, b):
    """Return the contrast of two colours as WCAG 2.2 defines it."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_edges_have_the_contrast_of_wcag_aa_in_every_scheme():
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.S)
    assert len(blocks) == 3  # light, dark, print
    for block in blocks:
        c = dict(re.findall(r"--([\w-]+): (#\w+)", block))
        c = {k: "#" + "".join(2 * s for s in v[1:]) if len(v) == 4 else v for k, v in c.items()}
        text = [(ink, on) for ink in ("ink", "soft", "accent") for on in ("ground", "card")]
        text += [("good", "good-ground"), ("doubt", "doubt-ground"), ("ink", "doubt-ground")]
        for ink, on in text:
            assert contrast(c[ink], c[on]) >= 4.5, (ink, on)
        assert contrast(c["edge"], c["card"]) >= 3  # of a button


def test_text_of_a_user_stays_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    problem = Problem(evil, draws(), measurement={evil: evil}, classical={evil: np.ones((24, 24))})
    text = write_report(problem, tmp_path / "r.html", title=evil).read_text()
    assert evil not in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", text)


def test_draws_that_do_not_fit_are_binned_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.report.page.BUDGET", 6000)
    text = write_report(Problem("Disc", draws()), tmp_path / "r.html").read_text()
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    assert data["draws"]["side"] > 1
    assert sum(len(d["data"]) for d in data["draws"]["images"]) <= 6000
    assert "Draws are averaged over" in text


def test_a_check_of_the_prior_is_a_finding_and_an_empty_slot_names_its_command(tmp_path):
    check = {"answer": "does not fit", "sentence": "The prior does not fit: p = 0.01."}
    problem = Problem("Disc", draws(), prior_check=check, slots={"calibration": "sciinv cal <x>"})
    text = write_report(problem, tmp_path / "r.html").read_text()
    assert '<li class="doubt">The prior does not fit: p = 0.01.</li>' in text
    assert "sciinv cal &lt;x&gt;" in text


def test_an_attenuation_is_shown_in_hounsfield_units_where_that_of_water_is_known(tmp_path):
    shown = shown_as("1/mm", 0.04, water=0.02)
    assert shown.units == "HU"
    image = xr.DataArray([0.0, 0.02, 0.04])
    assert shown.of(image).values.tolist() == pytest.approx([-1000, 0, 1000])
    assert shown.of(image, spread=True).values.tolist() == pytest.approx([0, 1000, 2000])
    with pytest.raises(ConfigError, match="Only an attenuation"):
        shown_as("Jy/pixel", 1.0, water=0.02)
    # The page judges the object where it is, not where 0 HU is.
    data = draws()
    plain = write_report(Problem("Disc", data), tmp_path / "a.html").read_text()
    text = write_report(Problem("Disc", data, water=0.5), tmp_path / "b.html").read_text()
    said = re.compile(r"Within the object.*?deviations from zero\.")
    assert said.search(text)[0] == said.search(plain)[0]
    assert "1000 (μ/μ_water − 1) with μ_water = 0.5 1/mm" in text


def test_the_image_stands_in_numbers_too():
    values = np.add.outer(10.0 * np.arange(4), np.arange(4))
    y = ("y", np.arange(4.0), {"units": "mm"})
    summary = xr.Dataset(
        {"mean": (("y", "x"), values), "sd": (("y", "x"), np.full((4, 4), 0.5))},
        coords={"y": y, "x": ("x", np.arange(4.0), {"units": "mm"})},
    )
    found = parts.regions(summary)  # 4 × 4 pixels: each is a region
    assert found["x"] == ["0", "1", "2", "3"]
    assert found["rows"][2] == ("2", ["20 ± 0.5", "21 ± 0.5", "22 ± 0.5", "23 ± 0.5"])
    assert found["units"] == "mm"


def test_simulated_truths_of_the_search_stand_in_the_place_of_calibration(tmp_path):
    one = {"inflate": 3.0, "ratio": 1.02, "error": 0.05, "between": 0.331, "between_error": 0.012}
    search = {"inflate": 3.0, "truths": 4, "passes": [one | {"inflate": 1.0, "ratio": 0.7}, one]}
    text = write_report(Problem("Disc", draws(), search=search), tmp_path / "r.html").read_text()
    assert "4 truths were drawn from the prior" in text
    assert "1.02 times as far from each other as from the truth" in text
    assert "at 33.1 ± 1.2 % of the pixels (right: 33.3 %)" in text
    assert parts.of_search(None) == ""
