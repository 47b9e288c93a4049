"""Coil maps and phases of lines that are unknown, against the sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import ConfigError, OperatorError
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts.mri_coils import simulate_maps
from sciinv.operators.parts.mri_unknowns import smooth_fields
from sciinv.seeds import Streams
from sciinv.solvers import linearised

COILS, SIZE = 3, (12, 10)
LINES = [1, 3, 5, 6, 7, 10]


def mask(lines=LINES):
    kept = np.zeros(SIZE, dtype=bool)
    kept[lines] = True
    return kept


def scan(**more):
    return MultiCoilMRI(mask(), simulate_maps(COILS, SIZE).astype(complex), 0.1, **more)


def both(order=3):
    return scan(unknowns={"coil_maps": 0.05, "line_phase": 0.3}, map_order=order)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def theta_of(physics, lanes=2):
    sd = torch.cat([torch.full((u.size,), u.sd) for u in physics.unknowns])
    return sd.double() * draw(lanes, len(sd), seed=2)


def test_maps_and_phases_are_those_written_out():
    physics = both()
    coils, phases = physics.unknowns
    assert (coils.size, phases.size) == (COILS * 6 * 2, len(LINES) - 1)
    theta = theta_of(physics)
    image = torch.view_as_complex(draw(2, *SIZE, 2, seed=3))
    found = physics.at(theta).A(torch.stack([image.real, image.imag], 1))
    s0 = physics.coil_maps
    for lane in range(2):
        numbers = torch.view_as_complex(theta[lane, : coils.size].clone().reshape(COILS, 6, 2))
        s = s0 + torch.einsum("ck,khw->chw", numbers, smooth_fields(*SIZE, 3).to(numbers))
        along = (s0.conj() * s).sum(0)
        s = s * torch.polar(1 / s.abs().square().sum(0).sqrt(), -along.angle())
        assert torch.allclose(s, physics.at(theta).coil_maps[lane], atol=1e-12)
        centre = LINES.index(SIZE[0] // 2)
        phase = np.insert(theta[lane, coils.size :].numpy(), centre, 0.0)
        moved = torch.fft.ifftshift(s * image[lane], dim=(-2, -1))
        k = torch.fft.fftshift(torch.fft.fft2(moved, norm="ortho"), dim=(-2, -1))[:, LINES]
        k = (k * torch.exp(1j * torch.as_tensor(phase))[None, :, None]).flatten(1)
        assert torch.allclose(torch.complex(*found[lane]), k, atol=1e-12)


def test_the_maps_keep_their_root_sum_of_squares_and_the_images_phase():
    physics = both()
    s, s0 = physics.at(theta_of(physics)).coil_maps, physics.coil_maps
    assert torch.allclose(s.abs().square().sum(1), s0.abs().square().sum(0).expand(2, -1, -1))
    along = (s0.conj() * s).sum(1)
    assert float(along.imag.abs().max()) < 1e-12
    assert float(along.real.min()) > 0


def test_a_factor_common_to_all_coils_changes_nothing():
    physics = scan(unknowns={"coil_maps": 0.05}, map_order=1)
    constant = smooth_fields(*SIZE, 1).flatten()[0]
    flat = simulate_maps(COILS, SIZE).astype(complex).mean((1, 2))[:, None, None]
    physics = MultiCoilMRI(mask(), flat * np.ones(SIZE), 0.1, unknowns={"coil_maps": 0.05},
                           map_order=1)  # fmt: skip
    common = (0.3 - 0.4j) * torch.as_tensor(flat.ravel()) / constant
    theta = torch.view_as_real(common).reshape(1, -1)
    x = draw(1, 2, *SIZE)
    assert torch.allclose(physics.at(theta).A(x), physics.A(x), atol=1e-12)


def test_at_the_prior_mean_the_scan_is_that_which_was_declared():
    physics, x = both(), draw(2, 2, *SIZE)
    zero = torch.zeros(2, sum(u.size for u in physics.unknowns)).double()
    assert torch.allclose(physics.at(zero).A(x), physics.A(x), atol=1e-12)


@pytest.mark.parametrize("names", [("coil_maps",), ("line_phase",), ("coil_maps", "line_phase")])
def test_transpose_and_derivatives_are_exact(names):
    physics = scan(unknowns=dict.fromkeys(names, 0.2), map_order=2)
    theta, x = theta_of(physics), draw(2, 2, *SIZE)
    view = physics.at(theta)
    y = draw(*view.A(x).shape, seed=5)
    left, right = (view.A(x) * y).flatten(1).sum(1), (x * view.A_adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(left, right, rtol=1e-12)
    forward, adjoint = view.sensitivity(x)
    delta = draw(*theta.shape, seed=6)
    step = 1e-5
    moved = [physics.at(theta + s * step * delta).A(x) for s in (1, -1)]
    assert torch.allclose(forward(delta), (moved[0] - moved[1]) / (2 * step), atol=1e-8)
    left = (forward(delta) * y).flatten(1).sum(1)
    assert torch.allclose(left, (delta * adjoint(y)).sum(1), rtol=1e-10)


def test_lines_of_one_shot_share_a_phase():
    shots = np.arange(SIZE[0]) % 2
    physics = scan(unknowns={"line_phase": 0.3}, shots=shots)
    assert physics.unknowns[0].size == 1
    theta = torch.tensor([[0.7]]).double()
    x = draw(1, 2, *SIZE)
    turned = torch.complex(*physics.at(theta).A(x)[0]) / torch.complex(*physics.A(x)[0])
    turned = turned.angle().reshape(COILS, len(LINES), SIZE[1])[0, :, 0]
    expected = torch.tensor([0.7 * (line % 2) for line in LINES]).double()  # the centre is line 6
    assert torch.allclose(turned, expected, atol=1e-10)


def test_image_maps_and_phases_have_the_posterior_of_the_linearised_model(monkeypatch):
    monkeypatch.setattr(linearised, "DENSE_LIMIT", 0)  # by products, as where data are many
    n, coils, draws = 6, 2, 200
    kept = np.zeros((n, n), dtype=bool)
    kept[[0, 2, 3, 4]] = True
    sds = {"coil_maps": 0.01, "line_phase": 0.02}
    maps = simulate_maps(coils, (n, n))
    physics = MultiCoilMRI(kept, maps, 0.02, unknowns=sds, map_order=2)
    mean = torch.ones(2, n, n)
    mean[1] = 0.3
    lag = torch.cdist(*2 * (torch.cartesian_prod(torch.arange(n), torch.arange(n)).float(),))
    cov = 0.03**2 * torch.block_diag(*2 * (torch.exp(-lag / 2),))
    prior = priors.Gaussian(mean, covariance=cov)
    size = [u.size for u in physics.unknowns]
    sd = torch.cat([torch.full((u.size,), u.sd) for u in physics.unknowns]).double()
    theta = (sd * draw(len(sd), seed=4)).float()[None]
    y = physics.at(theta).A(prior.sample(Streams.of_seed(3, 1), torch.zeros(1)))
    post = samplers.DAPS(prior, levels=8, micro_batch=100).sample(y, physics, draws=draws, seed=1)

    flat = mean.double()[None]
    columns = [physics.A(e.reshape(1, 2, n, n)).flatten() for e in torch.eye(2 * n * n).double()]
    forward, _ = physics.at(torch.zeros(1, len(sd)).double()).sensitivity(flat)
    columns += [forward(e[None]).flatten() for e in torch.eye(len(sd)).double()]
    j = torch.stack(columns, 1) / 0.02
    whole = torch.block_diag(cov.double(), torch.diag(sd**2))
    off = (y.double() - physics.A(flat)).flatten() / 0.02
    gain = whole @ j.mT @ torch.linalg.inv(torch.eye(len(j)).double() + j @ whole @ j.mT)
    expected = torch.cat([flat.flatten(), torch.zeros(len(sd)).double()]) + gain @ off
    spread = (whole - gain @ j @ whole).diagonal().sqrt()
    assert float((spread[2 * n * n :] / sd).min()) < 0.7  # the data tell of them
    parts = [post[u.name].values.reshape(draws, -1) for u in physics.unknowns]
    assert [part.shape[1] for part in parts] == size
    found = np.concatenate([post["image"].values.reshape(draws, -1), *parts], 1)
    error = (found.mean(0) - expected.numpy()) / spread.numpy()
    # 4.5 standard errors; 0.15 sd for the products of image and maps that the model leaves out
    assert np.abs(error).max() < 4.5 / np.sqrt(draws) + 0.15
    assert np.abs(found.std(0) / spread.numpy() - 1).max() < 5 / np.sqrt(2 * draws)


def test_unknowns_that_these_data_cannot_know_are_errors_that_say_so():
    with pytest.raises(OperatorError, match="line_phase"):
        scan(unknowns={"phase": 0.3})
    one = simulate_maps(1, SIZE).astype(complex)
    with pytest.raises(OperatorError, match="two coils"):
        MultiCoilMRI(mask(), one, 0.1, unknowns={"coil_maps": 0.1})
    scattered = np.random.default_rng(1).random(SIZE) < 0.5
    maps = simulate_maps(COILS, SIZE)
    with pytest.raises(OperatorError, match="whole lines"):
        MultiCoilMRI(scattered, maps, 0.1, unknowns={"line_phase": 0.1})
    with pytest.raises(OperatorError, match="shots"):
        scan(unknowns={"line_phase": 0.1}, shots=[0, 1])
    with pytest.raises(OperatorError, match="two shots"):
        scan(unknowns={"line_phase": 0.1}, shots=np.zeros(SIZE[0], dtype=int))
    with pytest.raises(OperatorError, match="1 … 16"):
        scan(unknowns={"coil_maps": 0.1}, map_order=0)


def test_an_order_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="map_order is no whole number"):
        scan(unknowns={"coil_maps": 0.1}, map_order="x")
