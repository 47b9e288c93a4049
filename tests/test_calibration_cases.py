"""A small recomputation of the calibration benchmark; `sciinv benchmark --full` is the whole."""

from __future__ import annotations

import json

import pytest
import torch

from sciinv import calibration_cases as cases
from sciinv.samplers import DAPS, Particles


@pytest.mark.parametrize(
    ("prior", "operator", "sd"),
    [("white", "mask", 0.01), ("1/f", "ct", 0.1), ("smooth + rough", "fourier", 1.0)],
)
def test_gaussian_posteriors_are_exact_within_the_monte_carlo_error(prior, operator, sd):
    found = cases.gaussian_case(
        prior, operator, sd, 8, 400, lambda p: DAPS(p, levels=6, micro_batch=200)
    )
    # 64 modes: the rms over modes of a Monte-Carlo error has itself a relative error of 9 %
    assert found["sd_ratio_rms"] < 1.35 * found["sd_ratio_rms_expected"]
    assert found["mean_error_rms"] < 1.35 * found["mean_error_rms_expected"]
    assert abs(found["sd_ratio_mean"] - 1) < 0.02  # 4 standard errors of the mean over modes
    assert found["nfe"] == 6


@pytest.mark.parametrize("sd", [0.05, 0.3])
def test_particles_reach_the_floor_on_mixtures_where_the_papers_loop_does_not(sd):
    problem = cases.random_mixture(0, sd)
    good = cases.mixture_case(problem, 400, lambda p: Particles(p, levels=50, group=400))
    paper = cases.mixture_case(
        problem,
        400,
        lambda p: DAPS(
            p, conditional="published", levels=60, sigma_max=100, sigma_min=0.1, micro_batch=400
        ),
    )
    # 400 draws: the floor is near 0.09 and varies by 0.02; the goal is 0.20
    assert good["distance"] < 0.2
    assert abs(good["sd_ratio"] - 1) < 0.15
    assert paper["distance"] > 2 * good["distance"]


# Phase retrieval is not here: particles miss modes in 3 of the 10 problems of the benchmark.
@pytest.mark.parametrize(("kind", "seed"), [("counts", 1), ("closures", 5)])
def test_particles_match_importance_sampling_for_nonlinear_operators(kind, seed):
    found = cases.nonlinear_case(kind, seed, 400, lambda p: Particles(p, levels=50, group=400))
    assert found["reference_effective"] > 1000
    assert found["distance"] < 0.3  # two references of 400 samples differ by 0.1


def test_the_published_table_says_what_its_rows_say(repo):
    rows = json.loads((repo / "data/calibration/benchmark.json").read_text())
    gaussian = [r for r in rows if r["group"] == "gaussian"]
    assert len(gaussian) == 60
    assert max(abs(r["sd_ratio_mean"] - 1) for r in gaussian) < 0.03
    particles = [r for r in rows if r["group"] == "mixture" and "particles" in r["case"]]
    assert len(particles) == 40
    assert all(r["finite"] for r in particles)


def test_projections_sum_to_the_mass_of_an_image_at_every_angle():
    side = 12
    rows = cases.projections(side, [0, 30, 90]).reshape(3, side, -1)
    image = torch.zeros(side, side, dtype=torch.float64)
    image[4:8, 5:9] = 1.0
    assert torch.allclose(
        (rows @ image.flatten()).sum(1) * side, torch.full((3,), 16.0, dtype=torch.float64)
    )
