"""Non-Cartesian MRI against the written-out sum, against Cartesian MRI, and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.errors import OperatorError
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.mri_coils import simulate_maps

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
