"""k-space readers on synthetic files of every format, on the shipped data, and on bad files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv import store
from sciinv.errors import DataError
from sciinv.operators.from_store import from_measurement
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.readers import kspace

COILS, H, W = 4, 48, 40
NOISE = 0.03


def to_kspace(image: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(image, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def to_image(k: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(k, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def an_image(h: int = H, w: int = W) -> np.ndarray:
    """A smooth object that is no mirror image of itself, in the middle half of the rows."""
    y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (h, w)), indexing="ij")
    blob = np.exp(-((y / 7.0) ** 2) - (x / 10.0) ** 2)
    return blob + 0.7 * np.exp(-(((y - 5) / 3.0) ** 2) - ((x + 6) / 3.0) ** 2)


def a_slice(seed: int = 0, h: int = H, w: int = W, coils: int = COILS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (coils, h, w)
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    maps = mri_coils.simulate_maps(coils, (h, w))
    return (to_kspace(an_image(h, w) * maps * (1 + seed)) + NOISE * noise).astype(np.complex64)


def xml(h: int, w: int, rows: int, columns: int, trajectory: str = "cartesian", z: int = 1) -> str:
    """A header of a scan whose readout is x: encoded w × h, reconstructed columns × rows."""

    def space(nx: int, ny: int) -> str:
        return (
            f"<matrixSize><x>{nx}</x><y>{ny}</y><z>{z}</z></matrixSize>"
            f"<fieldOfView_mm><x>{2 * nx}</x><y>{3 * ny}</y><z>5</z></fieldOfView_mm>"
        )

    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace>{space(w, h)}</encodedSpace><reconSpace>{space(columns, rows)}</reconSpace>"
        f"<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{h - 1}</maximum>"
        f"<center>{h // 2}</center></kspace_encoding_step_1></encodingLimits>"
        f"<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"
    )


def write_fastmri(path: Path, volume: np.ndarray, header: str | None, **extra: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = volume
        if header is not None:
            file["ismrmrd_header"] = header
        for name, value in extra.items():
            file[name] = value
    return path


COUNTERS = [
    *((n, "<u2") for n in ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice")),
    *((n, "<u2") for n in ("contrast", "phase", "repetition", "set", "segment")),
    ("user", "<u2", (8,)),
]
HEAD = np.dtype(
    [
        ("flags", "<u8"),
        ("number_of_samples", "<u2"),
        ("active_channels", "<u2"),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("sample_time_us", "<f4"),
        ("idx", np.dtype(COUNTERS)),
    ]
)
RECORD = np.dtype([("head", HEAD), ("data", h5py.vlen_dtype(np.float32))])


def record(line: np.ndarray, ky: int = 0, item: int = 0, flags: int = 0, **counters: int):
    row = np.zeros(1, RECORD)
    head = row["head"][0]
    head["flags"], head["sample_time_us"] = flags, 10.0
    head["active_channels"], head["number_of_samples"] = line.shape
    head["center_sample"] = line.shape[1] // 2
    head["idx"]["kspace_encode_step_1"], head["idx"]["slice"] = ky, item
    for name, value in counters.items():
        head["idx"][name] = value
    row["head"][0] = head
    row["data"][0] = line.astype(np.complex64).reshape(-1).view(np.float32)
    return row


def write_ismrmrd(path: Path, rows: list[np.ndarray], header: str) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dataset/data", shape=(len(rows),), dtype=RECORD)
        for i, row in enumerate(rows):
            data[i] = row[0]
        file["dataset"].create_dataset("xml", data=np.array([header], dtype=object),
                                       dtype=h5py.string_dtype())  # fmt: skip
    return path


def write_bart(path: Path, array: np.ndarray, dims: tuple[int, ...]) -> Path:
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, dims))}\n")
    array.astype(np.complex64).flatten("F").tofile(path.with_suffix(".cfl"))
    return path


def raw(dataset: object, item: int = 0) -> np.ndarray:
    """k-space on the full grid in the file's units, through the operator's own unpacking."""
    physics, y = from_measurement(dataset, item)
    return physics.unpack(y)[0].numpy() * float(dataset["scale"][item])


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max())  # float32


def test_npy_comes_back_scaled(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice())
    got = kspace.read(tmp_path / "k.npy")
    assert_same(raw(got), a_slice())
    assert got["y"].dims == ("item", "part", "coil", "sample")
    assert got.attrs["operator"] == "mri"
    assert json.loads(got.attrs["params"])["pixel_mm"] is None  # the file does not say it
    assert kspace.items(tmp_path / "k.npy") == 1


def test_unmeasured_samples_are_not_in_the_measurement(tmp_path: Path) -> None:
    mask = mri_masks.poisson_disc((H, W), 3, calibration=16)
    np.save(tmp_path / "k.npy", a_slice() * mask)
    got = kspace.read(tmp_path / "k.npy")
    np.testing.assert_array_equal(got["mask"], mask)
    assert got.sizes["sample"] == mask.sum()
    assert_same(raw(got), a_slice() * mask)


def test_noise_and_scale_of_the_simulated_scan_are_found(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice())
    got = kspace.read(tmp_path / "k.npy")
    # A smooth object leaves pure noise beyond half of k-space: 4 · 500 samples, error 2 %.
    assert float(got["noise_sd"][0] * got["scale"][0]) == pytest.approx(NOISE, rel=0.06)
    physics, y = from_measurement(got)
    image = physics.classical(y)["CG-SENSE"][0]
    magnitude = np.hypot(*image.numpy())
    assert np.quantile(magnitude, 0.99) == pytest.approx(1.0, rel=1e-3)
    truth = an_image() / np.quantile(an_image(), 0.99)
    # noise of 3 % of the object's maximum per component, and its ESPIRiT maps
    assert np.sqrt(np.mean((magnitude - truth) ** 2)) < 0.06


def test_items_of_a_file_share_a_scale_unless_each_asks_for_its_own(tmp_path: Path) -> None:
    volume = np.stack([a_slice(0), a_slice(1), a_slice(2)])
    np.save(tmp_path / "k.npy", volume)
    assert kspace.items(tmp_path / "k.npy") == 3
    shared = kspace.read(tmp_path / "k.npy", [2, 0])
    middle = kspace.read(tmp_path / "k.npy", 1)
    np.testing.assert_array_equal(shared["scale"], float(middle["scale"][0]))
    assert_same(raw(shared, 0), volume[2])
    assert float(kspace.read(tmp_path / "k.npy", 0, scale=2.5)["scale"][0]) == 2.5
    got = kspace.read(tmp_path / "k.npy", [2, 0], scale="slice")
    assert got["item"].values.tolist() == [2, 0]
    assert float(got["scale"][0]) == pytest.approx(3 * float(got["scale"][1]), rel=0.05)
    assert_same(raw(got, 0), volume[2])
    assert_same(raw(got, 1), volume[0])
    assert kspace.read(tmp_path / "k.npy", None).sizes["item"] == 3


def test_given_noise_maps_and_further_undersampling_are_used(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice())
    maps = mri_coils.simulate_maps(COILS, (H, W))
    mask = mri_masks.random_lines((H, W), 3, 0.2)
    got = kspace.read(
        tmp_path / "k.npy", mask=mask, coil_maps=maps, noise_sd=0.5, pixel_mm=(2.0, 1.5)
    )
    assert_same(raw(got), a_slice() * mask)
    physics, _ = from_measurement(got)
    np.testing.assert_allclose(physics.coil_maps, maps, atol=1e-6)
    assert float(physics.noise_model.sigma) * float(got["scale"][0]) == pytest.approx(0.5)
    assert physics.image_spec.y[1] - physics.image_spec.y[0] == 2.0
    assert got.attrs["noise"] == "noise sd given by the user"


def test_measurement_store_keeps_everything(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.stack([a_slice(0), a_slice(1)]))
    got = kspace.read(tmp_path / "k.npy", None)
    store.write_measurement(got, tmp_path / "m.zarr")
    back = store.open_measurement(tmp_path / "m.zarr")
    for item in range(2):
        assert_same(raw(back, item), raw(got, item))


@pytest.mark.parametrize("name", [None, "scans/raw"])
def test_plain_hdf5_finds_its_complex_array(tmp_path: Path, name: str | None) -> None:
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["scans/raw"] = np.stack([a_slice(0), a_slice(1)])
        file["times"] = np.arange(3.0)
        if name is not None:
            file["scans/other"] = np.zeros((2, 3, 4), complex)
    assert_same(raw(kspace.read(tmp_path / "k.h5", 1, dataset=name)), a_slice(1))


def test_fastmri_removes_readout_oversampling(tmp_path: Path) -> None:
    # rows are the readout: twice as many as reconstructed
    volume = np.stack([a_slice(0), a_slice(1)])
    header = xml(W, H, W, H // 2)
    path = write_fastmri(tmp_path / "f.h5", volume, header)
    got = kspace.read(path, 1)
    image = to_image(raw(got))
    assert image.shape == (COILS, H // 2, W)
    assert_same(image, to_image(volume[1])[:, H // 4 : -H // 4])
    assert json.loads(got.attrs["params"])["pixel_mm"] == [2.0, 3.0]
    assert kspace.items(path) == 2
    # white noise keeps its sd under crop and orthonormal DFT
    assert float(got["noise_sd"][0] * got["scale"][0]) == pytest.approx(NOISE, rel=0.1)


def test_fastmri_undersampled_lines_and_single_coil(tmp_path: Path) -> None:
    mask = mri_masks.random_lines((H, W), 3, 0.3)
    header = xml(W, H, W, H // 2)
    path = write_fastmri(tmp_path / "f.h5", a_slice(coils=1) * mask, header)
    got = kspace.read(path)
    np.testing.assert_array_equal(got["mask"], mask[: H // 2])
    assert got.sizes["coil"] == 1
    physics, _ = from_measurement(got)
    assert (physics.coil_maps == 1).all()


def test_fastmri_reference_is_its_reconstruction_over_the_scale(tmp_path: Path) -> None:
    volume = a_slice()[None]
    reference = np.linalg.norm(to_image(volume), axis=1)
    path = write_fastmri(tmp_path / "f.h5", volume, xml(W, H, W, H), reconstruction_rss=reference)
    got = kspace.read(path)
    physics, y = from_measurement(got)
    image = np.hypot(*physics.classical(y)["CG-SENSE"][0].numpy())
    # root sum of squares has a noise bias that SENSE has not; the object's maximum is about 1.4
    assert np.abs(got["reference"][0].values - image).max() < 0.2


def test_ismrmrd_places_lines_averages_and_skips_what_is_no_image(tmp_path: Path) -> None:
    first, second = a_slice(0), a_slice(1)
    rows = [record(first[:, 0] * 9, 3, flags=1 << 23)]  # a phase-correction line
    for ky in list(range(0, H, 2)) + list(range(1, H, 2)):
        rows.append(record(first[:, ky] * 0.5, ky, average=0))
        rows.append(record(first[:, ky] * 1.5, ky, average=1))
        rows.append(record(second[:, ky], ky, item=7, repetition=0))
        rows.append(record(first[:, ky] * 5, ky, item=7, repetition=1))
    path = write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W))
    assert kspace.items(path) == 2
    got = kspace.read(path, None)
    assert_same(raw(got, 0), first)
    assert_same(raw(got, 1), second)
    assert json.loads(got.attrs["params"])["pixel_mm"] == [3.0, 2.0]


def test_ismrmrd_oversampling_partial_echo_and_reversed_lines(tmp_path: Path) -> None:
    k = a_slice()
    flipped = 1 << 21
    rows = []
    for ky in range(H):
        line = k[:, ky][:, ::-1] if ky % 2 else k[:, ky]
        rows.append(record(line, ky, flags=flipped if ky % 2 else 0))
    got = kspace.read(write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W // 2)))
    assert_same(to_image(raw(got)), to_image(k)[:, :, W // 4 : -W // 4])
    partial = [record(k[:, ky, 6:], ky) for ky in range(H)]
    for row in partial:
        row["head"]["center_sample"] = W // 2 - 6
    got = kspace.read(write_ismrmrd(tmp_path / "p.h5", partial, xml(H, W, H, W)))
    expected = k.copy()
    expected[:, :, :6] = 0
    assert_same(raw(got), expected)


@pytest.mark.parametrize("depth", [5, 6])
def test_ismrmrd_volumes_are_cut_into_slices(depth: int, tmp_path: Path) -> None:
    """Two slabs, two averages, two more partitions encoded than reconstructed."""
    slabs = [np.stack([a_slice(depth * s + z) for z in range(depth)], axis=1) for s in range(2)]
    rows = []
    for s, volume in enumerate(slabs):  # [coil, z, ky, kx]
        shifted = np.fft.fft(np.fft.ifftshift(volume, axes=1), axis=1, norm="ortho")
        k = np.fft.fftshift(shifted, axes=1)
        for kz in range(depth):
            for ky in range(H):
                step = {"item": s, "kspace_encode_step_2": kz}
                rows += [record(k[:, kz, ky] * a, ky, average=i, **step) for i, a in
                         enumerate((0.5, 1.5))]  # fmt: skip
    header = xml(H, W, H, W, z=depth).replace(
        f"<z>{depth}</z></matrixSize><fieldOfView_mm><x>{2 * W}</x><y>{3 * H}</y><z>5</z>"
        "</fieldOfView_mm></reconSpace>",
        f"<z>{depth - 2}</z></matrixSize><fieldOfView_mm><x>{2 * W}</x><y>{3 * H}</y><z>5</z>"
        "</fieldOfView_mm></reconSpace>",
    )
    path = write_ismrmrd(tmp_path / "v.h5", rows, header)
    kept = depth - 2
    assert kspace.items(path) == 2 * kept
    first = depth // 2 - kept // 2
    for item in (0, kept - 1, 2 * kept - 1):
        got = kspace.read(path, item, noise_sd=NOISE)
        assert_same(raw(got), slabs[item // kept][:, first + item % kept])
        assert got.attrs["title"].endswith(f"partition {item % kept}")


def test_ismrmrd_noise_scan_prewhitens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixing = 0.02 * (np.eye(COILS) + 0.5 * rng.standard_normal((COILS, COILS)))
    maps = mri_coils.simulate_maps(COILS, (H, W))

    def noise(count: int) -> np.ndarray:
        shape = (COILS, count)
        return mixing @ (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))

    k = to_kspace(an_image() * maps) + noise(H * W).reshape(COILS, H, W)
    scan = record(noise(4000) * 0.5, flags=1 << 18)
    scan["head"]["sample_time_us"] = 40.0  # a quarter of the bandwidth: half of the noise sd
    rows = [scan] + [record(k[:, ky], ky) for ky in range(H)]
    got = kspace.read(write_ismrmrd(tmp_path / "i.h5", rows, xml(H, W, H, W)))
    assert got.attrs["noise"].startswith("coils prewhitened")
    white = raw(got)
    assert float(got["noise_sd"][0] * got["scale"][0]) == pytest.approx(1.0)
    outer = np.zeros((H, W), bool)
    outer[:8] = outer[-8:] = True
    sample = white[:, outer]
    covariance = sample @ sample.conj().T / (2 * outer.sum())
    # 640 samples and a scan of 4,000: 4 % per entry, four times that allowed
    np.testing.assert_allclose(covariance, np.eye(COILS), atol=0.17)


def test_ismrmrd_of_the_reference_library(tmp_path: Path) -> None:
    ismrmrd = pytest.importorskip("ismrmrd", reason="the ismrmrd package is not installed")
    k = a_slice()
    data = ismrmrd.Dataset(str(tmp_path / "i.h5"), "dataset", create_if_needed=True)
    data.write_xml_header(xml(H, W, H, W).encode())
    rng = np.random.default_rng(0)
    for ky in range(-1, H):
        acquisition = ismrmrd.Acquisition()
        acquisition.resize(W, COILS)
        acquisition.center_sample = W // 2
        acquisition.sample_time_us = 5.0
        if ky < 0:
            acquisition.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            noise = rng.standard_normal((2, COILS, W))
            acquisition.data[:] = noise[0] + 1j * noise[1]
        else:
            acquisition.idx.kspace_encode_step_1 = ky
            acquisition.data[:] = k[:, ky]
        data.append_acquisition(acquisition)
    data.close()
    got = kspace.read(tmp_path / "i.h5", noise_sd=NOISE)
    assert_same(raw(got), k)
    assert kspace.read(tmp_path / "i.h5").attrs["noise"].startswith("coils prewhitened")


def test_bart_pair_with_slices(tmp_path: Path) -> None:
    volume = np.stack([a_slice(0), a_slice(1)])  # [slice, coil, y, x]
    dims = (H, W, 1, COILS, *(1,) * 9, 2)
    array = volume.transpose(2, 3, 1, 0)
    path = write_bart(tmp_path / "b", array, dims)
    assert kspace.items(path) == 2
    for name in ("b", "b.cfl", "b.hdr"):
        assert_same(raw(kspace.read(tmp_path / name, 1)), volume[1])
    write_bart(tmp_path / "p", volume[0].transpose(1, 2, 0), (1, H, W, COILS))
    assert_same(raw(kspace.read(tmp_path / "p.cfl")), volume[0])


@pytest.mark.skipif(shutil.which("bart") is None, reason="the BART toolbox is not installed")
def test_bart_has_the_same_fourier_transform(tmp_path: Path) -> None:
    subprocess.run(["bart", "phantom", "-s4", "-k", "-x64", "k"], cwd=tmp_path, check=True)
    subprocess.run(["bart", "fft", "-u", "-i", "3", "k", "x"], cwd=tmp_path, check=True)
    maps = np.ones((4, 64, 64), complex)
    got = raw(kspace.read(tmp_path / "k", coil_maps=maps, noise_sd=1.0))
    flat = np.fromfile(tmp_path / "x.cfl", np.complex64)
    theirs = flat.reshape((64, 64, 4), order="F").transpose(2, 0, 1)
    assert_same(to_image(got), theirs)


def test_shipped_brain_is_read_sensibly(repo: Path) -> None:
    got = kspace.read(repo / "data/mri/cartesian_ksp.npy")
    assert dict(got.sizes) | {"item": 1, "coil": 8, "row": 230, "column": 180} == dict(got.sizes)
    assert float(got["mask"].mean()) == pytest.approx(0.124, abs=0.001)
    # all power at the edge of k-space is a standard deviation of 0.0125 in the file's units
    assert 0.009 < float(got["noise_sd"][0] * got["scale"][0]) < 0.0125
    physics, y = from_measurement(got)
    zero_filled, sense = (np.hypot(*v[0].numpy()) for v in physics.classical(y).values())
    assert np.quantile(sense, 0.99) == pytest.approx(1.0, rel=1e-3)
    # an oval head in the middle, dark air in the corners
    air = np.concatenate([sense[:20, :20], sense[-20:, -20:]])
    assert np.median(air) < 0.1 < np.median(sense[90:140, 60:120])
    # sharper than zero-filling
    edges = [np.abs(np.diff(v, axis=0)).mean() for v in (zero_filled, sense)]
    assert edges[1] > 1.5 * edges[0]


def bad_npy(path: Path, values: np.ndarray) -> Path:
    np.save(path / "k.npy", values)
    return path / "k.npy"


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def with_value(value: complex) -> np.ndarray:
    k = a_slice()
    k[1, 2, 3] = value
    return k


def no_header_number(path: Path) -> Path:
    header = xml(W, H, W, H).replace("<reconSpace>", "<other>").replace("</reconSpace>", "</other>")
    return write_fastmri(path / "f.h5", a_slice()[None], header)


def short_line(path: Path) -> Path:
    row = record(a_slice()[:, 0])
    row["head"]["number_of_samples"] = W + 1
    return write_ismrmrd(path / "i.h5", [row], xml(H, W, H, W))


def scan(path: Path, **change: object) -> Path:
    rows = [record(a_slice()[:, ky], ky) for ky in range(H)]
    return write_ismrmrd(path / "i.h5", rows, xml(H, W, H, W, **change))


def plain_hdf5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path / "k.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path / "k.h5"


def text(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def bart_cut(path: Path) -> Path:
    write_bart(path / "b", a_slice().transpose(1, 2, 0), (H, W, 1, COILS))
    return cut(path / "b.cfl", 0.9)


def without_centre() -> np.ndarray:
    k = a_slice()
    k[:, ::2] = 0
    return k


def cut_hdf5(path: Path) -> Path:
    return cut(write_fastmri(path / "f.h5", np.stack([a_slice()] * 4), xml(W, H, W, H)), 0.5)


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda p: p / "none.npy", "not there"),
    "unknown format": (lambda p: text(p, "k.dat", b"x"), "format is not known"),
    "npy of another kind": (lambda p: text(p, "k.npy", b"not numpy at all"), "cannot be read"),
    "npy cut off": (lambda p: cut(bad_npy(p, a_slice()), 0.5), "cannot be read"),
    "npy of objects": (lambda p: bad_npy(p, np.array([{}], dtype=object)), "cannot be read"),
    "real numbers": (lambda p: bad_npy(p, a_slice().real), "not complex"),
    "NaN": (lambda p: bad_npy(p, with_value(np.nan)), "not finite"),
    "infinity": (lambda p: bad_npy(p, with_value(np.inf)), "not finite"),
    "nothing but zeros": (lambda p: bad_npy(p, 0 * a_slice()), "nothing but zeros"),
    "no coils": (lambda p: bad_npy(p, a_slice()[:0]), "wrong shape"),
    "two dimensions": (lambda p: bad_npy(p, a_slice()[0]), "wrong shape"),
    "no calibration region": (lambda p: bad_npy(p, without_centre()), "no calibration region"),
    "HDF5 of another kind": (
        lambda p: text(p, "k.h5", b"not HDF5 at all"),
        "HDF5 file cannot be read",
    ),
    "HDF5 cut off": (cut_hdf5, "HDF5 file cannot be read"),
    "HDF5 without k-space": (lambda p: plain_hdf5(p, image=np.ones((9, 9))), "which array"),
    "HDF5 with two": (lambda p: plain_hdf5(p, a=a_slice(), b=a_slice()), "which array"),
    "fastMRI without k-space": (
        lambda p: plain_hdf5(p, reconstruction_rss=np.ones((2, 9, 9))),
        "holds no k-space",
    ),
    "fastMRI header without numbers": (no_header_number, "lacks a number"),
    "fastMRI header of another kind": (
        lambda p: write_fastmri(p / "f.h5", a_slice()[None], "<broken"),
        "no XML",
    ),
    "ISMRMRD without acquisitions": (
        lambda p: plain_hdf5(p, **{"dataset/xml": "x", "dataset/data": np.ones(3)}),
        "no ISMRMRD acquisitions",
    ),
    "ISMRMRD of noise alone": (
        lambda p: write_ismrmrd(
            p / "i.h5", [record(a_slice()[:, 0], flags=1 << 18)], xml(H, W, H, W)
        ),
        "no imaging acquisitions",
    ),
    "ISMRMRD line shorter than its header": (short_line, "does not match its header"),
    "ISMRMRD line outside of the matrix": (
        lambda p: write_ismrmrd(p / "i.h5", [record(a_slice()[:, 0], ky=H + 5)], xml(H, W, H, W)),
        "outside of the encoded matrix",
    ),
    "ISMRMRD spiral": (lambda p: scan(p, trajectory="spiral"), "no Cartesian one"),
    "ISMRMRD without all partitions": (
        lambda p: write_ismrmrd(
            p / "i.h5",
            [record(a_slice()[:, 0], kspace_encode_step_2=kz) for kz in (0, 1)],
            xml(H, W, H, W, z=8),
        ),
        "partitions .* not all measured",
    ),
    "ISMRMRD partition outside of the matrix": (
        lambda p: write_ismrmrd(
            p / "i.h5",
            [record(a_slice()[:, 0], kspace_encode_step_2=kz) for kz in (0, 9)],
            xml(H, W, H, W, z=8),
        ),
        "outside of the encoded matrix",
    ),
    "BART without header": (lambda p: text(p, "b.cfl", b"12345678"), "header is not there"),
    "BART header of another kind": (
        lambda p: text(p, "b.hdr", b"# Dimensions\nfour by four\n"),
        "header cannot be read",
    ),
    "BART cut off": (bart_cut, "does not match its header"),
    "BART in three dimensions": (
        lambda p: write_bart(p / "b", np.ones((4, 4, 4, 2)), (4, 4, 4, 2)),
        "no two-dimensional",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_clear_errors(case: str, tmp_path: Path) -> None:
    make, says = BAD[case]
    path = make(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        kspace.read(path)
    assert caught.value.remedy or caught.value.got


@pytest.mark.parametrize("kind", ["npy", "fastmri", "ismrmrd", "bart"])
def test_damaged_files_never_end_in_another_error(kind: str, tmp_path: Path) -> None:
    path = {
        "npy": lambda: bad_npy(tmp_path, a_slice()),
        "fastmri": lambda: write_fastmri(tmp_path / "f.h5", a_slice()[None], xml(W, H, W, H // 2)),
        "ismrmrd": lambda: scan(tmp_path),
        "bart": lambda: write_bart(
            tmp_path / "b", a_slice().transpose(1, 2, 0), (H, W, 1, COILS)
        ).with_suffix(".hdr"),
    }[kind]()
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(12):
        content = bytearray(good)
        if trial % 4 == 0:
            content = content[: rng.integers(len(good))]
        else:
            for place in rng.integers(0, min(len(good), 3000), 12):
                content[place] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            kspace.read(path)
        except DataError:
            refused += 1
    assert refused >= 3


def test_slices_with_different_masks_are_not_mixed(tmp_path: Path) -> None:
    volume = np.stack([a_slice(0), a_slice(1)])
    volume[1, :, 0] = 0
    np.save(tmp_path / "k.npy", volume)
    with pytest.raises(DataError, match="sampled differently"):
        kspace.read(tmp_path / "k.npy", None)
    kspace.read(tmp_path / "k.npy", 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"item": 3}, "no such item"),
        ({"item": -1}, "no such item"),
        ({"item": []}, "no such item"),
        ({"noise_sd": 0.0}, "noise_sd"),
        ({"mask": np.ones((3, 3), bool)}, "mask does not fit"),
        ({"mask": np.zeros((H, W), bool)}, "mask does not fit"),
        ({"coil_maps": np.ones((COILS, 3, 3), complex)}, "coil maps do not fit"),
    ],
)
def test_wrong_choices_are_clear_errors(change: dict, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", a_slice())
    with pytest.raises(DataError, match=says):
        kspace.read(tmp_path / "k.npy", **change)
