"""A problem with two unknowns, small enough to look at: its posterior is known on a grid.

p(x0) = Σ_k w_k N(μ_k, C_k), eight elongated components in a ring; y = x₁ x₂ + N(0, 0.04²), so that
the data hold on two branches of a hyperbola, each crossing several components.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.kernels import Metropolis
from sciinv.priors.mixture import GaussianMixture
from sciinv.samplers import DAPS, DPS, Particles
from sciinv.samplers.base import Sampler

HALF, SIDE = 2.6, 800  # the grid: [−2.6, 2.6]² in 800 × 800 cells, 0.0065 wide


class Product(Physics):
    """y = x₁ x₂ of an image of two pixels, with white noise.

    Args:
        sd: Noise standard deviation.
    """

    def __init__(self, sd: float = 0.04) -> None:
        super().__init__()
        self.img_size, self.likelihood = (1, 1, 2), likelihoods.Gaussian(sd)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return x₁ x₂, [B, 1]."""
        return x.flatten(1).prod(1, keepdim=True)


def problem() -> tuple[GaussianMixture, Product, Tensor]:
    """Return prior, operator and data, y = 0.5."""
    k = torch.arange(8, dtype=torch.float64)
    angle, radius = 2 * math.pi * k / 8 + 0.2, 1.0 + 0.5 * (k % 2)
    means = torch.stack([radius * angle.cos() + 0.15, radius * angle.sin() - 0.1], 1)
    along = torch.stack([-(angle + 0.6).sin(), (angle + 0.6).cos()], 1)
    covariances = 0.02 * torch.eye(2, dtype=torch.float64) + 0.08 * (
        along[:, :, None] * along[:, None, :]
    )
    weights = torch.tensor([1, 2, 1, 3, 1, 1, 2, 1], dtype=torch.float64)
    prior = GaussianMixture(means.reshape(8, 1, 1, 2), covariances, weights)
    return prior, Product(), torch.tensor([[0.5]], dtype=torch.float64)


def density(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Return the cells' centres along one axis, [side], and p(x0 | y), [side (x₁), side (x₂)]."""
    prior, physics, y = problem()
    axis = ((torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 - 1) * HALF
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 1, 2)
    log_p = prior.log_density(x) - physics.likelihood.nll(physics.A(x), y.expand(len(x), -1))
    p = torch.softmax(log_p, 0).reshape(side, side)
    return axis, p / (2 * HALF / side) ** 2


def exact(draws: int, seed: int) -> Tensor:
    """Return samples of the posterior from the grid, uniform within a cell, [draws, 2]."""
    axis, p = density()
    g = torch.Generator().manual_seed(seed)
    cell = torch.multinomial(p.flatten(), draws, replacement=True, generator=g)
    x = torch.stack([axis[cell // SIDE], axis[cell % SIDE]], 1)
    return x + (torch.rand(draws, 2, generator=g, dtype=x.dtype) - 0.5) * 2 * HALF / SIDE


def samplers(prior: GaussianMixture, draws: int) -> dict[str, Sampler]:
    """Return the samplers that the picture compares, by title.

    DPS stands here twice: with the ζ of its paper's image problems, and with the one of 0.003,
    0.005, 0.01, 0.02, 0.05 and 0.3 whose draws come nearest to this posterior, which
    nobody could know without having it. No other sampler here has a number to tune.
    """
    return {
        "DPS, ζ = 0.3": DPS(prior, zeta=0.3, micro_batch=draws),
        "DPS, ζ = 0.005, the best": DPS(prior, zeta=0.005, micro_batch=draws),
        "DAPS, the paper's loop": DAPS(
            prior, "published", Metropolis(40), sigma_max=100, sigma_min=0.1, micro_batch=draws
        ),
        "DAPS, tweedie": DAPS(
            prior, "tweedie", Metropolis(40), renoise="bridge", micro_batch=draws
        ),
        "Particles": Particles(prior, group=draws),
    }


def draw(sampler: Sampler, draws: int, seed: int = 0) -> Tensor:
    """Return the sampler's draws, [draws, 2]."""
    _, physics, y = problem()
    post = sampler.sample(y, physics, draws=draws, seed=seed)
    return torch.as_tensor(post["image"].values).reshape(draws, 2)
