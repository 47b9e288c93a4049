"""Operators without a derivative: finite differences in its place."""

from __future__ import annotations

import torch

from sciinv import kernels
from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark import plane
from sciinv.kernels import Problem
from sciinv.problem import central_differences
from sciinv.samplers import DAPS


class Opaque(plane.Product):
    """The product, its derivative hidden and refused."""

    differentiable = False

    def A(self, x, **kwargs):
        assert not x.requires_grad
        return super().A(x.detach())


def test_central_differences_are_the_jacobian():
    x = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64).reshape(2, 1, 1, 2)
    found = central_differences(plane.Product().A, x)
    # d(x1 x2) = (x2, x1); central differences of a quadratic err by rounding alone
    torch.testing.assert_close(found.reshape(2, 2), x.reshape(2, 2).flip(1), rtol=1e-8, atol=1e-8)


def test_auto_takes_differences_for_a_small_operator_without_a_derivative():
    physics = Opaque()
    y = torch.zeros(1, 1, dtype=torch.float64)
    problem = Problem.of(y, physics, physics.likelihood, torch.zeros(1, 1, 1, 2))
    assert kernels.build("auto", problem).name == "newton"
    physics.img_size = (1, 64, 64)
    problem = Problem.of(y, physics, physics.likelihood, torch.zeros(1, 1, 64, 64))
    assert kernels.build("auto", problem).name == "metropolis"


def test_draws_without_a_derivative_match_those_with_it():
    prior, physics, y = plane.problem()
    sampler = DAPS(prior, levels=20, micro_batch=200)
    with_it = sampler.sample(y, physics, draws=200)["image"].values.reshape(200, 2)
    without = sampler.sample(y, Opaque(), draws=200)["image"].values.reshape(200, 2)
    # the same random numbers: equal but for accept steps on the edge
    assert sliced_wasserstein(without, with_it) < 0.01
