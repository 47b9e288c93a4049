"""CT readers: real scans give the known object; damaged and wrong files say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr
from PIL import Image

from sciinv import likelihoods
from sciinv.errors import DataError
from sciinv.metrics import matthews_correlation
from sciinv.operators.ct import CT
from sciinv.operators.from_store import from_measurement
from sciinv.operators.parts.ct_geometry import Geometry
from sciinv.operators.parts.ct_projector import Projector
from sciinv.readers import dxchange, htc2022, sinogram
from sciinv.readers.parts import transmission
from sciinv.store import open_measurement, write_measurement


@pytest.fixture(scope="session")
def scans(repo: Path) -> Path:
    return repo / "data" / "ct"


def matthews(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the Matthews correlation of an image at Otsu's threshold, enlarged to the truth."""
    otsu = pytest.importorskip("skimage.filters").threshold_otsu
    large = torch.nn.functional.interpolate(
        torch.as_tensor(image)[None, None], truth.shape, mode="bilinear"
    )[0, 0].numpy()
    return matthews_correlation(large > otsu(large), truth)


# ---- Helsinki 2022: real data -----------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("ta", 0.994), ("tb", 0.991)])
def test_full_helsinki_scan_overlays_its_segmentation(scans: Path, name: str, least: float) -> None:
    dataset = htc2022.read(scans / f"htc2022_{name}_full.mat")
    truth = htc2022.read_segmentation(scans / f"htc2022_{name}_full_recon_fbp_seg.mat")
    physics, y = from_measurement(dataset)
    physics.sirt_iterations = 1
    image = physics.classical(y)["FBP"][0, 0].numpy()
    # Measured: ta 0.9957, tb 0.9933. Turned, mirrored or shifted by a pixel it would be below 0.98.
    assert matthews(image, truth) > least
    assert matthews(image[::-1].copy(), truth) < 0.9
    assert matthews(np.roll(image, 1, axis=1), truth) < least - 0.01
    small = np.asarray(Image.fromarray(truth.astype(np.uint8) * 255).resize((128, 128))) > 250
    # Once the spectrum is corrected, acrylic is as dark inside as at the rim
    assert image[small].mean() == pytest.approx(htc2022.ACRYLIC, rel=0.06)
    x, rows = np.meshgrid(physics.geometry.x, physics.geometry.y)
    rim, middle = np.hypot(x, rows) > 30, np.hypot(x, rows) < 20
    cupping = image[small & middle].mean() / image[small & rim].mean()
    assert cupping == pytest.approx(1.0, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ta", "tb"])
def test_model_error_is_what_the_segmentation_leaves_unexplained(scans: Path, name: str) -> None:
    """The default model_error, measured: edges on 128² pixels, and everything else on 512²."""
    truth = htc2022.read_segmentation(scans / f"htc2022_{name}_full_recon_fbp_seg.mat")
    dataset = htc2022.read(scans / f"htc2022_{name}_full.mat", model_error=0).isel(
        angle=slice(0, 720, 10)
    )
    y, sd = dataset["y"].values[0, 0].astype(float), dataset["noise_sd"].values[0].astype(float)
    params = json.loads(dataset.attrs["params"])
    scan = Geometry(
        dataset.angles.values,
        (512, 512),
        params["pixel_mm"] / 4,
        560,
        0.2,
        "fan",
        params["source_origin_mm"],
        params["origin_detector_mm"],
    )
    image = torch.as_tensor(truth * htc2022.ACRYLIC)
    fine = Projector(scan).forward(image).numpy().reshape(72, 140, 4).mean(-1)
    coarse_image = image.reshape(128, 4, 128, 4).mean((1, 3))
    physics, _ = from_measurement(dataset)
    coarse = physics.projector.forward(coarse_image).numpy()
    edges = float(np.sqrt(np.mean((coarse - fine) ** 2)))
    assert 0.005 < edges < 0.010
    scale = (y * fine).sum() / (fine**2).sum()
    rest = float(np.mean((y - scale * fine) ** 2) - np.mean(sd**2))
    total = np.sqrt(rest + edges**2)
    assert 0.75 * 0.015 < total < 1.25 * 0.015, (np.sqrt(rest), edges)


def test_limited_angle_is_what_the_challenge_asks(scans: Path) -> None:
    dataset = htc2022.read(scans / "htc2022_ta_full.mat", angles=(0, 60))
    assert dict(dataset.sizes) == {"item": 1, "channel": 1, "angle": 121, "detector": 140}
    np.testing.assert_allclose(dataset.angles, np.arange(121) / 2)
    params = json.loads(dataset.attrs["params"])
    assert params["image_size"] == 128
    assert params["pixel_mm"] == pytest.approx(512 * 0.14832 / 128, rel=1e-4)
    assert params["detector_mm"] == pytest.approx(0.8)
    assert params["source_origin_mm"] == pytest.approx(410.66)
    assert params["origin_detector_mm"] == pytest.approx(143.08)
    assert dataset.attrs["operator"] == "ct"
    full = htc2022.read(scans / "htc2022_ta_full.mat", angles=(0, 60), detector_binning=1)
    raw = full["y"].values.reshape(1, 1, 121, 140, 4).mean(-1)
    np.testing.assert_allclose(dataset["y"].values, raw, atol=1e-6)


@pytest.mark.parametrize("name", ["ta", "tb"])
def test_counting_noise_is_what_second_differences_leave(scans: Path, name: str) -> None:
    dataset = htc2022.read(scans / f"htc2022_{name}_full.mat", model_error=0, linearise=False)
    y, sd = dataset["y"].values[0, 0], dataset["noise_sd"].values[0]
    assert sd.min() == pytest.approx(0.0024, rel=0.1)
    # Air fixes sd_0; that the same law holds behind 30 and 60 mm of acrylic is a test of it.
    rough = np.diff(np.diff(y, 2, axis=0), 2, axis=1) / 6 / sd[1:-1, 1:-1]
    for low, high in ((-0.02, 0.03), (0.8, 1.2), (1.5, 2.5)):
        here = (y[1:-1, 1:-1] > low) & (y[1:-1, 1:-1] < high)
        assert here.sum() > 3000
        # Neighbouring elements share some of their noise, which differences do not see; edges of
        # holes leave some of themselves, most in tb
        assert 1.4826 * np.median(np.abs(rough[here])) == pytest.approx(1.0, abs=0.2)


def test_reconstruction_explains_the_data_within_the_stated_noise(scans: Path) -> None:
    dataset = htc2022.read(scans / "htc2022_ta_full.mat", angles=(0, 180))
    dataset = dataset.isel(angle=slice(0, None, 3))
    physics, y = from_measurement(dataset)
    x = physics.classical(y)["SIRT"]
    chi2 = float(likelihoods.of(physics).chi2(physics.A(x), y))
    assert 0.2 < chi2 < 1.2


def test_linearisation_undoes_the_measured_spectrum() -> None:
    length = np.linspace(0, 70, 50)
    y = htc2022.ACRYLIC_A * length - htc2022.ACRYLIC_B * length**2
    np.testing.assert_allclose(htc2022.linearised(y), htc2022.ACRYLIC * length, atol=1e-10)
    step = 1e-6
    slope = (htc2022.linearised(y + step) - htc2022.linearised(y)) / step
    np.testing.assert_allclose(htc2022._slope(y), slope, rtol=1e-4)
    with pytest.raises(DataError, match="linearise=False"):
        htc2022.linearised(np.array([2.69]))


def write_mat(path: Path, *, name: str = "CtDataFull", **change: Any) -> Path:
    """Write a challenge file of a simulated disc, 70 mm wide, with the spectrum of a tube."""
    views = np.arange(0, 360.5, 10.0)
    u = (np.arange(560) - 279.5) * 0.2
    s = u * 410.66 / np.hypot(u, 553.74)
    chord = np.broadcast_to(2 * np.sqrt(np.clip(35.0**2 - s**2, 0, None)), (len(views), 560))
    noise = 0.004 * np.random.default_rng(0).standard_normal(chord.shape)
    y = 0.043 * chord - 1.7e-4 * chord**2 + noise + 0.01
    parameters = {
        "distanceSourceOrigin": 410.66,
        "distanceSourceDetector": 553.74,
        "pixelSizePost": 0.2,
        "angles": views,
        "numDetectorsPost": 560,
        "projectName": "disc_",
    }
    sino = change.pop("sinogram", y)
    parameters.update(change)
    parameters = {k: v for k, v in parameters.items() if v is not None}
    scan = {"type": "2d", "parameters": parameters}
    if sino is not None:
        scan["sinogram"] = sino
    scipy.io.savemat(path, {name: scan})
    return path


def test_spectrum_is_fitted_from_a_solid_disc(tmp_path: Path) -> None:
    a, b, radius = htc2022.fit_beam_hardening(write_mat(tmp_path / "disc.mat"))
    assert a == pytest.approx(0.043, rel=0.01)
    assert b == pytest.approx(1.7e-4, rel=0.03)
    assert radius == pytest.approx(35.0, abs=0.05)


HTC_FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda p: p / "absent.mat", "no such file"),
    "cut off": (lambda p: _cut(write_mat(p / "a.mat"), 0.6), "cannot be read"),
    "not MATLAB": (lambda p: _bytes(p / "a.mat", b"PK\x03\x04" + b"x" * 500), "cannot be read"),
    "empty file": (lambda p: _bytes(p / "a.mat", b""), "cannot be read"),
    "MATLAB 7.3": (lambda p: _matlab73(p / "a.mat"), "-v7"),
    "other structure": (lambda p: write_mat(p / "a.mat", name="Other"), "no challenge scan"),
    "no sinogram": (lambda p: write_mat(p / "a.mat", sinogram=None), "no sinogram"),
    "no angles": (lambda p: write_mat(p / "a.mat", angles=None), "no angles"),
    "angles missing one": (lambda p: write_mat(p / "a.mat", angles=np.arange(36.0)), "36 angles"),
    "angle not finite": (
        lambda p: write_mat(p / "a.mat", angles=np.r_[np.nan, np.arange(36.0)]),
        "1 not finite",
    ),
    "detector count": (lambda p: write_mat(p / "a.mat", numDetectorsPost=559), "numDetectorsPost"),
    "NaN": (lambda p: write_mat(p / "a.mat", sinogram=np.full((37, 560), np.nan)), "not finite"),
    "all zero": (lambda p: write_mat(p / "a.mat", sinogram=np.zeros((37, 560))), "empty"),
    "integers": (
        lambda p: write_mat(p / "a.mat", sinogram=np.ones((37, 560), np.int16)),
        "wrong type",
    ),
    "swapped distances": (
        lambda p: write_mat(p / "a.mat", distanceSourceDetector=300.0),
        "source to origin < source to detector",
    ),
    "byte order": (
        lambda p: write_mat(p / "a.mat", sinogram=_swapped_doubles()),
        "no line integrals|not finite",
    ),
}


