"""What is exported is read back with the field's libraries: values, pixels, units."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciinv import store, uncertainty
from sciinv.errors import ConfigError, SciinvError
from sciinv.steps import export as step


@pytest.fixture
def posterior(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Three draws of two items, 4 × 5 pixels of 2 µas, x falling as right ascension does."""
    values = np.random.default_rng(0).normal(size=(3, 2, 1, 4, 5)).astype("f4")
    x, y = 4 - 2.0 * np.arange(5), -3 + 2.0 * np.arange(4)
    image = xr.DataArray(
        values,
        {"x": ("x", x, {"units": "µas"}), "y": ("y", y, {"units": "µas"})},
        ("draw", "item", "channel", "y", "x"),
        attrs={"units": "Jy/pixel"},
    )
    path = tmp_path / "posterior.zarr"
    store.write_posterior(image.to_dataset(name="image"), path)
    return path, values[:, :, 0]


def test_fits_has_the_values_and_places_pixels_on_the_sky(posterior, tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    path, values = posterior
    out = step.export(path, "fits", tmp_path / "a.fits")
    with fits.open(out) as file:
        header, data = file[0].header, file[0].data
        assert np.array_equal(data, values)
    assert header["BUNIT"] == "Jy/pixel"
    assert header["CDELT1"] == pytest.approx(-2 / 3.6e9)
    # The coordinate of the first pixel of x is 4 µas, of y −3 µas.
    for axis, first in ((1, 4), (2, -3)):
        at = (1 - header[f"CRPIX{axis}"]) * header[f"CDELT{axis}"]
        assert at == pytest.approx(first / 3.6e9)


def test_nifti_has_draws_as_its_fourth_axis_and_pixels_in_its_affine(posterior, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path, values = posterior
    image = nibabel.load(step.export(path, "nifti", tmp_path / "a.nii"))
    assert image.shape == (5, 4, 2, 3)
    assert np.array_equal(np.transpose(image.get_fdata(dtype=np.float32), (3, 2, 1, 0)), values)
    assert np.allclose(image.affine @ [1, 2, 0, 1], [2, 1, 0, 1])


def test_the_thickness_of_a_slice_is_the_step_between_slices_of_nifti(posterior, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    first, _ = posterior
    draws = uncertainty.as_dataset(first).load()
    store.write_posterior(draws.assign_attrs(slice_mm=5.0), tmp_path / "thick.zarr")
    image = nibabel.load(step.export(tmp_path / "thick.zarr", "nifti", tmp_path / "a.nii"))
    assert image.header.get_zooms()[2] == 5.0


def test_tiff_netcdf_npy_and_csv_hold_the_same_numbers(posterior, tmp_path):
    path, values = posterior
    assert np.array_equal(np.load(step.export(path, "npy", tmp_path / "a.npy")), values)
    with xr.open_dataset(step.export(path, "netcdf", tmp_path / "a.nc"), engine="scipy") as file:
        assert np.array_equal(file["image"].values, values)
        assert file["image"].attrs["units"] == "Jy/pixel"
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(step.export(path, "tiff", tmp_path / "a.tif")) as file:
        assert np.array_equal(file.asarray().reshape(values.shape), values)
        about = json.loads(file.pages[0].description)
    assert about["pixel"]["x"] == {"step": -2.0, "unit": "µas"}
    with step.export(path, "csv", tmp_path / "a.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == 1 + values.size
    assert float(rows[1][-1]) == pytest.approx(float(values[0, 0, 0, 0]), rel=1e-6)


def test_quantities_become_a_table(tmp_path):
    found = [{"Diameter": {"units": "µas", "values": [41.0, 43.0], "mean": 42.0, "sd": 1.4}}]
    (tmp_path / "quantities.json").write_text(json.dumps(found))
    out = step.export(tmp_path / "quantities.json", "csv", tmp_path / "q.csv")
    rows = list(csv.reader(out.open()))
    assert rows[1] == ["0", "Diameter", "µas", "0", "41.0", "42.0", "1.4"]
    assert len(rows) == 3


def test_mistakes_are_told(posterior, tmp_path, monkeypatch):
    path, _ = posterior
    with pytest.raises(ConfigError, match="did you mean 'nifti'"):
        step.export(path, "nifty", tmp_path / "a")
    with pytest.raises(SciinvError, match="neither a posterior nor a summary"):
        step.export(tmp_path, "npy", tmp_path / "b.npy")
    step.export(path, "npy", tmp_path / "c.npy")
    with pytest.raises(SciinvError):
        step.export(path, "npy", tmp_path / "c.npy")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(ConfigError, match=r"sciinv\[export\]"):
        step.export(path, "nifti", tmp_path / "d.nii")


def in_a_run(posterior: Path, **attrs) -> Path:
    """Put a measurement store beside a posterior store, with attributes on its place."""
    y = xr.DataArray(np.zeros((2, 3)), dims=("item", "sample"), name="y")
    dataset = y.to_dataset().assign_attrs(operator="x", units="1", params="{}", **attrs)
    return store.write_measurement(dataset, posterior.parent / "measurement.zarr")


def test_fits_places_pixels_about_the_phase_centre_of_the_data(posterior, tmp_path):
    wcs = pytest.importorskip("astropy.wcs")
    fits = pytest.importorskip("astropy.io.fits")
    path, _ = posterior
    in_a_run(path, ra_deg=187.70593, dec_deg=12.391123)
    header = fits.getheader(step.export(path, "fits", tmp_path / "a.fits"))
    world = wcs.WCS(header).celestial
    # x = 0 at column 2, y = 0 between rows 1 and 2 (−3, −1, 1, 3 µas).
    ra, dec = world.wcs_pix2world([[2.0, 1.5], [1.0, 2.5]], 0).T
    assert (ra[0], dec[0]) == pytest.approx((187.70593, 12.391123), abs=1e-12)
    east = (ra[1] - ra[0]) * np.cos(np.radians(dec[0])) * 3.6e9
    assert east == pytest.approx(2, rel=1e-3)  # µas: doubles hold 187.7° to 1e-4 µas
    assert (dec[1] - dec[0]) * 3.6e9 == pytest.approx(2, rel=1e-3)


def a_slice(folder: Path) -> Path:
    """A posterior of one slice, 6 rows × 8 columns of 2 × 1.5 mm."""
    values = np.random.default_rng(1).normal(size=(2, 1, 1, 6, 8)).astype("f4")
    coords = {
        "x": ("x", 1.5 * (np.arange(8) - 4), {"units": "mm"}),
        "y": ("y", 2.0 * (np.arange(6) - 3), {"units": "mm"}),
    }
    image = xr.DataArray(values, coords, ("draw", "item", "channel", "y", "x"))
    path = folder / "posterior.zarr"
    store.write_posterior(image.to_dataset(name="image"), path)
    return path


def test_nifti_lies_in_the_patient_as_the_raw_file_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = a_slice(tmp_path)
    # A sagittal slice 10 mm to the left: rows run to the back, columns to the feet.
    slices = [[[10.0, -5.0, 7.0], [0, 1, 0], [0, 0, -1], [-1, 0, 0]]]
    y = xr.DataArray(np.zeros((1, 3)), dims=("item", "sample"), name="y")
    about = {"operator": "mri", "units": "1", "params": "{}", "slice_mm": 3.0}
    dataset = y.to_dataset().assign_attrs(orientation=json.dumps(slices), **about)
    store.write_measurement(dataset, tmp_path / "measurement.zarr")
    image = nibabel.load(step.export(path, "nifti", tmp_path / "a.nii"))
    # NIfTI counts to the right, to the front and to the head; the centre is pixel (4, 3).
    assert np.allclose(image.affine @ [4, 3, 0, 1], [-10, 5, 7, 1])
    assert np.allclose(image.affine @ [5, 3, 0, 1], [-10, 5 - 1.5, 7, 1])
    assert np.allclose(image.affine @ [4, 4, 0, 1], [-10, 5, 7 - 2, 1])
    assert np.allclose(image.affine @ [4, 3, 1, 1], [-7, 5, 7, 1])
    assert nibabel.aff2axcodes(image.affine) == ("P", "I", "R")
    assert int(image.header["qform_code"]) == 1  # of the scanner


def test_dicom_keeps_values_pixels_and_the_study_of_another_file(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian

    like = pydicom.Dataset()
    like.SOPClassUID, like.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    like.PatientName, like.PatientID, like.StudyInstanceUID = "A^B", "17", "1.2.3"
    like.Modality = "MR"
    like.file_meta = pydicom.dataset.FileMetaDataset()
    like.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "like.dcm", like, enforce_file_format=True)
    path = a_slice(tmp_path)
    out = step.export(path, "dicom", tmp_path / "a.dcm", like=tmp_path / "like.dcm")
    made = pydicom.dcmread(out)
    values = step.images(path).values[:, 0]
    back = made.pixel_array * float(made.RescaleSlope) + float(made.RescaleIntercept)
    # Half a step of 16 bits, and twelve digits of the slope.
    assert np.abs(back - values).max() <= 0.51 * np.ptp(values) / 65535
    assert [float(v) for v in made.PixelSpacing] == [2.0, 1.5]
    assert (str(made.PatientName), made.PatientID, made.StudyInstanceUID) == ("A^B", "17", "1.2.3")
    assert made.Modality == "MR"
    assert made.NumberOfFrames == 2
    again = step.export(path, "dicom", tmp_path / "b.dcm", like=tmp_path / "like.dcm")
    assert again.read_bytes() == out.read_bytes()
    with pytest.raises(SciinvError, match="Only DICOM"):
        step.export(path, "npy", tmp_path / "c.npy", like=tmp_path / "like.dcm")
    (tmp_path / "no.dcm").write_text("no")
    with pytest.raises(SciinvError, match="same study cannot be read"):
        step.export(path, "dicom", tmp_path / "d.dcm", like=tmp_path / "no.dcm")


def test_tiff_says_its_pixels_to_imagej(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(step.export(a_slice(tmp_path), "tiff", tmp_path / "a.tif")) as file:
        tags = file.pages[0].tags
        x, y = (tags[k].value for k in ("XResolution", "YResolution"))
        assert (10 * x[1] / x[0], 10 * y[1] / y[0]) == pytest.approx((1.5, 2.0), rel=1e-6)
        assert int(tags["ResolutionUnit"].value) == 3  # centimetre
