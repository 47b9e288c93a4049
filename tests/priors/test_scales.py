"""Scale-mixture priors: laws, the denoiser, and the default sampler's draws."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.calibration.benchmark.linear import Matrix
from sciinv.errors import ConfigError, PriorError
from sciinv.priors import Gaussian, ScaleMixture
from sciinv.priors.scales.laws import BernoulliLaplace, Laplace, Normal, StudentT
from sciinv.samplers import DAPS
from sciinv.seeds import Streams

LANES = 2000
WALK = torch.ones(3, 3, dtype=torch.float64).tril()


@pytest.mark.parametrize("law", [Normal(0.7), Laplace(0.5), StudentT(1), StudentT(3, 0.6)])
def test_alternating_v_and_u_keeps_the_law(law):
    """v | u and u | v leave p(u) as it is, so |u| keeps its distribution function."""
    streams, like = Streams.of_seed(1, LANES), torch.zeros(1, dtype=torch.float64)
    u = law.sample(streams, 1, like)
    for _ in range(5):
        u = law.variances(u, streams).sqrt() * streams.randn((1,), like)
    grid = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    density = law.log_density(grid).exp()
    for at in (0.3, 1.0, 3.0):
        expected = float(torch.trapezoid(torch.where(grid.abs() <= at, density, 0.0), grid))
        share = float((u.abs() <= at).double().mean())
        # four standard errors of a share of 4,000, and a cell of the grid
        assert abs(share - expected) < 4 * math.sqrt(0.25 / LANES) + 2e-3


@pytest.mark.parametrize("law", [Laplace(1.0), StudentT(1), BernoulliLaplace(0.3)])
def test_draws_of_the_default_sampler_have_the_posteriors_moments(law):
    """Three increments, two data: mean, second moments and zeros by importance sampling."""
    prior = ScaleMixture(WALK, law, (1, 1, 3))
    a = torch.tensor([[1.0, 0, 0], [0, 0.5, 1.0]], dtype=torch.float64)
    y = torch.tensor([[0.8, 2.0]], dtype=torch.float64)
    post = DAPS(prior, levels=12, micro_batch=LANES).sample(
        y, Matrix(a, (1, 1, 3), 0.5), draws=LANES, seed=0
    )
    x = torch.as_tensor(post["image"].values).reshape(LANES, 3)
    z = prior.sample(Streams.of_seed(3, 40_000), torch.zeros(1, dtype=torch.float64)).flatten(1)
    w = torch.softmax(-0.5 * ((y - z @ a.mT) / 0.5).square().sum(1), 0)
    effective = float(1 / w.square().sum())
    error = 4 * math.sqrt(1 / effective + 1 / LANES)
    for f in (
        torch.tanh,
        lambda v: torch.tanh(v).square(),
        lambda v: (v.diff().abs() < 1e-9) * 1.0,
    ):
        expected = (w[:, None] * f(z)).sum(0)
        assert float((f(x).mean(0) - expected).abs().max()) < error
    assert float(post["nfe"].mean()) == 12


def test_a_gaussian_law_denoises_as_the_gaussian_prior_does():
    prior = ScaleMixture(WALK, Normal(0.8), (1, 1, 3))
    peer = Gaussian(torch.zeros(1, 1, 3, dtype=torch.float64), covariance=0.64 * WALK @ WALK.mT)
    x = torch.randn(4, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_(True)
    assert torch.allclose(prior(x, 0.5), peer(x, 0.5), atol=1e-10)
    (g,) = torch.autograd.grad(prior(x, 0.5).square().sum(), x)
    (h,) = torch.autograd.grad(peer(x, 0.5).square().sum(), x)
    assert torch.allclose(g, h, atol=1e-10)


def test_what_is_no_scale_mixture_is_refused():
    with pytest.raises(PriorError, match="not invertible"):
        ScaleMixture(torch.ones(3, 3), Laplace(), (1, 1, 3))
    with pytest.raises(PriorError, match="does not serve"):
        ScaleMixture(torch.eye(4), Laplace(), (1, 1, 3))
    with pytest.raises(PriorError, match="is none"):
        BernoulliLaplace(1.5)
    with pytest.raises(ConfigError, match="Only a scale mixture"):
        DAPS(Gaussian(torch.zeros(1, 2, 2), covariance=torch.eye(4)), conditional="scales")
