"""Coil sensitivities, noise and prewhitening against known truths and against BART."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sciinv.errors import ConfigError, DataError
from sciinv.operators.parts import mri_coils, mri_masks

SHAPE = (64, 60)


def to_kspace(image: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(image, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def an_object(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """An ellipse with a rim, holes and a smooth phase."""
    y, x = np.meshgrid(*(2 * (np.arange(n) - n // 2) / n for n in shape), indexing="ij")
    r = np.hypot(y / 0.8, x / 0.65)
    image = 0.6 * (r < 1) + 0.6 * ((r < 1) & (r > 0.9))
    image -= 0.4 * (np.hypot(y - 0.1, x - 0.2) < 0.15) + 0.3 * (np.hypot(y + 0.2, x + 0.1) < 0.2)
    return image * np.exp(1j * (0.5 * x - 0.8 * y * x))


def measured(
    maps: np.ndarray, noise_sd: float, seed: int = 0, image: np.ndarray | None = None
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = an_object(maps.shape[1:]) if image is None else image
    noise = rng.standard_normal(maps.shape) + 1j * rng.standard_normal(maps.shape)
    return to_kspace(image * maps) + noise_sd * noise


def map_errors(got: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """‖S − e^{iφ} S_true‖ per pixel with the best phase φ."""
    phase = np.exp(1j * np.angle((got * truth.conj()).sum(0)))
    return np.linalg.norm(got - phase * truth, axis=0)


@pytest.mark.parametrize("coils", [2, 8])
def test_espirit_recovers_known_maps_up_to_phase(coils: int) -> None:
    maps = mri_coils.simulate_maps(coils, SHAPE)
    mask = mri_masks.poisson_disc(SHAPE, 4, calibration=24)
    got, eigenvalues = mri_coils.espirit(measured(maps, 0.005) * mask, mask)
    inside = np.abs(an_object()) > 0.1
    errors = map_errors(got, maps)[inside]
    # noise is 1 % of the object; a 6 × 6 kernel from 24 × 24 samples: a few per cent
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.99) < 0.05
    assert eigenvalues[inside].min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(got, axis=0), 1.0, atol=1e-5)


def test_espirit_eigenvalue_falls_outside_of_the_object() -> None:
    image = an_object()
    image[:, 25:] = 0.0  # nothing in the right part of the field of view
    maps = mri_coils.simulate_maps(6, SHAPE)
    kspace = measured(maps, 0.001, image=image)
    got, eigenvalues = mri_coils.espirit(kspace, crop=0.9)
    assert eigenvalues[:, 45:55].max() < 0.8
    assert not got[:, :, 45:55].any()


def test_espirit_of_one_coil_is_ones() -> None:
    maps, _ = mri_coils.espirit(measured(mri_coils.simulate_maps(1, SHAPE), 0.01))
    assert (maps == 1).all()


def test_espirit_memory_chunks_do_not_change_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    kspace = measured(mri_coils.simulate_maps(4, SHAPE), 0.005)
    whole, _ = mri_coils.espirit(kspace)
    monkeypatch.setattr(mri_coils, "CHUNK_ELEMENTS", 5 * SHAPE[1] * 16)
    chunked, _ = mri_coils.espirit(kspace)
    np.testing.assert_allclose(chunked, whole, atol=1e-5)  # float32 rounding


@pytest.mark.skipif(shutil.which("bart") is None, reason="the BART toolbox is not installed")
def test_espirit_agrees_with_bart(tmp_path: Path, repo: Path) -> None:
    kspace = np.load(repo / "data/mri/cartesian_ksp.npy")
    coils, h, w = kspace.shape
    (tmp_path / "k.hdr").write_text(f"# Dimensions\n{h} {w} 1 {coils}\n")
    kspace.transpose(1, 2, 0).flatten("F").tofile(tmp_path / "k.cfl")
    subprocess.run(["bart", "ecalib", "-m1", "-c0", "k", "s"], cwd=tmp_path, check=True)
    flat = np.fromfile(tmp_path / "s.cfl", np.complex64)
    theirs = flat.reshape((h, w, coils), order="F").transpose(2, 0, 1)
    ours, _ = mri_coils.espirit(kspace)
    low = np.abs(kspace) * mri_masks.from_kspace(kspace)
    image = np.linalg.norm(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace * (low > 0),
                           axes=(1, 2))), axes=(1, 2)), axis=0)  # fmt: skip
    head = image > 0.2 * np.quantile(image, 0.99)
    errors = map_errors(ours, theirs)[head]
    # BART takes another threshold of the singular values: per-mille where there is signal
    assert np.median(errors) < 0.005
    assert np.quantile(errors, 0.99) < 0.05


def test_calibration_region_is_the_full_centre() -> None:
    mask = np.zeros((40, 41), bool)
    mask[15:26, 12:30] = True  # around (20, 20)
    mask[2, 3] = True
    rows, columns = mri_coils.calibration_region(mask)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (15, 26, 12, 30)
    rows, columns = mri_coils.calibration_region(np.ones((40, 41), bool), limit=16)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
    assert rows.start <= 20 < rows.stop


def test_no_calibration_region_is_an_error() -> None:
    kspace = measured(mri_coils.simulate_maps(4, SHAPE), 0.01)
    mask = np.zeros(SHAPE, bool)
    mask[::4] = True
    mask[32] = False
    with pytest.raises(DataError, match="no calibration region"):
        mri_coils.espirit(kspace * mask, mask)
    mask[30:35] = True
    with pytest.raises(DataError, match="large enough"):
        mri_coils.espirit(kspace * mask, mask)


def continuous_kspace(coils: int, shape: tuple[int, int], over: int = 4) -> np.ndarray:
    """k-space of the object on a grid `over` times finer: without a pixel grid's aliasing."""
    big = tuple(n * over for n in shape)
    kspace = to_kspace(an_object(big) * mri_coils.simulate_maps(coils, big)) / over
    top, left = (b // 2 - n // 2 for b, n in zip(big, shape, strict=True))
    return kspace[:, top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("noise_sd", [0.02, 0.2])
@pytest.mark.parametrize("sampling", ["full", "poisson", "lines"])
def test_noise_floor_finds_the_known_noise(noise_sd: float, sampling: str) -> None:
    shape = (128, 120)
    mask = {
        "full": np.ones(shape, bool),
        "poisson": mri_masks.poisson_disc(shape, 6),
        "lines": mri_masks.random_lines(shape, 4),
    }[sampling]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, *shape)) + 1j * rng.standard_normal((4, *shape))
    kspace = (continuous_kspace(4, shape) + noise_sd * noise) * mask
    # What the model of the signal leaves: under 10 % where noise is 1/30 of the object.
    assert mri_coils.noise_floor(kspace, mask) == pytest.approx(noise_sd, rel=0.1)


