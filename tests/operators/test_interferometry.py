"""Visibilities, closures and stacks: direct sums, transposes, Jacobians, exact closures, speed."""

import math
import time

import deepinv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciinv import likelihoods, operators
from sciinv.errors import DivergenceError, OperatorError
from sciinv.operators.interferometry import Closures, Visibilities
from sciinv.operators.parts.closure_sets import amplitude_cholesky, closure_set
from sciinv.operators.parts.maximum_entropy import gaussian, smooth
from sciinv.operators.stack import StackedLikelihood, stack
from sciinv.seeds import Streams

UAS = math.pi / 180 / 3600 / 1e6


def array(stations=6, scans=3, seed=0, scale=3e9):
    """Baselines of an array that turns a little between scans."""
    rng = np.random.default_rng(seed)
    place = rng.normal(0, scale, (stations, 2))
    a, b = np.triu_indices(stations, 1)
    u, v, scan = [], [], []
    for s in range(scans):
        c, d = np.cos(0.4 * s), np.sin(0.4 * s)
        uv = (place @ np.array([[c, -d], [d, c]]))[a] - (place @ np.array([[c, -d], [d, c]]))[b]
        u, v, scan = [*u, uv[:, 0]], [*v, uv[:, 1]], [*scan, np.full(len(a), s)]
    return np.tile(a, scans), np.tile(b, scans), *(np.concatenate(t) for t in (u, v, scan))


def closures(n=16, fov=100.0, flux_unit=1.0, relative_error=0.05, count="minimal", **shape):
    a, b, u, v, scan = array(**shape)
    error = np.full(len(u), relative_error)
    found = closure_set(a, b, scan, error, count)
    physics = Closures(
        u, v, found.triangles, found.triangle_signs, found.cholesky(error, 0.05),
        found.quadrangles, image_size=n, field_of_view_uas=fov, flux_unit_jy=flux_unit,
    )  # fmt: skip
    return physics, found, (a, b, scan)