def _cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _matlab73(path: Path) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.zeros(3)
    with path.open("r+b") as file:
        header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
        file.write(header)
    return path


def _swapped_doubles() -> np.ndarray:
    y = np.random.default_rng(0).random((37, 560))
    return y.byteswap()


@pytest.mark.parametrize("fault", list(HTC_FAULTS))
def test_wrong_challenge_file_says_what_is_wrong(fault: str, tmp_path: Path) -> None:
    make, says = HTC_FAULTS[fault]
    with pytest.raises(DataError, match=says):
        htc2022.read(make(tmp_path))


def test_wrong_choices_of_a_challenge_scan_are_refused(scans: Path, tmp_path: Path) -> None:
    path = scans / "htc2022_ta_full.mat"
    with pytest.raises(DataError, match="no views"):
        htc2022.read(path, angles=(400, 500))
    with pytest.raises(DataError, match="binned"):
        htc2022.read(path, detector_binning=3)
    with pytest.raises(DataError, match="no segmentation"):
        htc2022.read_segmentation(path)
    scipy.io.savemat(tmp_path / "grey.mat", {"image": np.arange(12.0).reshape(3, 4)})
    with pytest.raises(DataError, match="0 and 1"):
        htc2022.read_segmentation(tmp_path / "grey.mat")


