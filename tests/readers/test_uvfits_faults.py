"""UVFITS as other arrays, correlators and converters write it: whose data, at which frequency."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.readers import uvfits
from sciinv.readers.uvfits import VisibilityTable

fits = pytest.importorskip("astropy.io.fits")

LIGHT = 299_792_458.0
UAS = 4.84813681109536e-12


def double(u: np.ndarray, v: np.ndarray, flux: float = 0.9) -> np.ndarray:
    """Visibilities of two equal points, 100 µas apart along the east."""
    return flux * np.cos(np.pi * u * 100 * UAS + 0 * v) * np.exp(2j * np.pi * 0.2)


def table(
    stations: int = 5,
    times_h: np.ndarray | None = None,
    frequency: float = 230e9,
    extent_m: float = 2e6,
    integration: float = 10.0,
) -> VisibilityTable:
    """A noisy double source over an array whose baselines turn with the Earth."""
    rng = np.random.default_rng(1)
    hours = np.arange(4) * 0.5 if times_h is None else times_h
    place = rng.uniform(-extent_m, extent_m, (stations, 2))
    a, b = np.triu_indices(stations, 1)
    turn = hours * 2 * np.pi / 24
    east = np.cos(turn)[:, None] * (place[a] - place[b])[:, 0]
    east = east - np.sin(turn)[:, None] * (place[a] - place[b])[:, 1]
    north = np.sin(turn)[:, None] * (place[a] - place[b])[:, 0]
    north = north + np.cos(turn)[:, None] * (place[a] - place[b])[:, 1]
    u, v = east.ravel() * frequency / LIGHT, north.ravel() * frequency / LIGHT
    n = len(u)
    sigma = np.full(n, 0.01)
    noise = sigma * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    return VisibilityTable(
        time=np.repeat(hours, len(a)), station1=np.tile(a, len(hours)),
        station2=np.tile(b, len(hours)), u=u, v=v, vis=double(u, v) + noise, sigma=sigma,
        integration=np.full(n, integration), stations=tuple(f"S{i}" for i in range(stations)),
        positions=np.column_stack([place, np.zeros(stations)]), frequency=frequency,
        bandwidth=3.2e7, source="ALPHA", ra=10.0, dec=5.0, mjd=58000,
    )  # fmt: skip


def written(
    path: Path, made: VisibilityTable | None = None, edit: Callable[[Any], Any] | None = None
) -> Path:
    uvfits.write(path, made or table())
    if edit is None:
        return path
    with fits.open(path, memmap=False) as hdus:
        hdus[0].data  # noqa: B018
        out = edit(hdus) or hdus
        out.writeto(path, overwrite=True)
    return path


def groups_with(hdus: Any, data: np.ndarray | None = None, **columns: np.ndarray) -> Any:
    """Return the random groups with further random parameters, or other data."""
    old = hdus[0].data
    names = [*old.parnames, *columns]
    pars = [np.asarray(old.field(i)) for i in range(len(old.parnames))]
    pars += [np.asarray(c, float) for c in columns.values()]
    data = np.asarray(old["DATA"]) if data is None else data
    made = fits.GroupsHDU(
        fits.GroupData(data.astype(np.float32), bitpix=-32, parnames=names, pardata=pars)
    )
    kept = ("CTYPE", "CRVAL", "CDELT", "CRPIX", "CROTA", "OB", "MJD", "DATE", "TELE", "EQUI")
    for key, value in hdus[0].header.items():
        if key.startswith(kept):
            made.header[key] = value
    return fits.HDUList([made, *hdus[1:]])


def warnings_of(dataset: Any) -> str:
    return " ".join(json.loads(dataset.attrs.get("warnings", "[]")))


def two_sources(hdus: Any) -> Any:
    number = 1 + (np.arange(len(hdus[0].data)) // 10) % 2
    data = np.asarray(hdus[0].data["DATA"]).copy()
    data[number == 2, ..., 0], data[number == 2, ..., 1] = 5.0, 0.0
    out = groups_with(hdus, data, SOURCE=number)
    names = np.array(["ALPHA", "BETA"])
    columns = [
        fits.Column("ID. NO.", "1J", array=[1, 2]),
        fits.Column("SOURCE", "16A", array=names),
        fits.Column("RAEPO", "1D", array=[10.0, 20.0]),
        fits.Column("DECEPO", "1D", array=[5.0, 6.0]),
    ]
    out.append(fits.BinTableHDU.from_columns(columns, name="AIPS SU"))
    return out


def test_of_two_sources_one_is_read_by_name_or_number_and_none_without(tmp_path: Path) -> None:
    path = written(tmp_path / "a.uvfits", edit=two_sources)
    with pytest.raises(DataError, match=r"several sources[\s\S]*ALPHA[\s\S]*BETA"):
        uvfits.read(path)
    alpha = uvfits.read_table(path, source="alpha")
    assert (len(alpha), alpha.source, alpha.ra) == (20, "ALPHA", 10.0)
    np.testing.assert_allclose(
        np.abs(alpha.vis - double(alpha.u, alpha.v)).mean(), 0.0125, rtol=0.5
    )
    beta = uvfits.read_table(path, source=2)
    assert (beta.source, beta.dec) == ("BETA", 6.0)
    np.testing.assert_allclose(beta.vis, 5.0, rtol=1e-6)
    with pytest.raises(DataError, match="no data of this source"):
        uvfits.read(path, source="gamma")


@pytest.mark.parametrize("name", ["FREQSEL", "SUBARRAY"])
def test_set_ups_and_subarrays_are_not_mixed(tmp_path: Path, name: str) -> None:
    def edit(hdus: Any) -> Any:
        return groups_with(hdus, **{name: 1 + np.arange(len(hdus[0].data)) % 2})

    path = written(tmp_path / "a.uvfits", edit=edit)
    with pytest.raises(DataError, match=f"option {name.lower()}"):
        uvfits.read_table(path)
    assert len(uvfits.read_table(path, **{name.lower(): 1})) == 20


def test_the_subarray_in_the_fraction_of_the_baseline_counts(tmp_path: Path) -> None:
    def edit(hdus: Any) -> None:
        hdus[0].data["BASELINE"][:10] += 0.01

    with pytest.raises(DataError, match="several subarrays"):
        uvfits.read_table(written(tmp_path / "a.uvfits", edit=edit))


def test_each_if_is_read_at_its_own_frequency(tmp_path: Path) -> None:
    """IFs at 0, 0.25, 0.5 and 3.2 GHz above the header's 4.3 GHz: χ² of the truth is 1."""
    offsets = np.array([0.0, 0.25e9, 0.5e9, 3.2e9])
    made = table(frequency=4.3e9)
    rng = np.random.default_rng(2)

    def edit(hdus: Any) -> Any:
        data = np.repeat(np.asarray(hdus[0].data["DATA"]), 4, axis=3)
        for i, offset in enumerate(offsets):
            scale = (4.3e9 + offset) / 4.3e9
            vis = double(made.u * scale, made.v * scale)
            noise = made.sigma * (
                rng.standard_normal(len(vis)) + 1j * rng.standard_normal(len(vis))
            )
            data[:, 0, 0, i, 0, :2, 0] = (vis + noise).real[:, None]
            data[:, 0, 0, i, 0, :2, 1] = (vis + noise).imag[:, None]
        columns = [
            fits.Column("FRQSEL", "1J", array=[1]),
            fits.Column("IF FREQ", "4D", array=[offsets]),
        ]
        out = groups_with(hdus, data)
        return fits.HDUList(
            [out[0], hdus["AIPS AN"], fits.BinTableHDU.from_columns(columns, name="AIPS FQ")]
        )

    path = written(tmp_path / "a.uvfits", made, edit)
    found = uvfits.read_table(path)
    assert found.frequency == pytest.approx(5.2875e9)
    assert len(found) == 4 * len(made)
    chi2 = np.abs(found.vis - double(found.u, found.v)) ** 2 / (2 * found.sigma**2)
    assert chi2.mean() == pytest.approx(1.0, abs=0.3)
    closures = uvfits.read(path)
    assert closures.sizes["triangle"] == 4 * 4 * 6  # bands × scans × triangles of 5 stations
    assert len(uvfits.read_table(path, average_ifs=True)) == len(made)


