"""Scores against hand-computed values, against scikit-image, and against their expectations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sciinv import metrics
from sciinv.errors import DataError


def images(seed=0, shape=(20, 24)):
    rng = np.random.default_rng(seed)
    reference = rng.random(shape)
    return reference + 0.1 * rng.normal(size=shape), reference


def test_scores_of_a_pair_that_was_computed_by_hand():
    x, r = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0])
    assert metrics.nmse(x, r) == pytest.approx(4 / 9)
    assert metrics.psnr(x, r) == pytest.approx(10 * math.log10(1 / (4 / 3)))
    assert metrics.psnr(x, r, data_range=2) == pytest.approx(10 * math.log10(4 / (4 / 3)))
    assert metrics.psnr(r, r) == math.inf
    s, t = np.array([1, 1, 1, 0, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 0, 0, 1, 0])
    # TP 2, TN 3, FP 2, FN 1
    assert metrics.matthews_correlation(s, t) == pytest.approx(4 / math.sqrt(4 * 3 * 5 * 4))


def test_a_matthews_correlation_of_many_pixels_does_not_overflow():
    rng = np.random.default_rng(0)
    s = rng.random((3000, 3000)) < 0.5  # the product of counts is near 2e27
    assert metrics.matthews_correlation(s, s) == pytest.approx(1)
    assert metrics.matthews_correlation(s, ~s) == pytest.approx(-1)
    assert metrics.matthews_correlation(s, np.ones_like(s)) == 0


@pytest.mark.parametrize("window", [3, 7, 11])
def test_ssim_and_psnr_are_scikit_images(window):
    peer = pytest.importorskip("skimage.metrics")
    x, r = images()
    expected = peer.structural_similarity(x, r, data_range=1.3, win_size=window)
    # The same sums in another order: rounding of float64.
    assert metrics.ssim(x, r, data_range=1.3, window=window) == pytest.approx(expected, rel=1e-12)
    expected = peer.peak_signal_noise_ratio(r, x, data_range=1.3)
    assert metrics.psnr(x, r, data_range=1.3) == pytest.approx(expected, rel=1e-12)


def test_a_complex_image_has_the_error_of_its_two_parts():
    x, r = images()
    z, w = x + 1j * r, r + 1j * x
    parts = metrics.nmse(np.stack([z.real, z.imag]), np.stack([w.real, w.imag]))
    assert metrics.nmse(z, w) == pytest.approx(parts, rel=1e-12)


def test_cross_correlation_is_pearsons_and_finds_a_shift():
    x, r = images()
    expected = stats.pearsonr(x.ravel(), r.ravel()).statistic
    assert metrics.normalised_cross_correlation(x, r) == pytest.approx(expected, rel=1e-12)
    moved = np.roll(3 * r + 1, (4, -7), axis=(0, 1))
    assert metrics.normalised_cross_correlation(moved, r, shift=True) == pytest.approx(1)
    assert metrics.normalised_cross_correlation(moved, r) < 0.5
    assert metrics.normalised_cross_correlation(np.ones(4), np.arange(4)) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(-50, 50))
def test_crps_is_the_double_sum_of_its_definition(values, truth):
    x, n = np.array(values), len(values)
    pairs = np.abs(x[:, None] - x[None, :]).sum() / 2
    skill = np.abs(x - truth).mean()
    fair = float(metrics.crps_ensemble(x, np.float64(truth)))
    assert fair == pytest.approx(skill - pairs / (n * (n - 1)), abs=1e-11)
    plain = float(metrics.crps_ensemble(x, np.float64(truth), fair=False))
    assert plain == pytest.approx(skill - pairs / n**2, abs=1e-11)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_fair_crps_has_the_expectation_of_the_distribution_whatever_n(n):
    # CRPS of N(0, 1) for a truth from N(0, 1): 1/√π. 40,000 repetitions; the score's sd is below
    # 0.7 at n = 2, so five standard errors are 0.0175.
    rng = np.random.default_rng(n)
    score = metrics.crps_ensemble(rng.normal(size=(n, 40_000)), rng.normal(size=40_000))
    assert score.mean() == pytest.approx(1 / math.sqrt(math.pi), abs=5 * 0.7 / math.sqrt(40_000))


@pytest.mark.parametrize(("width", "expected"), [(1.0, 1.0), (0.5, 0.5 * math.sqrt(9 / 8.25))])
def test_the_spread_skill_ratio_is_one_where_the_width_is_right(width, expected):
    # n = 8 draws of sd w about 0, truth N(0, 1): spread² = (9/8) w², error² = 1 + w²/8.
    rng = np.random.default_rng(1)
    x, t = width * rng.normal(size=(8, 40_000)), rng.normal(size=40_000)
    expected = math.sqrt(9 / 8 * width**2 / (1 + width**2 / 8))
    # Relative error of each root of a mean of 40,000 squares: at most 1/√(2·40,000) = 0.35 %.
    assert metrics.spread_skill(x, t) == pytest.approx(expected, rel=5 * 0.0035 * math.sqrt(2))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 16])
def test_coverage_of_a_right_posterior_is_the_level_for_any_number_of_draws(n):
    rng = np.random.default_rng(n)
    t, x = rng.normal(size=40_000), rng.normal(size=(n, 40_000))
    levels = np.array([0.1, 0.5, 0.68, 0.9, 0.95])
    found = metrics.coverage(x, t, levels)
    error = 5 * np.sqrt(levels * (1 - levels) / 40_000)
    np.testing.assert_array_less(np.abs(found - levels), error)


def test_coverage_of_every_rank_is_exact():
    for n in (1, 2, 3, 8, 9):
        x = np.tile(np.arange(n, dtype=float)[:, None], (1, n + 1))
        t = np.arange(n + 1) - 0.5  # each rank once
        levels = [0.0, 0.3, 0.5, 0.9, 1.0]
        np.testing.assert_allclose(metrics.coverage(x, t, levels), levels, atol=1e-14)


def test_a_narrow_posterior_covers_too_little():
    rng = np.random.default_rng(0)
    t, x = rng.normal(size=4000), 0.3 * rng.normal(size=(16, 4000))
    assert metrics.coverage(x, t, [0.9])[0] < 0.5


def test_ranks_are_uniform_and_ties_are_broken_at_random():
    rng = np.random.default_rng(3)
    found = metrics.ranks(rng.normal(size=(7, 8000)), rng.normal(size=8000))
    assert stats.chisquare(np.bincount(found, minlength=8)).pvalue > 1e-4
    tied = metrics.ranks(np.zeros((7, 8000)), np.zeros(8000))
    assert stats.chisquare(np.bincount(tied, minlength=8)).pvalue > 1e-4


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.nmse(np.ones(3), np.ones(4)),
        lambda: metrics.ssim(np.ones((5, 5)), np.ones((5, 5))),
        lambda: metrics.ssim(np.ones((9, 9)), np.ones((9, 9)), window=4),
        lambda: metrics.crps_ensemble(np.ones((1, 4)), np.ones(4)),
        lambda: metrics.crps_ensemble(np.ones((3, 4)), np.ones(5)),
        lambda: metrics.spread_skill(np.ones((3, 4)), np.ones((4, 1))),
        lambda: metrics.matthews_correlation(np.ones(3), np.ones(4)),
    ],
)
def test_arrays_that_do_not_match_are_errors(call):
    with pytest.raises(DataError):
        call()


def test_scattered_places_are_the_same_in_every_image_and_in_many_columns():
    columns = np.broadcast_to(np.arange(64), (3, 1, 64, 64))
    found = metrics.scattered(columns)
    assert found.shape == (3, 16)
    assert (found == found[0]).all()
    assert len(np.unique(found[0])) > 8  # a stride of 256 would give one column


@pytest.mark.parametrize("score", [metrics.crps_ensemble, metrics.ranks, metrics.spread_skill])
def test_draws_that_are_not_finite_are_refused(score):
    draws = np.zeros((4, 3))
    draws[1, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        score(draws, np.zeros(3))
    with pytest.raises(DataError, match="the image"):
        metrics.nmse(draws, np.ones((4, 3)))
