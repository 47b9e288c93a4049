"""The report and its figures: one whole file that says what the numbers say."""

import html.parser
import json
import re
import struct

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from sciinv import metrics, plots, report, store, uncertainty
from sciinv.errors import ConfigError, StoreError
from sciinv.plots import style
from sciinv.report import Problem, nuisances, write_report
from sciinv.report import findings as trust


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.store.atomic._flush", lambda path: None)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of two problems, and the folder with the store of the first."""
    folder = tmp_path_factory.mktemp("report")
    path = write_report(two_problems(folder), folder / "report.html", title="Two <problems>")
    return folder, path.read_text()


def ring(draws=24, items=2, size=48, seed=0):
    """Draws like a black hole's ring: a bright south, a diameter that is not quite sure."""
    rng = np.random.default_rng(seed)
    step = 160 / size
    axis = (np.arange(size) - (size - 1) / 2) * step
    east, north = np.meshgrid(-axis, -axis)  # east is left, north is up
    image = np.empty((draws, items, 1, size, size), "f4")
    for i in range(draws):
        for j in range(items):
            radius = 21 + 0.5 * rng.normal()
            angle = np.arctan2(north, east) - np.deg2rad(-70 + 12 * rng.normal())
            band = np.exp(-0.5 * ((np.hypot(east, north) - radius) / (6 + 0.8 * rng.normal())) ** 2)
            knots = gaussian_filter(rng.normal(size=(size, size)), 2.5) * 1.2
            image[i, j, 0] = 0.02 * band * np.clip(1 + 0.6 * np.cos(angle) + knots, 0, None)
    return xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), image, {"units": "Jy/pixel"}),
            "chi2": (("draw", "item"), 1 + 0.05 * rng.normal(size=(draws, items))),
            "nfe": (("draw", "item"), np.full((draws, items), 50)),
            "seconds": (("draw", "item"), 4 + 0.2 * rng.random((draws, items))),
        },
        coords={
            "draw": np.arange(draws),
            "item": np.arange(items),
            "channel": ["intensity"],
            "y": ("y", -axis, {"units": "µas", "long_name": "relative declination"}),
            "x": ("x", -axis, {"units": "µas", "long_name": "relative right ascension"}),
            "night": ("item", ["5 April", "11 April"][:items]),
        },
        attrs={
            "operator": "closures", "sampler": "daps", "seed": 0, "device": "cpu",
            "sciinv_version": "0.1.0", "micro_batch": 4, "host": "node17",
            "versions": json.dumps({"torch": "2.14.1", "deepinv": "0.5.0"}),
            "command": "sciinv sample configs/m87.yaml --shard 0/4",
            "config_hash": "5f1d7a84" * 8, "created": "2025-03-04T10:11:12+00:00",
        },
    )  # fmt: skip


def disc(draws=16, size=64, seed=1):
    """Draws like those of a limited-angle scan: sharp along the beam, streaks across it."""
    rng = np.random.default_rng(seed)
    axis = (np.arange(size) - (size - 1) / 2) * 1.2
    x, y = np.meshgrid(axis, -axis)
    body = (np.hypot(x, y) < 33).astype(float)
    for cx, cy, r in [(-10, 8, 5), (9, 12, 7), (12, -14, 6), (-12, -13, 4)]:
        body[np.hypot(x - cx, y - cy) < r] = 0
    edge = np.abs(np.gradient(gaussian_filter(body, 1.0), axis=0))
    noise = gaussian_filter(rng.normal(size=(draws, size, size)), (0, 0.6, 3.0)) * 4
    image = 0.038 * (
        gaussian_filter(body, 0.7) + edge * noise + 0.01 * rng.normal(size=noise.shape)
    )
    return xr.Dataset(
        {
            "image": (
                ("draw", "item", "channel", "y", "x"),
                image[:, None, None].astype("f4"),
                {"units": "1/mm"},
            ),
            "chi2": (("draw", "item"), 1.31 + 0.02 * rng.normal(size=(draws, 1))),
            "nfe": (("draw", "item"), np.full((draws, 1), 100)),
            "seconds": (("draw", "item"), np.full((draws, 1), 31.0)),
        },
        coords={
            "draw": np.arange(draws),
            "item": [0],
            "channel": ["attenuation"],
            "y": ("y", -axis, {"units": "mm"}),
            "x": ("x", axis, {"units": "mm"}),
        },
        attrs={"operator": "ct", "sampler": "daps", "seed": 7},
    ), 0.038 * body