@pytest.mark.parametrize(("start", "step", "hands"), [(-2, -1, 1), (-2, 1, 2), (-6, -1, 1)])
def test_a_left_hand_alone_or_first_is_read(
    tmp_path: Path, start: int, step: int, hands: int
) -> None:
    def edit(hdus: Any) -> Any:
        out = groups_with(hdus, np.asarray(hdus[0].data["DATA"])[..., :hands, :])
        out[0].header.update(CRVAL3=float(start), CDELT3=float(step))
        return out

    found = uvfits.read_table(written(tmp_path / "a.uvfits", edit=edit))
    np.testing.assert_allclose(found.vis, table().vis, rtol=1e-5)
    np.testing.assert_allclose(found.sigma, 0.01 * np.sqrt(2 / hands), rtol=1e-5)


def test_flux_and_field_of_another_source_come_from_its_data_with_a_warning(tmp_path: Path) -> None:
    made = table(frequency=15e9)
    path = written(tmp_path / "a.uvfits", replace(made, vis=8.0 + 0 * made.vis))
    found = uvfits.read(path)
    assert float(found["y"][0, -1]) == pytest.approx(8.0, rel=0.01)
    assert json.loads(found.attrs["params"])["field_of_view_uas"] > 1000
    assert "total flux was not given" in warnings_of(found)
    stated = uvfits.read(path, total_flux_jy=0.6, field_of_view_uas=128)
    assert float(stated["y"][0, -1]) == 0.6
    assert "no image of that flux" in warnings_of(stated)
    assert "beam of the longest baseline" in warnings_of(stated)
    with pytest.raises(DataError, match="total_flux_jy"):
        uvfits.read(path, total_flux_jy=-1.0)


