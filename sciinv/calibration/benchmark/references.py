"""Reference samples of p(x0 | y) under a mixture prior and any differentiable operator.

Tempered sequential Monte Carlo on p(x0) p(y | x0)^τ, τ from 0 to 1: a large population drawn from
the prior itself, reweighted, resampled and moved by Metropolis steps whose covariance is that of
the local Gaussian picture. It starts in every mode of the prior, and the weights carry each mode's
probability; a second run with other random numbers gives its own error.

Sources: Del Moral, Doucet & Jasra 2006 (sequential Monte Carlo samplers); Girolami & Calderhead
2011 (position-dependent proposals).
"""

from __future__ import annotations

import math

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.priors.mixture import GaussianMixture


def tempered_reference(
    prior: GaussianMixture,
    physics: Physics,
    y: Tensor,
    draws: int,
    seed: int = 0,
    population: int = 8192,
    moves: int = 6,
    keep: float = 0.8,
) -> tuple[Tensor, dict[str, float]]:
    """Return samples of p(x0 | y), [draws, D], and how the run went.

    Args:
        prior: The mixture.
        physics: The operator, with `likelihood`; differentiable.
        y: The measurement, [1, …].
        draws: Samples to return, at most `population`.
        seed: Seed of the run.
        population: Particles.
        moves: Metropolis steps at each temperature; three times as many at the last.
        keep: Effective share of the population that a step of the temperature leaves.
    """
    g = torch.Generator().manual_seed(seed)
    shape, d = prior.means.shape[1:], prior.means[0].numel()
    precision = torch.linalg.inv((prior.vectors * prior.values[:, None, :]) @ prior.vectors.mT)

    def one(v: Tensor) -> Tensor:
        return physics.A(v.reshape(1, *shape))[0].flatten()

    jacobian = torch.func.vmap(torch.func.jacrev(one))

    def data_nll(x: Tensor) -> Tensor:
        return physics.likelihood.nll(physics.A(x.reshape(-1, *shape)), y.expand(len(x), -1))

    def root(x: Tensor, tau: float) -> Tensor:
        """Return the Cholesky factor of the local precision, [n, D, D]."""
        r = prior._components(x.reshape(-1, *shape), 0.0)[0]
        u = physics.A(x.reshape(-1, *shape))
        j = jacobian(x)
        rows = physics.likelihood.whiten(j.mT, u[:, None, :]).mT
        metric = torch.einsum("nk,kde->nde", r, precision) + tau * rows.mT @ rows
        return torch.linalg.cholesky(metric)

    def log_q(factor: Tensor, step: Tensor, scale: float) -> Tensor:
        whitened = (factor.mT @ step[..., None]).squeeze(-1) / scale
        return factor.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * whitened.square().sum(1)

    pick = torch.multinomial(prior.weights, population, replacement=True, generator=g)
    half = prior.vectors * prior.values.sqrt()[:, None, :]
    z = torch.randn(population, d, 1, generator=g, dtype=half.dtype)
    x = prior.means.flatten(1)[pick] + (half[pick] @ z).squeeze(-1)
    nll, tau, scale, steps = data_nll(x), 0.0, 1.0, 0
    lowest, log_evidence = 1.0, 0.0
    while tau < 1.0:
        rise = _rise(nll, 1.0 - tau, keep)
        log_w = -rise * nll
        log_evidence += float(torch.logsumexp(log_w, 0)) - math.log(population)
        tau, steps = tau + rise, steps + 1
        w = torch.softmax(log_w, 0)
        places = (torch.arange(population) + torch.rand((), generator=g)) / population
        index = torch.searchsorted(w.cumsum(0), places.to(w)).clamp_max(population - 1)
        x, nll = x[index], nll[index]
        density, factor = prior.log_density(x.reshape(-1, *shape)), root(x, tau)
        for _ in range(3 * moves if tau >= 1.0 else moves):
            z = torch.randn(population, d, 1, generator=g, dtype=x.dtype)
            step = scale * torch.linalg.solve_triangular(factor.mT, z, upper=True).squeeze(-1)
            x_new = x + step
            nll_new, density_new = data_nll(x_new), prior.log_density(x_new.reshape(-1, *shape))
            factor_new = root(x_new, tau)
            log_a = density_new - density - tau * (nll_new - nll)
            log_a = log_a + log_q(factor_new, step, scale) - log_q(factor, step, scale)
            take = torch.rand(population, generator=g, dtype=x.dtype).log() < log_a
            x = torch.where(take[:, None], x_new, x)
            nll, density = torch.where(take, nll_new, nll), torch.where(take, density_new, density)
            factor = torch.where(take[:, None, None], factor_new, factor)
            rate = float(take.double().mean())
            scale = min(max(scale * math.exp(0.5 * (rate - 0.3)), 0.05), 2.0)
        lowest = min(lowest, rate)
    index = torch.randperm(population, generator=g)[:draws]
    return x[index], {
        "temperatures": float(steps),
        "lowest_acceptance": lowest,
        "log_evidence": log_evidence,
    }


def _rise(nll: Tensor, most: float, keep: float) -> float:
    """Return the rise of the temperature that leaves the effective share `keep`."""

    def share(rise: float) -> float:
        w = torch.softmax(-rise * nll, 0)
        return float(1.0 / w.square().sum()) / len(nll)

    if share(most) >= keep:
        return most
    low, high = 0.0, most
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) > keep else (low, middle)
    return low


def importance_reference(
    prior: GaussianMixture, physics: Physics, y: Tensor, draws: int, seed: int = 0,
    proposals: int = 400_000,
) -> tuple[Tensor, float]:  # fmt: skip
    """Return samples of p(x0 | y) by importance sampling from the prior, and their number.

    Where the number is in the thousands it checks the tempered reference by another road.
    """
    chunks, logs = [], []
    like = torch.zeros(1, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    k = torch.multinomial(prior.weights, proposals, replacement=True, generator=g)
    root = prior.vectors * prior.values.sqrt()[:, None, :]
    for part in k.split(50_000):
        z = torch.randn(len(part), root.shape[1], 1, generator=g, dtype=like.dtype)
        x = prior.means.flatten(1)[part] + (root[part] @ z).squeeze(-1)
        x = x.reshape(-1, *physics.img_size)
        chunks.append(x.flatten(1))
        logs.append(-physics.likelihood.nll(physics.A(x), y.expand(len(x), -1)))
    w = torch.softmax(torch.cat(logs), 0)
    pick = torch.multinomial(w, draws, replacement=True, generator=g)
    return torch.cat(chunks)[pick], float(1 / w.square().sum())
