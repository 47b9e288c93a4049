"""TIFF projections: the same as from HDF5, in the right order; wrong files say what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sciinv import readers
from sciinv.errors import ConfigError, DataError
from sciinv.readers import dxchange, projections
from sciinv.readers.parts import frame_files
from sciinv.readers.parts.angles_beside import known_options
from sciinv.readers.parts.looks import warnings_of

tifffile = pytest.importorskip("tifffile")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
import mutations  # noqa: E402

VIEWS = 60
PARTS = {"proj": "data", "flats": "data_white", "darks": "data_dark"}


def counts() -> dict[str, np.ndarray]:
    """Return the study's counts with a second row: the first, mirrored."""
    parts = mutations._counts()[0]
    return {
        k: v if k == "theta" else np.concatenate([v, v[..., ::-1]], axis=1)
        for k, v in parts.items()
    }


def scan(folder: Path, name: Callable[[int], str] = "proj_{}.tif".format, **change: Any) -> Path:
    """Write a scan as folders proj, flats and darks, and return its folder."""
    parts = {**counts(), **change}
    for where, part in PARTS.items():
        if parts[part] is not None:
            (folder / where).mkdir(parents=True)
            for i, frame in enumerate(parts[part]):
                file = name(i) if where == "proj" else f"{i}.tif"
                tifffile.imwrite(folder / where / file, frame)
    return folder


def from_hdf5(tmp_path: Path, **options: Any) -> Any:
    import h5py

    with h5py.File(tmp_path / "same.h5", "w") as file:
        for name, value in counts().items():
            file[f"exchange/{name}"] = value
    return dxchange.read(tmp_path / "same.h5", **options)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_a_scan_in_folders_is_that_of_the_same_counts_in_hdf5(
    likelihood: str, tmp_path: Path
) -> None:
    """Unpadded numbers: in the order of letters view 10 would come before view 2."""
    how: dict[str, Any] = {"rows": [0, 1], "likelihood": likelihood}
    got = projections.read(scan(tmp_path / "a"), "0:180:3", **how)
    same = from_hdf5(tmp_path, **how)
    assert set(got) == set(same)
    for key in same:
        assert np.array_equal(got[key].values, same[key].values), key
    assert got.attrs["params"] == same.attrs["params"]
    assert warnings_of(got) == warnings_of(same)


