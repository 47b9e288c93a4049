"""The contract of an operator: defaults for what is declared, one door for what is not."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.operators.base import Declared, declared, image_shape
from sciinv.operators.ct import CT


class Plain(deepinv.physics.LinearPhysics):
    """A deepinv operator that says nothing but A, Aᵀ and its noise."""

    def __init__(self):
        super().__init__(noise_model=GaussianNoise(0.1))

    def A(self, x, **kwargs):
        return 2.0 * x[..., ::2]

    def A_adjoint(self, y, **kwargs):
        out = torch.zeros(*y.shape[:-1], 2 * y.shape[-1], dtype=y.dtype)
        out[..., ::2] = 2.0 * y
        return out


def test_declared_operators_pass_the_door_as_they_are():
    physics = CT([0.0, 90.0], 4, 1.0, 6, 1.0, noise_sd=0.1)
    assert declared(physics) is physics
    assert physics.classical is not None
    assert physics.coordinates is None
    assert physics.differentiable


def test_undeclared_operators_get_the_defaults_and_the_shape_of_their_adjoint():
    y = torch.ones(1, 1, 4, 3)
    physics = declared(Plain(), y)
    assert isinstance(physics, Declared)
    assert type(physics).__name__ == "Plain"  # messages name the user's class
    assert image_shape(physics) == (1, 4, 6)
    assert physics.jacobian(torch.zeros(1, 1, 4, 6)) is None
    assert physics.classical(y) == {}
    u, vjp = physics.linearize(torch.ones(1, 1, 4, 6))
    torch.testing.assert_close(u, 2 * torch.ones(1, 1, 4, 3))
    torch.testing.assert_close(vjp(y), Plain().A_adjoint(y))


def test_the_prior_knows_the_shape_where_the_operator_does_not():
    prior = priors.Gaussian(torch.zeros(1, 4, 6), covariance=torch.eye(24))
    y = 2 * torch.ones(1, 1, 4, 3)
    post = samplers.DAPS(prior, levels=5, micro_batch=200).sample(y, Plain(), draws=200)
    # Posterior of x ~ N(0, 1), y = 2 x + N(0, 0.1²): mean 2 y/(4 + 0.01), sd 0.1/√4.01.
    seen = post["image"].values[:, 0, 0, :, ::2]
    assert seen.mean() == pytest.approx(4 / 4.01, abs=0.005)  # 4 sd of 2,400 draws
    assert seen.std() == pytest.approx(0.1 / 4.01**0.5, rel=0.06)


def test_an_operator_without_shape_or_adjoint_is_told_what_to_say():
    class Opaque(deepinv.physics.Physics):
        def A(self, x, **kwargs):
            return x

    with pytest.raises(OperatorError, match="does not say the shape"):
        image_shape(declared(Opaque(), torch.zeros(1, 1, 2, 2)))
