"""Noise scale and instrument drawn with the image, against posteriors by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.gaussian import SHAPE, D, agree, gaussian_prior, matrix
from support.toys import Matrix

from sciinv import noise, samplers
from sciinv.errors import ConfigError, OperatorError
from sciinv.kernels import collapsed, unknowns
from sciinv.likelihoods import Gaussian, Poisson
from sciinv.operators.base import Unknown
from sciinv.seeds import Streams
from sciinv.solvers import linearised as linear

M, SD, DRAWS = 40, 0.1, 1000


class Scales(Matrix):
    """y = (1 + θ) M x, the factor unknown."""

    unknowns = (Unknown("gain", 0.0, 0.2),)

    def at(self, theta):
        return _Scaled(self, theta)


class Derived(Scales):
    """The same, with the derivative in the factor."""

    def at(self, theta):
        return _Derived(self, theta)


class _Scaled(Matrix):
    def __init__(self, base, theta):
        super().__init__(base.matrix, base.img_size, SD)
        self.factor = 1 + theta

    def A(self, x, **kwargs):
        return self.factor.to(x) * super().A(x)

    def A_adjoint(self, y, **kwargs):
        return super().A_adjoint(self.factor.to(y) * y)


class _Derived(_Scaled):
    def sensitivity(self, x):
        g = Matrix.A(self, x)
        return lambda d: d.to(g) * g, lambda r: (g * r).sum(1, keepdim=True)


def data(physics, prior, scale=1.0, theta=None, seed=5):
    x0 = prior.sample(Streams.of_seed(seed, 1), torch.zeros(1))
    at = physics if theta is None else physics.at(torch.tensor([[theta]]))
    u = at.A(x0)
    g = torch.Generator().manual_seed(seed)
    return u + scale * SD * torch.randn(u.shape, generator=g)


def evidence(y, mean, cov):
    """log N(y; mean, cov) in double precision."""
    r = y.double().flatten() - mean
    factor = torch.linalg.cholesky(cov)
    w = torch.linalg.solve_triangular(factor, r[:, None], upper=False)
    return float(-0.5 * w.square().sum() - factor.diagonal().log().sum())


def moments(grid, logs):
    p = np.exp(np.asarray(logs) - np.max(logs))
    p /= p.sum()
    mean = (p * grid).sum()
    return p, mean, math.sqrt((p * (grid - mean) ** 2).sum())


def posterior(y, a, cov, mean, sd):
    """Mean and covariance of x for one value of the unknown."""
    gain = cov @ a.mT @ torch.linalg.inv(a @ cov @ a.mT + sd**2 * torch.eye(len(a)).double())
    m = mean + gain @ (y.double().flatten() - a @ mean)
    return m, cov - gain @ a @ cov


def mixture(p, parts):
    """Mean and sd per pixel of a mixture of Gaussians."""
    means = torch.stack([m for m, _ in parts])
    seconds = torch.stack([c.diagonal() for _, c in parts]) + means.square()
    w = torch.as_tensor(p)
    mean = w @ means
    return mean.numpy(), (w @ seconds - mean.square()).sqrt().numpy()


@pytest.mark.parametrize(("path", "true"), [("rows", 0.5), ("rows", 2.0), ("products", 2.0)])
def test_noise_scale_and_image_have_the_joint_posterior(path, true, monkeypatch):
    if path == "products":
        monkeypatch.setattr(linear, "DENSE_LIMIT", 0)
    prior, cov = gaussian_prior()
    a = matrix(M)
    physics = Matrix(a, SHAPE, SD)
    y = data(physics, prior, scale=true)
    a = a.double()
    mean = torch.full((D,), 0.5).double()
    grid = np.linspace(math.log(true) - 1, math.log(true) + 1, 201)
    eye = torch.eye(M).double()
    logs, parts = [], []
    for t in grid:
        s = math.exp(t)
        # p(s²) ds² = s^(−2a−2) exp(−b/s²) · 2 s² d log s
        before = -2 * noise.PRIOR_SHAPE * t - noise.PRIOR_RATE / s**2
        logs.append(evidence(y, a @ mean, a @ cov @ a.mT + (s * SD) ** 2 * eye) + before)
        parts.append(posterior(y, a, cov, mean, s * SD))
    p, m, sd = moments(grid, logs)
    sampler = samplers.DAPS(prior, noise="drawn", levels=12, micro_batch=250)
    post = sampler.sample(y, physics, draws=DRAWS, seed=1)
    found = np.log(post["noise_scale"].values)
    assert post["noise_scale"].dims == ("draw", "item")
    assert abs(found.mean() - m) < 4.5 * sd / math.sqrt(DRAWS)
    assert found.std() == pytest.approx(sd, rel=5 / math.sqrt(2 * DRAWS))
    if path == "rows":  # by products a pixel that is hardly seen is solved to a share of its noise
        agree(post["image"].values, *mixture(p, parts), DRAWS)
    # χ² is that of the declared noise, so it follows s²
    assert float(post["chi2"].mean()) == pytest.approx(true**2, rel=0.5)


def test_groups_of_noise_have_scales_of_their_own():
    prior, _ = gaussian_prior()
    physics = Matrix(matrix(100), SHAPE, SD)
    physics.noise_groups = torch.arange(100) % 2
    y = data(physics, prior)
    g = torch.Generator().manual_seed(8)
    y = y + 1.5 * SD * physics.noise_groups * torch.randn(y.shape, generator=g)
    sampler = samplers.DAPS(prior, noise="drawn", levels=10, micro_batch=100)
    post = sampler.sample(y, physics, draws=200, seed=1)
    scale = post["noise_scale"]
    assert scale.dims == ("draw", "item", "noise_group")
    # 50 data each, 16 pixels between them: sd of s near 1/√(2 · 42) = 11 %
    assert scale.mean("draw").values[0] == pytest.approx([1.0, math.hypot(1, 1.5)], rel=0.35)
    assert float((scale.std("draw") / scale.mean("draw")).mean()) == pytest.approx(0.11, abs=0.02)


@pytest.mark.parametrize(
    ("true", "path"),
    [
        (-0.25, "collapsed"),
        (0.15, "collapsed"),
        (-0.25, "move"),
        (0.15, "move"),
        (-0.25, "rows"),
        (0.15, "products"),
    ],
)
def test_a_factor_of_the_operator_and_the_image_have_the_joint_posterior(true, path, monkeypatch):
    if path != "collapsed":
        monkeypatch.setattr(collapsed, "MOST_DATA", 0)
    if path in ("rows", "products"):  # in a block with the image, as many parameters are
        monkeypatch.setattr(unknowns, "FEW", 0)
    if path == "products":
        monkeypatch.setattr(linear, "DENSE_LIMIT", 0)
    prior, cov = gaussian_prior(mean=1.0, variance=0.02)
    a = matrix(M)
    physics = (Derived if path in ("rows", "products") else Scales)(a, SHAPE, SD)
    y = data(physics, prior, theta=true)
    a, mean = a.double(), torch.ones(D).double()
    grid = np.linspace(-0.9, 1.1, 401)
    eye = torch.eye(M).double()
    logs, parts = [], []
    for t in grid:
        b = (1 + t) * a
        logs.append(evidence(y, b @ mean, b @ cov @ b.mT + SD**2 * eye) - 0.5 * (t / 0.2) ** 2)
        parts.append(posterior(y, b, cov, mean, SD))
    p, m, sd = moments(grid, logs)
    # a collapsed draw is exact at any number of levels
    levels = 6 if path == "collapsed" else 40
    sampler = samplers.DAPS(prior, levels=levels, micro_batch=500)
    post = sampler.sample(y, physics, draws=500, seed=1)
    found = post["gain"].values
    # 500 draws: se 0.045 sd of the mean, 3.2 % of the sd
    assert abs(found.mean() - m) < 4 * sd / math.sqrt(500)
    assert found.std() == pytest.approx(sd, rel=0.13)
    agree(post["image"].values, *mixture(p, parts), draws=500)
    assert post["gain"].attrs["prior_sd"] == 0.2
    assert float(post["unknowns_acceptance"].mean()) > 0.7


class Shifted(Matrix):
    """y = M x + one offset of all data, and one for each of four groups."""

    unknowns = (
        Unknown("air", 0.1, 0.3, groups=torch.zeros(M, dtype=torch.long)),
        Unknown("element", 0.0, 0.2, groups=torch.arange(M) % 5 - 1, dim="detector"),
    )


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_offsets_of_groups_and_the_image_have_the_joint_posterior(which):
    prior, cov = gaussian_prior()
    physics = Shifted(matrix(M), SHAPE, SD)
    physics.unknowns = tuple(Shifted.unknowns[k] for k in which)
    columns, variances, means = [], [], []
    for u in physics.unknowns:
        for k in range(int(u.groups.max()) + 1):
            columns.append((u.groups == k).double())
            variances.append(u.sd**2)
            means.append(u.mean)
    a = torch.cat([physics.matrix.double(), torch.stack(columns, 1)], 1)
    joint = torch.block_diag(cov, torch.diag(torch.tensor(variances).double()))
    mean = torch.cat([torch.full((D,), 0.5), torch.tensor(means)]).double()
    y = data(physics, prior) + 0.3
    m, c = posterior(y, a, joint, mean, SD)
    post = samplers.DAPS(prior, levels=8, micro_batch=250).sample(y, physics, draws=DRAWS, seed=1)
    agree(post["image"].values, m[:D].numpy(), c.diagonal()[:D].sqrt().numpy(), DRAWS)
    parts = [post[u.name].values.reshape(DRAWS, -1) for u in physics.unknowns]
    agree(np.concatenate(parts, 1), m[D:].numpy(), c.diagonal()[D:].sqrt().numpy(), DRAWS)
    if 1 in which:
        assert post["element"].dims == ("draw", "item", "detector")


@pytest.mark.parametrize("groups", [None, torch.arange(M) % 3])
def test_a_scaled_likelihood_is_the_gaussian_of_that_noise(groups):
    base = Gaussian(0.1 + torch.rand(M, generator=torch.Generator().manual_seed(1)))
    base.sd[::7] = math.inf
    scale = torch.tensor([0.5, 2.0]) if groups is None else torch.rand(2, 3) + 0.5
    likelihood = noise.Scaled(base, scale, groups)
    factor = scale[:, None] if groups is None else scale[:, groups]
    u, y = torch.randn(2, M), torch.randn(2, M)
    assert torch.allclose(likelihood.whiten(y, u), y / (factor * base.sd))
    finite = torch.isfinite(base.sd)
    direct = torch.distributions.Normal(u, factor * base.sd).log_prob(y)[:, finite].sum(1)
    known = torch.distributions.Normal(u, base.sd.expand_as(u)).log_prob(u)[:, finite].sum(1)
    assert torch.allclose(likelihood.nll(u, y), known - direct, rtol=1e-4, atol=1e-3)
    rows = likelihood.whiten(y.repeat_interleave(3, 0), u)  # three rows of each lane
    assert torch.allclose(rows, likelihood.whiten(y, u).repeat_interleave(3, 0))


@pytest.mark.parametrize("layers", [1, 2])
def test_marginalised_offsets_whiten_by_the_root_of_the_covariance(layers):
    sd = 0.1 + torch.rand(M, generator=torch.Generator().manual_seed(1)).double()
    index = torch.arange(M) % 5 - 1
    likelihood = noise.Offsets(Gaussian(sd), index, 0.4)
    r = torch.diag(sd**2) + 0.16 * ((index[:, None] == index) & (index >= 0)).double()
    if layers == 2:
        likelihood = noise.Offsets(likelihood, torch.zeros(M, dtype=torch.long), 0.3)
        r = r + 0.09
    eye = torch.eye(M).double()
    w = likelihood.whiten(eye).mT
    assert torch.allclose(w @ r @ w.mT, eye, atol=1e-10)
    assert torch.allclose(likelihood.whiten_t(eye).mT, w.mT, atol=1e-12)
    y, zero = torch.randn(3, M).double(), torch.zeros(3, M).double()
    full = torch.distributions.MultivariateNormal(torch.zeros(M).double(), r).log_prob(y)
    difference = likelihood.nll(zero, y) + full
    assert torch.allclose(difference, difference[:1].expand(3), atol=1e-9)


def test_draws_are_the_same_in_any_selection_with_unknowns():
    prior, _ = gaussian_prior()
    physics = Scales(matrix(M), SHAPE, SD)
    y = data(physics, prior)
    sampler = samplers.DAPS(prior, noise="drawn", levels=5, micro_batch=4)
    full = sampler.sample(y, physics, draws=8, seed=2)
    some = sampler.sample(y, physics, draws=[6, 1], seed=2)
    for name in ("image", "gain", "noise_scale"):
        assert np.array_equal(some[name].values, full[name].values[[6, 1]])


def test_what_cannot_be_drawn_is_an_error_that_says_so():
    prior, _ = gaussian_prior()
    counts = Matrix(matrix(M), SHAPE, SD)
    counts.likelihood = Poisson()
    with pytest.raises(ConfigError, match="fixed"):
        samplers.DAPS(prior, noise="drawn").sample(torch.ones(1, M), counts)
    with pytest.raises(ConfigError, match="drawn"):
        samplers.DAPS(prior, noise="free")
    silent = Matrix(matrix(M), SHAPE, SD)
    silent.unknowns = (Unknown("gain", 0.0, 0.2),)
    with pytest.raises(OperatorError, match="at"):
        samplers.DAPS(prior).sample(torch.ones(1, M), silent)
    with pytest.raises(OperatorError, match="above 0"):
        Unknown("gain", 0.0, 0.0)
    with pytest.raises(ConfigError, match="score"):
        samplers.DAPS(prior, conditional="score").sample(
            torch.ones(1, M), Scales(matrix(M), SHAPE, SD)
        )
