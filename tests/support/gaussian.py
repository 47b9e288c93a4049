"""A linear problem of 16 pixels under a Gaussian prior, and what its draws are held against."""

from __future__ import annotations

import math

import numpy as np
import torch

from sciinv import priors

D = 16
SHAPE = (1, 1, D)


def matrix(m):
    """Rows of an operator: a rough and a smooth half, some of it seen well, some hardly."""
    g = torch.Generator().manual_seed(3)
    return torch.randn(m, D, generator=g) * torch.linspace(1.5, 0.02, D)


def gaussian_prior(mean=0.5, variance=0.3):
    """Return the prior and its covariance in double precision."""
    lag = (torch.arange(D)[:, None] - torch.arange(D)).abs()
    cov = variance * torch.exp(-lag / 3.0)
    return priors.Gaussian(torch.full(SHAPE, mean), covariance=cov), cov.double()


def agree(found, mean, sd, draws):
    """Each pixel's mean and sd within 4.5 and 5 standard errors."""
    flat = found.reshape(len(found), -1)
    assert np.abs((flat.mean(0) - mean) / sd).max() < 4.5 / math.sqrt(draws)
    assert np.abs(flat.std(0) / sd - 1).max() < 5 / math.sqrt(2 * draws)