def two_problems(folder):
    halves = [ring().isel(draw=slice(0, 12)), ring().isel(draw=slice(12, 24))]
    for i, half in enumerate(halves):
        half.attrs["host"] = f"node{i}"
        store.write_posterior(half, folder / f"{i}.zarr", shard=(12, 2))
    path = store.merge_posteriors([folder / "0.zarr", folder / "1.zarr"], folder / "all.zarr")
    rng = np.random.default_rng(0)
    truths, n = rng.normal(size=600), 15
    m87 = Problem(
        title="M87*, 5 April 2017",
        posterior=path,
        measurement={
            "Source": "Event Horizon Telescope, data release 2019-D01-01, 229 GHz",
            "Instrument": "7 stations at 5 sites, baselines of 0.16 to 11 Gλ",
            "Sampling": "168 scan-averaged visibilities: 72 closure phases, "
            "64 log closure amplitudes",
        },
        components=137,
        classical={"CLEAN": gaussian_filter(ring(1, 1, seed=9)["image"].values[0, 0, 0], 3)},
        domain={"Ring diameter": (41.93, 0.81, "µas"), "Brightest at": "177° ± 9° (east of north)"},
        calibration=(metrics.ranks(rng.normal(size=(n, 600)), truths), n),
        provenance={"Sampling pattern": "from the file’s own (u, v) points"},
    )
    draws, body = disc()
    scan = Problem(
        title="Helsinki 2022, disc ta at 60°",
        posterior=draws,
        measurement={
            "Source": "Helsinki Tomography Challenge 2022",
            "Sampling": "121 angles of 721",
        },
        components=121 * 560,
        classical={"filtered back-projection": gaussian_filter(body, (0.5, 4))},
        truth=body,
        domain={"Matthews correlation": 0.9671},
    )
    return [m87, scan]


