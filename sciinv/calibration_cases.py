"""The calibration benchmark: cases whose right answer is known, small for CI and in full.

gaussian   Gaussian priors × linear operators: mode by mode against the closed form
mixture    random mixtures in 8 dimensions: sliced Wasserstein distance to exact samples
large      a 64-dimensional mixture of 25 components under limited-angle projections
nonlinear  phase retrieval, Poisson counts and closure phases, against importance sampling
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.calibration import sliced_wasserstein
from sciinv.priors.gaussian import Gaussian
from sciinv.priors.mixture import GaussianMixture
from sciinv.samplers import DAPS, Particles
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams

Row = dict[str, Any]


class Matrix(LinearPhysics):
    """y = M x with a dense matrix and white noise."""

    def __init__(self, matrix: Tensor, shape: tuple[int, int, int], sd: float) -> None:
        super().__init__(noise_model=GaussianNoise(sd))
        self.matrix, self.img_size = matrix, shape

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return M x, [B, M]."""
        return x.flatten(1) @ self.matrix.to(x).mT

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Mᵀ y, [B, C, H, W]."""
        return (y @ self.matrix.to(y)).reshape(-1, *self.img_size)


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


def operator_matrix(kind: str, side: int, seed: int) -> Tensor:
    """Return a small linear operator as rows, [M, side²]: mask, fourier, blur, ct or dense."""
    d = side * side
    g = torch.Generator().manual_seed(seed)
    eye = torch.eye(d, dtype=torch.float64)
    if kind == "mask":
        return eye[torch.rand(d, generator=g) < 0.5]
    images = eye.reshape(d, side, side)
    if kind == "fourier":
        keep = (torch.rand(side, side, generator=g) < 0.3).flatten()
        z = torch.fft.fft2(images, norm="ortho").flatten(1)[:, keep]
        return torch.cat([z.real, z.imag], 1).mT
    if kind == "blur":
        f = torch.fft.fftfreq(side, dtype=torch.float64)
        gain = torch.exp(-0.5 * (f[:, None] ** 2 + f[None] ** 2) / 0.12**2)
        return torch.fft.ifft2(torch.fft.fft2(images) * gain).real.flatten(1).mT
    if kind == "ct":
        return projections(side, np.linspace(0, 60, 9))
    return torch.randn(d // 3, d, generator=g, dtype=torch.float64) / math.sqrt(d)


def projections(side: int, degrees: Any) -> Tensor:
    """Return parallel-beam line sums by linear interpolation, [angles · side, side²], ÷ side."""
    c = (np.arange(side) - (side - 1) / 2.0).astype(float)
    yy, xx = np.meshgrid(c, c, indexing="ij")
    degrees = np.asarray(degrees, dtype=float)
    rows = np.zeros((len(degrees), side, side * side))
    for k, angle in enumerate(np.deg2rad(degrees)):
        s = xx * np.cos(angle) + yy * np.sin(angle) + (side - 1) / 2.0
        low = np.floor(s).astype(int).ravel()
        part = s.ravel() - low
        for shift, weight in ((0, 1 - part), (1, part)):
            inside = (low + shift >= 0) & (low + shift < side)
            np.add.at(rows[k], (low[inside] + shift, np.flatnonzero(inside)), weight[inside])
    return torch.as_tensor(rows.reshape(-1, side * side) / side)


def gaussian_covariance(kind: str, side: int) -> Tensor:
    """Return a prior covariance [D, D] of mean variance 0.25: white, 1/f, or smooth + rough."""
    d = side * side
    if kind == "white":
        return 0.25 * torch.eye(d, dtype=torch.float64)
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    k = (f[:, None] ** 2 + f[None] ** 2).sqrt()
    if kind == "1/f":
        power = 1 / (k + 0.5 / side) ** 2
    else:
        power = torch.exp(-((k / 0.08) ** 2)) + 0.01
    power = 0.25 * power / power.mean()
    images = torch.eye(d, dtype=torch.float64).reshape(d, side, side)
    c = torch.fft.ifft2(torch.fft.fft2(images) * power).real.flatten(1)
    return 0.5 * (c + c.mT)


def linear_posterior(c: Tensor, a: Tensor, sd: float, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of p(x0 | y) for x0 ~ N(0, C), y = A x0 + N(0, sd²)."""
    gain = c @ a.mT @ torch.linalg.inv(a @ c @ a.mT + sd**2 * torch.eye(len(a), dtype=a.dtype))
    cov = c - gain @ a @ c
    return gain @ y, 0.5 * (cov + cov.mT)


