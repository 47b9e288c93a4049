"""Nonlinear problems on mixture priors: how far a sampler is from samples of the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark.linear import Row, random_mixture
from sciinv.calibration.benchmark.references import tempered_reference
from sciinv.errors import SciinvError
from sciinv.priors.mixture import GaussianMixture
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams

KINDS = ("phase", "counts", "closures")


class Nonlinear(Physics):
    """y = f(M x) with an elementwise or grouped f, differentiated by autograd."""

    def __init__(
        self,
        matrix: Tensor,
        f: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int],
        likelihood: likelihoods.Likelihood,
    ) -> None:
        super().__init__()
        self.matrix, self.f, self.img_size = matrix, f, shape
        self.likelihood = likelihood

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return f(M x), [B, M]."""
        return self.f(x.flatten(1) @ self.matrix.to(x).mT)


def nonlinear_problem(kind: str, seed: int) -> tuple[GaussianMixture, Nonlinear, Tensor]:
    """Return prior, operator and data of a nonlinear problem in 8 dimensions.

    phase: y = (M x)² with white noise of 0.1; counts: y ~ Poisson(200 exp(−M x⁺)); closures: the
    angles of three bispectra of complex M x, noise 0.1 rad.
    """
    shape = (1, 1, 8)
    base = random_mixture(seed, 0.1)
    g = torch.Generator().manual_seed(seed + 10_000)
    like: likelihoods.Likelihood
    if kind == "phase":
        m = torch.randn(6, 8, generator=g, dtype=torch.float64) / math.sqrt(8)
        like = likelihoods.Gaussian(0.1)
        physics = Nonlinear(m, torch.square, shape, like)
    elif kind == "counts":
        m = 0.5 * torch.randn(4, 8, generator=g, dtype=torch.float64) / math.sqrt(8)
        like = likelihoods.Poisson()
        physics = Nonlinear(m, lambda u: 200.0 * torch.exp(-u), shape, like)
    else:
        m = torch.randn(12, 8, generator=g, dtype=torch.float64) / math.sqrt(8)
        like = likelihoods.Gaussian(0.1, period=torch.tensor(2 * math.pi, dtype=torch.float64))

        def bispectra(u: Tensor) -> Tensor:
            v = torch.complex(1.0 + u[..., :6], u[..., 6:])
            return torch.angle(v[..., [0, 1, 2]] * v[..., [3, 4, 5]] * v[..., [1, 2, 0]].conj())

        physics = Nonlinear(m, bispectra, shape, like)
    streams = Streams([(seed, "nonlinear")])
    x0 = base.prior.sample(streams, torch.zeros(1, dtype=torch.float64))
    return base.prior, physics, like.simulate(physics.A(x0), streams)


@cache
def references(kind: str, seed: int, draws: int) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Return two independent reference sets of a problem, and how the first was made."""
    problem = nonlinear_problem(kind, seed)
    first, about = tempered_reference(*problem, draws, seed=1)
    return first, tempered_reference(*problem, draws, seed=2)[0], about


def nonlinear_case(
    kind: str, seed: int, draws: int, make: Callable[[GaussianMixture], Sampler]
) -> Row:
    """Return the distance to reference samples of one problem, and that of a second reference."""
    prior, physics, y = nonlinear_problem(kind, seed)
    first, second, about = references(kind, seed, draws)
    post = make(prior).sample(y, physics, draws=draws, seed=seed)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
    return {
        "kind": kind,
        "distance": sliced_wasserstein(x, first),
        "floor": sliced_wasserstein(second, first),
        "reference_log_evidence": about["log_evidence"],
        "sd_ratio": float(x.std(0).mean() / first.std(0).mean()),
        "nfe": float(post["nfe"].mean()),
        "finite": bool(torch.isfinite(x).all()),
    }


def robust_case(
    kind: str, problems: int, draws: int, make: Callable[[GaussianMixture], Sampler]
) -> Row:
    """Return how many of so many random problems ended in an error or in numbers not finite."""
    errors, bad, misfit = [], 0, []
    for seed in range(problems):
        prior, physics, y = nonlinear_problem(kind, seed)
        try:
            post = make(prior).sample(y, physics, draws=draws, seed=seed)
        except SciinvError as error:
            errors.append(f"problem {seed}: {type(error).__name__}")
            continue
        bad += not bool(torch.isfinite(torch.as_tensor(post["image"].values)).all())
        misfit.append(float(post["chi2"].median()))
    return {
        "kind": kind,
        "problems": problems,
        "errors": errors,
        "not_finite": bad,
        "chi2_median": float(torch.tensor(misfit).median()),
        "chi2_worst": max(misfit),
    }
