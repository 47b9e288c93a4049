"""Draws of p(x0 | x_t, y) under a mixture prior, against the closed-form posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import likelihoods
from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark.linear import random_mixture
from sciinv.errors import ConfigError
from sciinv.kernels import mixture
from sciinv.priors import Gaussian
from sciinv.problem import Problem
from sciinv.samplers import DAPS
from sciinv.seeds import Streams


def with_lanes(problem, lanes):
    """Return the problem as a sampler sees it, with `lanes` copies of its data."""
    physics = physics_of(problem)
    like = torch.zeros(lanes, *problem.shape, dtype=torch.float64)
    seen = Problem.of(problem.y[None], physics, likelihoods.of(physics), like)
    return seen.with_data(problem.y.expand(lanes, -1).contiguous())


def given_both(problem, x_t, sigma):
    """Return log weights, means and covariances of p(x0 | x_t, y), y and x_t taken as data."""
    a = torch.cat([problem.matrix, torch.eye(8, dtype=torch.float64)])
    sd = torch.tensor([problem.sd] * len(problem.matrix) + [sigma] * 8, dtype=torch.float64)
    prior = problem.prior
    c = (prior.vectors * prior.values[:, None, :]) @ prior.vectors.mT
    s = torch.linalg.inv(a @ c @ a.mT + sd.square().diag())
    data = torch.cat([problem.y.expand(len(x_t), -1), x_t.flatten(1)], 1)
    mu = prior.means.flatten(1)
    r = data[:, None] - mu @ a.mT
    log_w = prior.weights.log() - 0.5 * (torch.einsum("bki,kij,bkj->bk", r, s, r) - torch.logdet(s))
    gain = c @ a.mT @ s
    mean = mu + torch.einsum("kij,bkj->bki", gain, r)
    return torch.log_softmax(log_w, 1), mean, c - gain @ a @ c


@pytest.mark.parametrize("sigma", [20.0, 0.5, 0.01])
@pytest.mark.parametrize("sd", [2.0**-10, 0.25])
def test_a_level_draws_from_the_mixture_that_x_t_and_y_leave(sigma, sd):
    # 2⁻¹⁰ and ¼ are the same in single precision, in which deepinv keeps a noise.
    problem = random_mixture(3, sd)
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(4, *problem.shape, generator=g, dtype=torch.float64)
    x_t = problem.truth[None] + sigma * noise
    components = problem.prior.components(x_t, sigma)
    p, log_r, away = mixture._given(components, with_lanes(problem, 4))
    shrink = p.values / (p.values + sigma**2)
    mean = (p.centres + shrink[:, None] * away) @ p.vectors.mT
    cov = (p.vectors * (shrink * sigma**2)[:, None, :]) @ p.vectors.mT
    log_w, means, covs = given_both(problem, x_t, sigma)
    # The comparison inverts a matrix whose condition is that of data beside prior, up to 1e6.
    known = log_w > -30
    assert torch.allclose(torch.log_softmax(log_r, 0).mT[known], log_w[known], rtol=0, atol=1e-6)
    assert torch.allclose(mean.permute(1, 0, 2), means, rtol=0, atol=1e-8)
    assert torch.allclose(cov, covs, rtol=0, atol=1e-9)
    expected = (log_w.exp()[..., None] * means).sum(1)
    found = mixture.mean(components, with_lanes(problem, 4)).flatten(1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_draws_of_one_level_have_the_mean_and_the_covariance_of_their_mixture():
    problem, lanes = random_mixture(1, 0.25), 20_000
    x_t = problem.truth[None].expand(lanes, -1, -1, -1).contiguous()
    components = problem.prior.components(x_t, 2.0)
    streams = Streams.of_seed(0, lanes)
    x = mixture.draw(components, with_lanes(problem, lanes), streams).flatten(1)
    log_w, means, covs = given_both(problem, x_t[:1], 2.0)
    w, m = log_w[0].exp(), means[0]
    mean = w @ m
    cov = torch.einsum("k,kde->de", w, covs) + torch.einsum("k,kd,ke->de", w, m - mean, m - mean)
    assert float(torch.special.entr(w).sum().exp()) > 1.5  # more than one mode is drawn
    # 4.5 standard errors of 8 means, and of 64 second moments of at most Gaussian kurtosis.
    error = (cov.diagonal() / lanes).sqrt()
    assert ((x.mean(0) - mean).abs() <= 4.5 * error).all()
    size = cov.diagonal().sqrt()
    assert ((x.T.cov() - cov).abs() <= 4.5 * size[:, None] * size * (2 / lanes) ** 0.5).all()


def test_the_posterior_is_worked_out_once_and_anew_for_other_data():
    problem = random_mixture(1, 0.25)
    seen = with_lanes(problem, 3)
    components = problem.prior.components(problem.truth[None].expand(3, -1, -1, -1), 1.0)
    first = mixture._posterior(components, seen)
    assert mixture._posterior(components, seen) is first
    other = seen.with_data(seen.y + 1.0)
    second = mixture._posterior(components, other)
    assert second.vectors is first.vectors  # what data do not change
    assert not torch.allclose(second.centres, first.centres)


def test_a_draw_does_not_depend_on_what_other_lanes_draw():
    problem = random_mixture(1, 0.25)
    sampler = DAPS(problem.prior, levels=4, micro_batch=6)
    physics = physics_of(problem)
    one = sampler.sample(problem.y[None], physics, draws=6, seed=1)["image"].values
    prior = problem.prior
    x_t = torch.randn(6, *problem.shape, dtype=torch.float64)
    seen, keys = with_lanes(problem, 6), [("k", d) for d in range(6)]
    together = mixture.draw(prior.components(x_t, 3.0), seen, Streams(keys))
    moved = x_t.clone()
    moved[1:] += 5.0  # to other components
    apart = mixture.draw(prior.components(moved, 3.0), seen, Streams(keys))
    assert torch.equal(together[0], apart[0])
    assert np.array_equal(one, sampler.sample(problem.y[None], physics, draws=6, seed=1)["image"])


@pytest.mark.parametrize("sd", [0.05, 0.3])
def test_draws_are_as_near_the_posterior_as_exact_ones_at_any_number_of_levels(sd):
    for seed, levels in ((0, 2), (1, 10)):
        problem = random_mixture(seed, sd)
        sampler = DAPS(problem.prior, conditional="mixture", levels=levels, micro_batch=1000)
        found, floor = [], []
        for k in range(4):
            post = sampler.sample(problem.y[None], physics_of(problem), draws=1000, seed=k)
            x = torch.as_tensor(post["image"].values).double().reshape(1000, -1)
            exact, second = problem.exact(1000, 2 * k), problem.exact(1000, 2 * k + 1)
            found.append(sliced_wasserstein(x, exact))
            floor.append(sliced_wasserstein(second, exact))
        # Single pairs of exact sets of these problems differ by 0.03 to 0.09, with a standard
        # deviation of a third of their mean: 1.5 is three standard errors of a ratio of such means.
        assert np.mean(found) <= 1.5 * np.mean(floor)


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