class Page(html.parser.HTMLParser):
    """What a browser would make of the file: tags that close, links, images."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_report_is_one_whole_file_that_needs_no_other(written):
    _, text = written
    page = Page(text)
    assert page.open == []
    assert "Two <problems>" in page.text
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == 3  # the still maps of both, one calibration
    assert all(a["src"].startswith("data:image/png;base64,") and a["alt"] for a in images)
    assert not [t for t, _ in page.tags if t in ("link", "iframe", "object")]
    scripts = [a for t, a in page.tags if t == "script"]
    assert [a.get("type") for a in scripts] == ["application/json"] * 2 + [None]
    assert not any("src" in a for a in scripts)
    assert not re.search(r"(src|href)=.?(https?:|//)", text)
    assert not re.search(r"url\(|@import", text)
    anchors = [a["href"][1:] for t, a in page.tags if t == "a"]
    ids = {a["id"] for t, a in page.tags if "id" in a}
    assert anchors
    assert set(anchors) <= ids


def test_the_words_and_numbers_are_those_of_the_draws(written):
    folder, text = written
    text = Page(text).text
    assert "41.9 ± 0.8 µas" in text
    assert "0.9671" in text
    assert "node0, node1" in text
    assert "50 per draw" in text
    assert "Event Horizon Telescope" in text
    chi2 = store.to_dataset(store.open_posterior(folder / "all.zarr"))["chi2"][:, 0].median()
    assert (
        # 1 ± 3 √(2/137)
        f"a reduced χ² below {float(chi2):.3g} (expected: 0.64 to 1.36 for 137 measured values)"
        in text
    )
    assert "they do not explain the data" in text  # the scan, at χ² = 1.31
    assert "From 24 draws the mean is known to 0.204 of a standard deviation" in text


def test_a_report_is_the_same_when_it_is_made_again(tmp_path):
    draws, body = disc(draws=4, size=24)
    problem = Problem("Disc", draws, truth=body)
    one = write_report(problem, tmp_path / "1.html").read_bytes()
    assert one == write_report(problem, tmp_path / "2.html").read_bytes()


def test_complex_images_are_reported_by_their_magnitude(tmp_path):
    draws, _ = disc(size=32)
    image = np.concatenate([draws["image"].values, 0.5 * draws["image"].values], axis=2)
    draws = draws.drop_vars("image").assign_coords(channel=["real", "imag"])
    draws["image"] = (("draw", "item", "channel", "y", "x"), image, {"units": "a.u."})
    problem = Problem("Brain", draws, classical={"SENSE": image[0, 0]})
    text = write_report(problem, tmp_path / "r.html").read_text()
    assert "SENSE" in text


def test_what_cannot_be_reported_is_an_error_and_leaves_nothing(tmp_path):
    draws, _ = disc(size=32)
    with pytest.raises(ConfigError, match="nothing to report"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(ConfigError, match="no such item"):
        write_report(Problem("Disc", draws, item=3), tmp_path / "r.html")
    with pytest.raises(ConfigError, match="does not match"):
        write_report(Problem("Disc", draws, classical={"FBP": np.ones(9)}), tmp_path / "r.html")
    with pytest.raises(StoreError, match="not there"):
        write_report(Problem("Disc", tmp_path / "no.zarr"), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((41.93, 0.81, "µas"), "41.9 ± 0.8 µas"),
        ((41.93, 0.143, "µas"), "41.93 ± 0.14 µas"),
        ((1234.0, 56.0), "1234 ± 56"),
        ((0.0123, 0.0004), "0.0123 ± 0.0004"),
        ((3.14159, 0.0, "rad"), "3.142 rad"),
        (0.96712, "0.9671"),
        ("177° ± 9°", "177° ± 9°"),
    ],
)
def test_a_number_is_given_with_the_places_that_its_uncertainty_allows(value, expected):
    assert report.spoken(value) == expected


# --- trust -------------------------------------------------------------------------------------


def judged(
    draws=24, mean=1.0, sd=0.1, chi2=1.0, components=2000, classical=None, truth=None, **stats
):
    rng = np.random.default_rng(0)
    image = rng.normal(mean, sd, size=(draws, 1, 1, 20, 20)).astype("f4")
    data = xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), image),
            "chi2": (("draw", "item"), np.full((draws, 1), chi2)),
            **{k: (("draw", "item"), np.full((draws, 1), v)) for k, v in stats.items()},
        }
    )
    summary = uncertainty.summarize(data).isel(item=0, channel=0)
    return trust.assess(summary, data.drop_vars("image").isel(item=0), classical, components, truth)


def test_a_sound_posterior_raises_no_doubt():
    found = judged()
    assert found.warnings == ()
    assert found.relative_sd == pytest.approx(0.1, rel=0.15)  # 24 draws: sd to 15 %
    assert found.significant == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chi2": 1.2}, "do not explain the data"),
        ({"chi2": 0.8}, "fit better than the truth"),
        ({"chi2": 1.3, "components": None}, "do not explain the data"),
        ({"draws": 6}, "From 6 draws"),
        ({"mean": 0.05, "sd": 0.2}, "two standard deviations from zero"),
        ({"acceptance": 0.05}, "may not have settled"),
    ],
)
def test_a_reason_for_doubt_is_named(settings, words):
    assert any(words in f.text for f in judged(**settings).warnings)


def test_draws_too_few_for_the_outer_quantiles_ask_for_more_and_are_no_doubt():
    found = judged(draws=12)
    assert found.warnings == ()
    assert ["19 draws would bound them" in f.text for f in found.advice] == [True]


@pytest.mark.parametrize(
    ("scale", "doubt", "words"),
    [
        (0.02, True, "check the units"),
        (0.3, False, "larger than what the data show"),
        (1.9, False, ""),
        (2.1, True, "misses an effect"),
        (50.0, True, "check the units"),
    ],
)
def test_noise_as_found_is_a_doubt_where_it_may_hide_an_effect_or_a_unit(scale, doubt, words):
    data = xr.Dataset({"noise_scale": ("draw", np.full(24, scale), {"unknown": 1})})
    ((text, warns),) = nuisances.sentences(data)
    assert (warns, words in text) == (doubt, True)


@pytest.mark.parametrize(("size", "doubt"), [(0.016, False), (0.9, True)])
def test_a_model_error_is_told_and_a_large_one_is_a_doubt(size, doubt):
    about = {"unknown": 1, "units": "of the signal"}
    data = xr.Dataset({"model_error": ("draw", np.full(24, size), about)})
    ((text, warns),) = nuisances.sentences(data.assign_attrs(conditional="local"))
    assert warns is doubt
    assert f"model error {size} of the signal" in text
    assert ("no small correction" in text) is doubt


def test_a_phase_on_both_sides_of_half_a_turn_has_a_narrow_interval():
    values = np.pi + 0.1 * np.random.default_rng(0).normal(size=400)
    values -= 2 * np.pi * np.round(values / (2 * np.pi))  # half of them near −π
    data = xr.Dataset({"phase": ("draw", values, {"unknown": 1, "period": 2 * np.pi})})
    ((text, _),) = nuisances.sentences(data)
    low, high = (float(w.replace("−", "-")) for w in text.split("from ")[1][:-2].split(" to "))
    assert high - low == pytest.approx(3.29 * 0.1, rel=0.15)  # 400 draws: 5 standard errors


@pytest.mark.parametrize(("sd", "told"), [(0.02, True), (0.05, False)])
def test_many_values_are_told_beside_what_was_known_of_them(sd, told):
    values = 0.05 * np.random.default_rng(0).normal(size=(400, 12)) * sd / 0.05
    about = {"unknown": 1, "units": "1", "prior_sd": 0.05}
    data = xr.Dataset({"coil_maps": (("draw", "coil_map_coefficient"), values, about)})
    ((text, warns),) = nuisances.sentences(data)
    assert not warns
    assert "coil maps, 12 values" in text
    assert "0.165 before the data" in text  # 3.29 sd
    assert ("the data tell little of them" in text) is not told


@pytest.mark.parametrize(("conditional", "doubt"), [("local", True), ("tweedie", False)])
def test_a_scale_drawn_under_a_learned_width_is_a_reason_for_doubt(conditional, doubt):
    drawn = ("draw", np.linspace(0.9, 1.1, 24), {"unknown": 1, "units": "1"})
    noise = ("draw", np.ones(24), {"unknown": 1})
    data = xr.Dataset({"attenuation_scale": drawn, "noise_scale": noise})
    said = nuisances.sentences(data.assign_attrs(conditional=conditional))
    assert [warns for _, warns in said] == [False, False] + [True] * doubt
    assert ("intervals of attenuation scale rest on" in said[-1][0]) is doubt


def test_a_sure_but_small_excess_is_no_reason_for_doubt():
    found = judged(chi2=1.02, components=10**7)
    assert found.warnings == ()
    assert any("outside of the expected interval" in f.text for f in found.findings)
    assert not any("explain the data" in f.text for f in found.findings)


def test_too_small_a_misfit_is_said_as_plainly_as_too_large_a_one():
    low, high = (judged(chi2=c, components=10**7).findings[0].text for c in (0.98, 1.02))
    assert "% smaller than stated" in low
    assert "% larger than stated" in high


def test_noise_as_found_is_told_with_its_interval_and_judges_the_fit():
    data = xr.Dataset({"image": (("draw", "item", "channel", "y", "x"), np.ones((24, 1, 1, 8, 8)))})
    data["image"] = data["image"] + 0.1 * np.random.default_rng(0).normal(size=data["image"].shape)
    about = {"unknown": 1, "units": "1"}
    data["chi2"] = ("draw", "item"), np.full((24, 1), 1.44)
    data["noise_scale"] = ("draw", "item"), np.linspace(1.19, 1.21, 24)[:, None], about
    data["rings"] = ("draw", "item", "detector"), np.ones((24, 1, 5)), {"unknown": 1, "units": "mm"}
    summary = uncertainty.summarize(data[["image"]]).isel(item=0, channel=0)
    found = trust.assess(summary, data.drop_vars("image").isel(item=0), None, 2000)
    words = " ".join(f.text for f in found.findings)
    assert "explain the data to within the noise" in words
    assert "noise level ÷ declared 1.2 (90 % of the draws from 1.19 to 1.21)" in words
    assert "rings, 5 values from 1 to 1 mm" in words


def test_a_classical_image_outside_of_the_interval_is_counted():
    image = np.ones((20, 20))
    image[:5] = 3.0
    found = judged(classical={"FBP": image})
    assert found.outside["FBP"] == pytest.approx(0.25, abs=0.01)
    assert any("FBP reconstruction lies outside" in f.text for f in found.findings)


def test_the_truth_is_held_as_often_as_one_more_draw_would_be():
    rng = np.random.default_rng(1)
    expected = 0.9 * 23 / 25  # the levels that interpolated order statistics of 24 draws have
    found = judged(truth=rng.normal(1.0, 0.1, (20, 20)))
    text = next(f.text for f in found.findings if "The truth lies within" in f.text)
    assert f"({100 * expected:.0f} % if it were one more draw)" in text
    share = float(re.search(r"interval at ([\d.]+) %", text).group(1)) / 100
    # 400 independent pixels: five standard errors.
    assert share == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 400))
    assert any("truth" in f.text for f in judged(truth=np.full((20, 20), 1.3)).warnings)


# --- figures -----------------------------------------------------------------------------------


def size(content):
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_figures_are_drawn_without_the_global_state_of_pyplot():
    import subprocess
    import sys

    code = "import sciinv.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_figure_renders():
    data = ring(draws=10)
    summary = uncertainty.summarize(data)
    figures = [
        plots.draws_figure(data, item=1, count=7, colours=plots.glow()),
        plots.maps_figure(summary, classical={"CLEAN": np.zeros((48, 48))}),
        plots.fit_figure(data["chi2"].values[:, 0], 137),
        plots.fit_figure(np.ones(5)),
        plots.calibration_figure(np.arange(17).repeat(3), 16),
    ]
    for figure in figures:
        width, height = size(plots.png(figure, 60))
        assert min(width, height) > 100


def test_a_falling_right_ascension_falls_to_the_right():
    data = ring(draws=2, items=1)
    figure = plots.map_figure(data["image"][0, 0, 0])
    left, right = figure.axes[0].get_xlim()
    assert left > 0 > right
    assert left == pytest.approx(80)  # half of 160 µas: the edge of the first pixel
    bottom, top = figure.axes[0].get_ylim()
    assert top > bottom
    assert figure.axes[0].get_xlabel() == "relative right ascension (µas)"


def test_images_of_one_figure_share_their_scale_and_spreads_start_at_zero():
    summary = uncertainty.summarize(ring(draws=10))
    figure = plots.maps_figure(summary, classical={"CLEAN": np.full((48, 48), 9.0)})
    scales = {
        ax.get_title(): ax.images[0].get_clim() for ax in figure.axes if ax.images
    }  # fmt: skip
    images = [v for k, v in scales.items() if "deviation" not in k and "interval" not in k]
    assert len(images) == 5
    assert len(set(images)) == 1
    assert scales["Standard deviation"][0] == 0
    assert scales["Standard deviation"][1] == pytest.approx(float(summary["sd"][0].max()))


def test_the_glowing_colours_rise_evenly_in_lightness():
    colours = plots.glow()(np.linspace(0, 1, 64))[:, :3]
    steps = np.diff(style.lightness_of(colours))
    assert (steps > 0).all()
    # 64 of 256 colours: a step is 4 or 5 of theirs.
    assert steps.max() / steps.min() < 1.5


def test_one_map_is_written_as_a_png(tmp_path):
    path = plots.write_map(ring(2, 1)["image"][0, 0, 0], tmp_path / "a" / "map.png", title="Ring")
    assert size(path.read_bytes())[0] > 500
    with pytest.raises(ConfigError, match="One map"):
        plots.write_map(ring(2, 1)["image"][0], tmp_path / "map.png")


def test_ranks_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="ranks do not match"):
        plots.calibration_figure(np.array([3, 18]), 16)
    with pytest.raises(ConfigError, match="ranks do not match"):
        plots.calibration_figure(np.array([], dtype=int), 16)
