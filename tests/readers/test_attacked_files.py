"""Files made to break a reader: sizes that overflow, changed headers, pickles, bombs."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.readers import dxchange, htc2022, kspace, sinogram
from sciinv.readers.parts.looks import warnings_of

from .test_ct_readers import write_dx, write_mat
from .test_kspace import H, W, a_slice, record, write_bart, write_fastmri, write_ismrmrd, xml


def bart(folder: Path, name: str = "b", dims: tuple[int, ...] = (H, W, 1, 4)) -> Path:
    return write_bart(folder / name, a_slice().transpose(1, 2, 0), dims)


@pytest.mark.parametrize("dims", [(2**32, 2**32, 1, 4), (2**62, 4, 1, 4), (-1, W, 1, 4), (0, 0)])
def test_bart_sizes_that_overflow_are_refused(tmp_path: Path, dims: tuple[int, ...]) -> None:
    path = bart(tmp_path, dims=dims)
    with pytest.raises(DataError) as caught:
        kspace.read(path)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["scan.v2", "a.b.c"])
def test_a_bart_name_with_a_dot_is_read(tmp_path: Path, name: str) -> None:
    bart(tmp_path)
    for suffix in (".cfl", ".hdr"):
        os.rename(tmp_path / f"b{suffix}", tmp_path / f"{name}{suffix}")
    for path in (tmp_path / name, tmp_path / f"{name}.cfl", tmp_path / f"{name}.hdr"):
        assert kspace.read(path).sizes["coil"] == 4


def test_coil_maps_of_nothing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice())
    with pytest.raises(DataError, match="coil maps"):
        kspace.read(tmp_path / "k.npy", coil_maps=np.zeros((4, H, W), complex))


def test_a_header_that_is_an_empty_array_is_told(tmp_path: Path) -> None:
    path = write_fastmri(tmp_path / "f.h5", a_slice()[None], None)
    with h5py.File(path, "r+") as file:
        file["ismrmrd_header"] = np.zeros(0, "S10")
    with pytest.raises(DataError) as caught:
        kspace.read(path)
    assert caught.value.remedy
    path = write_ismrmrd(tmp_path / "i.h5", [record(a_slice()[:, 0])], xml(H, W, H, W))
    with h5py.File(path, "r+") as file:
        del file["dataset/xml"]
        file["dataset/xml"] = np.zeros(0, "S10")
    with pytest.raises(DataError) as caught:
        kspace.read(path)
    assert caught.value.remedy


def test_a_reconstructed_field_ten_times_the_k_space_is_told(tmp_path: Path) -> None:
    path = write_fastmri(tmp_path / "f.h5", a_slice()[None], xml(W, H, 10 * W, 10 * H))
    got = kspace.read(path)
    plain = kspace.read(write_fastmri(tmp_path / "g.h5", a_slice()[None], xml(W, H, W, H)))
    same = json.loads(got.attrs["params"]) == json.loads(plain.attrs["params"])
    assert same or warnings_of(got)


BOMBS = {
    "laughs": '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><ismrmrdHeader>&c;'
    "</ismrmrdHeader>",
    "outside": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><ismrmrdHeader>&b;'
    "</ismrmrdHeader>",
    "quadratic": '<!DOCTYPE a [<!ENTITY b "' + 100000 * "x" + '">]><ismrmrdHeader>'
    + 1000 * "&b;" + "</ismrmrdHeader>",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_entities_of_a_header_are_not_followed(tmp_path: Path, bomb: str) -> None:
    began = time.monotonic()
    for path in (
        write_ismrmrd(tmp_path / "i.h5", [record(a_slice()[:, 0])], BOMBS[bomb]),
        write_fastmri(tmp_path / "f.h5", a_slice()[None], BOMBS[bomb]),
    ):
        with pytest.raises(DataError) as caught:
            kspace.read(path)
        assert "root:" not in str(caught.value)
        assert caught.value.remedy
    assert time.monotonic() - began < 5


def test_no_array_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable, tuple]:
            return os.mkdir, (str(tmp_path / "has_run"),)

    held = np.empty((4, H, W), object)
    held[...] = None
    held[0, 0, 0] = Evil()
    np.save(tmp_path / "k.npy", held, allow_pickle=True)
    np.savez(tmp_path / "s.npz", y=held)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Evil()))
    for read, path in (
        (kspace.read, "k.npy"), (kspace.read, "p.npy"), (sinogram.read, "k.npy"),
        (sinogram.read, "p.npy"), (sinogram.read, "s.npz"),
    ):  # fmt: skip
        options: dict[str, Any] = {"angles": np.arange(4.0)} if read is sinogram.read else {}
        with pytest.raises(DataError):
            read(tmp_path / path, **options)
    assert not (tmp_path / "has_run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"pixelSizePost": "small"}, {"pixelSizePost": np.ones(3)}, {"pixelSizePost": 1 + 2j},
        {"distanceSourceOrigin": np.zeros(0)}, {"angles": "many"}, {"angles": np.ones((37, 2))},
        {"numDetectorsPost": "x"}, {"distanceSourceDetector": np.nan},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_of_a_challenge_scan_that_are_no_numbers_are_told(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(DataError) as caught:
        htc2022.read(write_mat(tmp_path / "a.mat", **change))
    assert caught.value.remedy


def test_angles_of_a_challenge_scan_in_radians_are_seen(tmp_path: Path) -> None:
    good = htc2022.read(write_mat(tmp_path / "a.mat"))
    turn = np.linspace(0, 2 * np.pi, 37)
    path = write_mat(tmp_path / "b.mat", angles=turn)
    with pytest.raises(DataError, match="look like radians"):
        htc2022.read(path)
    got = htc2022.read(path, angle_unit="radians")
    np.testing.assert_allclose(got["angles"], np.linspace(0, 360, 37), atol=1e-4)
    assert good.sizes == got.sizes


@pytest.mark.parametrize("value", ["text", np.zeros(0), np.zeros(1), -1.0, np.nan, "group"])
def test_a_detector_pitch_that_is_none_is_told(tmp_path: Path, value: Any) -> None:
    path = write_dx(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        if isinstance(value, str) and value == "group":
            file.create_group(dxchange._PIXEL)
        else:
            file[dxchange._PIXEL] = value
            file[dxchange._PIXEL].attrs["units"] = "um"
    if isinstance(value, str) and value == "group":
        dxchange.read(path)
        return
    with pytest.raises(DataError, match="detector_mm"):
        dxchange.read(path)
    assert json.loads(dxchange.read(path, detector_mm=0.5).attrs["params"])["detector_mm"] == 0.5


def test_exchange_that_is_no_group_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exchange"] = np.ones(3)
    with pytest.raises(DataError, match="exchange/data"):
        dxchange.read(tmp_path / "a.h5")


def test_counts_of_373_gib_that_the_file_does_not_hold_are_refused(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["exchange/data"]
        file.create_dataset("exchange/data", (500000, 200, 2000), "u2", chunks=(1, 1, 2000))
    with pytest.raises(DataError):
        dxchange.read(path)


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_hdf5_whose_headers_were_changed_ends_in_a_data_error(tmp_path: Path, keep: float) -> None:
    path = write_dx(tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(int(10 * keep))
    for place in rng.integers(0, 4000, 20):
        content[place] = rng.integers(256)
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):  # anything else is a traceback of a user's
        dxchange.read(path)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_an_image_of_no_pixels_is_refused(tmp_path: Path, size: Any) -> None:
    np.save(tmp_path / "s.npy", np.ones((60, 48)))
    for read in (
        lambda: htc2022.read(write_mat(tmp_path / "a.mat"), image_size=size),
        lambda: dxchange.read(write_dx(tmp_path / "a.h5"), image_size=size),
        lambda: sinogram.read(tmp_path / "s.npy", np.arange(60) * 3.0, image_size=size),
    ):
        with pytest.raises(DataError, match="image_size"):
            read()


def test_two_hundred_coils_are_refused_before_their_maps_are_computed(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.tile(a_slice(0), (50, 1, 1)))
    began = time.process_time()
    with pytest.raises(DataError, match=r"more coils than[\s\S]*at most 128"):
        kspace.read(tmp_path / "k.npy", axes=("coil", "ky", "kx"))
    assert time.process_time() - began < 10
