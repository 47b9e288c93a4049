"""The two-dimensional picture: DPS far from the posterior, DAPS and particles near it."""

from __future__ import annotations

import pytest

from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark import plane
from sciinv.samplers import DPS

DRAWS = 500


@pytest.fixture(scope="module")
def distance():
    reference = plane.exact(DRAWS, 1)
    return lambda x: sliced_wasserstein(x, reference)


def test_the_grid_holds_the_whole_posterior():
    axis, p = plane.density()
    assert float(p.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1.0)
    assert float(p[[0, -1]].max() / p.max()) < 1e-9
    assert float(p[:, [0, -1]].max() / p.max()) < 1e-9


def test_decoupled_samplers_are_near_the_posterior(distance):
    found = plane.samplers(plane.problem()[0], DRAWS)
    floor = distance(plane.exact(DRAWS, 2))
    assert floor < 0.08  # 1.1/√500 = 0.05 and its scatter
    assert distance(plane.draw(found["Particles"], DRAWS)) < 0.10
    assert distance(plane.draw(found["DAPS, tweedie"], DRAWS)) < 0.15


def test_dps_is_far_from_the_posterior_at_the_step_of_its_paper(distance):
    prior, _, _ = plane.problem()
    far = distance(plane.draw(DPS(prior, steps=300, zeta=0.3, micro_batch=DRAWS), DRAWS))
    assert far > 0.35  # the prior itself is at 0.4
