"""The alarm: p-values that are uniform where all is right, small where the prior is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from support.toys import MaskedFourier, Matrix, fourier_spectrum

from sciinv import calibration, likelihoods, priors, samplers
from sciinv.calibration import predictive, typicality, verdict
from sciinv.errors import DataError, OperatorError
from sciinv.model_error import as_drawn
from sciinv.operators.base import declared
from sciinv.seeds import Streams

SIZE, SD = 8, 0.05
SHAPE = (1, SIZE, SIZE)


def prior_of(factor=1.0, knee=0.08):
    power = factor * fourier_spectrum(SIZE, knee=knee)
    return priors.Gaussian(torch.full(SHAPE, 0.3), power_spectrum=power)


def physics_of(seed=5):
    mask = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) < 0.6).float()
    physics = MaskedFourier(mask, SD)
    sd = torch.where(mask > 0, SD, torch.inf).expand(2, SIZE, SIZE)
    physics.likelihood = likelihoods.Gaussian(sd)
    return physics


def distance_from_uniform(p, steps):
    """Kolmogorov–Smirnov distance of p-values on 1/steps, …, 1 from the uniform law."""
    levels = np.arange(1, steps + 1) / steps
    return np.abs((np.asarray(p)[:, None] <= levels + 1e-9).mean(0) - levels).max()


def test_conformal_p_is_uniform_for_exchangeable_data_of_any_shape_of_law():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(3000):
        centre = rng.standard_t(2, 6)  # what the posterior is: here anything
        pool = centre + rng.standard_t(3, (20, 6)) * [1, 1, 5, 0.1, 2, 1]
        p.append(predictive.conformal(pool[0], pool[1:], np.full(6, 0.01))[0])
    assert distance_from_uniform(p, 20) < 1.63 / np.sqrt(3000)  # 1 % of Kolmogorov's law
    assert np.mean(np.asarray(p) <= 0.05 + 1e-9) == pytest.approx(0.05, abs=0.012)


def test_data_on_a_circle_are_ranked_across_the_turn():
    rng = np.random.default_rng(1)
    angles = np.pi + 0.1 * rng.standard_normal((20, 5))
    wrapped = angles - 2 * np.pi * np.round(angles / (2 * np.pi))
    circle = predictive.conformal(wrapped[0], wrapped[1:], np.full(5, 0.01), np.full(5, 2 * np.pi))
    line = predictive.conformal(angles[0], angles[1:], np.full(5, 0.01))
    assert circle[0] == line[0]
    assert circle[1] == pytest.approx(line[1], rel=1e-6)


def test_checks_of_a_right_prior_are_uniform_and_raise_no_more_alarms_than_stated():
    prior, physics = prior_of(), physics_of()
    truths = calibration.prior_draws(prior, 80, SHAPE, seed=3)
    y = calibration.simulate(physics, truths, seed=3)
    sampler = samplers.DAPS(prior, levels=2, micro_batch=39)
    reference = typicality.own(prior, SHAPE, 39)
    p_predicted, p_typical, alarms = [], [], 0
    for k in range(len(truths)):
        found = predictive.predictive_check(sampler, physics, y[k : k + 1], 39, item=k, seed=9)
        post = sampler.sample(y[k : k + 1], physics, draws=1, items=[k])
        draw = torch.as_tensor(post["image"].values[:, 0])
        own = typicality.typicality(
            typicality.statistics(prior, draw, reference.sigmas, f"draw {k}"), reference
        )
        p_predicted.append(found.p)
        p_typical.append(own.p)
        alarms += verdict.judge(found, own).answer == verdict.DOES_NOT
    # all share one set of own images, whose own scatter adds to Kolmogorov's distance
    assert distance_from_uniform(p_predicted, 40) < 1.63 / np.sqrt(80)
    assert distance_from_uniform(p_typical, 40) < 1.63 * np.sqrt(1 / 80 + 1 / 39)
    assert alarms <= 10  # 5 % of 80 are 4 ± 2


def correlated(seed=8):
    """Return an operator of 48 data, scattered blocks of four of which have correlated noise."""
    g = torch.Generator().manual_seed(seed)
    place = torch.randperm(48, generator=g)
    r = torch.zeros(48, 48, dtype=torch.float64)
    for block in place.split(4):
        root = torch.randn(4, 4, generator=g, dtype=torch.float64)
        r[block[:, None], block] = SD**2 * (root @ root.mT + torch.eye(4))
    physics = Matrix(torch.randn(48, SIZE * SIZE, generator=g) / SIZE, (1, SIZE, SIZE), SD)
    physics.likelihood = likelihoods.Gaussian(cholesky=torch.linalg.cholesky(r).float())
    return physics, place


def test_blocks_of_correlated_data_are_left_out_whole_and_their_p_is_uniform():
    physics, place = correlated()
    prior = prior_of()
    truths = calibration.prior_draws(prior, 60, SHAPE, seed=3)[:, :1]
    y = calibration.simulate(physics, truths, seed=3)
    out, name = predictive.left_out(physics, y[:1], share=0.25)
    by_block = out[0][place].reshape(12, 4)
    assert name == "blocks of correlated data"
    assert int(out.sum()) == 12
    assert torch.equal(by_block.all(1), by_block.any(1))
    sampler = samplers.DAPS(prior, levels=2, micro_batch=39)
    p = [
        predictive.predictive_check(sampler, physics, y[k : k + 1], 39, item=k, seed=9).p
        for k in range(len(truths))
    ]
    assert distance_from_uniform(p, 40) < 1.63 / np.sqrt(60)  # 1 % of right ones are beyond


def test_predictions_have_the_noise_that_was_drawn_with_the_image():
    physics = physics_of()
    y = torch.zeros(1, 2, SIZE, SIZE)
    physics = declared(physics, y)
    plain, scale = xr.Dataset(), np.array([[0.5], [2.0]])
    base, u = likelihoods.Gaussian(torch.ones(1)), y.expand(2, -1, -1, -1)

    def found(post):
        values = predictive.values_of(post)
        return as_drawn(physics, base, values, u).deviations(u)

    assert found(plain).shape == (1, 2, SIZE, SIZE)
    drawn = plain.assign(noise_scale=(("draw", "item"), scale))
    assert found(drawn)[:, 0, 0, 0].tolist() == [0.5, 2.0]
    # in groups: the first channel has another scale than the second
    physics.noise_groups = torch.arange(2)[:, None, None]
    both = np.stack([scale, 3 * scale], -1)
    drawn = plain.assign(noise_scale=(("draw", "item", "group"), both))
    assert found(drawn)[:, :, 0, 0].tolist() == [[0.5, 1.5], [2.0, 6.0]]


def test_a_prior_of_other_structure_is_told():
    truths = calibration.prior_draws(prior_of(), 6, SHAPE, seed=4)
    y = calibration.simulate(physics_of(), truths, seed=4)
    wrong = prior_of(0.02)
    sampler = samplers.DAPS(wrong, levels=2, micro_batch=39)
    reference = typicality.own(wrong, SHAPE)
    for k in range(len(truths)):
        found = predictive.predictive_check(sampler, physics_of(), y[k : k + 1], 39, item=k)
        post = sampler.sample(y[k : k + 1], physics_of(), draws=8, items=[k])
        draws = torch.as_tensor(post["image"].values[:, 0])
        own = typicality.typicality(
            typicality.statistics(wrong, draws, reference.sigmas), reference
        )
        judged = verdict.judge(found, own)
        assert judged.answer == verdict.DOES_NOT
        assert "does not fit: " in judged.sentence


class Angles(MaskedFourier):
    """A declared measurement of (channel, angle, detector)."""

    class measurement_spec:
        dims, shape = ("channel", "angle", "detector"), (2, SIZE, SIZE)


def test_whole_views_are_left_out_and_the_rest_carries_the_same_noise():
    physics = Angles(torch.ones(SIZE, SIZE), SD)
    y = torch.randn(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    out, name = predictive.left_out(physics, y, share=0.25)
    assert name == "views"
    assert (out.all(-1) == out.any(-1)).all()
    assert int(out.sum()) == 2 * 2 * SIZE
    assert torch.equal(out[:, 0], out[:, 1])
    rest = predictive.without(physics, y, out)
    assert torch.equal(torch.isinf(rest.likelihood.sd), out[0])
    assert float(rest.likelihood.sd[~out[0]].max()) == pytest.approx(SD)
    assert not hasattr(physics, "likelihood")
    other, _ = predictive.left_out(physics, y, share=0.25, seed=1)
    assert not torch.equal(out, other)


def test_left_out_data_do_not_decide_the_draws():
    physics, prior = physics_of(), prior_of()
    y = calibration.simulate(physics, calibration.prior_draws(prior, 1, SHAPE, seed=1), seed=1)
    sampler = samplers.DAPS(prior, levels=2, micro_batch=8)
    out, _ = predictive.left_out(physics, y)
    rest = predictive.without(physics, y, out)
    a = sampler.sample(torch.where(out, 0.0, y), rest, draws=4)["image"].values
    b = sampler.sample(torch.where(out, 5.0, y), rest, draws=4)["image"].values
    assert np.array_equal(a, b)


def test_noise_without_a_standard_deviation_and_too_few_data_are_refused():
    physics = MaskedFourier(torch.ones(1, 2), SD)
    physics.likelihood = likelihoods.Poisson()
    with pytest.raises(OperatorError, match="noise is Gaussian"):
        predictive.left_out(physics, torch.ones(1, 2, 1, 2))
    physics.likelihood = likelihoods.Gaussian(torch.tensor([0.1, 0.1, torch.inf]))
    with pytest.raises(DataError, match="too few data"):
        predictive.left_out(physics, torch.ones(1, 3))


def test_verdict_says_when_it_cannot_tell():
    assert verdict.judge().answer == verdict.CANNOT_TELL
    assert "no datum can go" in verdict.judge(without="no datum can go").sentence
    few = predictive.Predictive(0.25, 9.0, 10, "views", 3)
    assert verdict.judge(few).answer == verdict.CANNOT_TELL
    good = predictive.Predictive(0.6, 1.0, 10, "views", 39)
    assert verdict.judge(good).answer == verdict.FITS
    json.dumps(verdict.judge(good).row())


def test_typicality_does_not_count_where_the_draws_are_not_exact():
    odd = typicality.Typicality(0.01, (0.1,), (1.2,), (0.01,), 64)
    good = predictive.Predictive(0.6, 1.0, 10, "views", 39)
    assert verdict.judge(good, odd).answer == verdict.DOES_NOT
    judged = verdict.judge(good, odd, exact=False)
    assert judged.answer == verdict.FITS
    assert judged.typicality == odd
    assert "not shown for a network" in judged.sentence


def test_own_images_are_kept_beside_the_prior_and_made_again_for_another_file(tmp_path):
    file = tmp_path / "some.safetensors"
    file.write_bytes(b"one")
    made = []

    def make():
        made.append(1)
        return typicality.Own((0.1, 1.0), np.array([[0.0, 1.0], [2.0, 3.0]]))

    assert typicality.cached(file, SHAPE) is None
    first = typicality.own_cached(file, SHAPE, make)
    again = typicality.cached(file, SHAPE)
    assert again is not None
    assert np.array_equal(first.values, again.values)
    file.write_bytes(b"two")
    assert typicality.cached(file, SHAPE) is None
    typicality.own_cached(file, SHAPE, make)
    assert len(made) == 2


def test_noise_of_the_check_is_the_images_own():
    prior = prior_of()
    x = prior.sample(Streams.of_seed(0, 3), torch.zeros(1))
    whole = typicality.statistics(prior, x, (0.1, 1.0))
    assert whole.shape == (3, 2)
    assert np.allclose(whole[:1], typicality.statistics(prior, x[:1], (0.1, 1.0)))
