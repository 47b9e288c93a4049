"""κ found on simulated data of the problem at hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting

from sciinv import errors, priors, samplers
from sciinv.calibration.settings import find_inflate
from sciinv.operators.base import declared
from sciinv.priors.draws import prior_draws

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


def test_one_truth_is_refused(problem):
    prior, physics, truths = problem
    with pytest.raises(errors.ConfigError, match="One truth"):
        find_inflate(lambda k: sampler(prior, k), physics, truths[:1], 1.0)
