"""k-space as other converters write it: whose lines, which centre, which grid, whose values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from sciinv.errors import DataError
from sciinv.operators import from_measurement
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.readers import kspace
from sciinv.readers.parts import ismrmrd_lines

from .test_kspace import (
    COILS,
    NOISE,
    H,
    W,
    a_slice,
    assert_same,
    raw,
    record,
    to_image,
    to_kspace,
    write_fastmri,
    write_ismrmrd,
    xml,
)  # fmt: skip

REVERSED, REFERENCE = 1 << 21, 1 << 19


def told(dataset: Any) -> str:
    return " ".join(json.loads(dataset.attrs.get("warnings", "[]")))


def lines(k: np.ndarray, **change: Any) -> list[np.ndarray]:
    return [record(k[:, ky], ky, **change) for ky in range(k.shape[1])]


def with_head(row: np.ndarray, **values: int) -> np.ndarray:
    for name, value in values.items():
        row["head"][name] = value
    return row


def test_samples_that_were_measured_more_often_weigh_more(tmp_path: Path) -> None:
    rows = []
    k = a_slice(0)
    for average, start in enumerate((0, 1, 0)):
        rows += [record(k[:, ky], ky, average=average) for ky in range(start, H, 2)]
    path = write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W))
    got = kspace.read(path, noise_sd=NOISE)
    assert_same(raw(got), a_slice(0))
    sd = (got["noise_sd"] * got["scale"]).values[0].reshape(H, W)
    np.testing.assert_allclose(sd[1::2], NOISE)
    np.testing.assert_allclose(sd[::2], NOISE / np.sqrt(2))
    physics, _ = from_measurement(got)
    assert physics.noise_model.sigma.shape == (1, 1, 1, H * W)
    with pytest.raises(DataError, match="no calibration region"):
        kspace.read(path, counters={"average": 1}, noise_sd=NOISE)
    with pytest.raises(DataError, match="no such average"):
        kspace.read(path, counters={"average": 7})


def test_separate_reference_lines_make_the_maps_and_are_no_data(tmp_path: Path) -> None:
    k, other = a_slice(0), 0.5 * a_slice(0)
    middle = range(H // 2 - 12, H // 2 + 12)
    rows = [record(other[:, ky], ky, flags=REFERENCE) for ky in middle]
    rows += [record(k[:, ky], ky) for ky in range(0, H, 2)]
    header = xml(H, W, H, W)
    path = write_ismrmrd(tmp_path / "i.h5", rows, header)  # known by the lines that repeat
    got = kspace.read(path, noise_sd=NOISE)
    expected = k.copy()
    expected[:, 1::2] = 0
    assert_same(raw(got), expected)
    maps, _ = mri_coils.espirit(np.where(np.isin(np.arange(H), middle)[:, None], other, 0))
    physics, _ = from_measurement(got)
    np.testing.assert_allclose(physics.coil_maps.numpy(), maps, atol=1e-5)
    with pytest.raises(DataError, match="no calibration region"):
        kspace.read(path, noise_sd=NOISE, reference_lines=False)


def test_reversed_lines_have_their_centre_turned_in_each_counting(tmp_path: Path) -> None:
    k = a_slice(0)
    for name, centre in (("standard", W - 1 - W // 2), ("Siemens", W // 2)):
        rows = [
            with_head(record(k[:, ky, ::-1], ky, flags=REVERSED), center_sample=centre)
            if ky % 2
            else record(k[:, ky], ky)
            for ky in range(H)
        ]
        got = kspace.read(write_ismrmrd(tmp_path / f"{name}.h5", rows, xml(H, W, H, W)))
        assert_same(raw(got), k)


def test_reversed_asymmetric_lines_lose_the_samples_that_were_acquired_first(
    tmp_path: Path,
) -> None:
    k, n = a_slice(0), 30
    rows = []
    for ky in range(H):
        line = k[:, ky, W - n :].copy()
        centre = n - W // 2
        if ky % 2 == 0:
            rows.append(with_head(record(line, ky), center_sample=centre))
            continue
        line = line[:, ::-1].copy()
        line[:, :6] = 99.0
        row = with_head(record(line, ky, flags=REVERSED), center_sample=n - 1 - centre)
        rows.append(with_head(row, discard_pre=6))
    got = kspace.read(write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W)), noise_sd=NOISE)
    expected = k.copy()
    expected[:, :, : W - n] = 0
    expected[:, 1::2, W - 6 :] = 0
    assert_same(raw(got), expected)


def test_oversampling_that_the_header_does_not_say_is_seen_and_told(tmp_path: Path) -> None:
    k = a_slice(0)
    wide = np.zeros((COILS, H, 2 * W), complex)
    wide[:, :, W // 2 : W // 2 + W] = to_image(k)
    path = write_ismrmrd(tmp_path / "i.h5", lines(to_kspace(wide)), xml(H, W, H, W))
    got = kspace.read(path, noise_sd=NOISE)
    assert_same(raw(got), k)
    assert "twice the encoded matrix" in told(got)
    assert json.loads(got.attrs["params"])["pixel_mm"] == [3.0, 2.0]
    assert got.attrs["slice_mm"] == 5.0
    more = np.pad(to_kspace(wide), ((0, 0), (0, 0), (0, W)))
    with pytest.raises(DataError, match="outside of the encoded matrix"):
        kspace.read(write_ismrmrd(tmp_path / "j.h5", lines(more), xml(H, W, H, W)))


def test_pixel_is_the_encoded_field_over_the_rows_not_the_interpolated_matrix(
    tmp_path: Path,
) -> None:
    header = xml(H, W, H, W).replace(
        f"<reconSpace><matrixSize><x>{W}</x><y>{H}</y>",
        f"<reconSpace><matrixSize><x>{2 * W}</x><y>{2 * H}</y>",
    )
    got = kspace.read(write_ismrmrd(tmp_path / "i.h5", lines(a_slice(0)), header))
    assert json.loads(got.attrs["params"])["pixel_mm"] == [3.0, 2.0]
    assert_same(raw(got), a_slice(0))
    recon = "<reconSpace><matrixSize><x>48"
    finer = xml(W, H, W, H).replace(recon, f"{recon}0")
    fast = kspace.read(write_fastmri(tmp_path / "f.h5", a_slice(0)[None], finer))
    assert json.loads(fast.attrs["params"])["pixel_mm"] == [2.0, 3.0]


def test_one_partition_of_two_declared_is_a_two_dimensional_scan(tmp_path: Path) -> None:
    path = write_ismrmrd(tmp_path / "i.h5", lines(a_slice(0)), xml(H, W, H, W, z=2))
    got = kspace.read(path)
    assert_same(raw(got), a_slice(0))
    assert "declares 2 partitions" in told(got)
    two = [record(a_slice(0)[:, ky], ky, kspace_encode_step_2=ky % 2) for ky in range(H)]
    with pytest.raises(DataError, match="more partitions than the header"):
        kspace.read(write_ismrmrd(tmp_path / "j.h5", two, xml(H, W, H, W)))


def test_cartesian_is_known_in_capitals(tmp_path: Path) -> None:
    header = xml(H, W, H, W, trajectory=" Cartesian")
    got = kspace.read(write_ismrmrd(tmp_path / "i.h5", lines(a_slice(0)), header))
    assert_same(raw(got), a_slice(0))


def test_first_of_several_contrasts_is_told_and_another_can_be_read(tmp_path: Path) -> None:
    rows = lines(a_slice(0)) + lines(a_slice(1), contrast=1)
    path = write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W))
    assert "holds 2 of the counter contrast" in told(kspace.read(path))
    assert_same(raw(kspace.read(path, counters={"contrast": 1})), a_slice(1))


def test_lines_of_two_encoding_spaces_are_not_mixed(tmp_path: Path) -> None:
    heads = np.zeros(
        4, [*((n, t) for n, t in (("flags", "<u8"), ("encoding_space_ref", "<u2"))),
            ("idx", [(n, "<u2") for n in ("kspace_encode_step_1", "kspace_encode_step_2",
                                          "slice", *ismrmrd_lines.LOOPS)])],
    )  # fmt: skip
    heads["encoding_space_ref"] = [0, 0, 1, 1]
    root = kspace.ismrmrd.parsed_header(xml(H, W, H, W), Path("x"))
    with pytest.raises(DataError, match=r"several encoding spaces[\s\S]*option encoding"):
        ismrmrd_lines.imaging(heads, root, Path("x"), kspace.Choice())
    found = ismrmrd_lines.imaging(heads, root, Path("x"), kspace.Choice(encoding=0))
    assert found.index.tolist() == [0, 1]


@pytest.mark.parametrize("names", [("real", "imag"), ("r", "i")])
def test_complex_numbers_as_two_fields_are_read(tmp_path: Path, names: tuple[str, str]) -> None:
    k = a_slice(0)
    pair = np.zeros(k.shape, [(n, "<f4") for n in names])
    pair[names[0]], pair[names[1]] = k.real, k.imag
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["raw"] = pair[None]
    assert_same(raw(kspace.read(tmp_path / "k.h5")), k)


def test_matlab_5_and_coils_on_the_last_axis_are_read_by_name(tmp_path: Path) -> None:
    k = np.moveaxis(a_slice(0, 80, 72), 0, -1)
    scipy.io.savemat(tmp_path / "k.mat", {"kdata": k, "note": "x"})
    with pytest.raises(DataError, match=r"on the last axis[\s\S]*axes=\('ky', 'kx', 'coil'\)"):
        kspace.read(tmp_path / "k.mat")
    got = kspace.read(tmp_path / "k.mat", axes=("ky", "kx", "coil"))
    assert_same(raw(got), a_slice(0, 80, 72))


@pytest.mark.parametrize(("change", "words"), [
    (lambda k: np.fft.ifftshift(k, axes=(1, 2)), r"not centred[\s\S]*fftshift"),
    (lambda k: np.fft.ifftshift(k, axes=1), "not centred"),
    (lambda k: np.ones_like(k), "constant"),
    (lambda k: np.concatenate([k[:1], 2j * k[:1], k[1:]]), r"copies of each other[\s\S]*coils="),
])  # fmt: skip
def test_k_space_that_cannot_be_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    np.save(tmp_path / "k.npy", change(a_slice(0)).astype(np.complex64))
    with pytest.raises(DataError, match=words):
        kspace.read(tmp_path / "k.npy")


def test_an_image_given_for_k_space_is_doubted(tmp_path: Path) -> None:
    smooth = to_kspace(a_slice(0, 64, 64))
    np.save(tmp_path / "k.npy", smooth.astype(np.complex64))
    assert "looks like images" in told(kspace.read(tmp_path / "k.npy", noise_sd=0.05))


def test_a_dead_coil_is_left_out_and_does_not_lower_the_noise(tmp_path: Path) -> None:
    k = a_slice(0)
    k[2] = 0
    np.save(tmp_path / "k.npy", k)
    got = kspace.read(tmp_path / "k.npy")
    assert "[2] measured nothing" in told(got)
    assert got.sizes["coil"] == COILS - 1
    assert float(got["noise_sd"][0] * got["scale"][0]) == pytest.approx(NOISE, rel=0.08)
    chosen = kspace.read(tmp_path / "k.npy", coils=[0, 3], noise_sd=NOISE)
    assert_same(raw(chosen), k[[0, 3]])
    with pytest.raises(DataError, match="no such coils"):
        kspace.read(tmp_path / "k.npy", coils=[9])


def test_a_noise_scan_of_another_unit_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    noise = NOISE * (rng.standard_normal((COILS, 400)) + 1j * rng.standard_normal((COILS, 400)))
    rows = [record(1e-12 * noise, flags=1 << 18), *lines(a_slice(0))]
    path = write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W))
    with pytest.raises(DataError, match=r"does not fit the k-space[\s\S]*noise_scan=False"):
        kspace.read(path)
    got = kspace.read(path, noise_scan=False)
    assert float(got["noise_sd"][0] * got["scale"][0]) == pytest.approx(NOISE, rel=0.08)


@pytest.mark.parametrize("reference", [
    np.ones((1, H, W), np.float32), np.full((2, H, W), np.nan, np.float32),
    np.ones((2, 2 * H, W), np.float32),
])  # fmt: skip
def test_a_reference_that_does_not_fit_is_left_out(tmp_path: Path, reference: np.ndarray) -> None:
    volume = np.stack([a_slice(0), a_slice(1)])
    path = write_fastmri(tmp_path / "f.h5", volume, None, reconstruction_rss=reference)
    got = kspace.read(path, 1)
    assert "reference" not in got
    assert "left out" in told(got)


def test_exchanged_slices_and_coils_of_fastmri_are_seen_by_the_header(tmp_path: Path) -> None:
    header = xml(W, H, W, H).replace(
        "</encodingLimits>", "<slice><maximum>3</maximum></slice></encodingLimits>"
    )
    volume = np.stack([a_slice(0), a_slice(1)])
    with pytest.raises(DataError, match="look exchanged"):
        kspace.read(write_fastmri(tmp_path / "f.h5", volume, header))


def test_options_that_do_not_fit_the_file_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice(0))
    for options in ({"counters": {"average": 0}}, {"encoding": 1}):
        with pytest.raises(DataError, match="does not fit the file"):
            kspace.read(tmp_path / "k.npy", **options)
    for item in ("all", [], [1.5, "x"]):
        with pytest.raises(DataError, match="no such item"):
            kspace.read(tmp_path / "k.npy", item)
    assert kspace.read(tmp_path / "k.npy", np.int64(0)).sizes["item"] == 1
    mask = mri_masks.random_lines((H, W), 3, 0.3)
    assert kspace.read(tmp_path / "k.npy", mask=mask).sizes["sample"] == mask.sum()