def test_pages_of_one_file_a_pattern_and_a_list_hold_the_same(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a")
    files = [str(folder / f"proj/proj_{i}.tif") for i in range(VIEWS)]
    for where in ("flats", "darks"):
        pages = np.stack([tifffile.imread(p) for p in sorted((folder / where).iterdir())])
        tifffile.imwrite(tmp_path / f"{where}.tif", pages, photometric="minisblack")
    stack = np.stack([tifffile.imread(p) for p in files])
    tifffile.imwrite(tmp_path / "scan.tif", stack, photometric="minisblack", compression="zlib")
    usual = projections.read(folder, "0:180", rows=1)
    for path in (tmp_path / "scan.tif", str(folder / "proj/proj_*.tif"), files, folder / "proj"):
        got = projections.read(path, "0:180", rows=1)
        assert np.array_equal(got["y"].values, usual["y"].values), path
    turned = projections.read(files[::-1], "180:0", rows=1)
    assert np.array_equal(turned["y"].values, usual["y"].values[:, :, ::-1])


def test_flats_and_darks_are_found_by_name_or_named(tmp_path: Path) -> None:
    usual = projections.read(scan(tmp_path / "a"), "0:180")
    (tmp_path / "a/flats").rename(tmp_path / "without_object")
    (tmp_path / "a/darks").rename(tmp_path / "a/DF_before")
    with pytest.raises(DataError, match="There are no flats") as caught:
        projections.read(tmp_path / "a", "0:180")
    assert "sinogram" in str(caught.value.remedy)
    there = tmp_path / "without_object"
    for flats in (str(there), "without_object", str(there / "*.tif")):
        got = projections.read(tmp_path / "a", "0:180", flats=flats)
        assert np.array_equal(got["y"].values, usual["y"].values)
    for file in (tmp_path / "without_object").iterdir():
        file.rename(tmp_path / f"a/proj/flat_{file.name}")
    got = projections.read(tmp_path / "a", "0:180")
    assert np.array_equal(got["y"].values, usual["y"].values)


def test_a_counting_detector_has_no_darks(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a", data_dark=None)
    with pytest.raises(DataError, match="There are no darks") as caught:
        projections.read(folder, "0:180")
    assert "dark=0" in str(caught.value.remedy)
    got = projections.read(folder, "0:180", dark=100)
    assert np.array_equal(
        got["y"].values, projections.read(scan(tmp_path / "b"), "0:180")["y"].values
    )


def test_angles_in_a_file_beside_the_projections_are_found(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a")
    text = "# degrees\n" + "\n".join(f"{v:.6f}" for v in counts()["theta"])
    (folder / "angles.txt").write_text(text)
    for path in (folder, folder / "proj"):
        options = known_options("projections", path, {})
        got = projections.read(path, **options)
        assert got["angles"].values.tolist() == counts()["theta"].tolist()
    assert known_options("projections", folder, {"angles": "0:180"}) == {}


def test_the_reader_is_told_by_the_content(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a")
    several = np.stack([tifffile.imread(p) for p in (folder / "proj").iterdir()])
    tifffile.imwrite(tmp_path / "counts.tif", several, photometric="minisblack")
    tifffile.imwrite(tmp_path / "rays.tif", several.astype("f4"), photometric="minisblack")
    for path in (folder, folder / "proj", folder / "proj/proj_*.tif", tmp_path / "counts.tif"):
        assert readers.guess(path) == "projections", path
    assert readers.guess(tmp_path / "rays.tif") == "sinogram"


def test_the_middle_row_is_read_unless_another_is_chosen(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a")
    assert projections.read(folder, "0:180").attrs["rows"] == [1]
    assert projections.read(folder, "0:180", rows=None).sizes["item"] == 2
    with pytest.raises(DataError, match="The row is not in the scan"):
        projections.read(folder, "0:180", rows=2)


def test_saturated_counts_carry_no_data(tmp_path: Path) -> None:
    data = counts()["data"]
    data[5, 0, 7:9] = 65535
    got = projections.read(scan(tmp_path / "a", data=data), "0:180", rows=0)
    assert np.argwhere(np.isinf(got["noise_sd"].values[0])).tolist() == [[5, 7], [5, 8]]


def test_a_missing_number_is_refused_where_angles_are_counted_and_told_else(tmp_path: Path) -> None:
    folder = scan(tmp_path / "a", "p_{:04d}.tif".format)
    (folder / "proj/p_0017.tif").unlink()
    with pytest.raises(DataError, match="missing from the series") as caught:
        projections.read(folder, "0:180")
    assert "17" in str(caught.value.got)
    theta = np.delete(counts()["theta"], 17)
    got = projections.read(folder, theta)
    assert "lacks 1 of the numbers 0 to 59: 17" in " ".join(warnings_of(got))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a_1", "a_2", "a_3"], None),
        (["a_0", "a_5", "a_10", "a_15"], None),
        (["a_0", "a_5", "a_15", "a_20"], "1 of the numbers 0 to 20: 10"),
        (["1_20h10", "2_20h11", "3_20h13"], None),
        (["t_100", "t_117", "t_136", "t_139"], None),
    ],
)
def test_gaps_of_a_numbering(names: list[str], told: str | None) -> None:
    assert frame_files.gaps([Path(f"{n}.tif") for n in names]) == told


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flat_0001.tif", "flats"), ("FF001.tif", "flats"), ("flats_before", "flats"),
        ("open_beam", "flats"), ("whitefield", "flats"), ("flat-field.tif", "flats"),
        ("dark_01.tif", "darks"), ("DF-2.tif", "darks"), ("darkcurrent", "darks"),
        ("object_1.tif", None), ("offset_1.tif", None), ("difference.tif", None),
        ("darkness.tif", None), ("proj_flat.tif", None),
    ],
)  # fmt: skip
def test_names_of_flats_and_darks(name: str, kind: str | None) -> None:
    assert bool(frame_files.FLATS.match(name)) == (kind == "flats")
    assert bool(frame_files.DARKS.match(name)) == (kind == "darks")


def _wrong(fault: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a scan with a fault and return its path and the options it is read with."""
    data, first = counts()["data"], folder / "proj/proj_0.tif"
    options: dict[str, Any] = {"angles": "0:180"}
    if fault == "negative counts":
        return scan(folder, data=(data.astype(int) - 30000).astype("i2")), options
    scan(folder)
    if fault == "another size":
        tifffile.imwrite(first, data[0][:, :-1])
    elif fault == "another dtype":
        tifffile.imwrite(first, data[0].astype("f4"))
    elif fault == "RGB":
        tifffile.imwrite(first, np.zeros((2, 48, 3), "u1"), photometric="rgb")
    elif fault == "palette":
        colours = np.zeros((3, 256), "u2")
        tifffile.imwrite(first, np.zeros((2, 48), "u1"), photometric="palette", colormap=colours)
    elif fault == "complex":
        tifffile.imwrite(first, data[0].astype("c8"))
    elif fault == "cut":
        first.write_bytes(first.read_bytes()[:-50])
    elif fault == "empty":
        first.write_bytes(b"")
    elif fault == "pages lost":
        first = folder / "one.tif"
        tifffile.imwrite(first, data, photometric="minisblack")
        first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
        return first, options
    elif fault == "flats of another window":
        for file in (folder / "flats").iterdir():
            tifffile.imwrite(file, tifffile.imread(file)[:1])
    elif fault == "two series":
        first.rename(folder / "proj/preview_0.tif")
    elif fault == "number twice":
        tifffile.imwrite(folder / "proj/proj_07.tif", data[7])
    elif fault == "several folders":
        (folder / "other").mkdir()
        tifffile.imwrite(folder / "other/a.tif", data[0])
    elif fault == "no files":
        return folder / "nothing_*.tif", options
    elif fault == "too few angles":
        options["angles"] = "0:177:3"
    elif fault == "no such file of angles":
        options["angles"] = "angels.txt"
    return folder, options


FAULTS = {
    "another size": "differ in size or type",
    "another dtype": "differ in size or type",
    "RGB": "coloured picture",
    "palette": "coloured picture",
    "complex": "does not hold real numbers",
    "cut": "cannot be read",
    "empty": "cannot be read",
    "pages lost": "cannot be read",
    "negative counts": "negative values",
    "flats of another window": "flats do not match",
    "two series": "not of one series",
    "number twice": "same number",
    "several folders": "Several folders",
    "no files": "no TIFF files",
    "too few angles": 'give "0:180:3"',
    "no such file of angles": "cannot be understood",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_projections_say_what_is_wrong(fault: str, tmp_path: Path) -> None:
    path, options = _wrong(fault, tmp_path / "a")
    with pytest.raises(DataError, match=FAULTS[fault]) as caught:
        projections.read(path, **options)
    assert caught.value.remedy


def test_pictures_of_eight_bits_and_inverted_ones_are_doubted(tmp_path: Path) -> None:
    parts = {k: (v // 100).astype("u1") for k, v in counts().items() if k != "theta"}
    told = " ".join(warnings_of(projections.read(scan(tmp_path / "a", **parts), "0:180")))
    assert "8 bits" in told
    folder = scan(tmp_path / "b")
    for i, frame in enumerate(counts()["data"]):
        tifffile.imwrite(folder / f"proj/proj_{i}.tif", frame, photometric="miniswhite")
    assert "0 is white" in " ".join(warnings_of(projections.read(folder, "0:180")))


def test_without_tifffile_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    (tmp_path / "a.tif").touch()
    with pytest.raises(ConfigError, match="export") as caught:
        projections.read(tmp_path / "a.tif", "0:180")
    assert "pip install 'sciinv[export]'" in str(caught.value.remedy)


@pytest.mark.filterwarnings("ignore:.*zero-size array", "ignore:invalid value encountered in cast")
@pytest.mark.parametrize("change", mutations.MUTATIONS, ids=lambda f: f.__name__)
def test_damaged_files_are_read_or_refused_with_a_remedy(
    change: Callable[..., None], tmp_path: Path
) -> None:
    for seed in range(6):
        path = mutations.good("projections", tmp_path)
        change(path, np.random.default_rng(seed))
        remedy: object = "none needed"
        try:
            projections.read(path, "0:180")
        except DataError as error:
            remedy = error.remedy
        assert remedy
