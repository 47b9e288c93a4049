"""A model error drawn with the image: joint posteriors by quadrature, and what a result says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.gaussian import SHAPE, D, agree, gaussian_prior, matrix
from support.toys import Matrix

from sciinv import noise, operators, priors, readers, samplers
from sciinv.errors import ConfigError, OperatorError
from sciinv.kernels import drawn_noise
from sciinv.likelihoods import Gaussian, Poisson
from sciinv.model_error import as_drawn
from sciinv.operators.base import ModelError, Unknown
from sciinv.operators.ct import CT, CTCounts
from sciinv.operators.interferometry import Closures, Visibilities
from sciinv.operators.mri import MultiCoilMRI
from sciinv.seeds import Streams
from sciinv.solvers import linearised as linear

M, SD, DRAWS, WIDTH = 60, 0.1, 800, 0.1
REPO = Path(__file__).resolve().parents[2]


class Uncertain(Matrix):
    """y = M x with an error by a fraction of each value."""

    model_error = WIDTH


@pytest.mark.parametrize("path", ["rows", "products"])
@pytest.mark.parametrize("scale", ["fixed", "drawn"])
def test_size_scale_and_image_have_the_joint_posterior(path, scale, monkeypatch):
    if path == "products":
        monkeypatch.setattr(linear, "DENSE_LIMIT", 0)
    prior, cov = gaussian_prior()
    a = matrix(M)
    physics = Uncertain(a, SHAPE, SD)
    x0 = prior.sample(Streams.of_seed(5, 1), torch.zeros(1))
    u = physics.A(x0)
    g = torch.Generator().manual_seed(5)
    y = u + SD * torch.randn(u.shape, generator=g) + 0.2 * u * torch.randn(u.shape, generator=g)
    sampler = samplers.DAPS(prior, noise=scale, levels=15, micro_batch=200)
    post = sampler.sample(y, physics, draws=DRAWS, seed=1)
    assert ("noise_scale" in post) == (scale == "drawn")
    a, mean = a.double(), torch.full((D,), 0.5).double()
    log_t = np.linspace(math.log(WIDTH) - 4, math.log(WIDTH) + 3, 120)
    log_s = np.linspace(-1, 1, 41) if scale == "drawn" else np.zeros(1)
    size = (y.double().flatten().abs() ** 2)[None]
    logs, means, seconds = [], [], []
    for ls in log_s:
        v = (math.exp(ls) * SD) ** 2 + torch.as_tensor(np.exp(2 * log_t))[:, None] * size
        k = a @ cov @ a.mT + torch.diag_embed(v)
        r = y.double().flatten() - a @ mean
        factor = torch.linalg.cholesky(k)
        w = torch.cholesky_solve(r.expand(len(k), -1)[..., None], factor).squeeze(-1)
        fit = -0.5 * (w * r).sum(1) - factor.diagonal(dim1=1, dim2=2).log().sum(1)
        before = log_t - np.log1p((np.exp(log_t) / WIDTH) ** 2)
        before += -2 * noise.PRIOR_SHAPE * ls - noise.PRIOR_RATE * math.exp(-2 * ls)
        logs.append(fit.numpy() + before)
        m = mean + w @ (a @ cov)
        gain = torch.cholesky_solve((a @ cov).expand(len(k), -1, -1), factor)
        variance = cov.diagonal() - (gain * (a @ cov)).sum(1)
        means.append(m)
        seconds.append(variance + m**2)
    p = np.exp(np.array(logs) - np.max(logs))
    p /= p.sum()
    exact = (p.sum(0) * log_t).sum()
    sd = math.sqrt((p.sum(0) * (log_t - exact) ** 2).sum())
    found = np.log(post["model_error"].values)
    # five standard errors; the size of the slices' law beyond the grid is below 1e-3
    assert abs(found.mean() - exact) < 5 * sd / math.sqrt(DRAWS)
    assert abs(found.std() / sd - 1) < 0.2  # log t has a tail towards 0
    weights = torch.as_tensor(p)
    mean_x = torch.einsum("st,std->d", weights, torch.stack(means))
    sd_x = (torch.einsum("st,std->d", weights, torch.stack(seconds)) - mean_x**2).sqrt()
    images = post["image"].values.reshape(DRAWS, -1)
    agree(images, mean_x.numpy(), sd_x.numpy(), DRAWS)


@pytest.mark.parametrize("shared", [False, True])
def test_the_noise_of_draws_has_the_deviations_of_its_simulations(shared):
    class Errors(Uncertain):
        def error_of(self, y):
            factor = torch.ones(M, 2) if shared else None
            return ModelError(0.5, None if shared else y.abs(), factor)

    physics = Errors(matrix(M), SHAPE, SD)
    u = physics.A(torch.ones(1, *SHAPE)).expand(20_000, -1)
    drawn = {"noise_scale": torch.full((20_000,), 0.8), "model_error": torch.full((20_000,), 0.3)}
    noise_of = as_drawn(physics, Gaussian(SD), drawn, u)
    found = noise_of.noise(u, Streams.of_seed(0, 20_000)).std(0)
    # five standard errors of a standard deviation
    assert torch.allclose(found / noise_of.deviations(u)[0], torch.ones(M), atol=5 / 200)


def test_a_result_says_what_was_drawn_and_how_it_fits():
    prior, _ = gaussian_prior()
    physics = Uncertain(matrix(M), SHAPE, SD)
    y = physics.A(torch.ones(1, *SHAPE))
    post = samplers.DAPS(prior, levels=5, noise="drawn").sample(y, physics, draws=3, seed=0)
    assert post["model_error"].dims == ("draw", "item")
    assert post["model_error"].attrs["unknown"] == 1
    assert {"chi2_found", "misfit", "noise_scale"} <= set(post.data_vars)


def test_what_an_unfinished_solve_leaves_is_no_model_error():
    """Early levels of the measured brain leave the middle of k-space unfinished."""
    data = readers.find("kspace")(REPO / "data/mri/cartesian_ksp.npy")
    physics, y = operators.from_measurement(data, unknowns={"model_error": 0.02})
    assert y[0].numel() > drawn_noise.MANY
    prior = priors.load(REPO / "data/priors/mri.safetensors")
    post = samplers.DAPS(prior, noise="drawn", micro_batch=1).sample(y, physics, draws=1, seed=3)
    # measured data: 1.6 to 1.7 % in other draws, and 100 % where a draw lost the middle
    assert 0.01 < post["model_error"].item() < 0.03
    assert 0.9 < post["noise_scale"].item() < 1.1
    assert abs(post["chi2_found"].item() - 1) < 0.05
    assert post["chi2"].item() < 1.3


@pytest.mark.parametrize("name", ["dps", "langevin", "particles"])
@pytest.mark.parametrize("declared", [{"model_error": 0.1}, {"unknowns": (Unknown("gain", 0, 1),)}])
def test_samplers_that_would_take_unknowns_as_known_refuse_them(name, declared):
    prior, _ = gaussian_prior()
    physics = Matrix(matrix(M), SHAPE, SD)
    for key, value in declared.items():
        setattr(physics, key, value)
    sampler = samplers.build(name, prior)
    y = physics.A(torch.ones(1, *SHAPE))
    with pytest.raises(ConfigError, match="does not draw what the operator declares unknown"):
        sampler.sample(y, physics, draws=1)


def test_counts_have_no_model_error():
    class Counts(Uncertain):
        likelihood = Poisson()

    prior, _ = gaussian_prior()
    physics = Counts(matrix(M), SHAPE, SD)
    with pytest.raises(OperatorError, match="beside Gaussian noise"):
        samplers.DAPS(prior, levels=3).sample(physics.A(torch.ones(1, *SHAPE)), physics, draws=1)
    with pytest.raises(OperatorError, match="no unknown of this name"):
        CTCounts([0.0, 90.0], 4, 1.0, 6, 1.0, blank_counts=1e4, unknowns={"model_error": 0.1})


def test_the_error_of_line_integrals_is_a_fraction_of_those_around():
    physics = CT([0.0, 45.0], 4, 1.0, 6, 1.0, unknowns={"model_error": 0.02})
    y = torch.full((1, 1, 2, 6), 0.5)
    error = physics.error_of(y)
    assert error.width == 0.02
    assert torch.allclose(error.sd, torch.full_like(y, math.sqrt(0.25 - 1e-4)))  # σ = 0.01
    y[0, 0, 0, 0] = 3.5
    beside = physics.error_of(y).sd[0, 0]
    assert bool((beside[:, :3] > 1).all())
    assert bool((beside[:, 3:] < 0.5).all())
    assert CT([0.0, 45.0], 4, 1.0, 6, 1.0).error_of(y) is None
    assert not physics.unknowns  # it is no parameter of the scanner


def test_the_error_of_visibilities_has_the_modulus_without_its_noise():
    physics = Visibilities([1e9, 2e9], [0.0, 1e9], 0.1, 4, 100.0, unknowns={"model_error": 0.02})
    y = torch.tensor([[[3.0, 0.05], [4.0, 0.05]]])
    sd = physics.error_of(y).sd
    assert torch.allclose(sd[0, :, 0], torch.full((2,), math.sqrt(0.5 * (25 - 0.02))))
    assert torch.equal(sd[0, :, 1], torch.zeros(2))  # below its noise


def test_the_error_of_a_sample_of_kspace_is_that_of_its_neighbours():
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[::2] = True
    physics = MultiCoilMRI(mask, torch.ones(1, 32, 32) + 0j, 0.1, unknowns={"model_error": 0.02})
    y = 5 * torch.randn(1, 2, 1, int(mask.sum()), generator=torch.Generator().manual_seed(0))
    sd = physics.error_of(y).sd
    # 28 samples of two parts each: the root of a mean of 56 squares
    assert float((sd / 5 - 1).abs().max()) < 5 / math.sqrt(2 * 28)
    y = torch.zeros_like(y)
    y[..., 0] = 7.0
    near = physics.error_of(y).sd[0, 0, 0]
    inside = torch.zeros(32, 32)
    inside[:4, :4] = 1
    assert torch.equal(near > 0.1, inside[mask] > 0)


def test_the_error_of_closures_is_shared_by_their_baselines():
    g = np.random.default_rng(0)
    legs, signs = [[0, 1, 2], [0, 3, 4]], [[1, 1, -1], [1, 1, -1]]
    physics = Closures(
        *(4e9 * g.uniform(-1, 1, (2, 5))), legs, signs, 0.1 * np.eye(6), [[0, 1, 2, 3]], [1, 4],
        8, 100.0, unknowns={"model_error": 0.02},
    )  # fmt: skip
    e = physics.error_of(torch.zeros(1, 6)).factor
    e = e @ e.mT
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    vis = torch.complex(*physics.transform(x)[0]).to(torch.complex128)
    # simulated: visibilities with a small relative error, propagated through the closures
    stream = torch.Generator().manual_seed(2)
    small = 1e-4 * torch.complex(*torch.randn(2, 40_000, 5, generator=stream).double())
    bent = vis * (1 + small)
    y = physics._data_of(torch.stack([bent.real, bent.imag], 1), torch.ones(len(bent)))
    apart = physics.likelihood.difference(y, physics.A(x).expand_as(y))[:, :-1] / 1e-4
    scale = e.diagonal()[:-1].sqrt()
    found = apart.mT @ apart / len(apart)
    worst = ((found - e[:-1, :-1]) / (scale[:, None] * scale)).abs().max()
    assert float(worst) < 5 * math.sqrt(2 / len(apart))  # standard errors of a covariance
    assert float(e[-1, -1]) == 0  # the total flux is a datum of its own


def test_closures_know_no_other_unknown():
    with pytest.raises(OperatorError, match="no unknown of this name"):
        Closures([1e9], [0.0], [], [], np.eye(2), None, [0], 8, 100.0, unknowns={"position": 1.0})


def test_a_width_that_is_none_is_refused():
    with pytest.raises(OperatorError, match="no number above 0"):
        CT([0.0, 45.0], 4, 1.0, 6, 1.0, unknowns={"model_error": 0})


def test_a_user_declares_errors_that_data_share():
    class Shared(Matrix):
        def error_of(self, y):
            return ModelError(0.5, factor=torch.ones(M, 1))

    prior, _ = gaussian_prior()
    physics = Shared(matrix(M), SHAPE, SD)
    y = physics.A(torch.ones(1, *SHAPE)) + 3.0  # one offset common to all
    post = samplers.DAPS(prior, levels=12, micro_batch=100).sample(y, physics, draws=100, seed=0)
    # |offset| ÷ size of one number: a size below a fifth of it has a density of e⁻¹² and less
    assert float(np.quantile(post["model_error"], 0.02)) > 0.6


def test_noise_without_a_scale_is_refused_as_before():
    prior, _ = gaussian_prior()
    physics = Matrix(matrix(M), SHAPE, SD)
    physics.likelihood = Poisson()
    y = physics.A(torch.ones(1, *SHAPE))
    with pytest.raises(ConfigError, match="no scale to draw"):
        samplers.DAPS(prior, levels=3, noise="drawn").sample(y, physics, draws=1)
