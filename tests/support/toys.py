"""Small problems with closed-form posteriors, shared by the tests."""

from __future__ import annotations

from dataclasses import dataclass

import deepinv as dinv
import numpy as np
import torch
from torch import Tensor

from sciinv import priors
from sciinv.priors.learned.network import LearnedPrior, NetworkSpec, Preconditioning
from sciinv.seeds import Streams


class MaskedFourier(dinv.physics.LinearPhysics):
    """Orthonormal DFT samples under a mask, as two real components."""

    def __init__(self, mask: Tensor, sd: float) -> None:
        super().__init__(noise_model=dinv.physics.GaussianNoise(sd))
        self.mask = mask
        self.img_size = (1, *mask.shape)

    def A(self, x: Tensor, **kwargs) -> Tensor:
        z = torch.fft.fft2(x, norm="ortho")[:, 0] * self.mask
        return torch.stack([z.real, z.imag], 1)

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        z = torch.complex(y[:, 0], y[:, 1]) * self.mask
        return torch.fft.ifft2(z, norm="ortho").real[:, None]


class Matrix(dinv.physics.LinearPhysics):
    """y = M x with a dense matrix."""

    def __init__(self, matrix: Tensor, shape: tuple[int, int, int], sd: float) -> None:
        super().__init__(noise_model=dinv.physics.GaussianNoise(sd))
        self.matrix = matrix
        self.img_size = shape

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).mT

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(-1, *self.img_size)


def fourier_spectrum(size: int, variance: float = 0.25, knee: float = 0.08) -> Tensor:
    """A smooth-plus-rough stationary spectrum with the given mean variance."""
    f = torch.fft.fftfreq(size)
    k2 = f[:, None] ** 2 + f[None] ** 2
    power = 1.0 / (1.0 + k2 / knee**2) ** 1.5 + 0.01
    return variance * power / power.mean()


@dataclass
class LinearGaussian:
    """A linear problem with a Gaussian prior, and its posterior in closed form."""

    prior: priors.Gaussian
    physics: dinv.physics.LinearPhysics
    y: Tensor
    mean: Tensor
    covariance: Tensor

    def whitened(self, draws: np.ndarray) -> Tensor:
        """Draws in the posterior's eigenbasis, each mode of mean 0 and sd 1 if they are right."""
        flat = torch.as_tensor(draws).double().reshape(len(draws), -1)
        values, vectors = torch.linalg.eigh(self.covariance)
        keep = values > 1e-9 * values.max()
        return ((flat - self.mean) @ vectors / values.clamp_min(1e-30).sqrt())[:, keep]


def linear_gaussian(prior: priors.Gaussian, physics, sd: float, seed: int) -> LinearGaussian:
    """Draw x0 and y, and write the posterior out."""
    shape = prior.shape
    size = int(np.prod(shape))
    x0 = prior.sample(Streams.of_seed(seed, 1), torch.zeros(1, dtype=prior.mean.dtype))
    u = physics.A(x0)
    g = torch.Generator().manual_seed(seed + 1)
    y = u + sd * torch.randn(u.shape, generator=g, dtype=u.dtype)
    eye = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    a = physics.A(eye.to(prior.mean.dtype)).double().flatten(1).mT
    c = prior.covariance(eye.to(prior.mean.dtype)).double().flatten(1)
    gain = c @ a.mT @ torch.linalg.inv(a @ c @ a.mT + sd**2 * torch.eye(len(a)).double())
    m0 = prior.mean.double().flatten()
    mean = m0 + gain @ (y.double().flatten() - a @ m0)
    cov = c - gain @ a @ c
    return LinearGaussian(prior, physics, y, mean, 0.5 * (cov + cov.mT))


def toy() -> LearnedPrior:
    """A learned prior of 32 × 32 pixels with small random weights."""
    torch.manual_seed(0)
    return LearnedPrior(
        NetworkSpec(channels=1, nc=(8, 8, 8, 8), nb=1), Preconditioning(0.5, 0.01, 20.0),
        train_shape=(1, 32, 32), name="toy",
    )  # fmt: skip
