"""The sampler against closed-form posteriors, and the known biases of the published loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.toys import MaskedFourier, Matrix, fourier_spectrum, linear_gaussian

from sciinv import priors, samplers
from sciinv.diffusion import edm_grid, to_zero
from sciinv.solvers import linearised as linear

SIZE, SD, DRAWS = 12, 0.05, 2000


@pytest.fixture(scope="module")
def masked_fourier():
    mask = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(5)) < 0.5).float()
    prior = priors.Gaussian(torch.full((1, SIZE, SIZE), 0.3), power_spectrum=fourier_spectrum(SIZE))
    return linear_gaussian(prior, MaskedFourier(mask, SD), SD, seed=7)


def mode_errors(problem, sampler, draws=DRAWS):
    post = sampler.sample(problem.y, problem.physics, draws=draws, seed=11)
    z = problem.whitened(post["image"].values)
    return z.std(0).numpy(), z.mean(0).numpy(), post


def test_tweedie_exact_draws_match_the_closed_form_mode_by_mode(masked_fourier):
    sampler = samplers.DAPS(
        masked_fourier.prior, conditional="tweedie", kernel="exact", levels=12, micro_batch=500
    )
    sd, mean, post = mode_errors(masked_fourier, sampler)
    # 144 modes, 2,000 draws: se(sd) = 1.6 %, se(mean) = 0.022 sd. Every mode within 3.2 se of sd
    # would be 5 %; over 144 modes the largest of pure noise reaches 5.4 % once in ten seeds, so
    # the bound on all is 6.5 % (4 se) and on 95 % of the modes 5 %.
    assert np.quantile(np.abs(sd - 1), 0.95) < 0.05
    assert np.abs(sd - 1).max() < 0.065
    assert abs(sd.mean() - 1) < 0.005  # se of the mean over modes: 0.0013
    assert np.abs(mean).max() < 0.1  # 4.5 se
    assert float(post["nfe"].max()) == 12


@pytest.mark.parametrize("kind", ["stationary", "dense"])
def test_conjugate_gradients_give_the_same_posterior_as_the_direct_solve(kind, monkeypatch):
    monkeypatch.setattr(linear, "DENSE_LIMIT", 0)
    mask = (torch.rand(10, 10, generator=torch.Generator().manual_seed(5)) < 0.5).float()
    spectrum = fourier_spectrum(10)
    eye = torch.eye(100).reshape(100, 1, 10, 10)
    covariance = torch.fft.ifft2(torch.fft.fft2(eye) * spectrum).real.reshape(100, 100)
    how = {"power_spectrum": spectrum} if kind == "stationary" else {"covariance": covariance}
    prior = priors.Gaussian(torch.zeros(1, 10, 10), **how)
    problem = linear_gaussian(prior, MaskedFourier(mask, SD), SD, seed=7)
    sampler = samplers.DAPS(prior, kernel="exact", levels=6, micro_batch=500)
    sd, mean, post = mode_errors(problem, sampler, draws=1000)
    # 100 modes, 1,000 draws: se(sd) = 2.2 %, se(mean) = 0.032 sd; 4 se each
    assert float(post["iterations"].mean()) >= 1  # 1: the preconditioner is the closed form here
    assert np.abs(sd - 1).max() < 0.09
    assert abs(sd.mean() - 1) < 0.01
    assert np.abs(mean).max() < 0.13


def test_draws_are_independent_of_the_number_of_levels_in_distribution(masked_fourier):
    one_level = samplers.DAPS(masked_fourier.prior, levels=3, micro_batch=500)
    sd, mean, _ = mode_errors(masked_fourier, one_level)
    assert np.quantile(np.abs(sd - 1), 0.95) < 0.05
    assert np.abs(mean).max() < 0.1


def scalar_problem(c: float, a: float):
    """32 equal modes N(0, c) observed as y = a x + n with x one prior sd."""
    n = 32
    prior = priors.Gaussian(torch.zeros(1, 1, n), covariance=c * torch.eye(n))
    physics = Matrix(a * torch.eye(n), (1, 1, n), 0.05)
    y = torch.full((1, n), a * c**0.5)
    precision = 1 / c + a**2 / 0.05**2
    return prior, physics, y, (a * (a * c**0.5) / 0.05**2) / precision, precision**-0.5


def ratio_and_error(sampler, y, physics, mean, sd, draws):
    x = sampler.sample(y, physics, draws=draws, seed=3)["image"].values
    return float(x.std() / sd), float((x.mean() - mean) / sd)


# Each row: prior variance, observation a, then sd ÷ exact sd and mean error ÷ exact sd. The
# figures are from closed recursions of mean and variance of the loop (no sampling error).
PAPER_LOOP = [
    (0.25, 0.0, 1.31, 0.0),
    (0.25, 1.0, 1.00, 0.04),
    (0.01, 0.0, 1.67, 0.0),
    (0.01, 0.3, 1.34, 0.3),
    (0.001, 0.0, 3.55, 0.0),
    (0.001, 1.0, 1.70, 0.7),
]


@pytest.mark.parametrize(("c", "a", "ratio", "error"), PAPER_LOOP)
def test_the_papers_loop_with_exact_inner_draws_has_its_known_bias(c, a, ratio, error):
    prior, physics, y, mean, sd = scalar_problem(c, a)
    sampler = samplers.DAPS(
        prior, conditional="published", kernel="exact", levels=200,
        sigma_max=100, sigma_min=0.1, micro_batch=125,
    )  # fmt: skip
    got_ratio, got_error = ratio_and_error(sampler, y, physics, mean, sd, 125)
    # 4,000 samples of equal modes: se(sd ratio) = 1.1 % of it; the table is rounded to 0.01 and 0.1
    assert got_ratio == pytest.approx(ratio, rel=0.05)
    assert abs(abs(got_error) - error) < 0.1


def released_recursion(c: float, a: float, levels: int = 200) -> tuple[float, float]:
    """Mean and variance of the released loop on one mode, level by level, in closed form."""
    y, tau, lr0, inner = a * c**0.5, 0.01, 1e-4, 100
    sigmas = edm_grid(100.0, 0.1, levels)
    m, v = 0.0, sigmas[0] ** 2
    for i, sigma in enumerate(sigmas):
        grid = to_zero(sigma, 5, 0.01)
        f = 1.0
        for s, t in itertools.pairwise(grid):
            f *= 1 + (t - s) / s * (1 - c / (c + s * s))  # one Euler step of the ODE
        lr = lr0 * (1 - 0.99 * i / levels)
        w = 2 / tau**2
        h = w * a * a + 1 / sigma**2
        b = 1 - lr * h  # one Langevin step contracts by b around (w a y + x_hat/σ²)/h
        keep = b**inner + (1 - b**inner) / (h * sigma**2)
        m = keep * f * m + (1 - b**inner) * w * a * y / h
        v = (keep * f) ** 2 * v + 2 * lr * (1 - b ** (2 * inner)) / (1 - b * b)
        if i + 1 < levels:
            v += sigmas[i + 1] ** 2
    precision = 1 / c + a * a / 0.05**2
    return v**0.5 * precision**0.5, (m - a * y / 0.05**2 / precision) * precision**0.5


# Prior variance, observation a, and the rounded figures to expect: 6 × too narrow where the data
# are strong, and near 1 where there are none only because the inner chain does not move there.
RELEASED = [(0.25, 0.0, 0.9), (0.25, 1.0, 0.2), (0.001, 1.0, 0.3)]


@pytest.mark.parametrize(("c", "a", "rounded"), RELEASED)
def test_the_released_settings_have_their_known_bias(c, a, rounded):
    prior, physics, y, mean, sd = scalar_problem(c, a)
    ratio, error = released_recursion(c, a)
    assert ratio == pytest.approx(rounded, abs=0.05)
    sampler = samplers.DAPS.published(prior, micro_batch=32)
    got_ratio, got_error = ratio_and_error(sampler, y, physics, mean, sd, 32)
    # 1,024 samples: se(sd ratio) = 2.2 % of it, se(error) = 0.03 of the ratio
    assert got_ratio == pytest.approx(ratio, rel=0.08)
    assert got_error == pytest.approx(error, abs=0.1)


@pytest.mark.parametrize("c", [0.25, 0.001])
@pytest.mark.parametrize("a", [0.0, 1.0])
def test_tweedie_has_none_of_these_biases(c, a):
    prior, physics, y, mean, sd = scalar_problem(c, a)
    sampler = samplers.DAPS(prior, levels=10, micro_batch=125)
    got_ratio, got_error = ratio_and_error(sampler, y, physics, mean, sd, 125)
    assert got_ratio == pytest.approx(1.0, abs=0.045)  # 4 se
    assert abs(got_error) < 0.065


@pytest.mark.parametrize("kernel", ["langevin", "hmc", "newton", "metropolis"])
def test_markov_kernels_agree_with_the_exact_one_on_a_linear_problem(kernel):
    prior, physics, y, mean, sd = scalar_problem(0.25, 0.3)
    sampler = samplers.DAPS(prior, kernel=kernel, levels=12, micro_batch=64)
    x = sampler.sample(y, physics, draws=64, seed=3)
    # 2,048 samples: se 1.6 % and 0.022; a chain of finite length adds its own few per cent
    assert x["image"].values.std() / sd == pytest.approx(1.0, abs=0.08)
    assert abs((x["image"].values.mean() - mean) / sd) < 0.1
    assert 0.05 < float(x["acceptance"].mean()) <= 1.0
