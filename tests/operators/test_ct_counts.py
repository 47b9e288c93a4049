"""What is unknown of a counting scanner, against sums written out and posteriors by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.kernels import unknowns
from sciinv.operators.ct import CTCounts
from sciinv.operators.parts.ct_counts import CountsAt

SIZE, VIEWS, DETECTORS = 6, 5, 10
ALL = {
    "blank_log_scale": 0.1, "element_log_gain": 0.1, "dark_log_scale": 0.5,
    "attenuation_scale": 0.1, "detector_shift": 1.0,
}  # fmt: skip


def scan(blank=400.0, dark=20.0, **more):
    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    return CTCounts(angles, SIZE, 1.0, DETECTORS, 1.0, blank, dark, **more)


def images(lanes=1):
    g = torch.Generator().manual_seed(3)
    return 0.05 + 0.1 * torch.rand(lanes, 1, SIZE, SIZE, generator=g).double()


def theta_of(physics, lanes=2):
    g = torch.Generator().manual_seed(4)
    prior = torch.tensor([(u.mean, u.sd) for u in physics.unknowns for _ in range(u.size or 1)])
    mean, sd = prior.double().unbind(1)
    return mean + sd * torch.randn(lanes, len(sd), generator=g).double()


def test_counts_with_unknowns_are_those_written_out():
    physics = scan(unknowns=ALL)
    theta = theta_of(physics)
    found = physics.at(theta).A(images(2))
    p = scan(unknowns=None).linear.A(images(2))
    for lane in range(2):
        blank, gains, dark = theta[lane, 0], theta[lane, 1 : 1 + DETECTORS], theta[lane, -3]
        lines = physics.at(theta).lines.A(images(2))[lane, 0]
        expected = 400 * torch.exp(blank + gains - lines) + 20 * torch.exp(dark)
        assert torch.allclose(found[lane, 0], expected, rtol=1e-12)
    plain = scan(unknowns={"blank_log_scale": 0.1}).at(torch.zeros(2, 1))
    assert torch.allclose(plain.A(images(2)), 400 * torch.exp(-p) + 20, rtol=1e-12)


def test_derivatives_in_image_and_parameters_are_those_of_the_counts():
    physics = scan(unknowns=ALL)
    theta, x = theta_of(physics), images(2)
    view = physics.at(theta)
    g = torch.Generator().manual_seed(5)
    v = torch.randn(2, 1, VIEWS, DETECTORS, generator=g).double()
    dx = torch.randn(x.shape, generator=g).double()
    jv = torch.func.jvp(view.A, (x,), (dx,))[1]
    assert torch.allclose(
        (jv * v).flatten(1).sum(1), (dx * view.A_vjp(x, v)).flatten(1).sum(1), rtol=1e-10
    )
    forward, adjoint = view.sensitivity(x)
    d = torch.randn(theta.shape, generator=g).double()
    h = 1e-5
    slope = (physics.at(theta + h * d).A(x) - physics.at(theta - h * d).A(x)) / (2 * h)
    # the shift's own slope is a difference over 0.02 elements: its bend is left out
    assert float((forward(d) - slope).norm() / slope.norm()) < 1e-3
    left, right = (forward(d) * v).flatten(1).sum(1), (d * adjoint(v)).sum(1)
    assert torch.allclose(left, right, rtol=1e-10)


class Dense(CTCounts):
    """The scan with its Jacobian as a matrix, which is quick where it is small."""

    def at(self, theta):
        view = CountsAt(self, theta)
        side = self.linear.img_size[-1]
        units = self.linear.A(torch.eye(side**2).reshape(-1, 1, side, side)).flatten(1).mT

        def jacobian(x):
            p = view.lines.A(x)
            return -(view._blank(p) * torch.exp(-p)).flatten(1)[..., None] * units.to(x)

        view.jacobian = jacobian
        return view


@pytest.mark.parametrize("path", ["move", "block"])
def test_blank_scan_and_dark_level_have_the_joint_posterior_with_the_image(path, monkeypatch):
    if path == "block":  # drawn in a block with the image, as many parameters are
        monkeypatch.setattr(unknowns, "FEW", 0)
    sds = {"blank_log_scale": 0.1, "dark_log_scale": 0.4}
    angles = np.linspace(0, 180, 4, endpoint=False)
    physics = Dense(angles, 2, 4.0, 6, 2.0, 60.0, 10.0, unknowns=sds)
    # images along one direction, x = m + z v: what is left is a posterior in z, θ1 and θ2
    m, v = torch.full((1, 2, 2), 0.1), torch.full((1, 2, 2), 0.06)
    prior = priors.Gaussian(m, covariance=v.flatten()[:, None] * v.flatten() + 1e-10 * torch.eye(4))
    u = physics.at(torch.tensor([[0.12, -0.3]])).A((m + 0.8 * v)[None])
    y = torch.poisson(u, generator=torch.Generator().manual_seed(11))
    n = 61
    grids = [torch.linspace(-r, r, n).double() for r in (4.0, 0.4, 2.0)]
    z = grids[0][:, None, None, None]
    logs = torch.empty(n, n, n).double()
    for i, p in enumerate(physics.linear.A(m.double() + z * v.double())):
        u = 60 * grids[1].exp()[:, None, None] * torch.exp(-p.flatten())
        u = u + 10 * grids[2].exp()[None, :, None]
        logs[i] = (y.double().flatten() * u.log() - u).sum(-1)
    widths = (1.0, *sds.values())
    for k, (g, sd) in enumerate(zip(grids, widths, strict=True)):
        logs = logs - 0.5 * (g / sd).square().reshape([n if axis == k else 1 for axis in range(3)])
    weight = (logs - logs.max()).exp()
    weight = weight / weight.sum()
    draws = 300
    post = samplers.DAPS(prior, levels=15, micro_batch=draws).sample(y, physics, draws, seed=2)
    pixels = torch.as_tensor(post["image"].values[:, 0]).double() - m
    found = [(pixels * v).flatten(1).sum(1) / v.square().sum()]
    found += [torch.as_tensor(post[name].values[:, 0]).double() for name in sds]
    for k, (g, draw) in enumerate(zip(grids, found, strict=True)):
        p = weight.sum([axis for axis in range(3) if axis != k])
        mean = float((p * g).sum())
        sd = math.sqrt(float((p * (g - mean) ** 2).sum()))
        assert sd < 0.9 * widths[k]  # the data tell of each
        # 300 draws: se 0.058 sd of the mean, 4.1 % of the sd; 4 of them. A line that follows θ had
        # the mean of z 0.3 sd off on another scan like this one.
        assert abs(float(draw.mean()) - mean) < 0.23 * sd
        assert float(draw.std()) == pytest.approx(sd, rel=0.16)


def test_gains_of_elements_have_the_posterior_of_the_linearised_model():
    m = torch.full((1, 2, 2), 0.05)
    prior = priors.Gaussian(m, covariance=1e-10 * torch.eye(4))
    angles = np.linspace(0, 180, 4, endpoint=False)
    physics = Dense(angles, 2, 4.0, 6, 2.0, 1e4, 5.0, unknowns={"element_log_gain": 0.02})
    theta = 0.02 * torch.randn(1, 6, generator=torch.Generator().manual_seed(6)).double()
    y = physics.at(theta).A(m[None].double()).float()
    draws = 200
    post = samplers.DAPS(prior, levels=8, micro_batch=draws).sample(y, physics, draws, seed=1)
    assert post["element_log_gain"].dims == ("draw", "item", "detector")
    found = post["element_log_gain"].values[:, 0]
    u = y.double()[0, 0]
    # Fisher information of each gain, and its prior
    h = ((u - 5.0).square() / u).sum(0) + 0.02**-2
    mean, sd = theta[0] * (1 - 0.02**-2 / h), h.rsqrt()
    # 5 standard errors; 0.1 sd for the bend of exp and of the counts' own likelihood
    assert (torch.as_tensor(found.mean(0)) - mean).abs().div(sd).max() < 5 / math.sqrt(draws) + 0.1
    assert np.abs(found.std(0) / sd.numpy() - 1).max() < 5 / math.sqrt(2 * draws)


def test_a_dark_level_without_dark_counts_is_an_error_that_says_so():
    with pytest.raises(OperatorError, match="these are 0"):
        scan(dark=0.0, unknowns={"dark_log_scale": 0.3})
    with pytest.raises(OperatorError, match="blank_log_scale"):
        scan(unknowns={"blank_scale": 0.3})
