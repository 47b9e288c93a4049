"""The reader of a file is told by its content, whatever its name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.cli import REPO

from sciinv import readers
from sciinv.errors import DataError
from sciinv.readers.parts.angles_beside import options_of

SHIPPED = {
    "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits": "uvfits",
    "data/ct/htc2022_ta_full.mat": "htc2022",
    "data/ct/tooth.h5": "dxchange",
    "data/mri/cartesian_ksp.npy": "kspace",
}


@pytest.mark.parametrize(("path", "reader"), SHIPPED.items())
def test_shipped_files_are_known(path: str, reader: str) -> None:
    assert readers.guess(REPO / path) == reader


@pytest.mark.parametrize(("path", "reader"), SHIPPED.items())
def test_name_does_not_matter(path: str, reader: str, tmp_path: Path) -> None:
    shutil.copy(REPO / path, tmp_path / "scan.dat")
    assert readers.guess(tmp_path / "scan.dat") == reader


def test_arrays_are_told_by_their_numbers(tmp_path: Path) -> None:
    sinogram, kspace = np.ones((9, 5), "f4"), np.ones((2, 6, 5), "c8")
    np.savez(tmp_path / "a.npz", sinogram=sinogram)
    np.save(tmp_path / "a.npy", sinogram)
    np.save(tmp_path / "k.npy", kspace)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = sinogram
        file["angles"] = np.arange(9.0)
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["data"] = kspace
    for suffix in (".cfl", ".hdr"):
        (tmp_path / f"bart{suffix}").write_text("# Dimensions\n6 5 1 2\n")
    for name in ("a.npz", "a.npy", "a.h5"):
        assert readers.guess(tmp_path / name) == "sinogram", name
    for name in ("k.npy", "k.h5", "bart", "bart.cfl", "bart.hdr"):
        assert readers.guess(tmp_path / name) == "kspace", name


def test_folders_of_pages_and_stores(tmp_path: Path) -> None:
    import zarr
    from PIL import Image

    pages = tmp_path / "pages"
    pages.mkdir()
    Image.fromarray(np.ones((4, 5), "f4")).save(pages / "0.tif")
    assert readers.guess(pages) == "sinogram"
    assert readers.guess(pages / "0.tif") == "sinogram"
    zarr.save_array(tmp_path / "a.zarr", np.ones((4, 5)))
    assert readers.guess(tmp_path / "a.zarr") == "sinogram"
    store = zarr.open_group(tmp_path / "m.zarr", mode="w", attributes={"operator": "ct"})
    store.create_array("y", data=np.ones((1, 4)))
    assert readers.guess(tmp_path / "m.zarr") == "store"


def test_image_in_fits_is_no_visibilities(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(np.ones((4, 5), "f4")).writeto(tmp_path / "image.fits")
    with pytest.raises(DataError, match="No reader knows"):
        readers.guess(tmp_path / "image.fits")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY"])
def test_what_nobody_knows_is_told_with_its_first_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scan.raw"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        readers.guess(path)
    assert "--reader" in str(caught.value)
    with pytest.raises(DataError, match="not there"):
        readers.guess(tmp_path / "none.h5")


def test_a_sinogram_of_matlab_is_read_with_the_angles_beside_it(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    rays = np.random.default_rng(0).normal(1, 0.1, (20, 12)).astype("f4")
    turn = np.linspace(0, np.pi, 12, endpoint=False)[:, None]
    path = tmp_path / "scan.mat"
    scipy_io.savemat(path, {"Detectors": 20, "anglesRad": turn, "sino": rays})
    assert readers.guess(path) == "sinogram"
    options = options_of(path)
    assert options["dataset"] == "sino"
    assert options["axes"] == ["detector", "angle"]
    assert options["angle_unit"] == "radians"
    data = readers.find("sinogram")(path, noise_sd=0.1, **options)
    assert np.array_equal(data["y"].values[0, 0], rays.T)
    assert np.allclose(data["angles"].values, np.degrees(turn[:, 0]))


def test_files_of_other_programs_are_told_how_they_become_readable(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.uvh5", "w") as file:
        file["Header/version"] = "1.0"
        file["Data/visdata"] = np.zeros((4, 2, 1), np.complex64)
    with h5py.File(tmp_path / "a.nx", "w") as file:
        file["entry/instrument/detector/image_key"] = np.zeros(4, int)
        file["entry/instrument/detector/data"] = np.zeros((4, 2, 2))
    (tmp_path / "a.ms").mkdir()
    (tmp_path / "a.ms/table.dat").touch()
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    words = {"a.uvh5": "write_uvfits", "a.nx": "exchange/data", "a.ms": "exportuvfits"}
    for name, word in {**words, "a.dcm": "sciinv train"}.items():
        with pytest.raises(DataError) as caught:
            readers.guess(tmp_path / name)
        assert word in str(caught.value.remedy)


def test_a_file_that_another_program_writes_is_told_as_locked(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", locking=True) as file:
        file["exchange/data"] = np.zeros((2, 1, 4))
        file.flush()
        command = [
            sys.executable,
            "-c",
            f"from sciinv import readers; readers.guess({str(path)!r})",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    assert "HDF5_USE_FILE_LOCKING" in done.stderr


def test_the_working_directory_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="No reader knows"):
        readers.guess(Path())
