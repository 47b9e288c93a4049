"""Non-Cartesian MRI against the written-out sum, against Cartesian MRI, and its adjoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from sciinv import store
from sciinv.errors import OperatorError
from sciinv.operators import from_measurement, load
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts.mri_coils import simulate_maps

pytest.importorskip("finufft", reason="finufft is not installed")
from sciinv.operators.mri_noncartesian import NonCartesianMRI, radial_trajectory

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-11}  # ten times finufft's tolerances


def an_operator(h: int, w: int, coils: int = 3, samples: int = 50) -> NonCartesianMRI:
    points = (np.random.default_rng(0).random((samples, 2)) - 0.5) * np.array([h, w])
    return NonCartesianMRI(points, simulate_maps(coils, (h, w)), 0.1)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("h", "w"), [(12, 9), (7, 16)])
def test_forward_is_the_written_out_sum(h: int, w: int, dtype: torch.dtype) -> None:
    physics = an_operator(h, w)
    x = torch.randn(2, 2, h, w, dtype=dtype)
    z = (x[:, 0] + 1j * x[:, 1]).numpy()[:, None] * simulate_maps(3, (h, w))
    r = [np.arange(n) - n // 2 for n in (h, w)]
    k = physics.trajectory.numpy()
    waves = [np.exp(-2j * np.pi * np.outer(k[:, i], r[i]) / n) for i, n in enumerate((h, w))]
    expected = np.einsum("sy,sx,bcyx->bcs", *waves, z) / np.sqrt(h * w)
    y = physics.A(x).numpy()
    error = np.abs(y[:, 0] + 1j * y[:, 1] - expected).max()
    assert error < BOUNDS[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("dtype", BOUNDS)
def test_adjoint_passes_the_dot_product_test(dtype: torch.dtype) -> None:
    physics = an_operator(13, 10)
    x = torch.randn(2, 2, 13, 10, dtype=dtype)
    y = torch.randn(2, *physics.measurement_spec.shape, dtype=dtype)
    ax, aty = physics.A(x), physics.A_adjoint(y)
    difference = (ax.double() * y).sum() - (x.double() * aty).sum()
    assert abs(float(difference)) < BOUNDS[dtype] * float(ax.norm() * y.norm())
    pull = torch.func.vjp(physics.A, x)[1]
    assert torch.equal(pull(y)[0], aty)


def test_whole_numbered_trajectory_is_the_cartesian_operator() -> None:
    h, w = 10, 12
    mask = np.random.default_rng(0).random((h, w)) < 0.5
    maps = simulate_maps(2, (h, w))
    cartesian = MultiCoilMRI(mask, maps, 0.1)
    physics = NonCartesianMRI(np.argwhere(mask) - np.array([h // 2, w // 2]), maps, 0.1)
    x = torch.randn(1, 2, h, w, dtype=torch.float64)
    # the Cartesian operator rounds its maps in single precision, as they were given
    torch.testing.assert_close(physics.A(x), cartesian.A(x), rtol=0, atol=1e-6)


def test_radial_scan_is_reconstructed() -> None:
    h, w = 32, 32
    y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (h, w)), indexing="ij")
    image = torch.zeros(1, 2, h, w)
    image[0, 0] = torch.from_numpy(np.exp(-((y - 3) ** 2 + x**2) / 30.0))
    # 48 spokes are 3/2 times what an image of 32 pixels needs up to its corners' edge
    physics = NonCartesianMRI(radial_trajectory((h, w), 48), simulate_maps(4, (h, w)), 1e-3)
    got = physics.classical(physics.A(image))
    errors = {k: float((v - image).norm() / image.norm()) for k, v in got.items()}
    assert errors["gridding"] < 0.2
    assert errors["CG-SENSE"] < 0.02


@pytest.mark.parametrize("points", [np.zeros((3,)), np.zeros((0, 2)), np.full((4, 2), 9.0)])
def test_wrong_trajectories_are_refused(points: np.ndarray) -> None:
    with pytest.raises(OperatorError, match="trajectory does not fit"):
        NonCartesianMRI(points, simulate_maps(2, (8, 8)), 0.1)


@pytest.mark.parametrize("double", [False, True])
def test_two_sets_of_maps_pass_the_dot_product_test(double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 9, 8)) + 1j * rng.normal(size=(2, 3, 9, 8))
    points = radial_trajectory((9, 8), 7)
    physics = NonCartesianMRI(points, maps, 0.1)
    x = torch.randn(2, 4, 9, 8, dtype=dtype)
    u = physics.A(x)
    v = torch.randn_like(u)
    error = ((u * v).sum() - (x * physics.A_adjoint(v)).sum()).abs() / (u.norm() * v.norm())
    # finufft's own tolerances: 1e-6 and 1e-13
    assert float(error) < (1e-12 if double else 1e-6)
    parts = [NonCartesianMRI(points, m, 0.1).A(x[:, 2 * i : 2 * i + 2]) for i, m in enumerate(maps)]
    torch.testing.assert_close(u, sum(parts), rtol=0, atol=1e-10 if double else 1e-3)


def test_a_configuration_can_name_it_and_a_store_can_hold_it(tmp_path: Path) -> None:
    points, maps = radial_trajectory((9, 8), 7), simulate_maps(3, (9, 8))
    physics = load("mri-noncartesian", trajectory=points, coil_maps=maps, noise_sd=0.1)
    y = physics.A(torch.randn(1, 2, 9, 8))
    data = xr.Dataset(
        {
            "y": (("item", "part", "coil", "sample"), y.numpy()),
            "trajectory": (("sample", "axis"), points),
            "coil_maps": (("part", "coil", "row", "column"), np.stack([maps.real, maps.imag])),
        },
        attrs={
            "operator": "mri-noncartesian",
            "params": json.dumps({"noise_sd": 0.1, "pixel_mm": 2.0}),
            "units": "arbitrary units",
        },
    )
    store.write_measurement(data, tmp_path / "m.zarr")
    again, y_again = from_measurement(store.open_measurement(tmp_path / "m.zarr"))
    assert torch.equal(y_again, y)
    assert torch.equal(again.trajectory, torch.from_numpy(points))  # float64, not rounded
    x = torch.randn(1, 2, 9, 8)
    assert torch.equal(again.A(x), physics.A(x))
    assert again.image_spec.axis_units == "mm"
    assert again.image_spec.x[1] - again.image_spec.x[0] == 2.0
