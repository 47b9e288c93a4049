"""κ found on simulated data of the problem at hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting
from deepinv.physics import Physics as Nonlinear

from sciinv import errors, likelihoods, priors, samplers
from sciinv.calibration.settings import find_inflate, unplaced
from sciinv.operators.base import declared
from sciinv.priors.draws import prior_draws
from sciinv.problem import Problem

SIDE = 24


@pytest.fixture(scope="module")
def problem():
    """A white prior, whose isotropic width is exact: κ = 1."""
    prior = priors.Gaussian(torch.zeros(1, SIDE, SIDE), power_spectrum=torch.ones(SIDE, SIDE))
    mask = torch.zeros(1, SIDE, SIDE)
    mask[..., ::2] = 1
    physics = Inpainting((1, SIDE, SIDE), mask=mask, noise_model=GaussianNoise(0.5))
    truths = prior_draws(prior, 4, (1, SIDE, SIDE), 5)
    return prior, declared(physics, torch.zeros(1, 1, SIDE, SIDE), (1, SIDE, SIDE)), truths


def sampler(prior, kappa):
    return samplers.DAPS(
        prior, conditional="isotropic", kernel="exact", levels=12, inflate=kappa, micro_batch=2
    )


@pytest.mark.parametrize("start", [0.2, 1.0, 6.0])
def test_the_exact_factor_is_found_from_either_side(problem, start):
    prior, physics, truths = problem
    found = find_inflate(lambda k: sampler(prior, k), physics, truths, start)
    # four truths of 576 pixels know ln ρ to about 1/√(2 · 4 · 576) = 0.015; CLOSE is 0.03
    last = min(found.passes, key=lambda p: abs(math.log(p.ratio)))
    assert abs(math.log(last.ratio)) < 0.06
    assert abs(math.log(found.inflate)) < math.log(2.5)
    assert found.inflate == last.inflate
    assert json.loads(json.dumps(found.row()))["truths"] == 4
    # Of three exchangeable values one is as often in the middle as another: ⅓. Four truths of 576
    # pixels, of which unseen and seen ones are independent: 5 standard errors of √(2/9/2304).
    assert abs(last.between - 1 / 3) < 5 * math.sqrt(2 / 9 / 2304) + abs(math.log(last.ratio)) / 3
    assert 0 < last.between_error < 0.03


def test_too_narrow_draws_are_told_by_the_ratio(problem):
    prior, physics, truths = problem
    narrow = find_inflate(lambda k: sampler(prior, k), physics, truths, 0.1, passes=1)
    wide = find_inflate(lambda k: sampler(prior, k), physics, truths, 16.0, passes=1)
    assert narrow.passes[0].ratio < 0.95
    assert wide.passes[0].ratio > 1.05


def test_the_search_stops_where_the_truths_cannot_tell_more(problem):
    prior, physics, truths = problem
    assert len(find_inflate(lambda k: sampler(prior, k), physics, truths, 1.0).passes) == 1


def test_same_seed_same_factor(problem):
    prior, physics, truths = problem
    first, second = (
        find_inflate(lambda k: sampler(prior, k), physics, truths, 1.5, seed=3) for _ in range(2)
    )
    assert first == second
    assert np.isfinite(first.inflate)


class Moved(samplers.Sampler):
    """Draws that are the truths with independent errors, each somewhere else in the field."""

    name = "moved"

    def __init__(self, prior, truths, sd):
        super().__init__(prior)
        self.truths, self.sd = truths, sd

    def levels_of_noise(self):
        return [1.0]

    def start(self, problem, streams, like):
        return None

    def step(self, state, level, problem, streams):
        raise AssertionError

    def chain(self, problem, streams, like, report):
        x = self.truths.repeat_interleave(2, 0) + self.sd * streams.randn(like.shape[1:], like)
        x = torch.stack([image.roll((3 * k, 5 * k), (-2, -1)) for k, image in enumerate(x)])
        return x, {"chi2": torch.ones(len(x))}


class Power(Nonlinear):
    """|F x|: it does not know where x is."""

    def A(self, x, **kwargs):
        return torch.fft.fft2(x).abs()


class Bent(Nonlinear):
    """x + x³: it does."""

    def A(self, x, **kwargs):
        return x + x**3


def spots(seed: int) -> torch.Tensor:
    """Four objects of a few bright pixels each in the middle."""
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(4, 1, SIDE, SIDE)
    x[..., 8:16, 8:16] = torch.rand(4, 1, 8, 8, generator=g)
    return x


@pytest.mark.parametrize(("operator", "open_place"), [(Power, True), (Bent, False)])
def test_data_that_leave_the_place_open_are_known(operator, open_place):
    physics = operator(noise_model=GaussianNoise(0.1))
    truths = spots(1)
    like = torch.zeros(1, 1, SIDE, SIDE)
    problem = Problem.of(physics.A(like), physics, likelihoods.of(physics), like)
    assert unplaced(problem, truths) is open_place


def test_a_move_that_the_data_do_not_know_is_no_distance(problem):
    # Errors of truth and draws alike (exchangeable), so ρ = 1; 4 pairs of 576 pixels know ln ρ to
    # 0.015. Without the move onto each other the truth alone would stand in its place.
    prior = problem[0]
    exact, sd = spots(2), 0.02
    g = torch.Generator().manual_seed(7)
    truths = exact + sd * torch.randn(exact.shape, generator=g)
    physics = Power(noise_model=GaussianNoise(0.1))
    physics = declared(physics, torch.zeros(1, 1, SIDE, SIDE), (1, SIDE, SIDE))
    found = find_inflate(lambda k: Moved(prior, exact, sd), physics, truths, 1.0, passes=1)
    assert abs(math.log(found.passes[0].ratio)) < 0.08
    assert found.passes[0].between == pytest.approx(1 / 3, abs=0.06)


def test_one_truth_is_refused(problem):
    prior, physics, truths = problem
    with pytest.raises(errors.ConfigError, match="One truth"):
        find_inflate(lambda k: sampler(prior, k), physics, truths[:1], 1.0)
