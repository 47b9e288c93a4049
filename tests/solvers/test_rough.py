"""Solves that begin on coarse pixels: the same solution, an honest error, lanes on their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import likelihoods
from sciinv.covariances import Fourier, Pixelwise
from sciinv.displaced import Displaced, Moves
from sciinv.likelihoods import WeightedNoise
from sciinv.noise import scaled
from sciinv.operators.ct import CT
from sciinv.problem import Problem
from sciinv.solvers import Whitened, solve_dual
from sciinv.solvers.bands import Bands

SIZE, LANES, SCALE = 64, 3, 2e-4


def scan(**changed: object) -> CT:
    options = {
        "angles": np.arange(0.0, 60.0, 2.0),
        "image_size": SIZE,
        "pixel_mm": 1.0,
        "detectors": 90,
        "detector_mm": 1.0,
        "noise_sd": 0.05 + 0.02 * np.linspace(0, 1, 30)[:, None] * np.ones(90),
    }
    return CT(**{**options, **changed})


def solve_of(physics: CT, widths: float = 0.004) -> tuple[Whitened, torch.Tensor, Problem]:
    """Return the solve through coarse pixels, its residual, and the problem; noise per lane."""
    g = torch.Generator().manual_seed(3)
    like = torch.zeros(LANES, 1, SIZE, SIZE, dtype=torch.float64)
    k = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.fftfreq(SIZE)[None])
    power = 1.0 / (1 + (k / 0.05) ** 2)
    sd = widths * (0.1 + torch.rand(like.shape, generator=g, dtype=torch.float64))
    c = Pixelwise(sd, Fourier((power / power.mean()).double()), float(sd.square().mean()))
    shape = (LANES, 1, len(physics.geometry.angles), physics.geometry.detectors)
    y = torch.randn(shape, generator=g, dtype=torch.float64)
    scale = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    problem = Problem(y, physics, likelihoods.of(physics), linear=True)
    problem = problem.altered(scaled(problem.likelihood, scale))
    lin, _ = problem.linearise(like)
    return Whitened(lin, c, like, rough=problem.symbol(lin, like)), 5 * y, problem


GEOMETRIES = {
    "parallel": {},
    "fan": {"geometry": "fan", "source_origin_mm": 200.0, "origin_detector_mm": 100.0,
            "detector_mm": 1.5},
    "odd": {"detectors": 91, "detector_offset_mm": 3.0, "noise_sd": 0.05},
    "twice": {"angles": np.tile(np.arange(0.0, 60.0, 4.0), 2), "noise_sd": 0.05},
}  # fmt: skip


@pytest.mark.parametrize("name", GEOMETRIES)
def test_weighted_products_are_those_of_both_directions(name: str) -> None:
    physics = scan(**GEOMETRIES[name])
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, SIZE, SIZE, generator=g, dtype=torch.float64)
    y = physics.A(x)
    w = torch.rand(1, *y.shape[1:], generator=g, dtype=torch.float64)
    # Rounding of double precision alone.
    torch.testing.assert_close(physics.normal(w)(x), physics.A_adjoint(w * y))
    leaf = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad((leaf * physics.normal(w)(leaf)).sum(), leaf)
    torch.testing.assert_close(grad, 2 * physics.A_adjoint(w * y))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_coarse_products_are_near_those_of_the_scan(name: str) -> None:
    physics = scan(**GEOMETRIES[name])
    w = torch.ones(1, 1, len(physics.geometry.angles), physics.geometry.detectors)
    rough = physics.rough(w)
    assert rough is not None
    yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    x = torch.exp(-((yy - 28.0) ** 2 + (xx - 37.0) ** 2) / (2 * 6.0**2))[None, None]
    coarse = torch.nn.functional.avg_pool2d(x, rough.side)
    norm = float((x * physics.normal(w)(x)).sum())
    # A blob of 6 pixels: what coarse pixels make of it is some (1/12)²; views stand for each other.
    assert float((coarse * rough.normal(coarse)).sum()) == pytest.approx(norm, rel=0.03)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("tol", [0.4, 0.02])
def test_the_error_is_within_what_was_asked_and_told(name: str, tol: float) -> None:
    solve, r, _ = solve_of(scan(**GEOMETRIES[name]))
    assert solve.coarse is not None
    coarse, solve.coarse = solve.coarse, None
    exact, _, _ = solve.solve(r, SCALE, 1e-6, 2000)
    plain = solve.solve(r, SCALE, tol, 500)
    solve.coarse = coarse
    d, told, products = solve.solve(r, SCALE, tol, 200)
    left = Bands(d)(d - exact).amax(1) / SCALE
    assert bool((told <= tol).all())
    # An approximate inverse tells the error, to a factor of two that is counted in.
    assert bool((left <= 1.2 * tol).all()), (left, told)
    assert products <= plain[2] / 3, (products, plain[2])


def test_a_lane_does_not_depend_on_its_neighbours() -> None:
    physics = scan()
    solve, r, _ = solve_of(physics)
    together = solve.solve(r, SCALE, 0.05, 200)[0]
    other = r.clone()
    other[1:] *= 3
    again = solve.solve(other, SCALE, 0.05, 200)[0]
    assert torch.equal(together[0], again[0])


def test_what_has_no_coarse_products_is_solved_as_before() -> None:
    small = CT(np.arange(0.0, 180.0, 6.0), 32, 1.0, 48, 1.0)
    assert small.rough(torch.ones(1, 1, 30, 48)) is None
    infinite = torch.full((30, 90), 0.05)
    infinite[3] = torch.inf  # data that are none weigh nothing
    physics = scan(noise_sd=infinite)
    assert isinstance(physics.noise_model, WeightedNoise)
    weights = likelihoods.of(physics).weights(torch.zeros(1, 1, 30, 90))
    assert weights is not None
    assert float(weights[0][0, 0, 3].abs().max()) == 0.0


def test_the_nats_of_an_error_count_too() -> None:
    solve, r, _ = solve_of(scan())
    coarse, solve.coarse = solve.coarse, None
    exact, _, _ = solve.solve(r, SCALE, 1e-6, 2000)
    solve.coarse = coarse
    lin, c = solve.lin, solve.c
    d, told, _ = solve.solve(r, 1.0, 0.1, 200, nats=0.5)  # the image alone would be content
    error = d - exact
    # ½ eᵀ (C⁻¹ + Āᵀ Ā) e is at least what the data see of it
    seen = 0.5 * (error * lin.normal(error)).flatten(1).sum(1)
    assert bool((told <= 0.1).all())
    assert bool((seen <= 0.5).all()), seen
    assert c.sd.shape == d.shape


@pytest.mark.parametrize("name", ["fan", "odd"])
def test_a_solve_through_coarse_pixels_has_the_solution_of_the_dual_one(name: str) -> None:
    solve, r, problem = solve_of(scan(**GEOMETRIES[name]))
    yy, xx = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = torch.sigmoid(20 - torch.hypot(yy - 30, xx - 33))[None, None].double()
    like = (0.02 * disc).expand(3, -1, -1, -1)
    c = Displaced(solve.c, Moves.of(like, {6.0: 0.4, 15.0: 0.8}, 0.05))
    lin, _ = problem.linearise(like)
    moved = Whitened(lin, c, like, rough=problem.symbol(lin, like))
    assert moved.coarse is not None
    assert moved.coarse.moves is not None
    scale, tol = 2e-4, 0.02
    d, left, _ = moved.solve(r, scale, tol, 60)
    w, _, _ = solve_dual(lin, c, r, like, 1e-9, 3000)
    exact = c(lin.adjoint(w, like))
    assert float(left.max()) <= tol
    # The told error holds within a factor of 2, as without moves.
    assert float(Bands(d)(d - exact).max() / scale) < 2 * tol
    without, _, _ = solve.solve(r, scale, tol, 60)
    assert float(Bands(d)(d - without).max()) > 10 * scale * tol  # the moves matter here


@pytest.mark.parametrize("symbol", [False, True])
def test_a_plain_solve_has_the_solution_of_the_dual_one(symbol: bool) -> None:
    solve, r, problem = solve_of(scan())
    like = solve.like + 0.01
    c = Displaced(solve.c, Moves.of(like, {}, 0.3))
    lin, _ = problem.linearise(like)
    h = problem.symbol(lin, like) if symbol else None
    d, _, _ = Whitened(lin, c, like, symbol=h).solve(r, 2e-4, 0.01, 800)
    w, _, _ = solve_dual(lin, c, r, like, 1e-9, 3000)
    assert float(Bands(d)(d - c(lin.adjoint(w, like))).max() / 2e-4) < 0.02  # twice what was asked


def test_a_solve_of_few_steps_is_conditioned_on_what_the_data_tell_best() -> None:
    solve, _, problem = solve_of(scan())
    like = solve.like + 0.01
    c = Displaced(solve.c, Moves.of(like, {}, 0.3))
    lin, _ = problem.linearise(like)
    plain = Whitened(lin, c, like)
    g = torch.Generator().manual_seed(5)
    z = torch.randn(3, *c.coordinates(like), generator=g, dtype=torch.float64)
    r = lin.forward(c.sqrt(z))
    w, _, _ = solve_dual(lin, c, r, like, 1e-9, 3000)
    exact = c(lin.adjoint(w, like))
    few, left, steps = plain.some(r, 5)
    many, _, _ = plain.some(r, 2000)
    assert steps == 5
    assert float(left.min()) > 1e-4
    # A relative residual of 1e-4, of directions that are told 1,000 times better than the worst.
    assert float((many - exact).norm() / exact.norm()) < 0.05
    # Brightness is what every ray sees: five steps have it, and miss half of the rest.
    assert float((few.mean((1, 2, 3)) / exact.mean((1, 2, 3)) - 1).abs().max()) < 0.1
    assert float((few - exact).norm() / exact.norm()) > 0.1
