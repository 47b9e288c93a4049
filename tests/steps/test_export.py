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
