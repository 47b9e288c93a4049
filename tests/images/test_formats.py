"""Image files of every format come out as the same slices, unit and pixel, or say why not."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from support.dicom import dicom

from sciinv.errors import ConfigError, DataError
from sciinv.images.collect import Subjects, collect, files_of
from sciinv.images.formats import read
from sciinv.images.formats.base import Options
from sciinv.registry import library

PLAIN = Options()


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, 24, 20)).astype(np.uint8)


class TestRaster:
    def test_png_and_tiff_give_the_stored_values(self, tmp_path, stack):
        from PIL import Image

        deep = (stack[0].astype(np.uint16) * 200).astype(np.uint16)
        Image.fromarray(stack[0]).save(tmp_path / "a.png")
        Image.fromarray(deep).save(tmp_path / "b.tif")
        pages = [Image.fromarray(p.astype(np.float32) / 7) for p in stack]
        pages[0].save(tmp_path / "c.tiff", save_all=True, append_images=pages[1:])
        assert np.array_equal(read(tmp_path / "a.png", PLAIN).values[0], stack[0])
        assert np.array_equal(read(tmp_path / "b.tif", PLAIN).values[0], deep)
        assert np.array_equal(read(tmp_path / "c.tiff", PLAIN).values, stack.astype("f4") / 7)

    def test_colour_is_refused_unless_it_is_grey(self, tmp_path, stack):
        from PIL import Image

        grey = np.stack([stack[0]] * 3, -1)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        assert np.array_equal(read(tmp_path / "grey.png", PLAIN).values[0], stack[0])
        Image.fromarray(np.stack([stack[0], stack[1], stack[2]], -1)).save(tmp_path / "rgb.png")
        with pytest.raises(DataError, match="in colour"):
            read(tmp_path / "rgb.png", PLAIN)

    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        with pytest.raises(DataError, match=r"cannot be read[\s\S]*a\.png"):
            read(tmp_path / "a.png", PLAIN)


class TestNifti:
    def test_slices_stand_upright_whatever_the_storage(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        ras = np.arange(4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3)  # right, anterior, superior
        turned = np.flip(ras, 0).transpose(2, 0, 1)  # superior, left, anterior
        affine = np.zeros((4, 4))
        affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 3.0, -1.0, 2.0, 1.0
        nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "a.nii.gz")
        found = read(tmp_path / "a.nii.gz", PLAIN)
        assert found.values.shape == (3, 5, 4)
        assert found.pixel == (2.0, 1.0)
        assert found.values[1, 0, 2] == ras[2, 4, 1]  # the first row is the front
        sagittal = read(tmp_path / "a.nii.gz", Options(axis="sagittal"))
        assert sagittal.values.shape == (4, 3, 5)
        assert sagittal.values[2, 0, 1] == ras[2, 1, 2]  # the first row is the top

    def test_a_time_series_and_an_unknown_axis_are_refused(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(
            nibabel.Nifti1Image(np.ones((4, 4, 4, 2), "f4"), np.eye(4)), tmp_path / "a.nii"
        )
        with pytest.raises(DataError, match="no single volume"):
            read(tmp_path / "a.nii", PLAIN)
        with pytest.raises(ConfigError, match="axial"):
            read(tmp_path / "a.nii", Options(axis="oblique"))


class TestDicom:
    def test_hounsfield_units_spacing_and_patient(self, tmp_path, stack):
        path = dicom(tmp_path / "x", stack[0], RescaleSlope=2, RescaleIntercept=-1024)
        found = read(path, PLAIN)
        assert np.array_equal(found.values[0], stack[0] * 2.0 - 1024)
        assert (found.units, found.pixel, found.subject) == ("HU", (0.5, 0.75), "p7")

    def test_a_report_holds_no_pixel_data(self, tmp_path):
        with pytest.raises(DataError, match="no pixel data"):
            read(dicom(tmp_path / "sr.dcm", None), PLAIN)


class TestArrays:
    def test_two_channels_are_real_and_imaginary(self, tmp_path, stack):
        two = stack[:4].reshape(2, 2, 24, 20).astype("f4")
        np.save(tmp_path / "a.npy", two)
        values = read(tmp_path / "a.npy", PLAIN).values
        assert np.array_equal(values, two[:, 0] + 1j * two[:, 1])

    def test_slices_along_a_stated_axis(self, tmp_path, stack):
        np.save(tmp_path / "a.npy", stack)
        assert np.array_equal(
            read(tmp_path / "a.npy", Options(axis="2")).values, np.moveaxis(stack, 2, 0)
        )

    def test_hdf5_with_two_arrays_asks_which(self, tmp_path, stack):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"] = stack.astype("f4")
            file["image"].attrs["units"], file["image"].attrs["pixel_mm"] = "1/mm", [0.5, 0.5]
            file["other/mask"] = stack > 100
        with pytest.raises(DataError, match=r"--dataset image"):
            read(tmp_path / "a.h5", PLAIN)
        found = read(tmp_path / "a.h5", Options(dataset="image"))
        assert np.array_equal(found.values, stack)
        assert (found.units, found.pixel) == ("1/mm", (0.5, 0.5))

    def test_zarr_groups_and_folders_of_stores(self, tmp_path, stack):
        import zarr

        for name in ("one.zarr", "two.zarr"):
            zarr.open_group(str(tmp_path / name), mode="w").create_array("u", data=stack)
        assert [f.name for f in files_of(tmp_path)] == ["one.zarr", "two.zarr"]
        assert np.array_equal(read(tmp_path / "one.zarr", PLAIN).values, stack)

    def test_objects_are_never_unpickled(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="allow_pickle=False"):
            read(tmp_path / "a.npy", PLAIN)


class TestKSpace:
    def kspace(self, image: np.ndarray, maps: np.ndarray) -> np.ndarray:
        axes = (-2, -1)
        return np.fft.fftshift(
            np.fft.fft2(np.fft.ifftshift(maps * image, axes=axes), norm="ortho"), axes=axes
        ).astype(np.complex64)

    def test_full_kspace_gives_the_complex_image_up_to_a_phase_of_the_coils(self, tmp_path):
        from sciinv.operators.parts.mri_coils import simulate_maps

        y, x = np.mgrid[-1:1:48j, -1:1:48j]
        image = np.exp(-3 * (x**2 + y**2)) * np.exp(1j * x)
        maps = simulate_maps(4, (48, 48))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["kspace"] = self.kspace(image, maps)[None]
            file["reconstruction_rss"] = np.abs(image)[None]
        found = read(tmp_path / "a.h5", PLAIN)
        inside = np.abs(image) > 0.2
        total = np.sqrt((np.abs(maps) ** 2).sum(0))
        error = np.abs(np.abs(found.values[0]) - total * np.abs(image))[inside].max()
        assert error < 0.02
        assert found.values.dtype == np.complex64

    def test_missing_lines_are_refused(self, tmp_path):
        k = np.ones((1, 2, 32, 32), np.complex64)
        k[..., 5] = 0
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["kspace"] = k
            file["reconstruction_rss"] = np.ones((1, 32, 32))
        with pytest.raises(DataError, match="not fully sampled"):
            read(tmp_path / "a.h5", PLAIN)


class TestCollect:
    def test_subjects_come_from_names_folders_patterns_and_tables(self, tmp_path, stack):
        for name in ("patient01_a", "patient01_b", "patient02_a"):
            np.save(tmp_path / f"{name}.npy", stack)
        assert set(collect(tmp_path).subjects) == {"patient01", "patient02"}
        found = collect(tmp_path, subjects=Subjects(pattern=r"_([ab])"))
        assert set(found.subjects) == {"a", "b"}
        rows = "".join(f"patient{k}.npy,{k[:2]}x\n" for k in ("01_a", "01_b", "02_a"))
        (tmp_path / "who.csv").write_text("file,subject\n" + rows)
        found = collect(tmp_path, subjects=Subjects(table=tmp_path / "who.csv"))
        assert set(found.subjects) == {"01x", "02x"}

    def test_mixed_sizes_are_refused_and_the_remedy_works(self, tmp_path, stack):
        np.save(tmp_path / "a.npy", stack)
        np.save(tmp_path / "b.npy", stack[:, :16])
        with pytest.raises(DataError, match="--size N"):
            collect(tmp_path)
        found = collect(tmp_path, size=20)
        assert found.values.shape == (10, 20, 20)
        assert np.array_equal(found.values[0], stack[0, 2:22])
        assert np.array_equal(found.values[5, 2:18], stack[0, :16])

    def test_real_and_complex_do_not_mix(self, tmp_path, stack):
        np.save(tmp_path / "a.npy", stack)
        np.save(tmp_path / "b.npy", stack * 1j)
        with pytest.raises(DataError, match="one kind"):
            collect(tmp_path)

    @pytest.mark.parametrize("content", [None, "notes.txt"])
    def test_a_folder_without_images_says_what_it_holds(self, tmp_path, content):
        if content:
            (tmp_path / content).write_text("no image")
        with pytest.raises(DataError, match=r"no images[\s\S]*(empty folder|\.txt)"):
            collect(tmp_path)


def test_a_package_that_is_not_there_is_named_with_the_extra_that_brings_it():
    with pytest.raises(ConfigError, match="Reading stones needs no_such_package") as told:
        library("no_such_package.part", "Reading stones", "train")
    assert told.value.remedy == "pip install 'sciinv[train]'"
