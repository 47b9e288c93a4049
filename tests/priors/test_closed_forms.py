"""Closed-form priors: what cannot be a covariance, a spectrum or a weight is refused."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv import priors
from sciinv.errors import PriorError


def test_a_spectrum_that_is_not_that_of_real_images_is_refused():
    power = torch.ones(4, 4)
    power[0, 1] = 2.0  # and not at (0, 3), its mirror
    with pytest.raises(PriorError, match="not symmetric"):
        priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=power)
    power[0, 3] = 2.0
    priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=power)


def test_an_asymmetric_covariance_is_refused_beyond_rounding():
    c = torch.eye(4)
    c[0, 1] = 0.1
    with pytest.raises(PriorError, match="not symmetric"):
        priors.Gaussian(torch.zeros(1, 2, 2), c)
    with pytest.raises(PriorError, match="not symmetric"):
        priors.GaussianMixture(torch.zeros(1, 1, 2, 2), c[None], torch.ones(1))
    c[0, 1] = 1e-7
    priors.Gaussian(torch.zeros(1, 2, 2), c)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_weights_that_are_no_probabilities_are_refused(weights):
    with pytest.raises(PriorError, match="weights are no probabilities"):
        priors.GaussianMixture(
            torch.zeros(2, 1, 2, 2), torch.eye(4).expand(2, 4, 4), torch.tensor(weights)
        )
