"""A model error beside the noise, against covariances written out and posteriors by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv import noise
from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian
from sciinv.model_error import Split, WithModelError, sliced
from sciinv.operators.base import ModelError
from sciinv.seeds import Streams

M, LANES = 12, 2
SCALE = torch.tensor([0.7, 1.6]).double()
SIZE = torch.tensor([0.3, 0.05]).double()


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def bases():
    """The declared noise, the error and the covariance of an error of size 1, in three forms."""
    sd, error = numbers(M, seed=1).abs() + 0.1, numbers(1, M, seed=2).abs()
    lower = 0.2 * numbers(M, M, seed=3).tril(-1) + torch.diag(sd)
    factor = numbers(M, 5, seed=4)
    return {
        "both diagonal": (Gaussian(sd), ModelError(0.1, error), torch.diag(error[0] ** 2)),
        "correlated noise": (
            Gaussian(cholesky=lower), ModelError(0.1, error), torch.diag(error[0] ** 2),
        ),
        "shared errors": (Gaussian(sd), ModelError(0.1, factor=factor), factor @ factor.mT),
    }  # fmt: skip


def covariance(base):
    if base.sd is not None:
        return torch.diag(base.sd.double() ** 2)
    return base.cholesky @ base.cholesky.mT


@pytest.mark.parametrize("form", bases())
def test_the_density_is_that_of_the_covariance_written_out(form):
    base, error, e = bases()[form]
    y, u = numbers(1, M, seed=5).expand(LANES, -1), numbers(LANES, M, seed=6)
    likelihood = WithModelError(base, SCALE, None, Split.of(base, error, y), SIZE, 0.1)
    expected = torch.stack(
        [
            torch.distributions.MultivariateNormal(u[k], s**2 * covariance(base) + t**2 * e)
            .log_prob(y[k])
            for k, (s, t) in enumerate(zip(SCALE, SIZE, strict=True))
        ]
    )  # fmt: skip
    declared = torch.distributions.MultivariateNormal(u, covariance(base)).log_prob(y)
    beyond = base.nll(u, y) - likelihood.nll(u, y)  # the constant of both is the declared noise's
    assert torch.allclose(expected - declared, beyond, atol=1e-9)
    for lane in range(LANES):
        one = likelihood.of_lane(lane).nll(u[lane : lane + 1], y[:1])
        assert torch.allclose(one, likelihood.nll(u, y)[lane : lane + 1])


@pytest.mark.parametrize("form", bases())
def test_whitening_and_its_transpose_belong_together(form):
    base, error, _ = bases()[form]
    likelihood = WithModelError(base, SCALE, None, Split.of(base, error, numbers(1, M)), SIZE, 0.1)
    a, b = numbers(LANES, M, seed=7), numbers(LANES, M, seed=8)
    left = (likelihood.whiten(a) * b).sum(1)
    assert torch.allclose(left, (a * likelihood.whiten_t(b)).sum(1))


def test_simulated_noise_has_the_covariance():
    base, error, e = bases()["shared errors"]
    lanes = 40_000
    split = Split.of(base, error, numbers(1, M))
    likelihood = WithModelError(
        base, torch.full((lanes,), 0.7), None, split, torch.full((lanes,), 0.3), 0.1
    )
    n = likelihood.noise(torch.zeros(lanes, M).double(), Streams.of_seed(1, lanes))
    expected = 0.7**2 * covariance(base) + 0.3**2 * e
    scale = expected.diagonal().sqrt()
    apart = ((n.mT @ n / lanes - expected) / (scale[:, None] * scale)).abs().max()
    assert apart < 5 * math.sqrt(2 / lanes)  # five standard errors of a variance


def test_size_and_scale_are_drawn_from_their_joint_law():
    m, lanes, width = 60, 3000, 0.2
    ratio = torch.linspace(0, 6, m).double()[None] ** 2
    base = Gaussian(torch.ones(m))
    e = (0.9**2 + 0.15**2 * ratio).sqrt() * numbers(1, m, seed=9)
    made = WithModelError(
        base, torch.ones(lanes).double(), None, Split(ratio), torch.full((lanes,), 0.2).double(),
        width,
    )  # fmt: skip
    y, u = e.expand(lanes, -1), torch.zeros(lanes, m).double()
    streams = Streams([(k,) for k in range(lanes)])
    for _ in range(6):  # three sweeps each, from one point
        made.scale, made.size = made.draw(u, y, streams, fixed=False)
    log_s = torch.linspace(-1.5, 1.5, 301).double()[:, None]
    log_t = torch.linspace(math.log(width) - 9, math.log(width) + 4, 601).double()
    v = log_s.exp()[..., None] ** 2 + (log_t.exp() ** 2)[None, :, None] * ratio[0]
    log_p = -0.5 * (e[0] ** 2 / v + v.log()).sum(-1)
    log_p = log_p + log_t - torch.log1p((log_t.exp() / width) ** 2)
    log_p = log_p - 2 * noise.PRIOR_SHAPE * log_s - noise.PRIOR_RATE * (-2 * log_s).exp()
    p = (log_p - log_p.max()).exp()
    p = p / p.sum()
    for found, grid, marginal in (
        (made.scale.log(), log_s[:, 0], p.sum(1)), (made.size.log(), log_t, p.sum(0)),
    ):  # fmt: skip
        # Kolmogorov's distance of 3,000 draws from their law is below 1.95/√3000 in 99.9 %
        at = torch.searchsorted(grid, found.sort().values).clamp_max(len(grid) - 1)
        exact = marginal.cumsum(0)[at]
        apart = (exact - (torch.arange(lanes) + 0.5) / lanes).abs().max()
        assert float(apart) < 1.95 / math.sqrt(lanes) + float(marginal.max())


def test_a_scale_that_is_fixed_stays():
    base, error, _ = bases()["both diagonal"]
    y = numbers(LANES, M, seed=5)
    made = WithModelError(base, SCALE, None, Split.of(base, error, y), SIZE, 0.1)
    scale, size = made.draw(torch.zeros_like(y), y, Streams.of_seed(0, LANES), fixed=True)
    assert torch.equal(scale, SCALE)
    assert not torch.equal(size, SIZE)


def test_groups_keep_their_own_scale():
    index = torch.arange(400) % 2
    base = Gaussian(torch.ones(400))
    split = Split(torch.zeros(1, 400).double())  # an error of nothing
    scale = torch.tensor([[1.0, 1.0]]).double()
    made = WithModelError(base, scale, index, split, torch.tensor([0.1]).double(), 0.1)
    y = torch.where(index == 0, 0.5, 3.0)[None] * numbers(1, 400, seed=11)
    streams = Streams.of_seed(0, 1)
    for _ in range(10):  # from where the density is nothing
        found, _ = made.draw(torch.zeros(1, 400).double(), y, streams, fixed=False)
        made.scale = found
    # a standard deviation of 200 numbers is told to 5 %: within four of these
    assert np.allclose(found[0], [0.5, 3.0], rtol=0.2)


def test_slices_of_a_known_density():
    lanes = 4000
    at = torch.zeros(lanes, 1).double()
    streams = Streams([(k,) for k in range(lanes)])
    for _ in range(12):
        at = sliced(lambda x: -0.5 * (x - 1.0).square() / 0.3**2, at, -5.0, 9.0, streams)
    assert abs(float(at.mean()) - 1.0) < 4 * 0.3 / math.sqrt(lanes)
    assert abs(float(at.std()) / 0.3 - 1) < 4 / math.sqrt(2 * lanes)


def test_data_without_a_value_do_not_count():
    sd = torch.ones(M).double()
    sd[3:] = math.inf
    base = Gaussian(sd)
    y = numbers(1, M, seed=5)
    error = ModelError(0.1, torch.ones(1, M).double())
    made = WithModelError(base, SCALE[:1], None, Split.of(base, error, y), SIZE[:1], 0.1)
    few = Gaussian(torch.ones(3).double())
    error = ModelError(0.1, torch.ones(1, 3).double())
    part = WithModelError(few, SCALE[:1], None, Split.of(few, error, y[:, :3]), SIZE[:1], 0.1)
    u = torch.zeros_like(y)
    assert torch.allclose(made.nll(u, y), part.nll(u[:, :3], y[:, :3]))


@pytest.mark.parametrize("error", [ModelError(0.1), ModelError(0.1, factor=torch.ones(M + 1, 2))])
def test_an_error_that_does_not_fit_is_refused(error):
    with pytest.raises(OperatorError, match="does not fit its measurement"):
        Split.of(Gaussian(torch.ones(M)), error, numbers(1, M))
