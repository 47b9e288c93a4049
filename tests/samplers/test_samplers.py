"""Streams, batches and failures of the samplers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.toys import MaskedFourier, Matrix, fourier_spectrum, linear_gaussian

from sciinv import priors, samplers
from sciinv.errors import ConfigError, DivergenceError, OperatorError, PriorError


@pytest.fixture
def problem():
    mask = (torch.rand(8, 8, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    prior = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=fourier_spectrum(8))
    return linear_gaussian(prior, MaskedFourier(mask, 0.1), 0.1, seed=1)


def test_draw_i_has_the_same_bits_in_any_selection_and_batch(problem):
    sampler = samplers.DAPS(problem.prior, levels=5, micro_batch=4)
    full = sampler.sample(problem.y, problem.physics, draws=11, seed=5)["image"].values
    for batch in (1, 3, 8):
        again = sampler.sample(problem.y, problem.physics, draws=11, seed=5, batch_size=batch)
        assert np.array_equal(again["image"].values, full)
    some = sampler.sample(problem.y, problem.physics, draws=[9, 2], seed=5)
    assert np.array_equal(some["image"].values, full[[9, 2]])


def test_items_have_their_own_streams_named_by_their_numbers(problem):
    sampler = samplers.DAPS(problem.prior, levels=5, micro_batch=4)
    y = torch.cat([problem.y, problem.y])
    both = sampler.sample(y, problem.physics, draws=2, seed=5, items=[3, 7])["image"].values
    assert not np.array_equal(both[:, 0], both[:, 1])
    alone = sampler.sample(problem.y, problem.physics, draws=2, seed=5, items=[7])["image"].values
    assert np.array_equal(both[:, 1:], alone)


def test_other_seeds_give_other_draws(problem):
    sampler = samplers.DAPS(problem.prior, levels=5)
    a, b = sampler(problem.y, problem.physics, seed=0), sampler(problem.y, problem.physics, seed=1)
    assert a.shape == (1, 1, 8, 8)
    assert not torch.equal(a, b)
    assert torch.equal(a, sampler(problem.y, problem.physics, seed=0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: samplers.DAPS(p, conditional="twedie"), "tweedie"),
        (lambda p: samplers.DAPS(p, kernel="exakt"), "exact"),
        (lambda p: samplers.DAPS(p, sweeps=0), "sweeps"),
        (lambda p: samplers.DAPS(p, sigma_min=5, sigma_max=1), "sigma_min"),
        (lambda p: samplers.build("dapz", p), "daps"),
        (lambda p: samplers.build("daps", p, level=3), "levels"),
    ],
)
def test_unknown_names_and_settings_are_errors_that_list_the_known(problem, make, words):
    with pytest.raises(ConfigError, match=words):
        make(problem.prior)


def test_nan_in_the_measurement_is_an_error(problem):
    y = problem.y.clone()
    y[0, 0, 0, 0] = float("nan")
    with pytest.raises(OperatorError, match="not finite"):
        samplers.DAPS(problem.prior)(y, problem.physics)


def test_a_prior_of_another_size_is_an_error(problem):
    other = priors.Gaussian(torch.zeros(1, 6, 6), power_spectrum=torch.ones(6, 6))
    with pytest.raises(PriorError, match=r"\(1, 6, 6\)"):
        samplers.DAPS(other)(problem.y, problem.physics)


def test_an_operator_without_noise_is_an_error(problem):
    class Silent(Matrix):
        pass

    physics = Silent(torch.eye(64), (1, 8, 8), 0.1)
    physics.noise_model = None
    with pytest.raises(OperatorError, match="noise"):
        samplers.DAPS(problem.prior)(torch.zeros(1, 64), physics)


def test_a_diverging_chain_names_operator_level_and_sigma():
    # The step is made unstable: lr · 2‖A‖²/(τ ‖A‖)² = 1,800.
    prior = priors.Gaussian(torch.zeros(1, 1, 4), covariance=torch.eye(4))
    physics = Matrix(30 * torch.eye(4), (1, 1, 4), 0.05)
    with pytest.raises(DivergenceError, match=r"Matrix.*level \d+ of 200, σ =") as caught:
        samplers.DAPS.published(prior, step_size=0.09)(torch.ones(1, 4), physics)
    assert "step_size" in str(caught.value.remedy)


def test_a_denoiser_that_returns_nan_is_an_error_and_never_a_result(problem):
    class Broken(priors.Gaussian):
        def forward(self, x, sigma, **kwargs):
            return super().forward(x, sigma) * (float("nan") if float(sigma) < 1 else 1.0)

    prior = Broken(torch.zeros(1, 8, 8), power_spectrum=fourier_spectrum(8))
    with pytest.raises(DivergenceError, match="finite"):
        samplers.DAPS(prior, levels=10)(problem.y, problem.physics)


def test_a_draw_far_beyond_the_priors_class_is_an_error_and_never_a_result(problem):
    prior = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=fourier_spectrum(8))
    rms = float(samplers.DAPS(prior, levels=5)(problem.y, problem.physics).square().mean().sqrt())
    prior.typical = (0.0, rms / 30)
    with pytest.raises(DivergenceError, match="exploded"):
        samplers.DAPS(prior, levels=5)(problem.y, problem.physics)
    prior.typical = (0.0, rms / 10)
    samplers.DAPS(prior, levels=5)(problem.y, problem.physics)


def test_dps_and_langevin_run_under_the_same_call(problem):
    dps = samplers.DPS(problem.prior, steps=50).sample(problem.y, problem.physics, draws=2)
    assert dps["image"].dims == ("draw", "item", "channel", "y", "x")
    lang = samplers.Langevin(problem.prior, iterations=20)
    assert lang(problem.y, problem.physics).shape == (1, 1, 8, 8)


def test_langevin_without_annealing_reaches_a_strongly_observed_posterior():
    prior = priors.Gaussian(torch.zeros(1, 1, 16), covariance=0.04 * torch.eye(16))
    physics = Matrix(torch.eye(16), (1, 1, 16), 0.2)
    problem = linear_gaussian(prior, physics, 0.2, seed=4)
    sampler = samplers.Langevin(prior, iterations=400, sigma=0.02, micro_batch=64)
    z = problem.whitened(sampler.sample(problem.y, physics, draws=128, seed=1)["image"].values)
    # σ = 0.02 widens the prior by 1 % and h·λ = ½ widens the draws by 1/√(1−¼) = 15 % at most
    assert 0.9 < float(z.std()) < 1.2
    assert abs(float(z.mean())) < 0.1
