"""The three problems of BIPSDA in 10 dimensions: inpainting, x-ray counts, phase retrieval.

A mixture of three Gaussians around −5, 0 and 5 under operators whose posterior is known: in closed
form for inpainting, by tempered sequential Monte Carlo for the others. Numbers are those of the
paper's code; what it draws at random without a seed, the axes of the third covariance, comes from
seeds of ours, and so do truths and data.

Source: Scope Crafts & Villa, "Benchmarking diffusion annealing-based Bayesian inverse problem
solvers", IEEE OJSP 2025 (arXiv 2503.03007), code github.com/Evan1578/BIPSDA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark.linear import Matrix, MixtureProblem, Row
from sciinv.calibration.benchmark.nonlinear import Nonlinear
from sciinv.calibration.benchmark.references import tempered_reference
from sciinv.priors.mixture import GaussianMixture
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams

D, SHAPE = 10, (1, 1, 10)
OBSERVED = (0, 1, 2, 4, 5, 6, 7, 9)
INPAINTING = {"inpainting, noise 0.1": 0.1, "inpainting, noise 5": 5.0}
PROBLEMS = (*INPAINTING, "x-ray counts", "phase retrieval")
COUNTS, OFFSET = 1000.0, 10.0  # photons without an object; added to x before the projection
PHASE_SD = 25.0


def prior() -> GaussianMixture:
    """Return 0.4 N(−5, I) + 0.3 N(0, diag(1 … 2)) + 0.3 N(5, Qᵀ diag(1 … 2) Q)."""
    ones = torch.ones(D, dtype=torch.float64)
    spread = torch.linspace(1, 2, D, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=torch.float64))[0]
    covariances = torch.stack([torch.eye(D).double(), spread.diag(), q.mT @ spread.diag() @ q])
    means = torch.stack([-5 * ones, 0 * ones, 5 * ones]).reshape(3, *SHAPE)
    return GaussianMixture(means, covariances, torch.tensor([0.4, 0.3, 0.3]).double())


def operator(kind: str) -> tuple[Physics, Tensor]:
    """Return the operator with its noise, and its matrix [M, 10]."""
    g = torch.Generator().manual_seed(0)  # as in the paper's code, in single precision
    if kind in INPAINTING:
        a = torch.eye(D, dtype=torch.float64)[list(OBSERVED)]
        return Matrix(a, SHAPE, INPAINTING[kind]), a
    if kind == "x-ray counts":
        a = (0.01 + 0.04 * torch.rand(15, D, generator=g)).double()
        dark = OFFSET * a.sum(1)

        def counts(u: Tensor) -> Tensor:
            return COUNTS * torch.exp(-u - dark.to(u))

        return Nonlinear(a, counts, SHAPE, likelihoods.Poisson()), a
    a = torch.randn(5, D, generator=g).double()
    return Nonlinear(a, torch.square, SHAPE, likelihoods.Gaussian(PHASE_SD)), a


def problem(kind: str, seed: int) -> tuple[GaussianMixture, Physics, Tensor, Tensor]:
    """Return prior, operator, data [1, M] and truth [1, 1, 1, 10]."""
    p, (physics, _) = prior(), operator(kind)
    streams = Streams([(seed, "bipsda", kind)])
    x0 = p.sample(streams, torch.zeros(1, dtype=torch.float64))
    y = likelihoods.of(physics).simulate(physics.A(x0), streams)
    return p, physics, y, x0


@cache
def references(kind: str, seed: int, draws: int) -> tuple[Tensor, Tensor]:
    """Return two independent sets of samples of the posterior, [draws, 10]."""
    p, physics, y, x0 = problem(kind, seed)
    if kind in INPAINTING:
        known = MixtureProblem(p, operator(kind)[1], INPAINTING[kind], y[0], SHAPE, x0[0])
        return known.exact(draws, 1), known.exact(draws, 2)
    first = tempered_reference(p, physics, y, draws, seed=1)[0]
    return first, tempered_reference(p, physics, y, draws, seed=2)[0]


def bipsda_case(kind: str, seed: int, draws: int, make: Callable[[Any], Sampler]) -> Row:
    """Return the distance to samples of one posterior, and that of a second set of them.

    Args:
        kind: Of `PROBLEMS`.
        seed: Of the truth, the data and the draws.
        draws: Number of draws.
        make: The sampler, from a prior.
    """
    p, physics, y, _ = problem(kind, seed)
    first, second = references(kind, seed, draws)
    post = make(p).sample(y, physics, draws=draws, seed=seed)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, D)
    return {
        "kind": kind,
        "distance": sliced_wasserstein(x, first),
        "floor": sliced_wasserstein(second, first),
        "sd_ratio": float(x.std(0).mean() / first.std(0).mean()),
        "nfe": float(post["nfe"].mean()),
        "finite": bool(torch.isfinite(x).all()),
    }