def test_noise_far_below_the_signal_is_not_guessed() -> None:
    kspace = continuous_kspace(4, (128, 120))
    with pytest.raises(DataError, match="cannot be told") as caught:
        mri_coils.noise_floor(kspace)
    assert "all power there would be" in str(caught.value)
    y, x = (np.arange(n) - n // 2 for n in (128, 120))
    with pytest.raises(DataError, match="too few outer samples"):
        mri_coils.noise_floor(kspace, np.hypot(y[:, None], x[None]) < 40)


def test_prewhitening_leaves_unit_independent_noise() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    noise = mixing @ (rng.standard_normal((4, 20000)) + 1j * rng.standard_normal((4, 20000)))
    covariance = mri_coils.noise_covariance(noise)
    white = mri_coils.prewhiten(noise, covariance)
    got = white @ white.conj().T / (2 * noise.shape[1])
    np.testing.assert_allclose(got, np.eye(4), atol=1e-10)
    # 20,000 samples: relative error 1/√20000 = 0.7 % per entry, four times that allowed
    exact = mixing @ mixing.conj().T
    assert np.abs(covariance - exact).max() < 0.03 * np.abs(exact).max()


def test_dead_coil_and_short_noise_scan_are_errors() -> None:
    noise = np.ones((3, 100)) * np.array([[1.0], [0.0], [2.0]]) + 0j
    with pytest.raises(DataError, match="not positive definite"):
        mri_coils.noise_covariance(noise)
    with pytest.raises(DataError, match="too short"):
        mri_coils.noise_covariance(noise[:, :5])


def test_simulated_maps_are_smooth_unit_and_distinct() -> None:
    maps = mri_coils.simulate_maps(8, SHAPE)
    assert maps.shape == (8, *SHAPE)
    np.testing.assert_allclose(np.linalg.norm(maps, axis=0), 1.0, atol=1e-5)
    assert np.abs(np.diff(maps, axis=1)).max() < 0.2
    brightest = [np.unravel_index(np.abs(m).argmax(), SHAPE) for m in maps]
    assert len(set(brightest)) == 8


@pytest.mark.parametrize("axis", [-1, -2])
def test_masks_of_lines_keep_whole_lines_and_the_centre(axis: int) -> None:
    for mask in (
        mri_masks.equispaced_lines((50, 64), 4, 0.08, axis),
        mri_masks.random_lines((50, 64), 4, 0.08, axis),
    ):
        along = mask.any(axis=-3 - axis)
        lines = mask.all(axis=-3 - axis)
        np.testing.assert_array_equal(along, lines)
        count = mask.shape[axis]
        centre = lines[count // 2 - 2 : count // 2 + 2]
        assert centre.all()
    assert mri_masks.random_lines((50, 64), 4, 0.08).mean() == pytest.approx(0.25)
    one, two = (mri_masks.random_lines((50, 64), 4, 0.08, seed=s) for s in (1, 2))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, mri_masks.random_lines((50, 64), 4, 0.08, seed=1))


def test_poisson_disc_has_its_rate_its_centre_and_its_distances() -> None:
    shape = (120, 100)
    mask = mri_masks.poisson_disc(shape, 8, calibration=20, slope=0.0, seed=3)
    assert mask.sum() == 120 * 100 // 8
    assert mask[50:70, 40:60].all()
    assert not mask[0, 0]
    outside = mask.copy()
    outside[50:70, 40:60] = False
    points = np.argwhere(outside)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    nearest = np.where(gaps > 0, gaps, np.inf).min(1)
    # uniform density: no two samples nearer than the one distance, and few farther than twice
    assert nearest.min() > 2.0
    assert np.quantile(nearest, 0.95) < 2 * nearest.min()
    np.testing.assert_array_equal(
        mask, mri_masks.poisson_disc(shape, 8, calibration=20, slope=0.0, seed=3)
    )


def test_impossible_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="No mask of lines"):
        mri_masks.random_lines((64, 64), 8, centre=0.3)
    with pytest.raises(ConfigError, match="No Poisson-disc mask"):
        mri_masks.poisson_disc((64, 64), 20, calibration=32)
    with pytest.raises(DataError, match="no measured sample"):
        mri_masks.from_kspace(np.zeros((2, 4, 4)))
