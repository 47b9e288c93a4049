"""Modes as proposals: exact where the posterior is a mixture, right weights where it is not."""

from __future__ import annotations

import pytest
import torch

from sciinv import likelihoods
from sciinv.calibration.benchmark.linear import Matrix, random_mixture
from sciinv.calibration.benchmark.nonlinear import Nonlinear
from sciinv.errors import ConfigError
from sciinv.kernels import modes
from sciinv.priors import Gaussian, GaussianMixture
from sciinv.problem import Problem
from sciinv.samplers import DAPS

F64 = torch.float64
SHAPE = (1, 1, 2)
LANES = 1000


def plane():
    """Return a mixture of two and y = (a·x)²: four bands, two of which the prior hardly knows."""
    means = torch.tensor([[-2.0, -1.0], [1.5, 2.0]], dtype=F64).reshape(2, *SHAPE)
    cov = torch.tensor([[[1.0, 0.3], [0.3, 0.5]], [[0.4, 0.0], [0.0, 0.8]]], dtype=F64)
    prior = GaussianMixture(means, cov, torch.tensor([0.35, 0.65], dtype=F64))
    a = torch.tensor([[1.0, 0.5]], dtype=F64)
    physics = Nonlinear(a, torch.square, SHAPE, likelihoods.Gaussian(0.5))
    return prior, physics, torch.tensor([[5.5]], dtype=F64)


def test_the_two_signs_of_a_phase_problem_have_the_weights_of_quadrature():
    prior, physics, y = plane()
    axis = torch.linspace(-8, 8, 801, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    log_p = prior.log_density(grid.reshape(-1, *SHAPE))
    log_p = log_p - likelihoods.of(physics).nll(physics.A(grid.reshape(-1, *SHAPE)), y)
    p = torch.softmax(log_p, 0)
    post = DAPS(prior, levels=10, kernel="modes", micro_batch=LANES).sample(
        y, physics, draws=LANES, seed=0
    )
    x = torch.as_tensor(post["image"].values).double().reshape(LANES, 2)
    positive = float(p[grid @ physics.matrix[0] > 0].sum())
    assert 0.1 < positive < 0.9  # both signs have weight
    share = float((x @ physics.matrix[0] > 0).double().mean())
    # Four standard errors of LANES draws.
    assert abs(share - positive) < 4 * (positive * (1 - positive) / LANES) ** 0.5
    sd = (p @ grid.square() - (p @ grid).square()).sqrt()
    assert float(((x.mean(0) - p @ grid) / sd).abs().max()) < 4 / LANES**0.5
    assert float((x.std(0) / sd - 1).abs().max()) < 4 / LANES**0.5
    assert float(post["nfe"].mean()) == 10


def test_the_modes_of_a_linear_problem_are_its_posterior():
    problem = random_mixture(3, 0.3)
    prior, a = problem.prior, problem.matrix
    physics = Matrix(a, problem.shape, problem.sd)
    like = torch.zeros(1, *problem.shape, dtype=F64)
    seen = Problem.of(problem.y[None], physics, likelihoods.of(physics), like)
    q = modes.found(prior.components(like, 1.0), seen, like)
    k = len(prior.weights)
    assert len(q.log_weights) == 2 * k  # one mode a component, and the prior
    share = torch.softmax(q.log_weights[:k], 0)
    assert torch.allclose(share, problem.weights().double(), atol=1e-6)
    c = (prior.vectors * prior.values[:, None, :]) @ prior.vectors.mT
    p = torch.linalg.inv(torch.linalg.inv(c) + a.mT @ a / problem.sd**2)
    mu = prior.means.flatten(1)
    mean = mu + torch.einsum("kde,ke->kd", p @ a.mT, problem.y - mu @ a.mT) / problem.sd**2
    assert torch.allclose(q.means[:k], mean, atol=1e-5)
    assert torch.allclose((q.vectors * q.values[:, None, :] @ q.vectors.mT)[:k], p, atol=1e-6)


def test_what_has_no_modes_to_search_is_refused():
    _, physics, y = plane()
    gaussian = Gaussian(torch.zeros(SHAPE, dtype=F64), covariance=torch.eye(2, dtype=F64))
    with pytest.raises(ConfigError, match="modes of one posterior"):
        DAPS(gaussian, levels=2, kernel="modes").sample(y, physics, draws=1, seed=0)
    thin = GaussianMixture(
        torch.zeros(1, *SHAPE, dtype=F64), torch.diag(torch.tensor([1.0, 0.0]).double())[None],
        torch.ones(1, dtype=F64),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="modes of one posterior"):
        DAPS(thin, levels=2, kernel="modes").sample(y, physics, draws=1, seed=0)
