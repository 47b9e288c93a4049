"""Latent priors: the closed form under a linear decoder, quadrature under a nonlinear one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.toys import Matrix, linear_gaussian

from sciinv import priors
from sciinv.errors import OperatorError, PriorError
from sciinv.samplers import DAPS, Particles
from sciinv.samplers.latent import Autoencoder, LatentSampler, operator_of
from sciinv.seeds import Streams

LATENT, IMAGE = (1, 3, 4), (1, 8, 8)


def orthonormal() -> tuple[torch.Tensor, Autoencoder]:
    g = torch.Generator().manual_seed(3)
    w = torch.linalg.qr(torch.randn(64, 12, generator=g, dtype=torch.float64))[0]
    decoder = Autoencoder(
        lambda z: (z.flatten(1) @ w.mT).reshape(-1, *IMAGE),
        LATENT,
        encode=lambda x: (x.flatten(1) @ w).reshape(-1, *LATENT),
        linear=True,
    )
    return w, decoder


@pytest.fixture(scope="module")
def linear():
    """Decoder, operator on images, the problem in z with its closed form."""
    w, decoder = orthonormal()
    g = torch.Generator().manual_seed(4)
    b = torch.randn(12, 12, generator=g, dtype=torch.float64)
    prior = priors.Gaussian(
        torch.randn(LATENT, generator=g, dtype=torch.float64), covariance=b @ b.mT / 12
    )
    matrix = torch.randn(6, 64, generator=g, dtype=torch.float64) / 8
    physics = Matrix(matrix, IMAGE, 0.1)
    return w, decoder, physics, linear_gaussian(prior, Matrix(matrix @ w, LATENT, 0.1), 0.1, 5)


def test_linear_decoder_gives_the_posterior_in_closed_form(linear):
    w, decoder, physics, problem = linear
    draws = 2000
    sampler = DAPS(problem.prior, levels=10, micro_batch=500)
    post = LatentSampler(sampler, decoder).sample(problem.y, physics, draws=draws)
    z = problem.whitened(post["latent"].values)
    # 12 means of sd 1/√2000 and 12 sds of relative error 1/√4000: four and a half of each.
    assert float(z.mean(0).abs().max()) < 4.5 / draws**0.5
    assert float((z.std(0) - 1).abs().max()) < 4.5 / (2 * draws) ** 0.5
    x = torch.as_tensor(post["image"].values).reshape(draws, -1)
    torch.testing.assert_close(x @ w @ w.mT, x)  # within the decoder's range
    np.testing.assert_allclose(x @ w, post["latent"].values.reshape(draws, -1), atol=1e-12)


def test_draws_are_those_of_the_product_of_operator_and_decoder(linear):
    _, decoder, physics, problem = linear
    sampler = DAPS(problem.prior, levels=6)
    got = LatentSampler(sampler, decoder).sample(problem.y, physics, draws=[1, 5], seed=2)
    plain = sampler.sample(problem.y, problem.physics, draws=[1, 5], seed=2)
    np.testing.assert_allclose(got["latent"].values, plain["image"].values, atol=1e-9)
    np.testing.assert_allclose(got["chi2"].values, plain["chi2"].values, rtol=1e-8)
    alone = LatentSampler(sampler, decoder).sample(problem.y, physics, draws=[5], seed=2)
    assert np.array_equal(alone["image"].values[0], got["image"].values[1])
    assert got["draw"].values.tolist() == [1, 5]
    image = LatentSampler(sampler, decoder)(problem.y, physics, seed=2)
    assert image.shape == (1, *IMAGE)


def test_adjoints_through_the_decoder_are_exact(linear):
    w, decoder, physics, problem = linear
    inner = operator_of(physics, decoder, problem.y)
    a = physics.matrix @ w
    z = problem.prior.sample(Streams.of_seed(0, 3), torch.zeros(1, dtype=torch.float64))
    r = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(inner.A(z), z.flatten(1) @ a.mT)
    torch.testing.assert_close(inner.A_adjoint(r).flatten(1), r @ a)
    torch.testing.assert_close(inner.A_vjp(z, r).flatten(1), r @ a)


def bent(z: torch.Tensor) -> torch.Tensor:
    """Four pixels of two latent variables: a smooth surface that is far from flat."""
    a, b = z[..., 0], z[..., 1]
    return torch.stack([a + 0.5 * b**2, torch.sinh(b), a * b, torch.tanh(2 * a)], -1)


@pytest.mark.parametrize("kernel", ["newton", "hmc"])
def test_nonlinear_decoder_agrees_with_quadrature(kernel):
    decoder = Autoencoder(bent, (1, 1, 2))
    prior = priors.Gaussian(
        torch.zeros(1, 1, 2, dtype=torch.float64), covariance=torch.eye(2, dtype=torch.float64)
    )
    matrix = torch.tensor([[1.0, 0.3, 0.5, 0.0], [0.0, 1.0, -0.4, 0.6]], dtype=torch.float64)
    sd = 0.4
    physics = Matrix(matrix, (1, 1, 4), sd)
    y = torch.tensor([[1.1, 0.4]], dtype=torch.float64)
    t = torch.linspace(-6, 6, 601, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(t, t, indexing="ij"), -1).reshape(-1, 2)
    x = bent(grid)
    log_p = -0.5 * grid.square().sum(1) - 0.5 * ((x @ matrix.mT - y) / sd).square().sum(1)
    p = torch.softmax(log_p, 0)
    mean = p @ x
    spread = (p @ (x - mean).square()).sqrt()
    draws = 1000
    sampler = DAPS(prior, kernel=kernel, levels=14, micro_batch=1000)
    post = LatentSampler(sampler, decoder).sample(y, physics, draws=draws)
    got = torch.as_tensor(post["image"].values).reshape(draws, 4)
    z = (got.mean(0) - mean) / spread
    # 4.5 standard errors: of a mean 1/√n, of an sd √((kurtosis − 1)/4n).
    kurtosis = (p @ (x - mean) ** 4) / spread**4
    assert float(z.abs().max()) < 4.5 / draws**0.5
    assert bool(
        ((got.std(0) / spread - 1).abs() < 4.5 * ((kurtosis - 1) / (4 * draws)).sqrt()).all()
    )


def test_particles_draw_through_a_decoder_too(linear):
    _, decoder, physics, problem = linear
    sampler = Particles(problem.prior, levels=10, group=64)
    post = LatentSampler(sampler, decoder).sample(problem.y, physics, draws=64)
    assert np.isfinite(post["image"].values).all()


def test_round_trip_says_what_the_decoder_cannot_show():
    w, decoder = orthonormal()
    g = torch.Generator().manual_seed(6)
    x = torch.randn(2, 64, generator=g, dtype=torch.float64)
    expected = (x - x @ w @ w.mT).square().mean(1).sqrt()
    torch.testing.assert_close(decoder.round_trip(x.reshape(2, *IMAGE)), expected)
    with pytest.raises(PriorError, match="no encoder"):
        Autoencoder(decoder.decode, LATENT).round_trip(x.reshape(2, *IMAGE))


def test_wrong_decoders_are_refused(linear):
    _, decoder, physics, problem = linear
    y = problem.y
    with pytest.raises(OperatorError, match="not linear"):
        operator_of(physics, Autoencoder(lambda z: decoder.decode(z) + 1, LATENT, linear=True), y)
    with pytest.raises(OperatorError, match="operator's image"):
        operator_of(physics, Autoencoder(lambda z: z, LATENT), y)
