"""Damaged flat and dark fields: left out, told or refused; a hot element is none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.readers import dxchange
from sciinv.readers.parts import fields, transmission
from sciinv.readers.parts.looks import warnings_of

from .test_ct_readers import _simulated, write_dx

N = 48


def frames(seed: int = 0, views: int = 60) -> dict[str, np.ndarray]:
    """Counts, flats and darks of one row: noise of reading 3, of photons, responses of 2 %."""
    rng = np.random.default_rng(seed)
    dark = 100 + 3 * rng.standard_normal((5, N))
    blank = 10000 * (1 + 0.02 * rng.standard_normal(N))
    exact = 3 * np.clip(1 - ((np.arange(N) - 24) / 14) ** 2, 0, None) ** 0.5
    flats = rng.poisson(np.tile(blank, (8, 1))) * np.linspace(1, 0.9, 8)[:, None] + 100
    counts = rng.poisson(np.tile(blank * np.exp(-exact), (views, 1))) + 100
    return {"counts": counts, "flats": flats, "darks": dark}


def same_but_for(found: Any, good: Any, elements: list[int]) -> None:
    """The elements carry no data; the others are as they were."""
    bad = np.isinf(found.noise_sd).all(0)
    assert np.flatnonzero(bad).tolist() == elements
    np.testing.assert_allclose(found.y[:, ~bad], good.y[:, ~bad])


def test_good_fields_are_taken_as_they_are() -> None:
    for seed in range(20):
        made = frames(seed)
        field = fields.cleaned(made["flats"], made["darks"])
        np.testing.assert_array_equal(field.flats, made["flats"])
        np.testing.assert_array_equal(field.darks, made["darks"])
        assert not field.lost.any()
        assert field.doubts == ()


@pytest.mark.parametrize("value", [0.0, 9000.0, 60000.0, np.nan, np.inf])
def test_an_element_whose_dark_field_cannot_be_carries_no_data(value: float) -> None:
    made = frames()
    good = transmission.correct(**made)
    made["darks"] = made["darks"].copy()
    made["darks"][:, 20] = value
    found = transmission.correct(**made)
    same_but_for(found, good, [20])
    assert "dark field of 1 of 48 elements, the first 20, cannot be so" in " ".join(found.doubts)


@pytest.mark.parametrize(("name", "value"), [("darks", 4000.0), ("darks", np.nan),
                                             ("flats", 0.0), ("flats", 60000.0)])  # fmt: skip
def test_one_value_of_one_frame_is_left_out(name: str, value: float) -> None:
    made = frames()
    good = transmission.correct(**made)
    made[name] = made[name].copy()
    made[name][2, 20] = value
    found = transmission.correct(**made)
    # the element has one frame fewer: its photon noise (1 % a frame), or a dark of 3 counts
    np.testing.assert_allclose(found.y, good.y, atol=5 * 0.01 / np.sqrt(8))
    np.testing.assert_array_equal(found.y[:, 21:], good.y[:, 21:])
    assert found.gain == pytest.approx(good.gain, rel=0.05)
    assert ("in frame 2, element 20" in " ".join(found.doubts)) == np.isfinite(value)


@pytest.mark.parametrize("name", ["darks", "flats"])
def test_a_frame_that_was_lost_is_left_out(name: str) -> None:
    made = frames()
    kept = {**made, name: np.delete(made[name], 1, axis=0)}
    made[name] = made[name].copy()
    made[name][1] = 0
    found, good = transmission.correct(**made), transmission.correct(**kept)
    np.testing.assert_allclose(found.y, good.y)
    assert f"values of the {name[:-1]} field differ" in " ".join(found.doubts)


def test_of_two_frames_that_differ_neither_is_believed() -> None:
    made = frames()
    made["darks"] = made["darks"][:2].copy()
    good = transmission.correct(**made)
    made["darks"][1, 7] = 5000
    same_but_for(transmission.correct(**made), good, [7])


@pytest.mark.parametrize("offset", [30.0, 3000.0])
def test_a_hot_element_keeps_its_data(offset: float) -> None:
    made = frames()
    good = transmission.correct(**made)
    for name in made:
        made[name] = made[name].astype(float)
        made[name][:, 20] += offset
    found = transmission.correct(**made)
    np.testing.assert_allclose(found.y, good.y, atol=1e-9)
    assert not any("cannot be so" in doubt for doubt in found.doubts)


def test_an_offset_too_small_for_the_flats_to_tell_is_doubted() -> None:
    made = frames()
    made["darks"] = made["darks"].copy()
    made["darks"][:, 20] += 500
    found = transmission.correct(**made)
    assert "the flats cannot tell" in " ".join(found.doubts)


@pytest.mark.parametrize(
    "dark",
    [np.full((5, 2, N), 30000.0), np.full((5, 2, N), np.nan), np.zeros((5, 2, N - 1)),
     np.zeros((5, N)), np.zeros((0, 2, N)), np.full((5, 2, N), 65535, np.uint16)],
    ids=["brighter", "nan", "columns", "axes", "none", "largest"],
)  # fmt: skip
def test_a_dark_field_that_is_none_is_refused(tmp_path: Path, dark: np.ndarray) -> None:
    path = write_dx(tmp_path / "a.h5", data_dark=dark)
    with pytest.raises(DataError, match="dark") as caught:
        dxchange.read(path)
    assert caught.value.remedy


def test_what_was_left_out_is_told_by_the_reader(tmp_path: Path) -> None:
    dark = _simulated()["data_dark"]
    dark[:, 0, 20] = 0
    got = dxchange.read(write_dx(tmp_path / "a.h5", data_dark=dark))
    assert np.isinf(got["noise_sd"].values[0, :, 20]).all()
    assert "dark field of 1 of 48 elements, the first 20" in " ".join(warnings_of(got))