def gaussian_case(
    prior_kind: str,
    operator: str,
    sd: float,
    side: int,
    draws: int,
    make: Callable[[Gaussian], Sampler],
    seed: int = 0,
) -> Row:
    """Return sd ratio and mean error over the posterior's modes of one Gaussian problem."""
    c = gaussian_covariance(prior_kind, side)
    a = operator_matrix(operator, side, seed)
    shape = (1, side, side)
    prior = Gaussian(torch.zeros(shape, dtype=torch.float64), covariance=c)
    x0 = prior.sample(Streams([(seed, "truth")]), torch.zeros(1, dtype=torch.float64))
    noise = Streams([(seed, "noise")]).randn((len(a),), x0)
    y = x0.flatten(1) @ a.mT + sd * noise
    mean, cov = linear_posterior(c, a, sd, y[0])
    post = make(prior).sample(y, Matrix(a, shape, sd), draws=draws, seed=seed)
    values, vectors = torch.linalg.eigh(cov)
    keep = values > 1e-9 * values.max()
    flat = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
    z = ((flat - mean) @ vectors / values.clamp_min(1e-30).sqrt())[:, keep]
    ratio, error = z.std(0), z.mean(0)
    return {
        "prior": prior_kind,
        "operator": operator,
        "noise": sd,
        "D": side * side,
        "nfe": float(post["nfe"].mean()),
        "sd_ratio_mean": float(ratio.mean()),
        "sd_ratio_rms": float((ratio - 1).square().mean().sqrt()),
        "sd_ratio_rms_expected": 1 / math.sqrt(2 * draws),
        "mean_error_rms": float(error.square().mean().sqrt()),
        "mean_error_rms_expected": 1 / math.sqrt(draws),
        "mean_error_max": float(error.abs().max()),
    }


@dataclass(frozen=True)
class MixtureProblem:
    """A mixture prior with a linear operator, and exact samples of its posterior."""

    prior: GaussianMixture
    matrix: Tensor
    sd: float
    y: Tensor
    shape: tuple[int, int, int]

    def weights(self) -> Tensor:
        """Return the posterior weights of the components, [K]."""
        return self._posterior()[0]

    def _posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        p, a = self.prior, self.matrix
        c = (p.vectors * p.values[:, None, :]) @ p.vectors.mT
        s = a @ c @ a.mT + self.sd**2 * torch.eye(len(a), dtype=a.dtype)
        mu = p.means.flatten(1)
        r = self.y - mu @ a.mT
        log_w = p.weights.log() - 0.5 * (
            (torch.linalg.solve(s, r[..., None]).squeeze(-1) * r).sum(1) + torch.logdet(s)
        )
        gain = c @ a.mT @ torch.linalg.inv(s)
        mean = mu + (gain @ r[..., None]).squeeze(-1)
        return torch.softmax(log_w, 0), mean, c - gain @ a @ c

    def exact(self, n: int, seed: int) -> Tensor:
        """Return n exact samples of the posterior, [n, D]."""
        w, mean, cov = self._posterior()
        g = torch.Generator().manual_seed(seed)
        values, vectors = torch.linalg.eigh(0.5 * (cov + cov.mT))
        root = vectors * values.clamp_min(0).sqrt()[:, None, :]
        k = torch.multinomial(w, n, replacement=True, generator=g)
        z = torch.randn(n, mean.shape[1], 1, generator=g, dtype=mean.dtype)
        return mean[k] + (root[k] @ z).squeeze(-1)


def random_mixture(
    seed: int, sd: float, components: int = 6, shape: tuple[int, int, int] = (1, 1, 8),
    matrix: Tensor | None = None, measurements: int = 3,
) -> MixtureProblem:  # fmt: skip
    """Return a random mixture problem: means N(0, I), covariances 0.09 W + 0.01 I, W Wishart/D."""
    d = math.prod(shape)
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(components, *shape, generator=g, dtype=torch.float64)
    b = 0.3 * torch.randn(components, d, d, generator=g, dtype=torch.float64)
    cov = b @ b.mT / d + 0.01 * torch.eye(d, dtype=torch.float64)
    weights = torch.rand(components, generator=g, dtype=torch.float64) + 0.2
    prior = GaussianMixture(means, cov, weights)
    if matrix is None:
        matrix = torch.randn(measurements, d, generator=g, dtype=torch.float64) / math.sqrt(d)
    x0 = prior.sample(Streams([(seed, "truth")]), torch.zeros(1, dtype=torch.float64))
    y = x0.flatten(1) @ matrix.mT
    y = y + sd * torch.randn(y.shape, generator=g, dtype=torch.float64)
    return MixtureProblem(prior, matrix, sd, y[0], shape)


