"""Draws of p(x0 | x_t, y) under a mixture prior, against the closed-form posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.calibration.benchmark.linear import mixture_case, random_mixture
from sciinv.errors import ConfigError
from sciinv.priors import Gaussian
from sciinv.samplers import DAPS


@pytest.mark.parametrize("sd", [0.05, 0.3])
def test_draws_are_as_near_the_posterior_as_exact_ones_at_any_number_of_levels(sd):
    for seed, levels in ((0, 2), (1, 10)):
        problem = random_mixture(seed, sd)

        def make(prior, levels=levels):
            return DAPS(prior, conditional="mixture", levels=levels, micro_batch=1000)

        row = mixture_case(problem, 1000, make)
        # Two exact sets of 1,000 differ by 0.04–0.08 over these problems; 1.5 times that is chance.
        assert row["distance"] <= 1.5 * max(row["floor"], 0.05)


def test_no_draw_falls_into_a_mode_of_probability_zero():
    problem = random_mixture(0, 0.05)
    post = DAPS(problem.prior, conditional="mixture", levels=5, micro_batch=500).sample(
        problem.y[None], physics_of(problem), draws=500, seed=1
    )
    x = torch.as_tensor(post["image"].values).double().reshape(500, -1)
    # −log p(x | y) of exact draws bounds what a draw of the posterior can have.
    exact = problem.exact(500, 3)
    lowest = log_posterior(problem, exact).min()
    assert float((log_posterior(problem, x) < lowest - 8).double().mean()) == 0


def physics_of(problem):
    from sciinv.calibration.benchmark.linear import Matrix

    return Matrix(problem.matrix, problem.shape, problem.sd)


def log_posterior(problem, x):
    misfit = (problem.y - x @ problem.matrix.mT) / problem.sd
    prior = problem.prior.log_density(x.reshape(len(x), *problem.shape))
    return prior - 0.5 * misfit.square().sum(1)


def test_the_matrix_of_few_data_and_the_operators_own_products_draw_alike(monkeypatch):
    problem = random_mixture(2, 0.3)
    sampler = DAPS(problem.prior, conditional="mixture", levels=3, micro_batch=20)
    dense = sampler.sample(problem.y[None], physics_of(problem), draws=20, seed=0)
    monkeypatch.setattr("sciinv.solvers.linearised.DENSE_LIMIT", 0)
    products = sampler.sample(problem.y[None], physics_of(problem), draws=20, seed=0)
    # Double precision throughout: rounding alone.
    np.testing.assert_allclose(dense["image"], products["image"], atol=1e-9)


def test_only_a_mixture_prior_is_drawn_as_a_mixture():
    prior = Gaussian(torch.zeros(1, 2, 2), covariance=torch.eye(4))
    with pytest.raises(ConfigError, match="Only a mixture prior"):
        DAPS(prior, conditional="mixture")


def test_a_noise_that_is_drawn_is_refused_as_factors_are_shared_by_all_lanes():
    problem = random_mixture(2, 0.3)
    sampler = DAPS(problem.prior, levels=3, micro_batch=4, noise="drawn")
    with pytest.raises(ConfigError, match="one noise and one instrument"):
        sampler.sample(problem.y[None], physics_of(problem), draws=4, seed=0)
