"""What draws leave of the data: numbers by hand, scale, missing samples, where they are laid."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from sciinv import priors, samplers, store
from sciinv.config import Data, Operator
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts.mri_coils import simulate_maps
from sciinv.report import nuisances
from sciinv.steps.build import build
from sciinv.steps.prepare import prepare
from sciinv.steps.residuals import _grouped, _kspace, _side_by_side, residuals_of

TINY = "workflows/configs/tiny.py"


@pytest.fixture(scope="module")
def blurred(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "measurement.zarr"
    prepare(Data(f"{TINY}:read", None, {"items": 1, "size": 12, "noise_sd": 0.1}), out, items=1)
    dataset = store.open_measurement(out)
    physics, y = build(dataset, Operator(f"{TINY}:Blur"))
    return dataset, physics, y


def draws_of(images, **stats):
    return xr.Dataset(
        {"image": (("draw", "channel", "y", "x"), images)}
        | {k: ("draw", np.asarray(v)) for k, v in stats.items()}
    )


def images(count=3):
    return np.random.default_rng(0).normal(size=(count, 1, 12, 12)).astype("f4")


def test_residuals_are_the_data_minus_the_prediction_in_units_of_the_noise(blurred):
    dataset, physics, y = blurred
    x = images()
    found = residuals_of(dataset, physics, y, draws_of(x))
    expected = (y - physics.A(torch.from_numpy(x))).numpy() / 0.1
    # the picture is the first draw's, the curve the mean square of all; float32 data
    np.testing.assert_allclose(found.values, expected[0], rtol=1e-4, atol=1e-4)
    total = (np.asarray(found.rms) ** 2 * found.counts).sum() / found.counts.sum()
    assert total == pytest.approx((expected**2).mean(), rel=1e-4)
    assert found.draws == 3


def test_a_noise_that_was_drawn_is_the_unit(blurred):
    dataset, physics, y = blurred
    x = images(1)
    plain = residuals_of(dataset, physics, y, draws_of(x))
    half = residuals_of(dataset, physics, y, draws_of(x, noise_scale=[2.0]))
    np.testing.assert_allclose(half.values, plain.values / 2, rtol=1e-6)


def test_samples_without_data_are_left_blank(blurred):
    dataset, physics, y = blurred
    sd = torch.full_like(y, 0.1)
    sd[..., 3, 4] = torch.inf

    class Weighted:
        def __getattr__(self, name):
            return getattr(physics, name)

    seen = Weighted()
    from sciinv.likelihoods import Gaussian

    seen.likelihood = Gaussian(sd=sd)
    found = residuals_of(dataset, seen, y, draws_of(images(1)))
    assert np.isnan(found.values[3, 4])
    assert np.isfinite(found.values).sum() == 143
    assert found.counts.sum() == 143


def test_k_space_is_laid_on_its_grid_by_distance_from_the_centre():
    mask = np.zeros((6, 8), bool)
    mask[3, 4] = mask[3, 7] = True  # the centre, and three samples from it
    first = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])  # coils, parts, samples
    found = _kspace(mask, first, first**2, 1)
    assert found.values[3, 4] == pytest.approx(np.sqrt((1 + 9) / 2))
    assert np.isnan(found.values[0, 0])
    assert list(found.counts) == [2, 2]
    np.testing.assert_allclose(found.rms, [np.sqrt(5), np.sqrt(10)])


def test_groups_hold_about_equal_numbers_and_every_value_once():
    rng = np.random.default_rng(0)
    along, square = rng.random(1000), np.ones(1000)
    square[::10] = np.nan
    centres, rms, counts = _grouped(along, square, 30)
    assert counts.sum() == 900
    assert counts.min() >= 29
    assert (np.diff(centres) > 0).all()
    np.testing.assert_allclose(rms, 1)


def test_maps_and_phases_of_a_configuration_are_drawn_told_and_leave_the_residuals_of_noise():
    maps = simulate_maps(2, (12, 12))
    mask = np.zeros((12, 12), dtype=bool)
    mask[2:10] = True
    unknown = {"unknowns": {"coil_maps": 0.05, "line_phase": 0.5}, "map_order": 2}
    truth = MultiCoilMRI(mask, maps, 0.05, **unknown)
    axis = torch.linspace(-1, 1, 12)
    image = torch.exp(-2 * (axis[:, None] ** 2 + axis**2)).expand(1, 2, -1, -1)
    g = torch.Generator().manual_seed(1)
    theta = torch.cat([torch.zeros(1, 12), 0.5 * torch.randn(1, 7, generator=g)], 1)
    y = truth.at(theta).A(image)
    y = y + 0.05 * torch.randn(y.shape, generator=g)
    dataset = xr.Dataset(
        {
            "y": (("item", "part", "coil", "sample"), y.numpy()),
            "mask": (("ky", "kx"), mask),
            "coil_maps": (("coil", "y", "x"), maps),
        },
        attrs={"operator": "mri", "params": json.dumps({"noise_sd": 0.05})},
    )
    physics, data = build(dataset, Operator("mri", unknown))
    sampler = samplers.DAPS(priors.Gaussian(image[0], covariance=1e-4 * torch.eye(288)), levels=4)
    post = sampler.sample(data, physics, draws=2, seed=1)
    assert post["coil_maps"].shape == (2, 1, 2 * 3 * 2)
    assert post["line_phase"].attrs["units"] == "rad"
    one = post.isel(item=0)
    said = " ".join(text for text, _ in nuisances.sentences(one))
    assert "coil maps, 12 values" in said
    assert "line phase, 7 values" in said
    found = residuals_of(dataset, physics, data, one)
    rms = np.sqrt((np.asarray(found.rms) ** 2 * found.counts).sum() / found.counts.sum())
    assert rms == pytest.approx(1.0, abs=0.15)  # of 384 numbers: ± 0.04; the phases alone leave 3
    still = residuals_of(dataset, physics, data, one.drop_vars(["coil_maps", "line_phase"]))
    assert np.nanmax(still.rms) > 2


def test_neighbours_are_those_of_the_grid_and_not_of_the_order_of_storage(blurred):
    dataset, physics, y = blurred
    found = residuals_of(dataset, physics, y, draws_of(images())).neighbours
    assert [n.axis for n in found] == ["rows", "columns"]
    assert found[0].error == pytest.approx(1 / np.sqrt(11 * 12))
    mask = np.zeros((4, 4), bool)
    mask[1, 0] = mask[1, 1] = mask[3, 2] = True  # one pair along kx, none along ky
    held = xr.Dataset(
        {
            "y": (("item", "part", "coil", "sample"), np.zeros((1, 2, 1, 3))),
            "mask": (("ky", "kx"), mask),
        }
    )
    (one,) = _side_by_side(held, [np.array([[[1.0, 1.0, 5.0]], [[1.0, 1.0, 5.0]]])])
    assert one.axis == "kx samples"
    assert one.error == pytest.approx(1 / np.sqrt(2))  # two parts of one pair


def test_coils_and_parts_are_no_neighbours():
    held = xr.Dataset({"y": (("item", "coil", "x"), np.zeros((1, 3, 5)))})
    assert [n.axis for n in _side_by_side(held, [np.ones((3, 5))])] == ["columns"]


def test_misfits_of_the_draws_are_compared_in_one_noise(blurred):
    dataset, physics, y = blurred
    x = images(4)
    found = residuals_of(dataset, physics, y, draws_of(x, noise_scale=[2.0, 2.0, 2.0, 4.0])).misfits
    r = (y - physics.A(torch.from_numpy(x))).double().numpy().reshape(4, -1) / 0.1
    unit = np.sqrt(np.mean(np.square([2.0, 2.0, 2.0, 4.0])))
    assert found.apart == pytest.approx(np.ptp(0.5 * np.square(r / unit).sum(1)), rel=1e-4)
    assert found.draws == 4


def test_draws_that_failed_are_left_out_as_they_are_of_the_maps(blurred):
    dataset, physics, y = blurred
    x = images(4)
    failed = draws_of(x, failed=[1.0, 0.0, 0.0, 0.0])
    found = residuals_of(dataset, physics, y, failed)
    rest = residuals_of(dataset, physics, y, draws_of(x[1:]))
    np.testing.assert_array_equal(found.values, rest.values)
    assert found.draws == 3
    every = residuals_of(dataset, physics, y, draws_of(x, failed=[1.0] * 4))
    assert every.draws == 4
