"""NIfTI volumes, complex HDF5 and DICOM go from folder to prior, or are refused in words."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.dicom import dicom
from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.errors import ConfigError, DataError, SciinvError
from sciinv.priors.learned import files
from sciinv.steps import train_images as step

PARTS = ("what", "expected", "got", "remedy")


def discs(count: int = 96, n: int = 24) -> np.ndarray:
    """Soft discs of random place and brightness, 0 to 2."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:n, :n]
    cy, cx, r, b = (rng.uniform(*p, (count, 1, 1)) for p in ((8, 16), (8, 16), (3, 6), (1, 2)))
    return (b / (1 + np.exp(2 * (np.hypot(y - cy, x - cx) - r)))).astype(np.float32)


def nifti(folder: Path, values: np.ndarray, subjects: int = 4) -> Path:
    nibabel = pytest.importorskip("nibabel")
    for k, volume in enumerate(np.split(values, subjects)):
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        image = nibabel.Nifti1Image(volume.transpose(1, 2, 0), affine)
        nibabel.save(image, folder / f"sub-{k:02d}_T1w.nii.gz")
    return folder


def trained(folder: Path, out: Path, *more: str):
    done = CliRunner().invoke(
        app, ["train", str(folder), "--hours", "0.001", "--output", str(out), *more]
    )
    assert done.exit_code == 0, done.output + repr(done.exception)
    return files.load(out), out.with_suffix(".md").read_text()


@pytest.mark.usefixtures("small_training")
class TestRuns:
    def test_nifti_volumes(self, tmp_path):
        (tmp_path / "in").mkdir()
        prior, card = trained(nifti(tmp_path / "in", discs()), tmp_path / "p.safetensors")
        assert prior.shape == (1, 24, 24)
        assert prior.metadata["pixel"] == {"side": 2.0, "unit": "mm"}
        assert "of 4 subjects" in card  # the names say whose a volume is

    @pytest.mark.slow
    def test_complex_hdf5(self, tmp_path):
        phase = np.exp(1j * np.linspace(0, 1, 24)).astype(np.complex64)
        (tmp_path / "in").mkdir()
        for k, part in enumerate(np.split(discs() * phase, 4)):
            with h5py.File(tmp_path / f"in/patient{k}.h5", "w") as file:
                file["image"] = part
        prior, card = trained(tmp_path / "in", tmp_path / "p.safetensors")
        assert prior.shape == (2, 24, 24)
        assert prior.spec.phase
        assert "complex images" in card

    @pytest.mark.slow
    def test_dicom(self, tmp_path):
        (tmp_path / "in").mkdir()
        for k, image in enumerate((1000 * discs()).astype(np.uint16)):
            dicom(tmp_path / f"in/{k:03d}.dcm", image, PatientID=f"p{k // 24}",
                  RescaleSlope=1, RescaleIntercept=-1024)  # fmt: skip
        prior, card = trained(tmp_path / "in", tmp_path / "p.safetensors")
        assert prior.units == "HU"
        assert prior.metadata["pixel"]["side"] == pytest.approx(0.625)  # of 0.5 × 0.75 mm
        assert prior.offset < -500  # air is most of the images
        assert "of 4 subjects" in card


def told(error: SciinvError) -> None:
    """An error says what is wrong, where, what was expected and got, and a remedy."""
    for part in PARTS:
        assert getattr(error, part) not in (None, ""), part


class TestRefusals:
    def test_of_a_time_series(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(np.ones((24, 24, 4, 3), "f4"), np.eye(4)),
                     tmp_path / "a.nii")  # fmt: skip
        with pytest.raises(DataError, match="no single volume") as error:
            step.train_images(tmp_path, tmp_path / "p.safetensors", 1.0)
        told(error.value)

    def test_of_volumes_of_unlike_size_and_the_remedy_works(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nifti(tmp_path, discs())
        odd = nibabel.Nifti1Image(np.random.default_rng(0).random((30, 24, 4), "f4"), np.eye(4))
        nibabel.save(odd, tmp_path / "sub-09_T1w.nii.gz")
        with pytest.raises(DataError, match="--size N") as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)
        found = step.looked_at(tmp_path, step.Choices(size=24), lambda line: None)
        assert found.images.values.shape == (100, 24, 24)

    def test_of_two_arrays_in_a_file_and_the_remedy_works(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"], file["other"] = discs() + 0j, discs()
        with pytest.raises((DataError, ConfigError), match="--dataset") as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)
        found = step.looked_at(tmp_path, step.Choices(dataset="image"), lambda line: None)
        assert found.images.complex

    def test_of_real_and_complex_files_together(self, tmp_path):
        for name, values in (("a.h5", discs() + 0j), ("b.h5", discs())):
            with h5py.File(tmp_path / name, "w") as file:
                file["image"] = values
        with pytest.raises(DataError, match="one kind") as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)

    def test_of_values_that_are_not_finite(self, tmp_path):
        values = discs() + 0j
        values[3, 4, 5] = np.nan
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"] = values
        with pytest.raises(DataError, match="finite") as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)

    def test_of_dicom_reports_and_colour(self, tmp_path):
        dicom(tmp_path / "sr.dcm", None)
        with pytest.raises(DataError, match="no pixel data") as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)

    def test_of_too_few_slices(self, tmp_path):
        for k, image in enumerate((1000 * discs(5)).astype(np.uint16)):
            dicom(tmp_path / f"{k}.dcm", image)
        with pytest.raises(DataError) as error:
            step.looked_at(tmp_path, step.Choices(), lambda line: None)
        told(error.value)

    def test_at_the_command_line_without_a_traceback(self, tmp_path):
        dicom(tmp_path / "sr.dcm", None)
        done = CliRunner().invoke(
            app, ["train", str(tmp_path), "-o", str(tmp_path / "p.safetensors")]
        )
        assert done.exit_code != 0
        assert isinstance(done.exception, DataError | SystemExit)
