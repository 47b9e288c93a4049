"""CT scans as other instruments write them: units, air, special values, parts that are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from sciinv.errors import DataError
from sciinv.operators import from_measurement
from sciinv.readers import dxchange, sinogram
from sciinv.readers.parts import hdf5, special, transmission

from .test_ct_readers import ANGLES, _noisy, _saved, _simulated, write_dx

AXIS = 25.0  # of the simulated scans: 23.5 and an offset of 1.5


def told(dataset: Any) -> str:
    return " ".join(json.loads(dataset.attrs.get("warnings", "[]")))


def scan(path: Path, **change: Any) -> Path:
    """A simulated scan of one row."""
    made = _simulated()
    parts = {k: made[k][:, :1] for k in ("data", "data_white", "data_dark")}
    return write_dx(path, **{**parts, **change})


def counts() -> np.ndarray:
    return _simulated()["data"][:, :1]


def test_angles_in_radians_are_seen_and_read_by_option(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.h5", theta=np.deg2rad(_simulated()["theta"]))
    with pytest.raises(DataError, match=r'look like radians[\s\S]*angle_unit="radians"'):
        dxchange.read(path)
    got = dxchange.read(path, angle_unit="radians")
    np.testing.assert_allclose(got["angles"], _simulated()["theta"])
    assert got.attrs["rotation_axis"] == pytest.approx(AXIS, abs=0.1)
    y = _saved(tmp_path / "s.npy", _noisy())
    turn = np.linspace(-0.79, -0.79 + 2 * np.pi, 60, endpoint=False)
    with pytest.raises(DataError, match="span 2π"):
        sinogram.read(y, turn)
    assert float(sinogram.read(y, turn, angle_unit="radians")["angles"][1]) > -45


@pytest.mark.parametrize("unit", [["rad"], " radians", np.array([b"rad"])])
def test_radians_are_known_in_every_form_of_the_attribute(tmp_path: Path, unit: Any) -> None:
    path = scan(tmp_path / "a.h5", theta=np.deg2rad(_simulated()["theta"]))
    with h5py.File(path, "r+") as file:
        file["exchange/theta"].attrs["units"] = unit
    got = dxchange.read(path, rotation_axis=AXIS)
    np.testing.assert_allclose(got["angles"], _simulated()["theta"])
    assert told(got) == ""


def test_angles_as_text_are_views_without_the_end_or_steps(tmp_path: Path) -> None:
    path = _saved(tmp_path / "s.npy", _noisy())
    for text in ("0:180:60", "0:180:3"):
        np.testing.assert_allclose(sinogram.read(path, text)["angles"], np.arange(60) * 3.0)
    for text in ("0:180:7", "a:b:c", "north"):
        with pytest.raises(DataError, match="cannot be understood"):
            sinogram.read(path, text)
    for bad in (np.full(60, 3.0), np.linspace(0, 1e9, 60)):
        with pytest.raises(DataError, match="cannot be"):
            sinogram.read(path, bad)


def test_an_axis_at_the_edge_of_the_search_is_not_taken(tmp_path: Path) -> None:
    y = _noisy()[:, 22:]  # the axis at 25 is now the element 3 of 26
    with pytest.raises(DataError, match=r"axis cannot be found[\s\S]*give rotation_axis"):
        sinogram.read(_saved(tmp_path / "s.npy", y), ANGLES)
    got = sinogram.read(_saved(tmp_path / "t.npy", y), ANGLES, rotation_axis=3.0)
    assert json.loads(got.attrs["params"])["detector_offset_mm"] == pytest.approx(9.5)
    with pytest.raises(DataError, match="far off the detector"):
        sinogram.read(tmp_path / "t.npy", ANGLES, rotation_axis=1e6)


@pytest.mark.parametrize("change", [
    {"data": 100 + ((counts() - 100.0) * np.linspace(1.1, 0.9, 60)[:, None, None])},
    {"data": (100 + (counts() - 100.0) / 2)},
])  # fmt: skip
def test_air_that_is_not_0_is_told_and_can_be_scaled(tmp_path: Path, change: dict) -> None:
    path = scan(tmp_path / "a.h5", **change)
    assert "not 0" in told(dxchange.read(path, remove_rings=False))
    got = dxchange.read(path, air_columns=3, remove_rings=False)
    assert "not 0" not in told(got)
    assert np.abs(np.median(got["y"].values[0, 0][:, [0, 1, -2, -1]])) < 0.01
    with pytest.raises(DataError, match="columns of air"):
        dxchange.read(path, air_columns=40)


def test_pixels_at_the_largest_integer_carry_no_data(tmp_path: Path) -> None:
    data = counts().astype(np.uint32)
    data[::7, 0, 30] = 2**32 - 1
    white = _simulated()["data_white"][:, :1].astype(np.uint32)
    white[:, 0, 12] = 2**32 - 1
    got = dxchange.read(scan(tmp_path / "a.h5", data=data, data_white=white))
    gone = np.isinf(got["noise_sd"].values[0])
    assert gone[:, 12].all()
    assert gone[::7, 30].all()
    assert gone.sum() == 60 + 9
    assert got.attrs["rotation_axis"] == pytest.approx(AXIS, abs=0.1)
    from_measurement(got)


def test_values_that_are_no_measurements() -> None:
    assert special.no_data(np.array([65535, 0, 3], np.uint16)).tolist() == [True, False, False]
    assert special.no_data(np.array([np.nan, np.inf, 9.97e36, 1.0])).tolist() == [1, 1, 1, 0]
    gaps = special.no_data(np.array([-1, -2, 5], np.int32), counts=True)
    assert gaps.tolist() == [True, True, False]
    clipped = special.no_data(np.array([4095] * 3 + [4094], np.uint16), counts=True)
    assert clipped.tolist() == [True, True, True, False]
    assert not special.no_data(np.array([4095, 4000], np.uint16), counts=True).any()
    assert special.no_data(np.array([7, 8]), fill=7).tolist() == [True, False]
    assert not special.no_data(np.array([0, 8]), fill=0).any()


def test_a_counting_detector_without_dark_field_is_read_by_option(tmp_path: Path) -> None:
    data = counts() - 100.0
    white = _simulated()["data_white"][:, :1] - 100.0
    path = scan(tmp_path / "a.h5", data=data, data_white=white, data_dark=None)
    with pytest.raises(DataError, match=r"data_dark[\s\S]*dark=0"):
        dxchange.read(path)
    got = dxchange.read(path, dark=0)
    assert got.attrs["rotation_axis"] == pytest.approx(AXIS, abs=0.1)
    assert json.loads(got.attrs["params"])["length_unit"] == "pixel"
    assert from_measurement(got)[0].image_spec.axis_units == "pixel"
    with pytest.raises(DataError, match=r"a\.h5: dark\b"):
        dxchange.read(path, dark=-1)


def test_flats_that_are_one_frame_repeated_show_no_noise(tmp_path: Path) -> None:
    white = np.repeat(_simulated()["data_white"][:1, :1], 8, axis=0)
    got = dxchange.read(scan(tmp_path / "a.h5", data_white=white))
    assert got.attrs["gain"] == 1.0
    assert "gain is not known" in told(got)
    assert len(transmission.distinct(white[:, 0])) == 1
    for gain in (0.0, -1.0):
        with pytest.raises(DataError, match=r"a\.h5: gain"):
            dxchange.read(tmp_path / "a.h5", gain=gain)
    for option in ("image_size", "pixel_mm", "detector_mm"):
        with pytest.raises(DataError, match=r"a\.h5: (image_size|pixel_mm|detector_mm)"):
            dxchange.read(tmp_path / "a.h5", **{option: 0})


@pytest.mark.parametrize(("change", "words"), [
    (lambda y: np.exp(-y), r"transmissions[\s\S]*log=True"),
    (lambda y: -y, r"negated[\s\S]*scale=-1"),
    (lambda y: np.rint(2000 * np.exp(-y)).astype(np.uint16), "whole numbers, as counts"),
    (lambda y: 60 * y / y.max(), r"no line integrals[\s\S]*noise_sd"),
    (lambda y: np.where(y > y.max() / 2, np.nan, y), r"not finite[\s\S]*mask=True"),
    (lambda y: np.where(y > y.max() / 2, 65535, 1).astype(np.uint16), r"no data[\s\S]*mask"),
])  # fmt: skip
def test_values_of_another_kind_are_refused_as_what_they_are(
    tmp_path: Path, change: Any, words: str
) -> None:
    path = _saved(tmp_path / "s.npy", change(_noisy()))
    with pytest.raises(DataError, match=words):
        sinogram.read(path, ANGLES)


def test_transmissions_are_read_with_log_and_a_mask_carries_no_data(tmp_path: Path) -> None:
    y = _noisy()
    got = sinogram.read(_saved(tmp_path / "s.npy", np.exp(-y)), ANGLES, log=True)
    np.testing.assert_allclose(got["y"].values[0, 0], y, atol=1e-5)
    sinogram.read(tmp_path / "s.npy", ANGLES, log=False)  # believed
    hole = y.copy()
    hole[5, 20:23] = np.nan
    masked = sinogram.read(_saved(tmp_path / "t.npy", hole), ANGLES, mask=True)
    assert np.isinf(masked["noise_sd"].values[0]).sum() == 3
    assert np.isinf(masked["noise_sd"].values[0][5, 20:23]).all()
    assert np.isfinite(masked["y"]).all()


def test_a_noise_far_from_the_scatter_is_doubted(tmp_path: Path) -> None:
    path = _saved(tmp_path / "s.npy", _noisy())
    assert "times the stated noise" in told(sinogram.read(path, ANGLES, noise_sd=10.0))
    assert told(sinogram.read(path, ANGLES)) == ""
    with pytest.raises(DataError, match="noise_sd"):
        sinogram.read(path, ANGLES, noise_sd=0.0)


def test_a_square_sinogram_that_lies_on_its_side_is_seen(tmp_path: Path) -> None:
    y = np.stack([np.interp(np.linspace(0, 47, 60), np.arange(48), row) for row in _noisy()])
    path = _saved(tmp_path / "s.npy", y.T)
    with pytest.raises(DataError, match=r"look exchanged[\s\S]*\['detector', 'angle'\]"):
        sinogram.read(path, ANGLES)
    got = sinogram.read(path, ANGLES, axes=("detector", "angle"))
    np.testing.assert_allclose(got["y"].values[0, 0], y, atol=1e-6)


def test_a_missing_part_of_a_virtual_dataset_is_named(tmp_path: Path) -> None:
    y = _noisy().astype(np.float32)
    layout = h5py.VirtualLayout(y.shape, "f4")
    for i in range(2):
        with h5py.File(tmp_path / f"part{i}.h5", "w") as file:
            file["y"] = y[30 * i : 30 * i + 30]
        source = h5py.VirtualSource(f"part{i}.h5", "y", (30, 48))
        layout[30 * i : 30 * i + 30] = source
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_virtual_dataset("sino", layout)
    got = sinogram.read(tmp_path / "in.h5", ANGLES)
    np.testing.assert_allclose(got["y"].values[0, 0], y)
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(DataError, match=r"virtual dataset is missing[\s\S]*part1.h5"):
        sinogram.read(tmp_path / "in.h5", ANGLES)


def test_chunks_that_were_never_written_are_no_data(tmp_path: Path) -> None:
    y = _noisy().astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("y", y.shape, "f4", chunks=(20, 48))
        array[:40] = y[:40]
        file.create_dataset("empty", y.shape, "f4")
    with pytest.raises(DataError, match="never written"):
        sinogram.read(tmp_path / "a.h5", ANGLES, dataset="y")
    with pytest.raises(DataError, match="never written"):
        sinogram.read(tmp_path / "a.h5", ANGLES, dataset="empty")
    store = zarr.open(tmp_path / "a.zarr", mode="w", shape=y.shape, chunks=(20, 48), dtype="f4")
    store[:] = y
    (tmp_path / "a.zarr" / "c" / "1" / "0").unlink()
    with pytest.raises(DataError, match="Zarr array are missing"):
        sinogram.read(tmp_path / "a.zarr", ANGLES)
    got = sinogram.read(tmp_path / "a.zarr", ANGLES, mask=True)
    assert np.isinf(got["noise_sd"].values[0][20:40]).all()
    assert np.isfinite(got["noise_sd"].values[0][:20]).all()


def test_zarr_2_is_known_without_its_suffix(tmp_path: Path) -> None:
    y = _noisy().astype(np.float32)
    store = zarr.open(
        tmp_path / "sino", mode="w", shape=y.shape, chunks=(20, 48), dtype="f4", zarr_format=2
    )
    store[:] = y
    np.testing.assert_array_equal(sinogram.read(tmp_path / "sino", ANGLES)["y"].values[0, 0], y)


def test_errors_of_whole_hdf5_files_name_their_cause(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.touch()
    for text, words in (
        ("Unable to synchronously open file (unable to lock file)", "HDF5_USE_FILE_LOCKING"),
        ("Can't synchronously read data (required filter is not registered)", "hdf5plugin"),
        ("truncated file: eof = 96", "cut off"),
    ):
        error = hdf5.unreadable(path, OSError(text))
        assert words in str(error.remedy)
    with pytest.raises(DataError, match="larger than can be read"):
        hdf5.check_size((10**6, 10**6), 8, path)


def test_data_in_a_plain_file_outside_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(bytes(48 * 8 * 5))
    path = scan(tmp_path / "a.h5", data_dark=None)
    with h5py.File(path, "r+") as file:
        outside = [(str(tmp_path / "outside"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("exchange/data_dark", (5, 1, 48), "f8", external=outside)
    with pytest.raises(DataError, match="lies in another, plain file"):
        dxchange.read(path)
