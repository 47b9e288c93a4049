"""Log evidence against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.toys import MaskedFourier, fourier_spectrum, linear_gaussian

from sciinv import likelihoods, priors, samplers
from sciinv.calibration import evidence
from sciinv.calibration.benchmark.linear import Matrix, random_mixture
from sciinv.errors import DataError, OperatorError


def closed_form(problem):
    """log Σ_k w_k N(y; A μ_k, A C_k Aᵀ + R)."""
    prior, a = problem.prior, problem.matrix
    c = (prior.vectors * prior.values[:, None, :]) @ prior.vectors.mT
    s = a @ c @ a.mT + problem.sd**2 * torch.eye(len(a), dtype=a.dtype)
    each = torch.distributions.MultivariateNormal(prior.means.flatten(1) @ a.mT, s)
    return float(torch.logsumexp(prior.weights.log() + each.log_prob(problem.y), 0))


def mixture_problem(d, measurements, sd, seed):
    shape = (1, 1, d) if d < 64 else (1, 8, 8)
    problem = random_mixture(seed, sd, 6, shape, measurements=measurements)
    return problem, Matrix(problem.matrix, shape, sd)


@pytest.mark.parametrize(("d", "measurements", "sd"), [(8, 3, 0.3), (16, 6, 0.05), (64, 21, 0.3)])
def test_evidence_of_exact_draws_is_within_half_a_nat_of_the_closed_form(d, measurements, sd):
    problem, physics = mixture_problem(d, measurements, sd, 1)
    draws = problem.exact(128, 5).reshape(-1, *problem.shape)
    found = evidence.log_evidence(draws, problem.prior, physics, problem.y[None], "mixture")
    assert found.error < 0.3
    assert abs(found.log_evidence - closed_form(problem)) < 0.5


def test_evidence_of_a_samplers_draws_is_within_half_a_nat_of_the_closed_form():
    problem, physics = mixture_problem(8, 3, 0.3, 0)
    sampler = samplers.DAPS(problem.prior, conditional="mixture", levels=20, micro_batch=64)
    post = sampler.sample(problem.y[None], physics, draws=128, seed=3)
    draws = torch.as_tensor(post["image"].values[:, 0])
    found = evidence.log_evidence(draws, problem.prior, physics, problem.y[None], "mixture")
    assert abs(found.log_evidence - closed_form(problem)) < 0.5


@pytest.mark.parametrize(("d", "measurements", "sd"), [(8, 3, 0.05), (8, 3, 0.3), (16, 6, 0.3)])
def test_weights_of_the_particles_give_the_evidence(d, measurements, sd):
    problem, physics = mixture_problem(d, measurements, sd, 1)
    sampler = samplers.Particles(problem.prior, levels=30, group=256)
    post = sampler.sample(problem.y[None], physics, draws=2, seed=0)
    assert abs(float(post["log_evidence"][0, 0]) - closed_form(problem)) < 0.5


def test_evidence_of_a_gaussian_image_prior_is_the_closed_form_and_prefers_the_right_prior():
    mask = (torch.rand(12, 12, generator=torch.Generator().manual_seed(5)) < 0.5).float()
    power = fourier_spectrum(12).double()
    mean = torch.full((1, 12, 12), 0.3, dtype=torch.float64)
    prior = priors.Gaussian(mean, power_spectrum=power)
    problem = linear_gaussian(prior, MaskedFourier(mask.double(), 0.05), 0.05, seed=7)
    found = {}
    for name, own in (("right", prior), ("wrong", priors.Gaussian(mean, power_spectrum=9 * power))):
        sampler = samplers.DAPS(own, levels=4, micro_batch=64)
        post = sampler.sample(problem.y, problem.physics, draws=32, seed=0)
        draws = torch.as_tensor(post["image"].values[:, 0])
        found[name] = evidence.log_evidence(draws, own, problem.physics, problem.y)
        eye = torch.eye(144, dtype=torch.float64).reshape(144, 1, 12, 12)
        a = problem.physics.A(eye).flatten(1).mT
        c = own.covariance(eye).flatten(1)
        r = problem.y.flatten() - a @ own.mean.flatten()
        s = a @ c @ a.mT + 0.05**2 * torch.eye(len(a), dtype=a.dtype)
        exact = float(-0.5 * (r @ torch.linalg.solve(s, r) + torch.logdet(2 * math.pi * s)))
        assert abs(found[name].log_evidence - exact) < max(0.5, 4 * found[name].error)
    assert found["right"].log_evidence > found["wrong"].log_evidence + 5


def test_constants_are_those_of_the_densities():
    y = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    u = torch.tensor([[0.5, -1.0, 0.7]], dtype=torch.float64)
    sd = torch.tensor([0.5, 2.0, math.inf], dtype=torch.float64)
    white = likelihoods.Gaussian(sd)
    expected = torch.distributions.Normal(u, sd).log_prob(y)[:, :2].sum(1)
    assert torch.allclose(likelihoods.log_constant(white, y) - white.nll(u, y), expected)
    factor = torch.linalg.cholesky(torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64))
    full = likelihoods.Gaussian(cholesky=factor)
    joint = torch.distributions.MultivariateNormal(u[:, :2], scale_tril=factor)
    found = likelihoods.log_constant(full, y[:, :2]) - full.nll(u[:, :2], y[:, :2])
    assert torch.allclose(found, joint.log_prob(y[:, :2]))
    counts, rate = (
        torch.tensor([[0.0, 3.0, 7.0]]).double(),
        torch.tensor([[0.3, 2.0, 9.0]]).double(),
    )
    poisson = likelihoods.Poisson()
    expected = torch.distributions.Poisson(rate).log_prob(counts).sum(1)
    found = likelihoods.log_constant(poisson, counts) - poisson.nll(rate, counts)
    assert torch.allclose(found, expected, atol=1e-4)


def test_groups_are_averaged_as_probabilities():
    value, error = evidence.of_groups([0.0, 0.0, math.log(3.0), math.log(3.0)], 2)
    assert np.isclose(value, math.log(2.0))
    assert np.isclose(error, 0.5)
    assert evidence.of_groups([1.0, 1.0], 2) == (1.0, math.inf)


def test_evidence_refuses_one_draw_and_a_noise_without_a_density():
    problem, physics = mixture_problem(8, 3, 0.3, 0)
    one = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    with pytest.raises(DataError, match="several draws"):
        evidence.log_evidence(one, problem.prior, physics, problem.y[None])

    class Other(likelihoods.Poisson.__mro__[1]):
        nll = whiten = whiten_t = residual = simulate = None

    with pytest.raises(OperatorError, match="does not say its constant"):
        likelihoods.log_constant(Other(d=None), one)