# ---- Data Exchange ----------------------------------------------------------------------------


def test_tooth_has_its_axis_and_stands_out_from_air(scans: Path) -> None:
    dataset = dxchange.read(scans / "tooth.h5", detector_binning=4)
    # FBP has the least negative attenuation at 295.9 (tried in steps of 0.3, both rows)
    assert dataset.attrs["rotation_axis"] == pytest.approx(295.9, abs=0.15)
    assert dataset.sizes["angle"] == 181
    assert json.loads(dataset.attrs["params"])["length_unit"] == "pixel"  # the file has no size
    physics, y = from_measurement(dataset)
    physics.sirt_iterations = 1
    image = physics.classical(y)["FBP"][0, 0].numpy()
    x, rows = np.meshgrid(physics.geometry.x, physics.geometry.y)
    # Enamel is the brightest, in one place; the corners are air
    assert image.max() > 10 * abs(image[np.hypot(x, rows) > 0.49 * 640].mean())
    shifted = dxchange.read(scans / "tooth.h5", detector_binning=4, rotation_axis=319.5)
    blurred, y = from_measurement(shifted)
    blurred.sirt_iterations = 1
    other = blurred.classical(y)["FBP"][0, 0].numpy()
    # A wrong axis doubles every edge: the right one leaves the flattest air
    air = np.hypot(x, rows) < 0
    air[:30] = True
    assert np.abs(image[air]).mean() < np.abs(other[air]).mean()


