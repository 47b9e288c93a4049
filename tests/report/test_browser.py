"""The page in headless Chromium: under keys alone, by pointer, with images off, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.browser import CHROMIUM, Browser

from sciinv.plots import Residuals
from sciinv.report import Problem, write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
COUNT, SIZE = 24, 24


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc that is brightest in its middle, 24 draws, and residuals of noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    bump = np.exp(-((x - 3.5) ** 2 + (y + 2.5) ** 2) / 40)  # at column 15, row 9
    image = bump + 0.001 * rng.normal(size=(COUNT, 1, 1, SIZE, SIZE))
    data = xr.Dataset(
        {
            "image": (
                ("draw", "item", "channel", "y", "x"), image.astype("f4"), {"units": "1/mm"}
            ),
            "chi2": (("draw", "item"), np.linspace(0.9, 1.1, COUNT)[:, None]),
        },
        coords={"y": ("y", y[:, 0], {"units": "mm"}), "x": ("x", x[0], {"units": "mm"})},
    )  # fmt: skip
    by = np.arange(6.0)
    left = Residuals(rng.normal(size=(8, 8)), False, None, ("u", "view"), by, "view angle",
                     np.ones(6), np.full(6, 8), COUNT)  # fmt: skip
    out = tmp_path_factory.mktemp("page") / "r.html"
    problem = Problem("Disc", data, classical={"FBP": bump}, residuals=left, components=500)
    return write_report(problem, out)


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium"), page) as made:
        yield made


@pytest.fixture
def opened(browser: Browser) -> Browser:
    """The page anew, its own script at work under its own policy."""
    browser.send("Emulation.clearDeviceMetricsOverride")
    browser.open()
    browser.wait("document.querySelector('.viewer.on') !== null")
    return browser


FOCUS = (
    "(() => { const e = document.activeElement; return e.dataset.view || e.dataset.line ||"
    " e.className || e.tagName })()"
)
LABEL = "document.querySelector('canvas.map').getAttribute('aria-label')"


def reach(browser: Browser, what: str, most: int = 60) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(most):
        browser.press("Tab")
        if browser.value(FOCUS) == what:
            return
    raise AssertionError(f"Tab does not reach {what}")


def test_every_control_is_reached_by_tab_and_the_focus_is_seen(opened: Browser) -> None:
    wanted = opened.value(
        "[...document.querySelectorAll('button, input, canvas.map, summary, [tabindex]')]"
        ".filter((e) => e.checkVisibility()).length"
    )
    seen: list[str] = []
    opened.press("Tab")
    assert opened.value("document.activeElement.className") == "skip"
    for _ in range(60):
        opened.press("Tab")
        if opened.value("document.activeElement === document.body"):
            break
        seen.append(opened.value(FOCUS))
        outline = opened.value("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen[-1]
    assert len(seen) == wanted
    assert seen[0] == "mean"
    assert "map" in seen


def test_views_draws_cursor_and_line_are_worked_by_keys_alone(opened: Browser) -> None:
    reach(opened, "sd")
    opened.press("Enter")
    opened.wait(f"{LABEL}.startsWith('Standard deviation. ')")
    reach(opened, "above")
    opened.press(" ")
    opened.wait(f"{LABEL}.startsWith('P(x > ')")
    reach(opened, "level")  # the slider of t, which only now is shown
    before = opened.value("document.querySelector('.level-value').textContent")
    opened.press("Home")
    opened.wait("document.querySelector('.level-value').textContent.startsWith('0.00')")
    assert before != opened.value("document.querySelector('.level-value').textContent")
    opened.wait(f"{LABEL}.includes(': 1.00')")  # the brightest pixel is above 0 in every draw
    reach(opened, "map")
    opened.press("ArrowRight")
    opened.press("ArrowRight")
    opened.wait(f"{LABEL}.startsWith('Draw 2. ')")
    for _ in range(3):
        opened.press("ArrowLeft")
    opened.wait(f"{LABEL}.startsWith('Draw {COUNT - 1}. ')")  # around
    opened.press("m")
    # Column 15 and row 9 of 24, pixels of 1 mm around 0.
    opened.wait(f"{LABEL}.startsWith('Mean. x 3.50, y −2.50 mm; mean 1.00 ± 0.00')")
    opened.press("ArrowLeft", shift=True)
    opened.press("ArrowDown", shift=True)
    opened.wait(f"{LABEL}.includes('x 2.50, y −1.50 mm')")
    opened.press("l")
    for _ in range(4):
        opened.press("ArrowRight", shift=True)
    profile = "document.querySelector('canvas.profile').getAttribute('aria-label')"
    opened.wait(f"{profile}.startsWith('Profile over 4.00 mm')")
    opened.press("c")
    opened.wait(f"{profile}.startsWith('Profile over 23.0 mm')")
    opened.press("Escape")
    opened.wait(f"{LABEL}.includes('x 3.50, y −2.50 mm')")


def test_pointer_drags_a_line_and_both_sliders(opened: Browser) -> None:
    opened.value("document.querySelector('[data-line=free]').click()")
    left, top, width, height = opened.box("canvas.map")
    middle = top + height / 2
    opened.drag((left + 0.35 * width, middle), (left + 0.65 * width, middle))
    profile = "document.querySelector('canvas.profile').getAttribute('aria-label')"
    # Three tenths of the canvas; of 24 mm, as the image takes five to nine tenths of it: 8 to 14.
    opened.wait(f"/^Profile over ([89]|1[0-4])\\./.test({profile})")
    opened.value("document.querySelector('[data-view=draw]').click()")
    opened.wait("document.querySelector('.of-draw').checkVisibility()")
    left, top, width, height = opened.box("input.draw")
    opened.drag((left + 8, top + height / 2), (left + width - 2, top + height / 2))
    opened.wait(f"{LABEL}.startsWith('Draw {COUNT - 1}. ')")
    opened.value("document.querySelector('[data-view=above]').click()")
    opened.wait("document.querySelector('.of-level').checkVisibility()")
    left, top, width, height = opened.box("input.level")
    opened.drag((left + width / 2, top + height / 2), (left + 2, top + height / 2))
    opened.wait("Number(document.querySelector('input.level').value) < 50")


def test_every_picture_and_control_has_a_name_for_a_screen_reader(opened: Browser) -> None:
    spoken = opened.spoken()
    for role in ("image", "img", "button", "slider", "region", "DisclosureTriangle"):
        assert all(name for r, name in spoken if r == role), role
    names = [name for role, name in spoken if role in ("image", "img")]
    assert any(name.startswith("Mean. ") for name in names)
    assert any(name.startswith("Profile over") for name in names)
    assert any(name.startswith("Histogram of reduced χ²") for name in names)


def test_no_script_shows_the_still_maps_with_their_text(browser: Browser) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.send("Page.navigate", url=browser.page.absolute().as_uri())
    browser.wait("document.readyState === 'complete'")
    still = "document.querySelector('figure.still img')"
    assert browser.value(f"{still}.checkVisibility()")
    assert "The mean is largest, 1 ± 0.00" in browser.value(f"{still}.alt")
    assert not browser.value("document.querySelector('canvas.map').checkVisibility()")
    browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_on_a_phone_nothing_is_wider_than_the_screen(opened: Browser) -> None:
    opened.send("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2,
                mobile=True)  # fmt: skip
    opened.wait("document.querySelector('canvas.map').clientWidth < 340")
    assert opened.value("document.documentElement.scrollWidth") <= 360
    small = opened.value(
        "[...document.querySelectorAll('button')].filter((b) => b.checkVisibility()"
        " && b.getBoundingClientRect().height < 24).length"
    )
    assert small == 0  # WCAG 2.2, target size (minimum)


def test_with_images_off_text_and_numbers_stand_in(page: Path, tmp_path: Path) -> None:
    with Browser(tmp_path, page, "--blink-settings=imagesEnabled=false") as off:
        off.wait("document.querySelector('.viewer.on') !== null")
        images = "[...document.querySelectorAll('img')]"
        assert off.value(f"{images}.every((i) => i.naturalWidth === 0)")  # none is loaded
        assert off.value(f"{images}.every((i) => i.alt.length > 30)")
        # The canvas is painted by the script and needs no image; what it shows stands beside it.
        text = off.value("document.body.innerText")
        for words in ("mean 1.00 ± 0.00", "90 % from", "Half of the draws have a reduced χ²"):
            assert words in text, words
        off.value("document.querySelector('details').open = true")
        cells = off.value("document.querySelectorAll('details td').length")
        assert cells == 25
        assert "y, x" in off.value("document.querySelector('details').innerText")
