"""Where an array pointed: the turn of its visibilities, and its posterior by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.operators.interferometry import Visibilities
from sciinv.seeds import Streams

SIZE, FIELD, N = 10, 100.0, 18  # pixels, µas, visibilities
PIXEL = FIELD / SIZE


def array(noise=0.02, **more):
    g = np.random.default_rng(2)
    u, v = 4e9 * g.uniform(-1, 1, (2, N))
    return Visibilities(u, v, noise, SIZE, FIELD, **more)


def images():
    return torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).double() / 64


def test_a_position_of_whole_pixels_is_the_image_moved_to_the_east_and_north():
    x = torch.zeros(1, 1, SIZE, SIZE).double()
    x[0, 0, 5, 6] = 1.0
    x[0, 0, 4, 5] = 0.5
    physics = array(unknowns={"position": 10.0})
    (unknown,) = physics.unknowns
    assert (unknown.size, unknown.units) == (2, "µas")
    theta = torch.tensor([[2 * PIXEL, PIXEL]]).double()
    moved = x.roll((-1, -2), (2, 3))  # up and to the left, as the sky is seen
    assert torch.allclose(physics.at(theta).A(x), physics.A(moved), atol=1e-12)
    assert torch.allclose(physics.predictions(x)(theta), physics.A(moved), atol=1e-12)


def test_position_and_gains_multiply_and_the_transpose_is_exact():
    pairs = np.stack([np.zeros(N), np.arange(N) % 3 + 1], 1).astype(int)
    scans = np.arange(N) // 3
    sds = {"gain_log_amplitude": 0.1, "gain_phase": 0.2, "position": 10.0}
    both = array(unknowns=sds, stations=pairs, scans=scans)
    assert [u.name for u in both.unknowns] == list(sds)
    count = sum(u.size or 1 for u in both.unknowns)
    theta = torch.randn(2, count, generator=torch.Generator().manual_seed(1)).double()
    gains = dict(sds)
    del gains["position"]
    only = array(unknowns=gains, stations=pairs, scans=scans).at(theta[:, :-2])
    place = array(unknowns={"position": 10.0}).at(theta[:, -2:])
    x = images()
    a, b, plain = (torch.complex(*p.A(x).unbind(1)) for p in (only, place, both))
    found = torch.complex(*both.at(theta).A(x).unbind(1))
    assert torch.allclose(found, a * b / plain, atol=1e-12)
    y = torch.randn(2, 2, N, generator=torch.Generator().manual_seed(4)).double()
    left = (both.at(theta).A(x) * y).flatten(1).sum(1)
    right = (x * both.at(theta).A_adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(left, right, rtol=1e-12)


def test_position_and_image_have_the_joint_posterior():
    sd, noise, draws = 3.0, 0.02, 200
    places = torch.stack(
        torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), -1
    ).reshape(-1, 2).double()  # fmt: skip
    apart = (places[:, None] - places).square().sum(-1)
    hump = (-(places - 4.5).square().sum(1) / 4).exp()
    mean = (hump / hump.sum()).reshape(1, SIZE, SIZE)
    cov = 4e-6 * (-apart / 4).exp() + 1e-9 * torch.eye(SIZE**2).double()
    prior = priors.Gaussian(mean.float(), covariance=cov.float())
    physics = array(noise, unknowns={"position": sd})
    truth = torch.tensor([[2.0, -1.5]]).double()
    x0 = prior.sample(Streams.of_seed(7, 1), torch.zeros(1))
    u = physics.at(truth).A(x0)
    y = u + noise * torch.randn(u.shape, generator=torch.Generator().manual_seed(8))
    post = samplers.DAPS(prior, levels=8, micro_batch=100).sample(y, physics, draws=draws, seed=1)
    found = post["position"].values[:, 0]
    assert post["position"].dims == ("draw", "item", "position_axis")

    # p(position | y) with the image integrated out, on a grid about the draws
    m = mean.flatten().double()
    basis = torch.eye(SIZE**2).double().reshape(-1, 1, SIZE, SIZE)
    plain = physics.A(basis)
    grid = [np.linspace(c - 5 * s, c + 5 * s, 21) for c, s in zip(
        found.mean(0), found.std(0), strict=True)]  # fmt: skip
    logs = np.empty((21, 21))
    for i, east in enumerate(grid[0]):
        for j, north in enumerate(grid[1]):
            theta = torch.tensor([[east, north]]).double()
            re, im = physics.instrument.factors(theta)
            a = torch.stack(
                [plain[:, 0] * re - plain[:, 1] * im, plain[:, 0] * im + plain[:, 1] * re], 1
            ).flatten(1).mT  # fmt: skip
            k = a @ cov @ a.mT + noise**2 * torch.eye(2 * N).double()
            r = y.flatten().double() - a @ m
            factor = torch.linalg.cholesky(k)
            w = torch.linalg.solve_triangular(factor, r[:, None], upper=False)
            logs[i, j] = -0.5 * float(w.square().sum()) - float(factor.diagonal().log().sum())
            logs[i, j] -= 0.5 * (east**2 + north**2) / sd**2
    p = np.exp(logs - logs.max())
    p /= p.sum()
    for axis, values in enumerate(grid):
        marginal = p.sum(1 - axis)
        exact = (marginal * values).sum()
        width = math.sqrt((marginal * (values - exact) ** 2).sum())
        # draws of a micro-batch are independent: 4.5 and 5 standard errors
        assert abs(found[:, axis].mean() - exact) < 4.5 * width / math.sqrt(draws)
        assert abs(found[:, axis].std() / width - 1) < 5 / math.sqrt(2 * draws)


def test_gains_need_stations_and_a_position_does_not():
    with pytest.raises(OperatorError, match="stations and the scan"):
        array(unknowns={"gain_phase": 0.1, "position": 1.0})
    with pytest.raises(OperatorError, match="no unknown of this name"):
        array(unknowns={"pointing": 1.0})