def test_noise_of_the_tooth_is_that_between_its_views_of_air(scans: Path) -> None:
    dataset = dxchange.read(scans / "tooth.h5", rows=None, remove_rings=False)
    y, sd = dataset["y"].values[:, 0], dataset["noise_sd"].values
    air = (np.abs(y) < 0.05) & np.isfinite(sd)
    both = air[:, 1:] & air[:, :-1]
    r = ((y[:, 1:] - y[:, :-1]) / sd[:, 1:] / np.sqrt(2))[both]
    # The flats' share of the noise (a tenth) is common to both views
    assert 1.4826 * np.median(np.abs(r)) == pytest.approx(1.0, abs=0.1)
    assert dataset.attrs["gain"] == pytest.approx(0.65, abs=0.05)


def _simulated(detectors: int = 48, views: int = 60, gain: float = 2.0) -> dict[str, Any]:
    """Return raw counts of two rows of a disc off the axis, with flats, darks and a ring."""
    rng = np.random.default_rng(0)
    theta = np.arange(views) * 180.0 / views
    scan = Geometry(theta, (detectors, detectors), 1.0, detectors, 1.0, detector_offset_mm=-1.5)
    x, y = np.meshgrid(scan.x, scan.y)
    image = 0.03 * ((x - 4) ** 2 + (y + 5) ** 2 < 12**2)
    exact = Projector(scan).forward(torch.as_tensor(image)).numpy()
    response = 1 + 0.05 * rng.standard_normal(detectors)
    blank = 20000 * response
    counts = rng.poisson(blank * np.exp(-exact) / gain) * gain + 100
    return {
        "data": np.stack([counts, counts], 1).astype(np.uint16),
        "data_white": np.stack(2 * [rng.poisson(np.tile(blank / gain, (12, 1))) * gain + 100], 1),
        "data_dark": np.full((5, 2, detectors), 100.0),
        "theta": theta,
        "exact": exact,
        "image": image,
    }


def write_dx(path: Path, **change: Any) -> Path:
    parts = {**_simulated(), **change}
    with h5py.File(path, "w") as file:
        for name in ("data", "data_white", "data_dark", "theta"):
            if parts[name] is not None:
                file[f"exchange/{name}"] = parts[name]
    return path


def test_simulated_counts_come_back_as_the_object_with_the_right_noise(tmp_path: Path) -> None:
    made = _simulated()
    dataset = dxchange.read(write_dx(tmp_path / "a.h5"), remove_rings=False)
    assert dataset.attrs["rotation_axis"] == pytest.approx(23.5 + 1.5, abs=0.1)
    assert dataset.attrs["gain"] == pytest.approx(2.0, rel=0.15)
    r = (dataset["y"].values[0, 0] - made["exact"]) / dataset["noise_sd"].values[0]
    # 2880 samples: 1 ± 0.03; the estimated gain adds 5 %
    assert float(np.mean(r**2)) == pytest.approx(1.0, abs=0.15)
    physics, y = from_measurement(dataset)
    image = physics.classical(y)["SIRT"][0, 0].numpy()
    assert np.corrcoef(image.ravel(), made["image"].ravel())[0, 1] > 0.97


def test_other_byte_order_and_radians_are_read_as_they_are(tmp_path: Path) -> None:
    made = _simulated()
    plain = dxchange.read(write_dx(tmp_path / "a.h5"))
    path = write_dx(
        tmp_path / "b.h5", data=made["data"].astype(">u2"), theta=np.deg2rad(made["theta"])
    )
    with h5py.File(path, "r+") as file:
        file["exchange/theta"].attrs["units"] = "radians"
    swapped = dxchange.read(path)
    np.testing.assert_array_equal(plain["y"], swapped["y"])
    np.testing.assert_allclose(plain["angles"], swapped["angles"])


