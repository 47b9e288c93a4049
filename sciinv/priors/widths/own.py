"""Stationary widths of a prior that carries none: fitted to its own draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.priors.base import Prior
from sciinv.priors.draws import prior_draws
from sciinv.priors.widths.stationary import FittedWidths, measure

IMAGES = 32  # draws; their pixels and frequencies are averaged over
LEVELS = 16


def own_widths(prior: Prior, like: Tensor, seed: int = 0) -> FittedWidths:
    """Return the widths of D's error on the prior's own draws, of the size of `like` [B, C, H, W].

    The draws are made by the reverse SDE in 100 steps, so p(x0 | x_t) is that of the prior itself,
    whatever images it was trained on.
    """
    shape = (int(like.shape[1]), int(like.shape[2]), int(like.shape[3]))
    with torch.no_grad():
        images = prior_draws(prior, IMAGES, shape, seed)
        ends = (math.log10(prior.sigma_min), math.log10(prior.sigma_max))
        sigmas = torch.logspace(*ends, LEVELS, dtype=torch.float64)
        return measure(prior, images, sigmas, seed=seed, batch=prior.micro_batch)
