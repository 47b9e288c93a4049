"""Misfits of draws: alike in one posterior, far apart where draws stand in several modes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sciinv.uncertainty.misfits import FAR, Misfits, misfits, sentence

DATA, PIXELS = 200, 60


def residuals(strength, draws, seed, away=0.0):
    """Residuals of exact draws of a Gaussian posterior, x ~ N(0, I), y = A x + n, unit noise.

    Half of the draws are moved by `away` along a direction of the image.
    """
    g = np.random.default_rng(seed)
    a = strength * g.normal(size=(DATA, PIXELS)) / math.sqrt(DATA)
    y = a @ g.normal(size=PIXELS) + g.normal(size=DATA)
    covariance = np.linalg.inv(a.T @ a + np.eye(PIXELS))
    x = g.multivariate_normal(covariance @ a.T @ y, covariance, size=draws)
    x[: draws // 2, 0] += away
    gain = np.linalg.eigvalsh(a @ covariance @ a.T)
    return y - x @ a.T, gain


@pytest.mark.parametrize("strength", [0.5, 3.0, 30.0])
def test_exact_draws_are_not_told_and_their_directions_are_what_the_data_decide(strength):
    found = []
    for seed in range(60):
        r, gain = residuals(strength, 16, seed)
        each = misfits(r)
        assert each is not None
        assert not each.several
        # 120 pairs of 16 draws know a quartile to some √(2k) ÷ √16 · 1.36; three of these
        assert each.directions == pytest.approx(gain.sum(), rel=1.02 * math.sqrt(2 / gain.sum()))
        found.append(each.apart / math.sqrt((gain - gain**2 / 2).sum()))
    # Of 16 Gaussian values the range is 3.53 standard deviations in the mean, ± 0.75 each
    assert np.mean(found) == pytest.approx(3.53, abs=5 * 0.75 / math.sqrt(60) + 0.2)


def test_draws_of_two_modes_are_told_though_they_scatter_more_in_the_data():
    r, _ = residuals(30.0, 16, 1, away=1.0)
    found = misfits(r)
    assert found.several
    assert found.directions < 2 * PIXELS
    text, doubt = sentence(found)
    assert doubt
    assert "nats below the best" in text


def test_missing_data_count_for_nothing():
    r, _ = residuals(3.0, 8, 2)
    without = r.copy()
    without[:, ::4] = np.nan
    rest = np.delete(r, np.s_[::4], axis=1)
    found, expected = misfits(without), misfits(rest)
    assert found.apart == pytest.approx(expected.apart, rel=1e-12)
    assert found.directions == pytest.approx(expected.directions, rel=1e-12)


def test_two_draws_say_nothing():
    assert misfits([np.zeros(3), np.ones(3)]) is None
    assert sentence(None) is None


@pytest.mark.parametrize(("apart", "told"), [(0.99, False), (1.01, True)])
def test_the_limit(apart, told):
    assert Misfits(16, apart * FAR * math.sqrt(50), 50.0).several is told