def test_bad_samples_are_interpolated_and_carry_no_data(tmp_path: Path) -> None:
    made = _simulated()
    data = made["data"].astype(np.float32)
    data[7, 0, 20] = np.nan
    data[9, 0, 30] = 0  # below the dark field
    data[11, 0, 25] = 65000.0  # a flash
    white = made["data_white"].astype(float)
    white[:, 0, 10] = 100.0  # a dead element
    dataset = dxchange.read(write_dx(tmp_path / "a.h5", data=data, data_white=white))
    y, sd = dataset["y"].values[0, 0], dataset["noise_sd"].values[0]
    assert np.isfinite(y).all()
    for view, element in ((7, 20), (9, 30), (11, 25), (0, 10), (59, 10)):
        assert np.isinf(sd[view, element]), (view, element)
        assert y[view, element] == pytest.approx(made["exact"][view, element], abs=0.15)
    assert dataset.attrs["repaired_samples"] == 60 + 3
    write_measurement(dataset, tmp_path / "m.zarr")
    physics, y = from_measurement(open_measurement(tmp_path / "m.zarr"))
    assert float(likelihoods.of(physics).residual(0 * y, y)[0, 0, 7, 20]) == 0.0


def test_rings_are_removed_and_the_object_stays(tmp_path: Path) -> None:
    exact = _simulated()["exact"]
    stripe = 0.2 * np.random.default_rng(1).standard_normal(48)
    stripe[np.arange(48) % 3 > 0] = 0
    found = transmission.without_rings(exact + stripe)
    assert np.abs(found - exact).mean() < 0.15 * np.abs(stripe).mean() + 0.01
    unchanged = transmission.without_rings(exact)
    assert np.abs(unchanged - exact).max() < 0.03 * exact.max()


def test_counts_are_measurements_of_the_counting_operator(tmp_path: Path) -> None:
    dataset = dxchange.read(write_dx(tmp_path / "a.h5"), likelihood="poisson")
    assert dataset.attrs["operator"] == "ct-counts"
    file = Path(__file__).resolve().parents[2] / "operators" / "ct.py"
    physics, y = from_measurement(dataset, operator=f"{file}:CTCounts")
    chi2 = float(physics.likelihood.chi2(physics.A(physics.classical(y)["SIRT"]), y))
    assert 0.3 < chi2 < 2.0


def _zeros(name: str, frames: int) -> dict[str, np.ndarray]:
    return {name: np.zeros((frames, 2, 48))}


def _patched(index: tuple[Any, ...], value: float) -> dict[str, np.ndarray]:
    data = _simulated()["data"].astype(np.float64)
    data[index] = value
    return {"data": data}


DX_FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda p: p / "absent.h5", "no such file"),
    "cut off": (lambda p: _cut(write_dx(p / "a.h5"), 0.5), "cannot be read"),
    "wrong magic": (lambda p: _bytes(p / "a.h5", b"\x89HDG\r\n\x1a\n" + b"0" * 99), "HDF5"),
    "no flats": (lambda p: write_dx(p / "a.h5", data_white=None), "exchange/data_white"),
    "no darks": (lambda p: write_dx(p / "a.h5", data_dark=None), "exchange/data_dark"),
    "no theta": (lambda p: write_dx(p / "a.h5", theta=None), "exchange/theta"),
    "zero flats": (lambda p: write_dx(p / "a.h5", **_zeros("data_white", 3)), "no brighter"),
    "no frames": (lambda p: write_dx(p / "a.h5", **_zeros("data_white", 0)), "calibration field"),
    "fields of another window": (
        lambda p: write_dx(p / "a.h5", data_dark=np.zeros((3, 2, 47))),
        r"\[frame, 2, 48\]",
    ),
    "signed counts": (
        lambda p: write_dx(p / "a.h5", **_patched((3, 0, slice(0, 5)), -20000.0)),
        "read as signed",
    ),
    "mostly NaN": (
        lambda p: write_dx(p / "a.h5", **_patched((slice(0, 20),), np.nan)),
        "Too many samples",
    ),
    "byte order unsaid": (
        lambda p: write_dx(p / "a.h5", data=_simulated()["data"].byteswap()),
        "byte order",
    ),
    "angle count": (lambda p: write_dx(p / "a.h5", theta=np.arange(59.0)), "60 finite angles"),
    "angle NaN": (lambda p: write_dx(p / "a.h5", theta=np.full(60, np.nan)), "60 not finite"),
    "one row only": (lambda p: write_dx(p / "a.h5", data=np.ones((60, 48))), "angle, row, column"),
    "text": (lambda p: write_dx(p / "a.h5", data=np.full((2, 2, 2), b"x")), "real numbers"),
    "quarter turn": (
        lambda p: write_dx(p / "a.h5", theta=np.arange(60.0)),
        "give rotation_axis",
    ),
}