def picture(n=16, batch=2, seed=0, dtype=torch.float64):
    """A source with structure, positive, of pixel sum about 1."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, 1, n, n, generator=rng, dtype=torch.float64) ** 4
    return (x / x.sum((1, 2, 3), keepdim=True)).to(dtype)


# ---------------------------------------------------------------- visibilities


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pixel", ["point", "square", "triangle"])
def test_visibilities_are_the_direct_sum_over_the_sky(dtype, pixel):
    _, _, u, v, _ = array()
    n, fov, flux = 12, 80.0, 0.6
    physics = Visibilities(u, v, 0.01, n, fov, flux, pixel)
    x = picture(n, 1)[0, 0].numpy()
    size = fov / n
    expected = np.zeros(len(u), complex)
    for row in range(n):
        for column in range(n):
            east = -(column - (n - 1) / 2) * size * UAS  # column 0 is the eastern edge
            north = -(row - (n - 1) / 2) * size * UAS
            expected += x[row, column] * np.exp(2j * np.pi * (u * east + v * north))
    power = {"point": 0, "square": 1, "triangle": 2}[pixel]
    expected *= flux * (np.sinc(u * size * UAS) * np.sinc(v * size * UAS)) ** power
    got = physics.A(torch.as_tensor(x, dtype=dtype)[None, None])[0]
    assert got.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(got[0] + 1j * got[1], expected, atol=tolerance)


def test_a_point_source_in_the_east_advances_the_phase_along_u():
    physics = Visibilities([1e9, 0.0], [0.0, 1e9], 0.01, 64, 128.0)
    x = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    x[0, 0, 10, 5] = 2.0  # north-east
    east, north = physics.image_spec.x[5], physics.image_spec.y[10]
    assert east > 0
    assert north > 0
    v = physics.A(x)[0]
    phase = torch.atan2(v[1], v[0])
    np.testing.assert_allclose(phase, 2 * np.pi * 1e9 * UAS * np.array([east, north]), atol=1e-12)
    np.testing.assert_allclose(torch.hypot(v[0], v[1]), 2.0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_adjoint_is_the_transpose(dtype, tolerance):
    """⟨Ax, y⟩ = ⟨x, Aᵀy⟩ to the rounding of the dtype, relative to ‖Ax‖‖y‖."""
    _, _, u, v, _ = array()
    physics = Visibilities(u, v, 0.01, 32, 100.0)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 32, 32, generator=rng, dtype=dtype)
    y = torch.randn(3, 2, len(u), generator=rng, dtype=dtype)
    ax = physics.A(x)
    left, right = (ax * y).sum().double(), (x * physics.A_adjoint(y)).sum().double()
    assert abs(left - right) <= tolerance * ax.norm() * y.norm()


def test_visibilities_pass_torch_func_and_batches():
    _, _, u, v, _ = array()
    physics = Visibilities(u, v, 0.01, 16, 100.0)
    x, t = picture(), torch.randn(2, 1, 16, 16, dtype=torch.float64)
    _, push = torch.func.jvp(physics.A, (x,), (t,))
    torch.testing.assert_close(push, physics.A(t))
    r = torch.randn_like(push)
    torch.testing.assert_close(torch.func.vjp(physics.A, x)[1](r)[0], physics.A_adjoint(r))
    torch.testing.assert_close(physics.A(x)[1:], physics.A(x[1:]))


def test_noise_of_the_visibilities_is_the_likelihood():
    _, _, u, v, _ = array(stations=8, scans=20)
    sd = np.linspace(0.01, 0.1, len(u))
    physics = Visibilities(u, v, sd, 16, 100.0)
    likelihood = likelihoods.of(physics)
    x = picture(batch=20)
    y = likelihood.simulate(physics.A(x), Streams.of_seed(0, 20))
    # mean of 20 × 1,120 squared normals: standard error 0.9 %
    assert float(likelihood.chi2(physics.A(x), y).mean()) == pytest.approx(1, abs=0.04)
    assert float((y - physics.A(x))[..., -1].std()) == pytest.approx(0.1, rel=0.4)


def test_the_dirty_image_of_a_point_source_peaks_at_it_with_its_flux():
    _, _, u, v, _ = array()
    physics = Visibilities(u, v, np.linspace(0.01, 0.02, len(u)), 32, 100.0, flux_unit_jy=0.5)
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, 20, 9] = 0.7
    dirty = physics.classical(physics.A(x))["dirty image"]
    assert int(dirty.argmax()) == 20 * 32 + 9
    assert float(dirty.max()) == pytest.approx(0.7, rel=1e-5)


# ---------------------------------------------------------------- closures: exact answers


def test_a_point_source_has_no_closure_phase_and_no_closure_amplitude():
    physics, _, _ = closures(flux_unit=0.6)
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[0, 0, 3, 12] = 1.0
    y = physics.A(x)[0]
    # the floor under |V| of 1e-9 Jy is all that is left
    np.testing.assert_allclose(y[:-1], 0, atol=1e-8)
    assert float(y[-1]) == pytest.approx(0.6)


def test_closures_are_those_of_the_visibilities():
    physics, found, _ = closures()
    x = picture()
    vis = physics.transform(x).numpy()
    vis = vis[:, 0] + 1j * vis[:, 1]
    y = physics.A(x).numpy()
    t = len(found.triangles)
    for i in range(2):
        for j, (legs, signs) in enumerate(zip(found.triangles, found.triangle_signs, strict=True)):
            product = np.prod([vis[i, k] if s > 0 else vis[i, k].conj()
                               for k, s in zip(legs, signs, strict=True)])  # fmt: skip
            assert y[i, j] == pytest.approx(np.angle(product), abs=1e-7)
        a = np.abs(vis[i])[found.quadrangles]
        expected = np.log(a[:, 0] * a[:, 1] / (a[:, 2] * a[:, 3]))
        np.testing.assert_allclose(y[i, t:-1], expected, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), flux=st.floats(0.1, 10), shift=st.integers(-3, 3))
def test_station_gains_flux_and_position_drop_out(seed, flux, shift):
    physics, found, (a, b, scan) = closures()
    x = picture(batch=1, seed=seed)
    moved = torch.zeros_like(x)
    inner = x[..., 4:-4, 4:-4]
    moved[..., 4 + shift : 12 + shift, 4:-4] = flux * inner
    still = torch.zeros_like(x)
    still[..., 4:-4, 4:-4] = inner
    y, y_moved = physics.A(still)[:, :-1], physics.A(moved)[:, :-1]
    difference = physics.likelihood.difference
    pad = torch.zeros(1, 1, dtype=torch.float64)
    # the floor under |V| turns each of at most four legs by floor/|V|, in both images
    least = physics.transform(still).norm(dim=1).min() * min(flux, 1)
    bound = 1e-9 + 8 * physics.floor_jy / float(least)
    assert difference(torch.cat([y, pad], 1), torch.cat([y_moved, pad], 1)).abs().max() < bound

    rng = np.random.default_rng(seed)
    gain = np.exp(rng.normal(0, 0.5, (3, 6)) + 2j * np.pi * rng.random((3, 6)))
    vis = physics.transform(still).numpy()[0]
    vis = vis[0] + 1j * vis[1]
    corrupted = gain[scan, a] * gain[scan, b].conj() * vis
    turn = np.exp(1j * (found.phases(vis) - found.phases(corrupted)))
    np.testing.assert_allclose(turn, 1, atol=1e-9)
    np.testing.assert_allclose(
        found.log_amplitudes(vis), found.log_amplitudes(corrupted), atol=1e-9
    )


def test_phases_wrap_to_the_nearest_turn():
    physics, found, _ = closures()
    x = picture(batch=1)
    y = physics.A(x)
    turned = y.clone()
    turned[:, : len(found.triangles)] += 2 * math.pi
    torch.testing.assert_close(
        physics.likelihood.nll(y, turned), torch.zeros(1, dtype=torch.float64)
    )
    turned[:, -2] += 2 * math.pi  # a log amplitude does not wrap
    assert float(physics.likelihood.nll(y, turned)) > 1
    assert float(y[:, : len(found.triangles)].abs().max()) <= math.pi


# ---------------------------------------------------------------- closures: derivatives


def test_vjp_agrees_with_central_differences():
    physics, _, _ = closures()
    x, d = picture(), torch.randn(2, 1, 16, 16, dtype=torch.float64)
    r = torch.randn(2, *physics.measurement_spec.shape, dtype=torch.float64)
    h = 1e-6 * x.abs().mean()
    numeric = ((physics.A(x + h * d) - physics.A(x - h * d)) * r).sum((1,)) / (2 * h)
    exact = (physics.A_vjp(x, r) * d).sum((1, 2, 3))
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_jacobian_vjp_and_autograd_agree(dtype, tolerance):
    physics, _, _ = closures(flux_unit=0.6)
    x = picture(dtype=dtype)
    r = torch.randn(2, *physics.measurement_spec.shape, dtype=dtype)
    t = torch.randn_like(x)
    jacobian = physics.jacobian(x)
    assert jacobian.shape == (2, *physics.measurement_spec.shape, 256)
    assert jacobian.dtype == dtype
    vjp = physics.A_vjp(x, r)
    scale = float(vjp.abs().max())
    rows = torch.einsum("bmn,bm->bn", jacobian, r).reshape(x.shape)
    assert float((rows - vjp).abs().max()) < tolerance * scale
    auto = torch.func.vjp(physics.A, x)[1](r)[0]
    # the floor of 1e-9 Jy enters both in slightly different ways
    assert float((auto - vjp).abs().max()) < max(tolerance, 1e-9) * scale
    push = torch.func.jvp(physics.A, (x,), (t,))[1]
    product = torch.einsum("bmn,bn->bm", jacobian, t.flatten(1))
    assert float((push - product).abs().max()) < max(tolerance, 1e-9) * float(push.abs().max())


def amplitudes(gain_sd, n=16, relative_error=0.05, seed=0):
    a, b, u, v, scan = array(seed=seed)
    error = np.full(len(u), relative_error)
    found = closure_set(a, b, scan, error)
    block = amplitude_cholesky(a, b, scan, error, np.full(6, gain_sd))
    physics = Closures(
        u, v, found.triangles, found.triangle_signs, found.cholesky(error, 0.05, block),
        amplitudes=np.arange(len(u)), image_size=n, field_of_view_uas=100.0,
    )  # fmt: skip
    return physics, found, (a, b, scan)


def test_derivatives_with_log_amplitudes():
    physics, found, _ = amplitudes(0.1)
    x = picture()
    vis = physics.transform(x)
    t = len(found.triangles)
    np.testing.assert_allclose(
        physics.A(x)[:, t:-1], torch.hypot(vis[:, 0], vis[:, 1]).log(), atol=1e-7
    )
    r = torch.randn(2, *physics.measurement_spec.shape, dtype=torch.float64)
    vjp = physics.A_vjp(x, r)
    auto = torch.func.vjp(physics.A, x)[1](r)[0]
    rows = torch.einsum("bmn,bm->bn", physics.jacobian(x), r).reshape(x.shape)
    assert float((rows - vjp).abs().max()) < 1e-12 * float(vjp.abs().max())
    assert float((auto - vjp).abs().max()) < 1e-9 * float(vjp.abs().max())


def test_gaussian_gains_are_marginalised_exactly():
    """Data with log gains of 0.2 and noise: the whitened residual of the truth is white."""
    physics, found, (a, b, scan) = amplitudes(0.2, relative_error=0.02)
    x = picture(batch=1)
    vis = physics.transform(x).numpy()[0]
    model = vis[0] + 1j * vis[1]
    rng = np.random.default_rng(0)
    data = []
    for _ in range(1500):
        g = np.exp(rng.normal(0, 0.2, (3, 6)) + 2j * np.pi * rng.random((3, 6)))
        noise = 0.02 * np.abs(model) * (rng.standard_normal((2, len(model))).T @ [1, 1j])
        v = g[scan, a] * g[scan, b].conj() * (model + noise)  # σ/|V| is that of the data
        data.append(np.concatenate([found.phases(v), np.log(np.abs(v)), [float(x.sum())]]))
    y = torch.as_tensor(np.array(data))
    residual = physics.likelihood.residual(physics.A(x), y).numpy()[:, :-1]
    covariance = np.cov(residual.T)
    # entries have a standard error of √(2/1500) = 3.7 % on the diagonal, 2.6 % off it; 75² of them
    np.testing.assert_allclose(covariance, np.eye(len(covariance)), atol=0.16)
    assert np.diag(covariance).mean() == pytest.approx(1, abs=0.02)


def test_infinitely_uncertain_gains_leave_the_closure_amplitudes():
    """−log p differs between two images as it does for the closures of the same data."""
    loose, found, _ = amplitudes(300.0)
    closed, _, _ = closures()
    x = picture(batch=2)
    truth = picture(batch=1, seed=5).expand(2, -1, -1, -1)
    phases, logs = len(found.triangles), len(found.quadrangles)
    data = torch.cat([loose.A(truth)[:, :phases], loose.A(truth)[:, phases:]], 1)
    a = loose.likelihood.nll(loose.A(x), data)
    b = closed.likelihood.nll(closed.A(x), closed.A(truth))
    assert closed.measurement_spec.shape[0] == phases + logs + 1
    np.testing.assert_allclose(a, b, rtol=1e-4)  # (error / gain sd)², and rounding of a large one


def test_an_empty_image_gives_finite_numbers():
    physics, _, _ = closures()
    x = torch.zeros(1, 1, 16, 16)
    assert bool(torch.isfinite(physics.A(x)).all())
    assert bool(torch.isfinite(physics.A_vjp(x, physics.A(x) + 1)).all())


# ---------------------------------------------------------------- closures: likelihood


def test_chi2_of_the_truth_is_one_and_of_another_image_is_not():
    physics, _, _ = closures(relative_error=0.05)
    x = picture(batch=200)
    y = physics.likelihood.simulate(physics.A(x), Streams.of_seed(1, 200))
    at_truth = physics.chi2(x, y)
    # 200 × about 50 squared normals: standard error 1.4 %; correlated ones a little more
    assert float(at_truth["reduced"].mean()) == pytest.approx(1, abs=0.06)
    assert float(at_truth["closure phase"].mean()) == pytest.approx(1, abs=0.1)
    assert float(at_truth["log closure amplitude"].mean()) == pytest.approx(1, abs=0.1)
    assert float(physics.chi2(x.roll(1, 0), y)["reduced"].mean()) > 3


def double_source(n=32, fov=100.0):
    """Two Gaussians of 20 µas, 0.4 and 0.2, 40 µas apart."""
    axis = torch.as_tensor(-(np.arange(n) - (n - 1) / 2) * fov / n)
    north, east = torch.meshgrid(axis, axis, indexing="ij")
    a = gaussian(north - 10, 20.0) * gaussian(east - 15, 20.0)
    b = gaussian(north + 15, 20.0) * gaussian(east + 16, 20.0)
    return (0.4 * a / a.sum() + 0.2 * b / b.sum())[None, None]


def test_maximum_entropy_finds_a_double_source_from_its_closures():
    physics, _, _ = closures(n=32, stations=7, relative_error=0.1, scale=1.5e9)
    x = double_source()
    y = physics.likelihood.simulate(physics.A(x), Streams.of_seed(0, 1))
    got = physics.classical(y)["maximum entropy"]
    assert got.shape == x.shape
    assert bool((got > 0).all())
    # chosen fit: −log p weighs against 30 units of entropy
    assert float(physics.chi2(got, y)["reduced"]) < 1.5
    assert float(got.sum()) == pytest.approx(0.6, abs=0.15)
    # closures do not know the position: compare at the best shift
    spectrum = torch.fft.fft2(got) * torch.fft.fft2(x).conj()
    match = torch.fft.ifft2(spectrum).real.max() / (got.norm() * x.norm())
    assert float(match) > 0.9
    single = physics.classical(y.float())["maximum entropy"]
    assert single.dtype == torch.float32


def test_maximum_entropy_does_not_return_what_is_not_finite():
    physics, _, _ = closures()
    y = physics.A(picture())
    y[0, 0] = torch.nan
    with pytest.raises(DivergenceError, match="maximum-entropy"):
        physics.classical(y)


def test_clean_finds_point_sources_and_their_flux():
    _, _, u, v, _ = array(stations=9, scans=8)
    physics = Visibilities(u, v, 0.002, 32, 100.0, flux_unit_jy=0.5)
    x = torch.zeros(2, 1, 32, 32, dtype=torch.float64)
    x[0, 0, 9, 20], x[0, 0, 20, 8], x[1, 0, 15, 15] = 1.0, 0.6, 0.3
    y = physics.A(x) + 0.002 * torch.randn(2, 2, len(u), dtype=torch.float64)
    image = physics.classical(y)["CLEAN"]
    np.testing.assert_allclose(image.sum((1, 2, 3)), [1.6, 0.3], rtol=0.05)
    expected = smooth(x, 20.0 / 100.0 * 32)
    assert float((image - expected).abs().max()) < 0.05 * float(expected.max())


def test_a_blur_keeps_the_flux_and_the_place():
    x = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    x[0, 0, 16, 12] = 1.0
    blurred = smooth(x, 5.0)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-6)
    assert int(blurred.argmax()) == 16 * 33 + 12
    half = blurred[0, 0, 16, 12] / 2
    assert blurred[0, 0, 16, 14] > half > blurred[0, 0, 16, 15]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": [1.0, 2.0]}, "one length"),
        ({"u": None}, "not finite"),
        ({"triangles": [[0, 1, 99]], "triangle_signs": [[1, 1, 1]]}, "not there"),
        ({"quadrangles": [[-1, 0, 1, 2]]}, "not there"),
        ({"triangle_signs": [[1, 1, 0]]}, "signs"),
        ({"cholesky": np.eye(3)}, "covariance"),
        ({"image_size": 0}, "grid"),
        ({"field_of_view_uas": -1.0}, "grid"),
        ({"pixel": "round"}, "grid"),
        ({"amplitudes": [99999]}, "not there"),
    ],
)
def test_wrong_parameters_are_errors_that_say_which(change, words):
    a, b, u, v, scan = array()
    error = np.full(len(u), 0.05)
    found = closure_set(a, b, scan, error)
    params = {
        "u": u, "v": v, "triangles": found.triangles, "triangle_signs": found.triangle_signs,
        "quadrangles": found.quadrangles, "cholesky": found.cholesky(error, 0.05),
        "image_size": 16, "field_of_view_uas": 100.0,
    }  # fmt: skip
    if change.get("u", 0) is None:
        change = {"u": np.where(np.arange(len(u)) == 3, np.nan, u)}
    with pytest.raises(OperatorError, match=words):
        operators.load("closures", **{**params, **change})


def test_wrong_images_and_measurements_are_errors():
    physics, _, _ = closures()
    with pytest.raises(OperatorError, match="does not match"):
        physics.A(torch.zeros(1, 1, 8, 8))
    with pytest.raises(OperatorError, match="does not match"):
        physics.A_vjp(picture(), torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(OperatorError, match="noise"):
        Visibilities([1.0], [1.0], -1.0)


# ---------------------------------------------------------------- stacks


def linear_parts():
    _, _, u, v, _ = array()
    _, _, u2, v2, _ = array(seed=4)
    return Visibilities(u, v, 0.01, 16, 100.0), Visibilities(u2, v2, 0.02, 16, 100.0)


def test_a_linear_stack_is_its_parts_one_after_the_other():
    parts = linear_parts()
    both = stack(parts)
    x = picture()
    y = both.A(x)
    for piece, part in zip(both.split(y), parts, strict=True):
        torch.testing.assert_close(piece, part.A(x))
    r = torch.randn_like(y)
    assert abs((y * r).sum() - (x * both.A_adjoint(r)).sum()) < 1e-12 * y.norm() * r.norm()
    assert isinstance(both, deepinv.physics.LinearPhysics)
    likelihood = likelihoods.of(both)
    assert isinstance(likelihood, likelihoods.Gaussian)
    other = torch.randn_like(y)
    expected = sum(
        likelihoods.of(p).nll(a, b)
        for p, a, b in zip(parts, both.split(y), both.split(other), strict=True)
    )
    torch.testing.assert_close(likelihood.nll(y, other), expected)


def test_a_nonlinear_stack_agrees_with_its_parts():
    first, _, _ = closures()
    second = linear_parts()[0]
    third, _, _ = closures(seed=7)
    x = picture()
    for parts in ((first, second), (first, third)):
        both = stack(parts)
        y = both.A(x)
        r = torch.randn_like(y)
        auto = torch.func.vjp(both.A, x)[1](r)[0]
        torch.testing.assert_close(both.A_vjp(x, r), auto, rtol=1e-8, atol=1e-8)
        value, back = both.linearize(x)
        torch.testing.assert_close(value, y)
        torch.testing.assert_close(back(r), both.A_vjp(x, r))
        data = y + 0.01 * torch.randn_like(y)
        pieces = zip(parts, both.split(y), both.split(data), strict=True)
        expected = sum(likelihoods.of(p).nll(a, b) for p, a, b in pieces)
        torch.testing.assert_close(both.likelihood.nll(y, data), expected)
        torch.testing.assert_close(
            StackedLikelihood([likelihoods.of(p) for p in parts], both.shapes).nll(y, data),
            expected,
        )
    jacobian = stack((first, third)).jacobian(x)
    torch.testing.assert_close(torch.einsum("bmn,bm->bn", jacobian, r).reshape(x.shape), auto,
                               rtol=1e-8, atol=1e-8)  # fmt: skip


def test_stacked_likelihood_simulates_and_whitens_its_parts():
    parts = [likelihoods.Gaussian(0.5), likelihoods.Poisson()]
    both = StackedLikelihood(parts, [(2, 3), (400,)])
    u = torch.cat([torch.zeros(4, 6), torch.full((4, 400), 50.0)], 1)
    y = both.simulate(u, Streams.of_seed(0, 4))
    # 1,600 squared normals: standard error 3.5 %
    assert float(both.chi2(u, y).mean()) == pytest.approx(1, abs=0.12)
    torch.testing.assert_close(both.whiten(u, u)[:, 6:], u[:, 6:] / 50**0.5)
    torch.testing.assert_close(both.whiten_t(u, u), both.whiten(u, u))


def test_parts_of_different_images_do_not_stack():
    with pytest.raises(OperatorError, match="same image"):
        stack([closures()[0], closures(n=8)[0]])
    with pytest.raises(OperatorError, match="nothing to stack"):
        stack([])


# ---------------------------------------------------------------- deepinv's own tests; speed


@pytest.fixture
def deepinv_tests(monkeypatch):
    module = pytest.importorskip("deepinv.tests.test_physics")

    def find(name, device, imsize=None, get_physics_param=False):
        _, _, u, v, _ = array()
        physics = Visibilities(u, v, 0.01, 16, 100.0)
        norm = float(np.linalg.svd(physics.A(torch.eye(256).reshape(256, 1, 16, 16))
                                   .flatten(1).T.numpy(), compute_uv=False)[0] ** 2)  # fmt: skip
        found = physics, (1, 16, 16), torch.tensor(norm), torch.float32
        return (*found, []) if get_physics_param else found

    monkeypatch.setattr(module, "find_operator", find)
    return module


def test_deepinv_finds_adjoint_gradients_and_pseudo_inverse_right(deepinv_tests):
    device, rng = torch.device("cpu"), torch.Generator().manual_seed(0)
    deepinv_tests.test_operators_adjointness("visibilities", device, rng)
    deepinv_tests.test_adjoint_autograd("visibilities", device)
    deepinv_tests.test_operators_differentiability("visibilities", device)
    for implicit in (True, False):
        deepinv_tests.test_pseudo_inverse("visibilities", device, rng, implicit)


def test_deepinv_finds_the_norm(deepinv_tests):
    device, rng = torch.device("cpu"), torch.Generator().manual_seed(0)
    physics, shape, norm, _ = deepinv_tests.find_operator("visibilities", device)
    x = torch.randn(shape, generator=rng).unsqueeze(0)
    got = physics.compute_sqnorm(x, max_iter=1000, tol=1e-6, verbose=False)
    assert float(got) == pytest.approx(float(norm), rel=1e-3)


def median_time(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()  # of this process alone: others share the machine
        function()
        times.append(time.process_time() - start)
    return sorted(times)[repeats // 2]


@pytest.mark.slow
def test_closures_cost_little_more_than_the_transform_alone():
    """2,000 visibilities, 64 × 64, value and gradient of all closures: at most 1.3 times the two
    dense products that a Fourier transform costs as stacked real matrices. The separable transform
    is faster than those, so that the closures are well below."""
    a, b, u, v, scan = array(stations=8, scans=72)  # 2,016 visibilities
    error = np.full(len(u), 0.05)
    found = closure_set(a, b, scan, error)
    physics = Closures(u, v, found.triangles, found.triangle_signs,
                       np.eye(len(found.triangles) + len(found.quadrangles) + 1),
                       found.quadrangles)  # fmt: skip
    columns, rows = physics.transform.columns, physics.transform.rows
    n = len(u)
    c = torch.einsum("wn,hn->nhw", columns[:, :n], rows[:, :n])
    s = torch.einsum("wn,hn->nhw", columns[:, n:], rows[:, n:])
    cs = torch.einsum("wn,hn->nhw", columns[:, n:], rows[:, :n])
    sc = torch.einsum("wn,hn->nhw", columns[:, :n], rows[:, n:])
    dense = torch.cat([c - s, cs + sc]).flatten(1).float()
    x = picture(64, 1, dtype=torch.float32)
    torch.testing.assert_close(x.flatten(1) @ dense.T, physics.transform(x).flatten(1),
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    y, r = torch.randn(1, 2 * n), torch.randn(1, *physics.measurement_spec.shape)

    def products():
        x.flatten(1) @ dense.T
        y @ dense

    def value_and_gradient():
        physics.linearize(x)[1](r)

    def separable():
        physics.transform.adjoint(physics.transform(x))

    ratios = []
    for _ in range(5):  # interleaved
        ratios.append([median_time(f, 9) for f in (value_and_gradient, products, separable)])
    value, product, own = np.median(ratios, 0)
    print(f"closures {value * 1e3:.2f} ms, dense {product * 1e3:.2f}, separable {own * 1e3:.2f}")
    assert value < 1.3 * product