def test_short_baselines_of_a_long_wavelength_are_not_within_a_site(tmp_path: Path) -> None:
    found = uvfits.read(written(tmp_path / "a.uvfits", table(frequency=8e9)), "visibilities")
    assert found.sizes["baseline"] == 40  # all far below the 10⁸ λ of an earlier cut
    assert "baselines_within_sites_left_out" not in found.attrs


def test_antennas_are_told_apart_by_number_and_odd_bytes_replaced(tmp_path: Path) -> None:
    def alike(hdus: Any) -> None:
        hdus["AIPS AN"].data["ANNAME"][:] = ["EA01", "EA02", "EA02", "EA04", "EA05"]

    found = uvfits.read(written(tmp_path / "a.uvfits", edit=alike), snr_min=0)
    assert found.attrs["stations"] == ["EA01", "EA02#2", "EA02#3", "EA04", "EA05"]
    assert found.sizes["triangle"] == 24
    path = written(tmp_path / "b.uvfits", replace(table(), stations=tuple("ABXYZ")))
    path.write_bytes(path.read_bytes().replace(b"X\0\0\0\0\0\0\0", b"X\x90\0\0\0\0\0\0"))
    assert uvfits.read_table(path).stations == ("A", "B", "X\ufffd", "Y", "Z")


def test_times_that_differ_by_rounding_are_of_one_integration(tmp_path: Path) -> None:
    made = table(times_h=np.arange(12) / 360)
    jitter = np.random.default_rng(3).uniform(-1, 1, len(made)) * 1e-8 * 24
    path = written(tmp_path / "a.uvfits", replace(made, time=made.time + jitter + 1))
    found = uvfits.read(path, scan_average=False, scan_limit_s=1e9)
    assert found.sizes["triangle"] == 12 * 6


def chi2(dataset: Any) -> float:
    """Return the reduced χ² of the double source."""
    y, model = dataset["y"].values[0], double(dataset["u"].values, dataset["v"].values)
    r = np.hypot(y[0] - model.real, y[1] - model.imag) / dataset["noise_sd"].values
    return float((r**2).mean() / 2)


def test_a_continuous_track_is_not_averaged_into_one_datum(tmp_path: Path) -> None:
    made = table(times_h=np.arange(0, 6, 30 / 3600), integration=30.0, extent_m=4e6)
    found = uvfits.read(written(tmp_path / "a.uvfits", made), "visibilities", field_of_view_uas=128)
    assert found.sizes["baseline"] >= 20 * 10
    assert chi2(found) < 2  # 1, and what is smeared at the edge of the field
    whole = uvfits.read(
        tmp_path / "a.uvfits", "visibilities", field_of_view_uas=128, scan_limit_s=1e9
    )
    assert whole.sizes["baseline"] == 10
    assert chi2(whole) > 100


@pytest.mark.parametrize(("factor", "units"), [(LIGHT, "metres"), (230e9, "wavelengths")])
def test_coordinates_in_another_unit_are_seen_by_the_size_of_the_array(
    tmp_path: Path, factor: float, units: str
) -> None:
    made = table()
    path = written(tmp_path / "a.uvfits", replace(made, u=made.u * factor, v=made.v * factor))
    with pytest.raises(DataError, match=f"longer than the array[\\s\\S]*{units}"):
        uvfits.read_table(path)
    found = uvfits.read_table(path, uv_units=units)
    np.testing.assert_allclose(found.u, made.u, rtol=1e-5)


@pytest.mark.parametrize(("change", "words"), [
    ({"vis": 1e25 + 0j}, "brighter than any source"),
    ({"sigma": 1e-15}, "no inverse variances"),
    ({"u": 0.0, "v": 0.0}, "have no length"),
])  # fmt: skip
def test_levels_that_cannot_be_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    made = table()
    made = replace(made, **{k: np.full(len(made), v) for k, v in change.items()})
    with pytest.raises(DataError, match=words):
        uvfits.read_table(written(tmp_path / "a.uvfits", made))


def test_a_compressed_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.uvfits.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(bytes(4 << 20))
    monkeypatch.setattr("sciinv.readers.parts.uvfits_file.LEAST_UNPACKED", 1 << 16)
    with pytest.raises(DataError, match="unpacks to too much"):
        uvfits.read_table(path)