def mixture_case(
    problem: MixtureProblem, draws: int, make: Callable[[GaussianMixture], Sampler], seed: int = 0
) -> Row:
    """Return the distance to exact samples, the floor of two exact sets, and the mode weights."""
    physics = Matrix(problem.matrix, problem.shape, problem.sd)
    post = make(problem.prior).sample(problem.y[None], physics, draws=draws, seed=seed)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
    exact, second = problem.exact(draws, 1), problem.exact(draws, 2)
    mu = problem.prior.means.flatten(1)
    nearest = torch.cdist(x, mu).argmin(1)
    reference = torch.cdist(torch.cat([exact, second]), mu).argmin(1)
    share = torch.bincount(nearest, minlength=len(mu)) / len(x)
    expected = torch.bincount(reference, minlength=len(mu)) / len(reference)
    return {
        "distance": sliced_wasserstein(x, exact),
        "floor": sliced_wasserstein(second, exact),
        "sd_ratio": float(x.std(0).mean() / exact.std(0).mean()),
        "mode_error": float(0.5 * (share - expected).abs().sum()),
        "nfe": float(post["nfe"].mean()),
        "finite": bool(torch.isfinite(x).all()),
    }


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


def importance_reference(
    prior: GaussianMixture, physics: Nonlinear, y: Tensor, draws: int, seed: int = 0,
    proposals: int = 400_000,
) -> tuple[Tensor, float]:  # fmt: skip
    """Return samples of p(x0 | y) by importance sampling from the prior, and their number."""
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


def nonlinear_case(
    kind: str, seed: int, draws: int, make: Callable[[GaussianMixture], Sampler]
) -> Row:
    """Return the distance to importance-sampled references of one nonlinear problem."""
    prior, physics, y = nonlinear_problem(kind, seed)
    post = make(prior).sample(y, physics, draws=draws, seed=seed)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
    first, effective = importance_reference(prior, physics, y, draws, seed=1)
    second, _ = importance_reference(prior, physics, y, draws, seed=2)
    return {
        "kind": kind,
        "distance": sliced_wasserstein(x, first),
        "floor": sliced_wasserstein(second, first),
        "reference_effective": effective,
        "nfe": float(post["nfe"].mean()),
        "finite": bool(torch.isfinite(x).all()),
    }


def samplers_of(draws: int) -> dict[str, Callable[[Any], Sampler]]:
    """Return the samplers that the mixture cases compare, by name."""
    group = min(draws, 1000)
    return {
        "particles, 50 levels": lambda p: Particles(p, levels=50, group=group),
        "tweedie DAPS, 50 levels": lambda p: DAPS(p, levels=50, micro_batch=group),
        "tweedie DAPS, 50 levels × 4 sweeps": lambda p: DAPS(
            p, levels=50, sweeps=4, micro_batch=group
        ),
        "isotropic DAPS, 50 levels": lambda p: DAPS(
            p, conditional="isotropic", levels=50, micro_batch=group
        ),
        "the paper's loop, exact draws, 200 levels": lambda p: DAPS(
            p, conditional="published", levels=200, sigma_max=100, sigma_min=0.1, micro_batch=group
        ),
    }


def suite(full: bool) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield (group, name, function) of every case; small where not `full`."""
    draws = 1000 if full else 300
    makers = samplers_of(draws)

    def exact(prior: Gaussian) -> Sampler:
        return DAPS(prior, levels=10, micro_batch=250)

    for kind, operator, sd, side in _gaussian_grid(full):
        yield (
            "gaussian",
            f"{kind}, {operator}, noise {sd}, D {side * side}",
            partial(gaussian_case, kind, operator, sd, side, draws, exact),
        )
    for sd in (0.05, 0.3):
        for name, make in makers.items():
            if not full and "paper" in name:
                continue
            few = name not in ("particles, 50 levels", "tweedie DAPS, 50 levels")
            for seed in range((5 if few else 20) if full else 2):
                problem = random_mixture(seed, sd)
                yield (
                    "mixture",
                    f"{name}; β = {sd}; problem {seed}",
                    partial(mixture_case, problem, draws, make),
                )
    rows = projections(8, np.linspace(0, 60, 4))
    for name in ("particles, 50 levels", "tweedie DAPS, 50 levels × 4 sweeps"):
        for seed in range(3 if full else 1):
            problem = random_mixture(seed, 0.05, 25, (1, 8, 8), rows)
            yield (
                "large",
                f"{name}; problem {seed}",
                partial(mixture_case, problem, draws, makers[name]),
            )
    for kind in ("phase", "counts", "closures"):
        for name in ("particles, 50 levels", "tweedie DAPS, 50 levels"):
            for seed in range(10 if full else 1):
                yield (
                    "nonlinear",
                    f"{kind}; {name}; problem {seed}",
                    partial(nonlinear_case, kind, seed, draws, makers[name]),
                )


def _gaussian_grid(full: bool) -> Iterator[tuple[str, str, float, int]]:
    for kind in ("white", "1/f", "smooth + rough"):
        for operator in ("mask", "fourier", "blur", "ct", "dense"):
            if not full:
                yield kind, operator, 0.1, 8
                continue
            for sd in (0.01, 0.1, 1.0):
                yield kind, operator, sd, 16
            yield kind, operator, 0.1, 32
