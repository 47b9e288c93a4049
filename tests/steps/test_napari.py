"""napari's reader, without napari: which folders it takes, and what the layers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from support.cli import REPO

from sciinv import store, uncertainty
from sciinv.errors import SciinvError
from sciinv.steps import napari

MANIFEST = REPO / "sciinv/napari.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(3, 2, 1, 4, 5)).astype("f4")
    coords = {
        "x": ("x", 2.0 * np.arange(5) - 4, {"units": "mm"}),
        "y": ("y", 3.0 * np.arange(4), {"units": "mm"}),
    }
    image = xr.DataArray(values, coords, ("draw", "item", "channel", "y", "x"))
    folder = tmp_path / "brain"
    folder.mkdir()
    store.write_posterior(image.to_dataset(name="image"), folder / "posterior.zarr")
    uncertainty.write_summary(
        uncertainty.summarize(folder / "posterior.zarr"), folder / "summary.zarr"
    )
    return folder


def test_draws_are_one_layer_in_the_store_s_lengths(run: Path) -> None:
    path = str(run / "posterior.zarr")
    read = napari.get_reader(path)
    assert read is not None
    ((values, told, kind),) = read(path)
    assert values.shape == (3, 2, 4, 5)
    assert kind == "image"
    assert told["scale"] == [1, 1, 3, 2]
    assert told["translate"] == [0, 0, 0, -4]
    assert told["metadata"]["pixel"] == "mm"


def test_a_summary_is_two_layers_of_their_own_colours(run: Path) -> None:
    path = str(run / "summary.zarr")
    read = napari.get_reader([path])
    assert read is not None
    found = read([path])
    assert [told["name"] for _, told, _ in found] == ["brain summary mean", "brain summary sd"]
    assert [told["colormap"] for _, told, _ in found] == ["gray", "magma"]
    assert all(values.shape == (2, 4, 5) for values, _, _ in found)


def test_other_folders_are_left_to_other_readers(tmp_path: Path) -> None:
    assert napari.get_reader(str(tmp_path / "none.zarr")) is None
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr/zarr.json").write_text('{"zarr_format": 3}')
    assert napari.get_reader(str(tmp_path / "other.zarr")) is None


def test_a_store_that_is_no_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.zarr").mkdir()
    (tmp_path / "m.zarr/zarr.json").write_text('{"sciinv_version": "0"}')
    with pytest.raises(SciinvError, match="posterior or summary"):
        napari.layers(str(tmp_path / "m.zarr"))


def test_the_manifest_names_functions_that_are_there() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    (command,) = manifest["contributions"]["commands"]
    module, _, name = command["python_name"].partition(":")
    assert module == napari.__name__
    assert callable(getattr(napari, name))
    assert manifest["contributions"]["readers"][0]["command"] == command["id"]


def test_the_manifest_is_one_of_npe2() -> None:
    npe2 = pytest.importorskip("npe2")
    found = npe2.PluginManifest.from_file(MANIFEST)
    assert found.contributions.readers[0].accepts_directories
    assert found.validate_imports() is None
