"""Linear problems whose posterior is known in closed form, and how far a sampler is from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.calibration import sliced_wasserstein
from sciinv.priors.gaussian import Gaussian
from sciinv.priors.mixture import GaussianMixture
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


def coil_matrix(coils: int, side: int, seed: int = 0) -> Tensor:
    """Return multi-coil k-space, every third line kept, of (real, imaginary) images as real rows.

    Smooth maps around the field, coil c at angle 2π c ÷ coils with that phase; [2 M, 2 side²].
    """
    y, x = np.mgrid[:side, :side] / side - 0.5
    keep = np.arange(side) % 3 == seed % 3
    basis = np.eye(side * side).reshape(-1, side, side)
    parts = []
    for angle in 2 * np.pi * np.arange(coils) / coils:
        far = (y - 0.5 * np.sin(angle)) ** 2 + (x - 0.5 * np.cos(angle)) ** 2
        k = np.fft.fft2(basis * np.exp(-2 * far + 1j * angle), norm="ortho")
        parts.append(k[:, keep])
    z = np.stack(parts, 1).reshape(len(basis), -1).T
    return torch.as_tensor(np.block([[z.real, -z.imag], [z.imag, z.real]]))


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
    """A mixture prior with a linear operator, data of a truth, exact samples of the posterior."""

    prior: GaussianMixture
    matrix: Tensor
    sd: float
    y: Tensor
    shape: tuple[int, int, int]
    truth: Tensor

    def weights(self) -> Tensor:
        """Return the posterior weights of the components, [K]."""
        return self._known[0]

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior's weights [K], means [K, D] and covariances [K, D, D]."""
        p, a = self.prior, self.matrix
        noise = self.sd**2 * torch.eye(len(a), dtype=a.dtype)
        log_w, means, covs = [], [], []
        # One by one: at 32 × 32 complex pixels a matrix is 32 MB.
        for weight, mu, u, v in zip(
            p.weights, p.means.flatten(1), p.vectors, p.values, strict=True
        ):
            c = (u * v) @ u.mT
            s = a @ c @ a.mT + noise
            r = self.y - a @ mu
            log_w.append(weight.log() - 0.5 * (torch.linalg.solve(s, r) @ r + torch.logdet(s)))
            gain = torch.linalg.solve(s, a @ c).mT
            means.append(mu + gain @ r)
            covs.append(c - gain @ a @ c)
        return torch.softmax(torch.stack(log_w), 0), torch.stack(means), torch.stack(covs)

    @cached_property
    def _roots(self) -> dict[int, Tensor]:
        return {}

    def _root(self, k: int) -> Tensor:
        """Return L with L Lᵀ the posterior covariance of component k, [D, D]."""
        if k not in self._roots:
            cov = self._known[2][k]
            values, vectors = torch.linalg.eigh(0.5 * (cov + cov.mT))
            self._roots[k] = vectors * values.clamp_min(0).sqrt()
        return self._roots[k]

    def exact(self, n: int, seed: int) -> Tensor:
        """Return n exact samples of the posterior, [n, D]."""
        w, mean, _ = self._known
        g = torch.Generator().manual_seed(seed)
        pick = torch.multinomial(w, n, replacement=True, generator=g)
        x = torch.randn(n, mean.shape[1], generator=g, dtype=mean.dtype)
        for k in pick.unique().tolist():
            x[pick == k] = mean[k] + x[pick == k] @ self._root(k).mT
        return x

    def mode_error(self, x: Tensor) -> float:
        """Return ½ Σ_k |w_k − mean of p(k | x)| over samples [n, D], w the posterior's weights.

        p(k | x, y) = p(k | x): the data say nothing of the component beyond the image.
        """
        r = self.prior._components(x.reshape(-1, *self.shape), 0.0)[0]
        return float(0.5 * (r.mean(0) - self.weights()).abs().sum())


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
    return MixtureProblem(prior, matrix, sd, y[0], shape, x0[0])


def _shares(x: Tensor, means: Tensor) -> Tensor:
    """Return the share of the samples that lie nearest to each mean, [K]."""
    return torch.bincount(torch.cdist(x, means).argmin(1), minlength=len(means)) / len(x)


def mixture_case(
    problem: MixtureProblem, draws: int, make: Callable[[GaussianMixture], Sampler], seed: int = 0
) -> Row:
    """Return the distance to exact samples, the floor of two exact sets, and the mode weights.

    "components" is the effective number of the posterior's components, exp(−Σ w log w);
    "mode_floor" the difference of the weights between two exact sets of the same size.
    """
    physics = Matrix(problem.matrix, problem.shape, problem.sd)
    post = make(problem.prior).sample(problem.y[None], physics, draws=draws, seed=seed)
    x = torch.as_tensor(post["image"].values).double().reshape(draws, -1)
    exact, second = problem.exact(draws, 1), problem.exact(draws, 2)
    mu = problem.prior.means.flatten(1)
    share, one, two = (_shares(s, mu) for s in (x, exact, second))
    expected = 0.5 * (one + two)
    w = problem.weights()
    return {
        "distance": sliced_wasserstein(x, exact),
        "floor": sliced_wasserstein(second, exact),
        "components": float(torch.exp(torch.special.entr(w).sum())),
        "sd_ratio": float(x.std(0).mean() / exact.std(0).mean()),
        "mode_error": float(0.5 * (share - expected).abs().sum()),
        "mode_floor": float(0.5 * (one - two).abs().sum()),
        "nfe": float(post["nfe"].mean()),
        "finite": bool(torch.isfinite(x).all()),
    }
