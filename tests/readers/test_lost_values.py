"""Single values that were lost or damaged: left out, refused, or doubted; never taken for data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.readers import dxchange, htc2022, kspace, sinogram
from sciinv.readers.parts import looks_mri, looks_single
from sciinv.readers.parts.looks import warnings_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
import mutations

ANGLES = np.arange(60) * 3.0


def changed(tmp_path: Path, reader: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    path = mutations.good(reader, tmp_path)
    mutations._arrays(path, change)
    return path


def told(dataset: object) -> str:
    return " ".join(warnings_of(dataset))  # type: ignore[arg-type]


def at(index: tuple[Any, ...], value: complex) -> Callable[[np.ndarray], np.ndarray]:
    def change(a: np.ndarray) -> np.ndarray:
        a = a.copy()
        a[index] = value
        return a

    return change


def test_single_samples_of_a_sinogram_that_stand_out_are_doubted(tmp_path: Path) -> None:
    path = changed(tmp_path, "sinogram", at((30, 25), 3.0))
    assert "view 30, element 25" in told(sinogram.read(path, ANGLES))
    good = mutations.good("sinogram", tmp_path)
    assert told(sinogram.read(good, ANGLES)) == ""


@pytest.mark.parametrize("place", [(0, 20), (59, 20), (30, 0), (30, 47), (0, 0)])
def test_single_samples_at_the_border_are_doubted_too(tmp_path: Path, place: tuple) -> None:
    path = changed(tmp_path, "sinogram", at(place, -2.0))
    assert f"view {place[0]}, element {place[1]}" in told(sinogram.read(path, ANGLES))


def test_a_lost_sample_at_the_rim_of_an_object_is_refused(tmp_path: Path) -> None:
    # the rim: most of the neighbours are in the object, and one at least is in air
    y = np.array(sinogram.read(mutations.good("sinogram", tmp_path), ANGLES)["y"][0, 0])
    inside = np.argwhere((y[30] > 0.2) & (np.roll(y[30], -1) < 0.1)).ravel()
    assert inside.size
    path = changed(tmp_path, "sinogram", at((30, int(inside[0])), 0.0))
    with pytest.raises(DataError, match="exactly 0 amid"):
        sinogram.read(path, ANGLES)


def test_a_line_that_crosses_the_sinogram_diagonally_is_no_spike() -> None:
    # a thin object moves by one element from view to view
    y = np.zeros((20, 20)) + np.eye(20)
    assert not looks_single.spikes(y, np.full_like(y, 0.01)).any()
    y = np.zeros((20, 20))
    y[7, 8] = 1.0
    assert np.argwhere(looks_single.spikes(y, np.full_like(y, 0.01))).tolist() == [[7, 8]]


def test_zeros_amid_line_integrals_are_refused_with_the_option_that_masks_them(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    lost = rng.random((60, 48)) < 0.02
    path = changed(tmp_path, "sinogram", lambda a: np.where(lost, 0, a))
    with pytest.raises(DataError, match="exactly 0 amid") as caught:
        sinogram.read(path, ANGLES)
    assert "mask=True and no_data_value=0" in str(caught.value.remedy)
    got = sinogram.read(path, ANGLES, mask=True, no_data_value=0)
    assert np.array_equal(np.isinf(got["noise_sd"].values[0]), lost)


def test_a_clipped_sinogram_is_read(tmp_path: Path) -> None:
    path = changed(tmp_path, "sinogram", lambda a: np.clip(a, 0, None))
    sinogram.read(path, ANGLES)


def test_damaged_counts_and_those_left_out_are_told(tmp_path: Path) -> None:
    path = changed(tmp_path, "dxchange", at((30, 0, 25), 101))
    assert "view 30, element 25" in told(dxchange.read(path))
    path = changed(tmp_path, "dxchange", at((slice(10, 30), 0, 25), 65535))
    assert "0.7% of the samples hold no value" in told(dxchange.read(path))


def test_a_damaged_value_of_the_challenge_is_told(tmp_path: Path) -> None:
    path = changed(tmp_path, "htc2022", lambda s: at((100, slice(280, 284)), 6.0)(s))
    assert "differ from all their neighbours" in told(htc2022.read(path, linearise=False))


def test_zeros_in_a_scan_of_the_challenge_are_refused(tmp_path: Path) -> None:
    lost = np.random.default_rng(0).random((721, 560)) < 0.05
    path = changed(tmp_path, "htc2022", lambda s: np.where(lost, 0.0, s))
    with pytest.raises(DataError, match="exactly 0 amid"):
        htc2022.read(path)


def test_one_part_of_a_sample_lost_is_a_lost_sample(tmp_path: Path) -> None:
    path = changed(tmp_path, "kspace-npy", lambda k: k.real + 1j * at((1, 7, 3), 0)(k.imag))
    assert np.argwhere(~kspace.read(path)["mask"].values).tolist() == [[7, 3]]


def test_samples_lost_in_one_coil_are_left_out_of_all(tmp_path: Path) -> None:
    path = changed(tmp_path, "kspace-npy", at((2, slice(4, 6), slice(8, 11)), 0))
    got = kspace.read(path)
    assert "6 samples are exactly 0 in some coils" in told(got)
    left_out = np.argwhere(~got["mask"].values)
    assert left_out.tolist() == [[y, x] for y in (4, 5) for x in (8, 9, 10)]
    path = changed(tmp_path, "kspace-npy", at((2, slice(0, 20)), 0))
    with pytest.raises(DataError, match="0 in some coils alone") as caught:
        kspace.read(path)
    assert "option coils" in str(caught.value.remedy)
    assert kspace.read(path, coils=[0, 1, 3]).sizes["coil"] == 3


def test_zeros_of_rounded_k_space_are_data(tmp_path: Path) -> None:
    path = changed(tmp_path, "kspace-npy", lambda k: np.round(k / 0.02) * np.complex64(0.02))
    got = kspace.read(path)
    assert got["mask"].values.all()
    assert "exactly 0" not in told(got)


def test_noise_below_the_rounding_is_doubted(tmp_path: Path) -> None:
    path = changed(tmp_path, "kspace-npy", lambda k: np.round(k / 0.05) * np.complex64(0.05))
    assert "whole multiples of 0.05" in told(kspace.read(path))


def test_spikes_of_the_outer_k_space_are_doubted_fully_sampled_or_not(tmp_path: Path) -> None:
    path = changed(tmp_path, "kspace-npy", at((1, 5, 7), 40 + 30j))
    assert "coil 1 at [5, 7]" in told(kspace.read(path))
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((8, 128, 128)) + 1j * rng.standard_normal((8, 128, 128))
    for keep in (slice(None), slice(None, None, 4)):
        some = np.zeros_like(noise)
        some[:, keep] = noise[:, keep]
        assert looks_mri.spike_doubts(some, tmp_path) == []
        some[3, 4, 9] = 60.0
        assert "coil 3 at [4, 9]" in looks_mri.spike_doubts(some, tmp_path)[0]


def test_fastmri_without_a_header_and_coils_taken_for_slices_are_told(tmp_path: Path) -> None:
    path = mutations.good("fastmri", tmp_path)
    with h5py.File(path, "r+") as file:
        header = file["ismrmrd_header"][()].decode()
        k = file["kspace"][0]
        del file["kspace"], file["ismrmrd_header"]
        file["kspace"] = k
        said = "<acquisitionSystemInformation><receiverChannels>4</receiverChannels>"
        file["ismrmrd_header"] = header.replace(
            "<encoding>", f"{said}</acquisitionSystemInformation><encoding>", 1
        )
    with pytest.raises(DataError, match="slices of the k-space look like coils"):
        kspace.read(path)
    with h5py.File(path, "r+") as file:
        del file["ismrmrd_header"]
        file["reconstruction_rss"] = np.ones((4, 48, 40), np.float32)
    assert "no ismrmrd_header" in told(kspace.read(path))
