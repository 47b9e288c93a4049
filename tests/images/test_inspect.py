"""What a set of images is like is found, and a set that cannot teach a prior is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.images.collect import ImageSet
from sciinv.images.inspect import augmentation, inspect
from sciinv.images.split import split

HERE = Path("folder")


def of(values: np.ndarray, subjects: list[str] | None = None) -> ImageSet:
    names = tuple(f"{k}.png" for k in range(len(values)))
    return ImageSet(values, names, tuple(subjects or names))


def blobs(count: int = 80, n: int = 32, seed: int = 0) -> np.ndarray:
    """A bright spot near the left edge, at a random height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n]
    at = rng.uniform(8, n - 9, (count, 1, 1))
    return np.exp(-((y - at) ** 2 + (x - 7) ** 2) / 18).astype(np.float32)


class TestFound:
    def test_mean_spread_and_white_noise_have_their_values(self):
        rng = np.random.default_rng(1)
        found = inspect(of(rng.normal(3, 0.5, (200, 32, 32)).astype("f4")), HERE)
        assert found.offset == pytest.approx(3, abs=0.01)
        assert found.spread == pytest.approx(0.5, rel=0.01)
        assert found.noise == pytest.approx(0.5, rel=0.1)

    def test_the_strongest_pattern_is_that_of_the_set(self):
        rng = np.random.default_rng(2)
        pattern = np.ones((32, 32)) / 32  # of length one
        values = rng.normal(0, 7, (300, 1, 1)) * pattern + rng.normal(0, 1e-3, (300, 32, 32))
        assert inspect(of(values.astype("f4")), HERE).strongest == pytest.approx(7, rel=0.15)

    def test_orientation_is_told_where_there_is_one(self):
        assert inspect(of(blobs()), HERE).symmetric == ("up-down",)
        noise = np.random.default_rng(3).standard_normal((200, 24, 24)).astype("f4")
        assert "quarter turn" in inspect(of(noise), HERE).symmetric
        assert augmentation(("left-right", "up-down")) == ("left-right", "up-down", "half turn")

    def test_doubles_and_constant_images_are_left_out_and_said(self):
        values = blobs(90)
        values[3], values[7] = values[2], 0
        found = inspect(of(values), HERE)
        assert len(found.images.values) == 88
        assert any("twice" in line for line in found.lines)
        assert any("1 constant" in line for line in found.lines)

    def test_a_common_border_is_measured(self):
        framed = np.zeros((80, 40, 40), "f4")
        framed[:, 3:35, 5:37] = 1 + blobs()
        assert inspect(of(framed), HERE).border == (3, 5, 5, 3)


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.full((80, 32, 32), 2, "f4"), "are constant"),
            (blobs(20), "too few"),
            ((blobs() > 0.5).astype("f4"), "masks or labels"),
            (blobs()[:, :12], "too small"),
            (np.where(blobs() > 0.9, np.nan, blobs()), "not finite"),
        ],
    )
    def test_with_a_remedy(self, values, message):
        with pytest.raises(DataError, match=message) as caught:
            inspect(of(values), HERE)
        assert caught.value.remedy
        assert caught.value.expected

    def test_labels_pass_when_asked(self):
        assert inspect(of((blobs() > 0.5).astype("f4")), HERE, labels=True).images.values.size


class TestSplit:
    def test_no_subject_is_on_both_sides(self):
        whom = [f"p{k // 8}" for k in range(80)]
        parts = split(of(blobs(), whom))
        sides = [{whom[i] for i in side} for side in (parts.train, parts.held)]
        assert not sides[0] & sides[1]
        assert len(parts.held) >= 8
        assert len(parts.train) + len(parts.held) == 80

    def test_one_subject_is_split_with_a_gap(self):
        parts = split(of(blobs(), ["p"] * 80))
        assert parts.held.min() - parts.train.max() > 2
        assert "one subject only" in parts.line
