"""Structure in residuals: none in those of exact draws, found in those of wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.toys import Matrix

from sciinv import priors, samplers
from sciinv.uncertainty.neighbours import Neighbours, neighbours, sentence


def test_the_correlation_is_that_of_a_moving_average():
    # r_i = (e_i + a e_{i+1})/√(1 + a²) has the correlation a/(1 + a²) between neighbours
    e = np.random.default_rng(0).normal(size=(400, 301))
    smooth = e[:, 1:] + 0.5 * e[:, :-1]
    along, across = neighbours([smooth], {"columns": 1, "rows": 0})
    assert along.correlation == pytest.approx(0.4, abs=5 * along.error)  # five standard errors
    assert across.correlation == pytest.approx(0, abs=5 * across.error)
    assert along.error == pytest.approx(1 / np.sqrt(400 * 299))
    assert along.related
    assert not across.related


def test_the_level_of_the_noise_does_not_matter():
    e = np.random.default_rng(1).normal(size=(30, 40))
    one, other = (neighbours([s * e], {"rows": 0})[0].correlation for s in (1.0, 7.0))
    assert one == pytest.approx(other, rel=1e-12)


def test_pairs_with_a_value_that_is_missing_are_left_out():
    r = np.array([[1.0, 1.0, np.nan, 1.0, -1.0]])
    (found,) = neighbours([r], {"columns": 1})
    assert found.error == pytest.approx(1 / np.sqrt(2))  # two pairs are left
    assert found.correlation == pytest.approx(0)


def test_where_nothing_lies_side_by_side_nothing_is_said():
    assert neighbours([np.array([[1.0, np.nan]])], {"columns": 1}) == ()
    assert neighbours([np.zeros((3, 3))], {"columns": 1}) == ()
    assert neighbours([], {"columns": 1}) == ()
    assert sentence(()) is None


def test_a_small_correlation_of_many_data_is_no_doubt_and_a_chance_of_few_is_none():
    small, few, plain = Neighbours("views", 0.03, 1e-3), Neighbours("views", 0.4, 0.1), Neighbours(
        "views", -0.2, 0.01
    )  # fmt: skip
    assert not small.related
    assert not few.related
    assert plain.related
    text, doubt = sentence([small, few])
    assert not doubt
    assert "+0.03 ± 0.001" in text
    text, doubt = sentence([small, plain])
    assert doubt
    assert "−0.20 ± 0.01" in text


@pytest.fixture(scope="module")
def problem():
    """A Gaussian field of 36 pixels, 400 data that are ordered: exact draws and a wrong image."""
    g = torch.Generator().manual_seed(3)
    place = torch.arange(36) / 35
    covariance = torch.exp(-((place[:, None] - place) ** 2) / 0.02) + 1e-3 * torch.eye(36)
    rows = torch.linspace(0, 1, 400)
    matrix = torch.exp(-((rows[:, None] - place) ** 2) / 0.01)
    prior = priors.Gaussian(torch.zeros(1, 6, 6), covariance=covariance)
    truth = torch.linalg.cholesky(covariance) @ torch.randn(36, generator=g)
    noise = 0.5
    y = (matrix @ truth + noise * torch.randn(400, generator=g))[None]
    physics = Matrix(matrix, (1, 6, 6), noise)
    post = samplers.DAPS(prior, levels=5).sample(y, physics, draws=16, seed=2)
    draws = torch.as_tensor(post["image"].values).reshape(16, 36)
    return matrix, y, draws, noise


def test_exact_draws_leave_no_structure(problem):
    matrix, y, draws, noise = problem
    (found,) = neighbours(list(((y - draws @ matrix.T) / noise).numpy()), {"values": -1})
    # the correlation of one y is that of its noise: within three standard errors
    assert abs(found.correlation) < 3 * found.error


def test_draws_in_a_wrong_place_leave_it(problem):
    matrix, y, draws, noise = problem
    shifted = draws + 0.3  # the same error in all: χ² alone is that of a noise a third larger
    (found,) = neighbours(list(((y - shifted @ matrix.T) / noise).numpy()), {"values": -1})
    assert found.related
    assert found.correlation > 0.2
