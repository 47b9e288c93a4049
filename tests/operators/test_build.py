"""An operator and its measurement come back from a store as they went in."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from sciinv import operators, store
from sciinv.errors import ConfigError, OperatorError

# As a user would write one: a scan of weights, one gain per item, in a file of its own.
OPERATOR = """
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec
import numpy as np

class Weighted(Declared, LinearPhysics):
    def __init__(self, weights, gain, keep, noise_sd: float, order: int = 1):
        super().__init__(noise_model=GaussianNoise(noise_sd))
        self.weights, self.gain, self.keep, self.order = weights, gain, keep, order
        h, w = weights.shape
        self.image_spec = ImageSpec((1, h, w), "1", np.arange(h), np.arange(w), "mm")
        self.measurement_spec = MeasurementSpec(("channel", "row", "column"), (1, h, w), "1")

    def A(self, x, **kwargs):
        return x * self.weights * self.gain

    def A_adjoint(self, y, **kwargs):
        return y * self.weights * self.gain
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(OPERATOR)
    return f"{tmp_path / 'mine.py'}:Weighted"


def dataset(file, **params):
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "y": (("item", "channel", "row", "column"), rng.normal(size=(2, 1, 3, 4))),
            "weights": (("row", "column"), rng.random((3, 4))),
            "gain": ("item", [2.0, 3.0]),
            "keep": ("row", [True, False, True]),
            "remark": ("item", ["first", "second"]),
        },
        attrs={"operator": file, "params": json.dumps({"noise_sd": 0.1, **params}), "units": "1"},
    )


def test_arrays_and_parameters_reach_the_constructor_by_name(tmp_path, file):
    data = dataset(file, order=2)
    store.write_measurement(data, tmp_path / "m.zarr")
    found = store.open_measurement(tmp_path / "m.zarr")
    physics, y = operators.from_measurement(found, item=1, operator=file)
    assert physics.gain == 3.0
    assert physics.order == 2
    assert physics.keep.tolist() == [True, False, True]
    assert physics.weights.dtype == y.dtype == torch.float32
    np.testing.assert_array_equal(y[0], data["y"][1].astype("f4"))
    assert physics.A(torch.ones(1, 1, 3, 4)).shape == y.shape


def test_the_dtype_holds_for_every_floating_point_array(file):
    physics, y = operators.from_measurement(dataset(file), operator=file, dtype=torch.float64)
    assert y.dtype == physics.weights.dtype == physics.gain.dtype == torch.float64
    assert physics.keep.dtype == torch.bool


def test_an_override_counts_before_what_is_stored(file):
    physics, _ = operators.from_measurement(
        dataset(file), operator=file, noise_sd=0.7, gain=torch.tensor(5.0)
    )
    assert float(physics.noise_model.sigma) == pytest.approx(0.7)
    assert physics.gain == 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("gain"), "missing: gain"),
        (lambda d: d.assign_attrs(params='{"noise_sd": 0.1, "ordre": 2}'), "unknown: ordre"),
        (lambda d: d.assign_attrs(params='{"noise_sd": '), "cannot be read"),
        (lambda d: d.assign_attrs(params="[1]"), "cannot be read"),
        (lambda d: d.drop_vars("y"), "no measurement"),
        (lambda d: d.assign(y=d["y"][:, :, :2].rename(row="part")), "does not match the operator"),
    ],
)
def test_a_store_and_an_operator_that_do_not_match_are_told_apart(file, change, message):
    with pytest.raises(OperatorError, match=message):
        operators.from_measurement(change(dataset(file)), operator=file)


def test_a_measurement_without_an_operator_is_told(file):
    with pytest.raises(OperatorError, match="does not name its operator"):
        operators.from_measurement(dataset(file).drop_attrs())


def test_a_misspelt_override_an_unknown_item_and_an_unknown_operator_are_errors(file):
    with pytest.raises(OperatorError, match="unknown: nois_sd"):
        operators.from_measurement(dataset(file), operator=file, nois_sd=0.2)
    with pytest.raises(OperatorError, match="no such item"):
        operators.from_measurement(dataset(file), item=2, operator=file)
    with pytest.raises(ConfigError, match="no operator of this name"):
        operators.from_measurement(dataset(file), operator="telepathy")


def test_a_swapped_operator_takes_what_it_knows_of_the_stored_parameters(tmp_path, file):
    (tmp_path / "mine.py").write_text(OPERATOR.replace("order", "degree"))
    physics, _ = operators.from_measurement(dataset("ct", order=3), operator=file)
    assert physics.degree == 1
    assert float(physics.noise_model.sigma) == pytest.approx(0.1)


def test_view_angles_keep_their_precision_whatever_the_dtype_of_the_data():
    """In float32, steps of 0.1° would not be symmetric, and 1,800 views not fold into 451."""
    angles = np.arange(1800) * 0.1
    params = {"image_size": 8, "pixel_mm": 1.0, "detectors": 12, "detector_mm": 1.0}
    data = xr.Dataset(
        {
            "y": (("item", "channel", "angle", "detector"), np.zeros((1, 1, 1800, 12), "f4")),
            "angles": ("angle", angles),
        },
        attrs={"operator": "ct", "params": json.dumps({**params, "noise_sd": 0.1}), "units": "1"},
    )
    physics, y = operators.from_measurement(data)
    assert y.dtype == torch.float32
    np.testing.assert_array_equal(physics.geometry.angles, angles)
    exact = operators.load("ct", angles=angles, **params)
    views = [sum(len(g.theta) for g in p.projector.groups) for p in (physics, exact)]
    assert views == [451, 451]  # 0 … 45°
    counts, _ = operators.from_measurement(
        data, operator="ct-counts", blank_counts=torch.tensor(1e4)
    )
    np.testing.assert_array_equal(counts.linear.geometry.angles, angles)


def test_a_ct_scan_comes_back_from_its_store(tmp_path):
    angles = np.linspace(0, 180, 12, endpoint=False)
    params = {"image_size": 16, "pixel_mm": 0.5, "detectors": 24, "detector_mm": 0.5}
    physics = operators.load("ct", angles=torch.as_tensor(angles), noise_sd=0.02, **params)
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = physics.A(x)
    data = xr.Dataset(
        {
            "y": (("item", "channel", "angle", "detector"), y.numpy()),
            "angles": ("angle", angles),
            "noise_sd": (("angle", "detector"), np.full((12, 24), 0.02)),
        },
        attrs={"operator": "ct", "params": json.dumps(params), "units": "1"},
    )
    store.write_measurement(data, tmp_path / "m.zarr")
    again, y1 = operators.from_measurement(
        store.open_measurement(tmp_path / "m.zarr"), item=1, dtype=torch.float64
    )
    torch.testing.assert_close(again.A(x[1:]), y1, rtol=1e-12, atol=0)
