"""Station gains of an array, against the products of gains written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.operators.interferometry import Visibilities

SDS = {"gain_log_amplitude": 0.1, "gain_phase": 0.2}
PAIRS = np.array([[0, 1], [0, 2], [1, 2], [0, 1], [0, 2], [1, 2]])
SCANS = np.array([10, 10, 10, 11, 11, 11])


def array(**more):
    g = np.random.default_rng(2)
    u, v = 4e9 * g.uniform(-1, 1, (2, len(PAIRS)))
    return Visibilities(u, v, 0.01, 8, 100.0, **more)


def corrupted():
    return array(unknowns=SDS, stations=PAIRS, scans=SCANS)


def images(n=2):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(3)).double() / 64


def test_a_gain_belongs_to_a_station_in_a_scan_and_the_first_phase_is_the_reference():
    physics = corrupted()
    assert [u.size for u in physics.unknowns] == [6, 4]
    theta = 0.3 * torch.randn(2, 10, generator=torch.Generator().manual_seed(1)).double()
    vis = torch.complex(*physics.A(images()).unbind(1))
    expected = []
    for lane in range(2):
        log, phase = theta[lane, :6].reshape(2, 3), torch.zeros(2, 3).double()
        phase[:, 1:] = theta[lane, 6:].reshape(2, 2)
        g = torch.polar(log.exp(), phase)
        scan = SCANS - 10
        expected.append(g[scan, PAIRS[:, 0]] * g[scan, PAIRS[:, 1]].conj() * vis[lane])
    found = torch.complex(*physics.at(theta).A(images()).unbind(1))
    assert torch.allclose(found, torch.stack(expected), atol=1e-12)
    assert torch.allclose(physics.predictions(images())(theta), physics.at(theta).A(images()))


def test_the_transpose_with_gains_is_exact():
    g = torch.Generator().manual_seed(4)
    view = corrupted().at(torch.randn(2, 10, generator=g).double())
    y = torch.randn(2, 2, 6, generator=g).double()
    left = (view.A(images()) * y).flatten(1).sum(1)
    right = (images() * view.A_adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(left, right, rtol=1e-12)


def test_closure_phases_do_not_change_with_gains():
    theta = torch.randn(1, 10, generator=torch.Generator().manual_seed(5)).double()
    physics = corrupted()
    for scan in (0, 3):
        closed = []
        for y in (physics.A(images(1)), physics.at(theta).A(images(1))):
            a, b, c = torch.complex(*y[0])[scan : scan + 3]  # 01, 02, 12
            closed.append(torch.angle(a * c * b.conj()))
        assert float(torch.angle(torch.exp(1j * (closed[0] - closed[1]))).abs()) < 1e-10


def test_gains_of_a_known_image_have_the_posterior_of_the_linearised_model():
    image = torch.zeros(1, 8, 8)
    image[0, 2, 5] = 1.0  # a point of 1 Jy: every baseline sees it
    prior = priors.Gaussian(image, covariance=1e-8 * torch.eye(64))
    physics = corrupted()
    theta = 0.1 * torch.randn(1, 10, generator=torch.Generator().manual_seed(6)).double()
    y = physics.at(theta).A(image[None])
    draws = 400
    post = samplers.DAPS(prior, levels=12, micro_batch=100).sample(y, physics, draws=draws, seed=1)
    assert post["gain_log_amplitude"].dims == ("draw", "item", "gain_log_amplitude_of")
    found = np.concatenate([post[u.name].values[:, 0] for u in physics.unknowns], 1)
    at = torch.func.jacfwd(lambda t: physics.at(t).A(image[None].double()))(theta)
    j = at.reshape(-1, 10) / 0.01
    sds = torch.tensor([0.1] * 6 + [0.2] * 4).double()
    h = j.mT @ j + torch.diag(sds**-2)
    # the data hold no noise: the posterior mean is the truth but for the pull of the prior
    mean = theta[0] - torch.linalg.solve(h, theta[0] / sds**2)
    sd = torch.linalg.inv(h).diagonal().sqrt()
    error = (found.mean(0) - mean.numpy()) / sd.numpy()
    # 5 standard errors; 0.15 sd for the bend of exp that the linearised model leaves out
    assert np.abs(error).max() < 5 / np.sqrt(draws) + 0.15
    assert np.abs(found.std(0) / sd.numpy() - 1).max() < 5 / np.sqrt(2 * draws)


def test_gains_without_stations_or_of_another_name_are_errors_that_say_so():
    with pytest.raises(OperatorError, match="stations"):
        array(unknowns=SDS)
    with pytest.raises(OperatorError, match="gain_phase"):
        array(unknowns={"gain": 0.1}, stations=PAIRS, scans=SCANS)
