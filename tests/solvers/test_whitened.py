"""The solve behind an exact draw, in pixels and in Fourier coefficients."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv import likelihoods
from sciinv.covariances import Covariance, Fourier, Pixelwise
from sciinv.operators.base import declared
from sciinv.problem import Problem
from sciinv.solvers import whitened
from sciinv.solvers.whitened import Whitened


class Masked(LinearPhysics):
    """Every third pixel, with a gain."""

    def A(self, x, **kwargs):
        return 2.0 * x[..., ::3]

    def A_adjoint(self, y, **kwargs):
        x = torch.zeros(*y.shape[:-1], self.img_size[-1], dtype=y.dtype)
        x[..., ::3] = 2.0 * y
        return x


def covariance(size: tuple[int, int], lanes: int = 2, channels: int = 2) -> Pixelwise:
    g = torch.Generator().manual_seed(3)
    ky, kx = torch.fft.fftfreq(size[0])[:, None], torch.fft.fftfreq(size[1])[None]
    power = 1.0 / (0.05 + ky**2 + kx**2)
    sd = 0.2 + torch.rand(lanes, channels, *size, generator=g, dtype=torch.float64)
    return Pixelwise(sd, Fourier((power / power.mean()).double()), float(sd.square().mean()))


@pytest.mark.parametrize("size", [(12, 12), (9, 10), (10, 9), (7, 7)])
def test_fourier_coordinates_have_the_same_covariance(size: tuple[int, int]) -> None:
    c = covariance(size)
    v = torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    root = whitened._root(c, v)
    assert isinstance(root, whitened._Waves)
    # Rounding of double precision alone.
    torch.testing.assert_close(root(root.transposed(v)), c(v), rtol=1e-10, atol=1e-10)
    z = root.transposed(v)
    w = torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close((root(z) * w).sum(), (z * root.transposed(w)).sum())


@pytest.mark.parametrize("symbol", [False, True])
def test_both_coordinates_give_the_same_solution_in_about_as_many_steps(
    symbol: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (12, 15)
    physics = Masked(noise_model=GaussianNoise(0.05))
    physics.img_size = (2, *size)
    like = torch.zeros(2, 2, *size, dtype=torch.float64)
    y = torch.randn(2, 2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    problem = Problem(y, declared(physics), likelihoods.of(physics), linear=True)
    lin, _ = problem.linearise(like)
    c = covariance(size)
    h = whitened.normal_symbol(lin, like) if symbol else None

    def solution() -> tuple[torch.Tensor, torch.Tensor, int]:
        return Whitened(lin, c, like, symbol=h).solve(20 * y, 1.0, 1e-9, 600)

    waves = solution()
    monkeypatch.setattr(whitened, "_root", lambda c, like: whitened._Pixels(c))
    pixels = solution()
    assert abs(waves[2] - pixels[2]) <= 0.1 * pixels[2]  # the same but for rounding
    # Both stop at an estimated error of 1e-9 in every octave; single pixels may be off by more.
    largest = float(waves[0].abs().max())
    torch.testing.assert_close(waves[0], pixels[0], rtol=0, atol=1e-4 * largest)
    # d = C Aᵀ W (I + W A C Aᵀ W)⁻¹ r: what is left of the equation is as small as was asked for.
    r = 20 * y
    left = c(lin.adjoint(r - lin.forward(waves[0]), like)) - waves[0]
    assert float(left.abs().max()) < 1e-4 * largest


def test_white_covariances_keep_the_pixels() -> None:
    like = torch.zeros(1, 1, 6, 6)
    white: Covariance = Pixelwise(torch.ones(1, 1, 6, 6))
    assert isinstance(whitened._root(white, like), whitened._Pixels)