@pytest.mark.parametrize("fault", list(DX_FAULTS))
def test_wrong_exchange_file_says_what_is_wrong(fault: str, tmp_path: Path) -> None:
    make, says = DX_FAULTS[fault]
    with pytest.raises(DataError, match=says):
        dxchange.read(make(tmp_path))


def test_wrong_choices_of_an_exchange_file_are_refused(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a.h5")
    with pytest.raises(DataError, match="0 to 1"):
        dxchange.read(path, rows=2)
    with pytest.raises(DataError, match="gaussian or poisson"):
        dxchange.read(path, likelihood="laplace")
    with h5py.File(path, "r+") as file:
        file["measurement/instrument/detector/actual_pixel_size_x"] = 1.4
    dataset = dxchange.read(path)
    assert json.loads(dataset.attrs["params"])["detector_mm"] == pytest.approx(1.4e-3)
    with h5py.File(path, "r+") as file:
        file["measurement/instrument/detector/actual_pixel_size_x"].attrs["units"] = "furlong"
    with pytest.raises(DataError, match="detector_mm"):
        dxchange.read(path)


# ---- plain sinograms --------------------------------------------------------------------------

ANGLES = np.arange(60) * 3.0


def _noisy() -> np.ndarray:
    exact = _simulated()["exact"]
    return exact + 0.01 * np.random.default_rng(2).standard_normal(exact.shape)


def _saved(path: Path, y: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, y)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["entry/sinogram"] = y
    elif path.suffix == ".zarr":
        import zarr

        zarr.save_array(path, y)
    elif path.suffix == ".tif":
        pages = [Image.fromarray(page.astype(np.float32)) for page in np.atleast_3d(y.T).T]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    else:
        path.mkdir()
        for i, page in enumerate(y):
            Image.fromarray(page.astype(np.float32)).save(path / f"view_{i:03d}.tif")
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "a.zarr", "a.tif", "folder"])
def test_plain_stacks_of_every_format_hold_the_same(name: str, tmp_path: Path) -> None:
    y = np.stack([_noisy(), 2 * _noisy()], 1).astype(np.float32)  # angle, slice, detector
    dataset = sinogram.read(
        _saved(tmp_path / name, y), ANGLES, axes=("angle", "slice", "detector"), noise_sd=0.01
    )
    np.testing.assert_allclose(dataset["y"].values[:, 0], y.transpose(1, 0, 2), rtol=1e-6)
    assert dataset.attrs["rotation_axis_found"] == pytest.approx(25.0, abs=0.2)
    physics, _ = from_measurement(dataset, item=1)
    assert isinstance(physics, CT)
    one = sinogram.read(
        tmp_path / name, ANGLES, axes=("angle", "slice", "detector"), slices=1, noise_sd=0.01
    )
    np.testing.assert_array_equal(one["y"].values[0], dataset["y"].values[1])


def test_axes_and_byte_order_are_honoured(tmp_path: Path) -> None:
    y = _noisy()
    plain = sinogram.read(_saved(tmp_path / "a.npy", y), ANGLES, rotation_axis=25.0)
    turned = sinogram.read(
        _saved(tmp_path / "b.npy", y.T.astype(">f8")),
        ANGLES,
        axes=("detector", "angle"),
        rotation_axis=25.0,
    )
    np.testing.assert_array_equal(plain["y"], turned["y"])
    assert json.loads(plain.attrs["params"])["detector_offset_mm"] == pytest.approx(-1.5)


