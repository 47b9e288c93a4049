"""Draws that the data reject given their fellows are drawn anew, or said to have failed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepinv.physics import Denoising, GaussianNoise, LinearPhysics, PoissonNoise

from sciinv import likelihoods, priors, samplers, uncertainty
from sciinv.problem import Problem
from sciinv.samplers import outliers

N = 400


def scripted(tries):
    """Return an attempt whose χ² of each try is given; the image holds the number of the try."""

    def attempt(again, lanes):
        chi2 = torch.tensor([tries[again][lane] for lane in lanes], dtype=torch.float64)
        return torch.full((len(chi2), 1, 1, 1), float(again)), {"chi2": chi2, "nfe": 10.0}

    return attempt


def test_gaussian_posterior_draws_are_never_called_impossible():
    # E of a draw varies by at most √(k/2); 20,000 groups of 16, k from 1 to 10,000
    stream = torch.Generator().manual_seed(0)
    for k in (1, 4, 30, 10_000):
        gamma = torch._standard_gamma(torch.full((5000, 16), k / 2.0), generator=stream)
        chi2 = 2 * gamma / k
        wrong = torch.stack([outliers.impossible(c, k, k) for c in chi2])
        assert float(wrong.double().mean()) < (5e-3 if k == 1 else 1e-4)


@pytest.mark.parametrize(("excess", "expected"), [(7.9, False), (8.1, True)])
def test_limit_is_eight_times_the_scatter_of_a_posterior(excess, expected):
    chi2 = torch.tensor([0.7, 0.7 + 2 / N * excess * math.sqrt(N / 2)], dtype=torch.float64)
    assert outliers.impossible(chi2, N, N).tolist() == [False, expected]


def test_noise_larger_than_declared_widens_the_limit():
    chi2 = torch.tensor([9.0, 9.0 + 2 / N * 20 * math.sqrt(N / 2)], dtype=torch.float64)
    assert not outliers.impossible(chi2, N, N).any()


def test_a_noise_that_is_drawn_is_what_the_best_draw_says():
    # declared twice too large: 20 standard deviations in units of the noise that there is
    chi2 = torch.tensor([0.25, 0.25 * (1 + 2 / N * 20 * math.sqrt(N / 2))], dtype=torch.float64)
    assert not outliers.impossible(chi2, N, N).any()
    assert outliers.impossible(chi2, N, N, drawn=True).tolist() == [False, True]


def test_only_the_wrong_draw_is_drawn_anew_and_its_evaluations_are_counted():
    x0, values = outliers.redrawn(
        scripted([[1.0, 1.0, 9.0], [1.1, 1.1, 1.1]]), [range(3)], 3, 2, N, N
    )
    assert x0.flatten().tolist() == [0, 0, 1]
    assert values["chi2"].tolist() == [1.0, 1.0, 1.1]
    assert values["tries"].tolist() == [1, 1, 2]
    assert values["failed"].tolist() == [0, 0, 0]
    assert values["nfe"].tolist() == [10, 10, 20]


def test_a_better_draw_shows_that_its_fellows_were_wrong():
    tries = [[5.0, 5.0, 9.0], [5.0, 5.0, 1.0], [1.0, 5.0, 9.0]]
    _, values = outliers.redrawn(scripted(tries), [range(3)], 3, 2, N, N)
    assert values["tries"].tolist() == [2, 2, 2]
    assert values["failed"].tolist() == [0, 1, 0]


def white(side):
    return priors.Gaussian(torch.zeros(1, side, side), power_spectrum=torch.ones(side, side))


class Identity(LinearPhysics):
    """y = x."""

    def A(self, x, **kwargs):
        return x

    def A_adjoint(self, y, **kwargs):
        return y


def test_exact_conditionals_are_not_second_guessed():
    prior = white(2)
    assert samplers.DAPS(prior).retries == 0
    assert samplers.DAPS(prior, retries=1).retries == 1


def test_a_gaussian_problem_with_retries_has_the_draws_of_one_without():
    prior = white(4)
    physics = Identity(noise_model=GaussianNoise(0.1))
    y = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    plain = samplers.DAPS(prior, levels=10, micro_batch=4).sample(y, physics, draws=8)
    again = samplers.DAPS(prior, levels=10, micro_batch=4, retries=2).sample(y, physics, draws=8)
    np.testing.assert_array_equal(plain["image"].values, again["image"].values)
    assert "tries" not in plain
    assert again["tries"].values.max() == 1
    assert again["failed"].values.max() == 0


def test_failed_draws_are_left_out_of_maps():
    prior = white(4)
    physics = Identity(noise_model=GaussianNoise(0.1))
    y = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    post = samplers.DAPS(prior, levels=10, micro_batch=4, retries=1).sample(y, physics, draws=6)
    post["failed"].values[2, 1] = 1.0
    found = uncertainty.summarize(post)
    image = post["image"].values
    np.testing.assert_allclose(found["mean"].values[0], image[:, 0].mean(0), rtol=1e-6)
    rest = np.delete(image[:, 1], 2, axis=0)
    np.testing.assert_allclose(found["mean"].values[1], rest.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        found["mcse_mean"].values[1], rest.std(0, ddof=1) / math.sqrt(5), rtol=1e-5
    )
    assert (found.attrs["draws"], found.attrs["failed"]) == (5, 1)


def test_levels_of_draws_made_anew_are_told_and_counted_in_the_total(monkeypatch):
    """Progress never says that all is done while a second try is under way."""
    physics = Denoising(GaussianNoise(1.0))
    physics.img_size = (1, 4, 4)
    prior = priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=torch.ones(4, 4))
    sampler = samplers.DAPS(
        prior, conditional="tweedie", kernel="exact", levels=3, micro_batch=2, retries=2
    )
    refused = iter([[True, False], [False, False], [False, False]])
    lanes = []
    chain = sampler.chain

    def counted(problem, streams, like, report):
        lanes.append(len(like))
        return chain(problem, streams, like, report)

    monkeypatch.setattr(sampler, "chain", counted)
    monkeypatch.setattr(outliers, "impossible", lambda *a, **k: torch.tensor(next(refused)))
    told: list[tuple[int, int]] = []
    sampler.sample(torch.zeros(1, 1, 4, 4), physics, draws=4, seed=0,
                   progress=lambda *now: told.append(now))  # fmt: skip
    # Two groups of 3 levels, and one of them twice.
    assert lanes == [2, 1, 2]  # the refused lane alone runs again
    assert told == [(1, 6), (2, 6), (3, 6), (4, 9), (5, 9), (6, 9), (7, 9), (8, 9), (9, 9)]


def of_posterior(strength, pixels, draws, seed):
    """χ² of exact draws of a Gaussian posterior of N data, and ½ ‖r_i − r_j‖² of their pairs."""
    g = np.random.default_rng(seed)
    a = strength * g.normal(size=(N, pixels)) / math.sqrt(N)
    y = a @ g.normal(size=pixels) + g.normal(size=N)
    covariance = np.linalg.inv(a.T @ a + np.eye(pixels))
    x = g.multivariate_normal(covariance @ a.T @ y, covariance, size=draws)
    r = y - x @ a.T
    pairs = [0.5 * np.square(r[i] - r[j]).sum() for i in range(draws) for j in range(i)]
    return np.square(r).mean(1), pairs


@pytest.mark.parametrize("pixels", [5, 60])
@pytest.mark.parametrize("strength", [0.5, 3.0, 30.0])
def test_exact_draws_are_none_the_less_draws_by_the_directions_of_their_own_scatter(
    strength, pixels
):
    # 40 groups; of some 4,000 groups in a trial two draws were refused
    for seed in range(40):
        chi2, pairs = of_posterior(strength, pixels, 8, seed)
        _, values = outliers.redrawn(
            scripted([chi2.tolist()] * 2), [range(8)], 8, 1, N, N, lambda x0, p=pairs: p
        )
        assert float(values["tries"].max()) == 1


def test_a_draw_that_only_few_directions_exclude_is_drawn_anew():
    # 100 nats above the rest: 7 standard deviations of 400 directions, 32 of 20
    chi2, pairs = of_posterior(30.0, 20, 8, 3)
    wrong = chi2.tolist()
    wrong[5] += 2 * 100 / N
    again = scripted([wrong, chi2.tolist()])
    _, by_all = outliers.redrawn(again, [range(8)], 8, 1, N, N)
    _, by_own = outliers.redrawn(again, [range(8)], 8, 1, N, N, lambda x0: pairs)
    assert by_all["tries"].tolist() == [1] * 8
    assert by_own["tries"].tolist() == [1, 1, 1, 1, 1, 2, 1, 1]
    assert float(by_own["failed"].max()) == 0


def test_three_draws_do_not_say_how_many_directions_there_are():
    chi2 = [1.0, 1.0, 1.0 + 2 * 100 / N]
    _, values = outliers.redrawn(
        scripted([chi2] * 2), [range(3)], 3, 1, N, N, lambda x0: [20.0, 20.0, 20.0]
    )
    assert values["tries"].tolist() == [1, 1, 1]


def test_scatter_is_half_the_squared_distance_in_units_of_the_noise():
    physics = Denoising(GaussianNoise(0.5))
    like = torch.zeros(1, 1, 4, 4)
    problem = Problem.of(like, physics, likelihoods.of(physics), like)
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = outliers.scatter(problem)(x)
    expected = [
        0.5 * float((x[i] - x[j]).square().sum()) / 0.25 for i, j in [(1, 0), (2, 0), (2, 1)]
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_counts_and_draws_with_instruments_of_their_own_have_no_scatter():
    like = torch.ones(1, 1, 4, 4)
    counts = Denoising(PoissonNoise(1.0))
    assert outliers.scatter(Problem.of(like, counts, likelihoods.of(counts), like)) is None
    physics = Denoising(GaussianNoise(0.5))
    physics.unknowns = ("scale",)
    assert outliers.scatter(Problem.of(like, physics, likelihoods.of(physics), like)) is None
