"""Segmentation scores on shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.quantities import segmentation


def disc(size: int) -> np.ndarray:
    c = (np.arange(size) + 0.5) / size - 0.5
    return np.hypot(c[:, None], c[None]) < 0.35


def test_a_block_averaged_disc_is_recovered_on_the_finer_grid():
    fine = disc(256)
    coarse = fine.reshape(64, 4, 64, 4).mean((1, 3))
    # the edge is placed within a fraction of a fine pixel: the rim of 560 of 25,000 pixels errs
    assert segmentation.score(coarse, fine) > 0.99
    assert segmentation.score(0.03 + 5 * coarse, fine) == pytest.approx(
        segmentation.score(coarse, fine), abs=1e-3
    )


def test_the_complement_scores_minus_one():
    fine = disc(128)
    assert segmentation.score(1.0 - fine, fine) == pytest.approx(-1, abs=1e-9)


def test_otsu_splits_two_normal_classes_between_their_means():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.1, 4000), rng.normal(1, 0.1, 1000)])
    assert 0.3 < segmentation.otsu(values) < 0.7


def test_a_volume_is_refused():
    with pytest.raises(DataError, match="two dimensions"):
        segmentation.score(np.zeros((2, 3, 3)), disc(6))
