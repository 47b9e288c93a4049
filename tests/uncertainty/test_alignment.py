"""Draws moved onto each other before they are summarized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sciinv import store, uncertainty
from sciinv.errors import ConfigError
from sciinv.uncertainty.alignment import align, aligned

H, W = 24, 20


def source(rng: np.random.Generator) -> np.ndarray:
    """Return an image [H, W] of three blobs, dark at its edges."""
    y, x = np.mgrid[:H, :W]
    spots = zip(rng.uniform(9, 14, 3), rng.uniform(8, 12, 3), (1.0, 0.7, 0.4), strict=True)
    return sum(b * np.exp(-((y - i) ** 2 + (x - j) ** 2) / 4) for i, j, b in spots)


def scattered(count: int, seed: int, channels: int = 1) -> np.ndarray:
    """Return copies of one source at random places, [draw, channel, H, W]."""
    rng = np.random.default_rng(seed)
    image = np.stack([source(rng) for _ in range(channels)])
    shifts = rng.integers(-6, 7, (count, 2))
    return np.stack([np.roll(image, s, (-2, -1)) for s in shifts])


def dataset(draws: np.ndarray) -> xr.Dataset:
    """Return draws [draw, item, channel, y, x] as a sampler's dataset."""
    sizes = dict(zip(store.IMAGE_DIMS, draws.shape, strict=True))
    coords = {d: np.arange(n) for d, n in sizes.items() if d != "channel"}
    names = ["intensity"] if draws.shape[2] == 1 else ["real", "imag"]
    image = xr.DataArray(draws, {**coords, "channel": names}, store.IMAGE_DIMS)
    return xr.Dataset({"image": image})


@given(st.integers(2, 9), st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_copies_at_any_place_become_the_same_image(count: int, seed: int, channels: int) -> None:
    draws = scattered(count, seed, channels)
    found = aligned(draws)
    assert np.array_equal(found, np.broadcast_to(found[:1], found.shape))
    # moved, not changed: each still holds its own pixels
    assert np.array_equal(np.sort(found[0], axis=None), np.sort(draws[0], axis=None))


def test_draws_that_differ_keep_their_differences() -> None:
    rng = np.random.default_rng(0)
    still = source(rng) + 0.01 * rng.standard_normal((12, H, W))
    moved = np.stack([np.roll(d, rng.integers(-5, 6, 2), (0, 1)) for d in still])
    align(moved)
    there = np.roll(still, np.subtract(*(np.unravel_index(a[0].argmax(), (H, W))
                                         for a in (moved, still))), (1, 2))  # fmt: skip
    assert np.array_equal(moved, there)


def test_the_summary_of_scattered_copies_has_no_spread_once_they_are_aligned() -> None:
    """Two items, each with a source of its own; both are aligned, each by itself."""
    draws = np.stack([scattered(8, 1), scattered(8, 2)], axis=1).astype("f4")
    plain = uncertainty.summarize(dataset(draws))
    moved = uncertainty.summarize(dataset(draws), align=True)
    assert (plain["sd"].max(("channel", "y", "x")) > 0.1).all()
    assert float(moved["sd"].max()) == pytest.approx(0, abs=1e-6)
    assert (
        moved["mean"].max(("channel", "y", "x")) > plain["mean"].max(("channel", "y", "x"))
    ).all()
    assert (moved.attrs["aligned"], plain.attrs["aligned"]) == (1, 0)
    assert np.array_equal(dataset(draws)["image"].values, draws)  # the draws stay where they are


def test_aligning_in_too_little_memory_is_an_error_with_the_remedy() -> None:
    draws = scattered(8, 1)[:, None]
    with pytest.raises(ConfigError, match="aligning"):
        uncertainty.summarize(dataset(draws), align=True, memory=draws.nbytes // 2)


def test_the_command_aligns(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sciinv.cli import app

    draws = dataset(scattered(4, 3)[:, None].astype("f4"))
    store.write_posterior(draws, tmp_path / "posterior.zarr")
    out = tmp_path / "summary.zarr"
    command = ["summarize", str(tmp_path / "posterior.zarr"), "--out", str(out), "--align"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert float(uncertainty.open_summary(out)["sd"].max()) == pytest.approx(0, abs=1e-6)
