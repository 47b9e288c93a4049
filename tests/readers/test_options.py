"""Options of readers: of the wrong type or out of range each is told, and nothing is read."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sciinv import readers
from sciinv.errors import DataError
from sciinv.readers.parts.options import RANGES, check_options

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
import mutations

FORMAT = {"kspace": "kspace-npy"}
NEEDED: dict[str, dict[str, Any]] = {
    "sinogram": {"angles": "0:180"},
    "projections": {"angles": "0:180"},
}
WRONG = {"bool": ["yes", 2], "int": ["x", 1.5, True], "float": ["x", float("nan"), True]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    out = {}
    for name in readers.READERS:
        (folder / name).mkdir()
        out[name] = mutations.good(FORMAT.get(name, name), folder / name)
    return out


def cases() -> list[tuple[str, str, Any]]:
    """Return (reader, option, value) for every option of one type, and three beyond its range."""
    out = []
    for name in readers.READERS:
        for option, parameter in inspect.signature(readers.find(name)).parameters.items():
            kinds = set(str(parameter.annotation).replace(" ", "").split("|")) - {"None"}
            if len(kinds) != 1 or parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            (kind,) = kinds
            out += [(name, option, value) for value in WRONG.get(kind, [])]
            if option in RANGES:
                limits = RANGES[option]
                out.append((name, option, int(limits.low) - 1))
                out += [] if limits.closed else [(name, option, int(limits.low))]
    return out


@pytest.mark.parametrize(("name", "option", "value"), cases())
def test_a_value_that_an_option_cannot_have_is_told(
    name: str, option: str, value: Any, files: dict[str, Path]
) -> None:
    with pytest.raises(DataError) as caught:
        readers.find(name)(files[name], **{**NEEDED.get(name, {}), option: value})
    assert option in str(caught.value.where)
    assert caught.value.remedy
    assert str(value) in str(caught.value.got)


def test_every_number_of_a_reader_is_checked() -> None:
    assert len(cases()) > 100
    assert {name for name, _, _ in cases()} == set(readers.READERS)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sinogram", {"geometry": "cone"}, "geometry 'cone'"),
        ("sinogram", {"geometry": "fan", "source_origin_mm": 100.0}, "origin_detector_mm"),
        ("sinogram", {"source_origin_mm": 100.0}, "a parallel beam with"),
        ("sinogram", {"slices": 1}, "no axis of slices"),
        ("dxchange", {"rows": "all"}, "rows 0 to 0"),
        ("dxchange", {"rows": [0, 0]}, "each once"),
        ("projections", {"rows": "all"}, "rows 0 to 1"),
        ("projections", {"flats": 5}, "a folder, pattern or file"),
        ("projections", {"flats": "nowhere"}, "There are no TIFF files"),
        ("projections", {"likelihood": "normal"}, "no likelihood"),
        ("htc2022", {"angles": [0]}, "range of angles"),
        ("htc2022", {"angles": "0:60"}, "range of angles"),
        ("kspace", {"item": [0, 0]}, "each once"),
        ("kspace", {"item": 0.5}, "no such item"),
        ("kspace", {"pixel_mm": [1, 2, 3]}, "pixel_mm"),
        ("kspace", {"counters": "average"}, "counters"),
        ("kspace", {"coil_maps": "maps.npy"}, "path of a .npy file"),
        ("kspace", {"mask": np.full((48, 40), "x")}, "true and false"),
        ("uvfits", {"kind": "amplitudes", "gain_sd": "x"}, "station gains"),
    ],
)
def test_options_of_several_forms_are_told_too(
    name: str, options: dict[str, Any], words: str, files: dict[str, Path]
) -> None:
    with pytest.raises(DataError, match=words):
        readers.find(name)(files[name], **{**NEEDED.get(name, {}), **options})


def test_a_number_in_quotes_is_told_how_to_write_it() -> None:
    def reader(path: str, *, gain: float | None = None) -> None:
        check_options(reader, path, locals())

    with pytest.raises(DataError) as caught:
        reader("a.h5", gain="1e-3")  # type: ignore[arg-type]  # as YAML 1.1 reads 1e-3
    assert "write gain as 0.001" in str(caught.value.remedy)
    reader("a.h5", gain=1e-3)
    reader("a.h5", gain=np.float32(2))  # type: ignore[arg-type]


def test_a_total_flux_far_above_the_data_is_doubted(files: dict[str, Path]) -> None:
    assert "is it in Jy?" in readers.find("uvfits")(files["uvfits"], total_flux_jy=800.0).warnings
    assert "is it in Jy?" not in readers.find("uvfits")(files["uvfits"], total_flux_jy=2).warnings


def test_coil_maps_and_mask_are_read_from_files(tmp_path: Path, files: dict[str, Path]) -> None:
    read = readers.find("kspace")
    usual = read(files["kspace"])
    parts = usual["coil_maps"].values[0]
    maps, keep = parts[0] + 1j * parts[1], np.arange(48)[:, None] % 2 + np.zeros((1, 40)) == 0
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "mask.npy", keep)
    # Every second line has no fully sampled centre: maps of the same scan stand in for its own.
    with pytest.raises(DataError, match="coil_maps, an array"):
        read(files["kspace"], mask=str(tmp_path / "mask.npy"))
    both = {"mask": str(tmp_path / "mask.npy"), "coil_maps": str(tmp_path / "maps.npy")}
    got = read(files["kspace"], noise_sd=0.03, **both)
    assert got.sizes["sample"] == usual.sizes["sample"] / 2
    assert np.array_equal(got["coil_maps"].values, usual["coil_maps"].values)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detector_mm": 5e-5}, "more than the densest metal"),
        ({"detector_mm": 150.0}, "sees 7.2 m"),
        ({"pixel_mm": 50.0}, "both in mm"),
        ({"detector_mm": 0.05}, ""),
        ({}, ""),
    ],
)
def test_lengths_in_another_unit_are_doubted(
    options: dict[str, float], words: str, files: dict[str, Path]
) -> None:
    got = readers.find("sinogram")(files["sinogram"], "0:180", **options)
    told = got.attrs.get("warnings", "")
    assert words in told
    assert bool(words) == bool(told)