def test_noise_is_estimated_from_the_data_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, angle = np.meshgrid(np.linspace(-1, 1, 200), np.linspace(0, 3, 120))
    exact = 1.5 * np.sqrt(np.clip(0.8 - (x - 0.1 * np.cos(angle)) ** 2, 0, None))
    y = exact + 0.02 * np.exp(0.5 * exact) * rng.standard_normal(x.shape)
    sd = transmission.estimated_noise(y)
    # 24,000 samples; exp(y/2) of the noisy y adds its own scatter
    assert np.mean(sd / (0.02 * np.exp(0.5 * exact))) == pytest.approx(1.0, abs=0.05)


def test_fan_without_pixel_size_covers_the_detector(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.npy", _noisy())
    dataset = sinogram.read(
        path, ANGLES, geometry="fan", source_origin_mm=200.0, origin_detector_mm=100.0
    )
    params = json.loads(dataset.attrs["params"])
    assert params["pixel_mm"] == pytest.approx(2 / 3)
    assert params["detector_offset_mm"] == 0.0
    from_measurement(dataset)


PLAIN_FAULTS: dict[str, tuple[Callable[[Path], xr.Dataset], str]] = {
    "no file": (lambda p: sinogram.read(p / "a.npy", ANGLES), "no such file"),
    "cut off": (
        lambda p: sinogram.read(_cut(_saved(p / "a.npy", _noisy()), 0.5), ANGLES),
        "cannot be read",
    ),
    "cut-off TIFF": (
        lambda p: sinogram.read(_cut(_saved(p / "a.tif", _noisy()), 0.5), ANGLES),
        "cannot be read",
    ),
    "pickle": (lambda p: sinogram.read(_pickled(p / "a.npy"), ANGLES), "cannot be read"),
    "unknown format": (lambda p: sinogram.read(_bytes(p / "a.xyz", b"1"), ANGLES), "not known"),
    "angles": (
        lambda p: sinogram.read(_saved(p / "a.npy", _noisy()), ANGLES[:-1]),
        "60 angles",
    ),
    "axes": (
        lambda p: sinogram.read(_saved(p / "a.npy", _noisy()), ANGLES, axes=("angle", "row")),
        "in the order of the array",
    ),
    "one axis too few": (
        lambda p: sinogram.read(
            _saved(p / "a.npy", _noisy()), ANGLES, axes=("slice", "angle", "detector")
        ),
        "3 axes",
    ),
    "slice": (
        lambda p: sinogram.read(
            _saved(p / "a.npy", _noisy()[:, None]),
            ANGLES,
            axes=("angle", "slice", "detector"),
            slices=1,
        ),
        "0 to 0",
    ),
    "dataset": (
        lambda p: sinogram.read(_saved(p / "a.h5", _noisy()), ANGLES, dataset="other"),
        "entry/sinogram",
    ),
    "NaN": (
        lambda p: sinogram.read(_saved(p / "a.npy", np.full((60, 48), np.nan)), ANGLES),
        "not finite",
    ),
    "complex": (
        lambda p: sinogram.read(_saved(p / "a.npy", 1j * _noisy()), ANGLES),
        "not real numbers",
    ),
    "counts": (
        lambda p: sinogram.read(_saved(p / "a.npy", 30000 * np.exp(-_noisy())), ANGLES),
        "no line integrals",
    ),
    "nothing in it": (
        lambda p: sinogram.read(_saved(p / "a.npy", np.zeros((60, 48))), ANGLES),
        "empty",
    ),
    "no noise": (
        lambda p: sinogram.read(_saved(p / "a.npy", np.repeat(ANGLES, 48).reshape(60, 48)), ANGLES),
        "give noise_sd",
    ),
    "pages of two sizes": (lambda p: sinogram.read(_uneven(p / "folder"), ANGLES), "one size"),
}


def _pickled(path: Path) -> Path:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


def _uneven(path: Path) -> Path:
    path.mkdir()
    for i, size in enumerate(((3, 4), (3, 5))):
        Image.fromarray(np.ones(size, np.float32)).save(path / f"{i}.tif")
    return path


@pytest.mark.parametrize("fault", list(PLAIN_FAULTS))
def test_wrong_plain_sinogram_says_what_is_wrong(fault: str, tmp_path: Path) -> None:
    run, says = PLAIN_FAULTS[fault]
    with pytest.raises(DataError, match=says):
        run(tmp_path)
