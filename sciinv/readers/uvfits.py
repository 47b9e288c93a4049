"""UVFITS files to the measurement dataset of an image: closures, or calibrated visibilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.operators.parts.closure_sets import Count, amplitude_cholesky, closure_set
from sciinv.readers.parts import looks_sky
from sciinv.readers.parts.looks import with_warnings
from sciinv.readers.parts.options import check_options, is_number
from sciinv.readers.parts.uvfits_file import read_table
from sciinv.readers.parts.uvfits_writer import write
from sciinv.readers.parts.vlbi import SCAN_GAP_S, VisibilityTable, concatenate

__all__ = ["read", "read_table", "write"]


# Sources of which the papers state what the data do not say: the compact flux of M87 at 1.3 mm in
# April 2017 and the field that the released pipelines image (EHT 2019-D01-02, eht-imaging).
STATED = {("M87", "VIRGO A", "3C274", "VIRGOA"): ((200e9, 260e9), (0.6, 0.1), 128.0)}
SITE_M = 10e3  # stations nearer than this stand on one site
SITE_SHARE = 1 / 80  # … where the longest baseline is this much longer


def read(
    path: str | Path | Sequence[str | Path],
    kind: Literal["closures", "amplitudes", "visibilities"] = "closures",
    *,
    scan_average: bool = True,
    scan_gap_s: float = SCAN_GAP_S,
    scan_limit_s: float | None = None,
    systematic_noise: float = 0.0,
    snr_min: float = 3.0,
    intra_site: bool = False,
    intra_site_wavelengths: float | None = None,
    count: Count = "minimal",
    gain_sd: float | dict[str, float] = 0.1,
    total_flux_jy: float | None = None,
    total_flux_sd_jy: float | None = None,
    image_size: int = 64,
    field_of_view_uas: float | None = None,
    flux_unit_jy: float | None = None,
    source: int | str | None = None,
    freqsel: int | None = None,
    subarray: int | None = None,
    average_ifs: bool | None = None,
    uv_units: Literal["seconds", "metres", "wavelengths"] | None = None,
) -> xr.Dataset:
    """Read UVFITS files into the measurement dataset of one image.

    Each file is averaged over scans, given its systematic noise and cut by itself; then all are
    joined, so that several days or bands of a source that stays the same make one measurement.
    What looks wrong is told in the attribute `warnings`.

    Args:
        path: A file, or several of one source.
        kind: "closures" (closure phases, log closure amplitudes and the total flux; free of
            station gains), "amplitudes" (closure phases, log amplitudes whose station gains are
            marginalised, and the total flux) or "visibilities" (trusts the calibration).
        scan_average: Whether to average coherently over scans; without, each integration counts.
        scan_gap_s: A gap in time that starts a new scan, s.
        scan_limit_s: Longest average, s: longer scans are cut into equal parts. None takes the
            time in which the Earth's rotation moves the edge of the field by an eighth of a turn
            on the longest baseline.
        systematic_noise: Fraction of |V| added to σ in quadrature.
        snr_min: Baselines of a lower |V|/σ are left out of the closures: below about 3 a phase
            error is no longer Gaussian and its first-order variance too small. 0 keeps all.
        intra_site: Whether to keep baselines within a site (ALMA–APEX, JCMT–SMA). They see flux
            beyond the field of view (the jet of M87), so the default leaves them out.
        intra_site_wavelengths: Length below which a baseline is within a site, wavelengths. None
            takes stations less than 10 km apart, where the longest baseline is 80 times the
            length of theirs.
        count: Closure set, see `sciinv.operators.parts.closure_sets`.
        gain_sd: For amplitudes: standard deviation of ln|g| of each station in each scan, one
            number, or by station name ("*" for all others). The a-priori budget of April 2017 is
            7 to 22 % of the SEFD, half of that in g; the LMT is worse than its budget (EHT
            2019-D01-02).
        total_flux_jy: Total flux within the field of view, a datum of its own, since closures
            say nothing of it. It is not the zero-baseline flux. None takes 0.6 Jy for M87 at
            1.3 mm, the compact flux of April 2017 (EHT 2019-D01-02), and else what the shortest
            baselines show, with a warning.
        total_flux_sd_jy: Its standard deviation; None takes 0.1 Jy for M87 at 1.3 mm, a sixth
            where the flux is given, and else a fifth or the scatter of the short baselines.
        image_size: Pixels along each side of the image.
        field_of_view_uas: Angle along each side, µas. None takes 128 µas for M87 at 1.3 mm, and
            else pixels of a third of the longest baseline's beam, with a warning.
        flux_unit_jy: Flux in Jy of an image of pixel sum 1; the total flux unless given for
            closures, 1 for visibilities.
        source: Number or name of the source, where a file holds several.
        freqsel: Number of the frequency set-up, where a file holds several.
        subarray: Number of the subarray, where a file holds several.
        average_ifs: Whether to average the IFs (bands); if not, each counts at (u, v) of its own.
            None averages IFs within 1 % of their mean frequency.
        uv_units: Unit of UU and VV where the file does not tell it right; None takes seconds, or
            wavelengths where they are named UU-L and VV-L.

    Returns:
        Dataset with `y` (item, …) and the arrays and parameters of the operator `kind`.

    Raises:
        DataError: A file that cannot be read, holds several sources, or too few stations for any
            closure quantity.
    """
    check_options(read, path, locals())
    if kind not in ("closures", "amplitudes", "visibilities"):
        raise DataError(
            "There is no measurement of this kind in a UVFITS file",
            expected="closures, amplitudes or visibilities",
            got=kind,
            remedy="choose one of the three",
        )
    paths = [path] if isinstance(path, str | Path) else list(path)
    asked: dict[str, Any] = {"source": source, "freqsel": freqsel, "subarray": subarray}
    raw = [read_table(p, **asked, average_ifs=average_ifs, uv_units=uv_units) for p in paths]
    stated = _stated(raw[0])
    field = field_of_view_uas if field_of_view_uas is not None else stated and stated[1]
    told: list[str] = []
    if field is None:
        field = min(looks_sky.field_uas(t, image_size) for t in raw)
        told.append(
            f"The field of view was not given: {field:.4g} µas is {image_size} pixels of a third "
            "of the longest baseline's beam. Give field_of_view_uas for a source of another size."
        )
    tables, groups, left = [], [], 0
    for i, (item, table) in enumerate(zip(paths, raw, strict=True)):
        limit = table.longest_coherent_s(field * looks_sky.UAS)
        limit = limit if scan_limit_s is None else float(scan_limit_s)
        site = _within_site(table, intra_site_wavelengths)
        if scan_average:
            table = table.average_scans(scan_gap_s, longest_s=limit)
            site = _within_site(table, intra_site_wavelengths)
        table = table.with_systematic_noise(systematic_noise)
        keep = np.ones(len(table), bool)
        if not intra_site:
            keep &= ~site
            left += int(site.sum())
        if kind != "visibilities":
            keep &= table.snr >= snr_min
        if not keep.any():
            raise DataError(
                "No baseline is left after the cuts",
                where=item,
                expected=f"|V|/σ of at least {snr_min:g}, between two sites",
                got=f"{len(keep)} visibilities, none of them so; {int(site.sum())} within a site",
                remedy="lower snr_min, or set intra_site=True",
            )
        # each scan's part, or each integration, is a group of its own; so is each band in it
        scan = table.scans(1e-3) if scan_average else table.integrations()
        group = scan * (int(table.band.max(initial=0)) + 1) + table.band
        table, group = table.select(keep), group[keep]
        tables.append(table)
        groups.append(i * 10**6 + group)
    table = concatenate(tables)
    params: dict[str, Any] = {"image_size": image_size, "field_of_view_uas": field}
    attrs: dict[str, Any] = {
        "source": ", ".join(Path(p).name for p in paths),
        "title": f"{table.source.strip()}, {len(paths)} file(s), {table.frequency / 1e9:.3f} GHz",
        "stations": list(table.stations),
        "frequency_hz": float(table.frequency),
        "ra_deg": float(table.ra),
        "dec_deg": float(table.dec),
    }
    if left:
        attrs["baselines_within_sites_left_out"] = left
    flux = _flux(table, stated, total_flux_jy, total_flux_sd_jy, told, kind)
    told += looks_sky.doubts(table, None if kind == "visibilities" else flux, field, image_size)
    number = np.concatenate(groups)
    if kind == "visibilities":
        params["flux_unit_jy"] = 1.0 if flux_unit_jy is None else flux_unit_jy
        return with_warnings(_visibilities(table, number, params, attrs), told)
    params["flux_unit_jy"] = flux[0] if flux_unit_jy is None else flux_unit_jy
    gains = _gains(gain_sd, table.stations) if kind == "amplitudes" else None
    return with_warnings(_closures(table, number, count, gains, flux, params, attrs), told)


def _stated(table: VisibilityTable) -> tuple[tuple[float, float], float] | None:
    """Return (flux, sd) in Jy and field in µas that the papers state of this source, or None."""
    name = table.source.strip().upper()
    for names, ((low, high), flux, field) in STATED.items():
        if name in names and low <= table.frequency <= high:
            return flux, field
    return None


def _flux(
    table: VisibilityTable,
    stated: tuple[tuple[float, float], float] | None,
    flux: float | None,
    sd: float | None,
    told: list[str],
    kind: str,
) -> tuple[float, float]:
    """Return the total flux and its standard deviation, Jy: given, stated, or seen."""
    if flux is not None:
        usual = stated[0][1] if stated else flux / 6
        return float(flux), float(usual if sd is None else sd)
    if stated:
        return stated[0][0], float(stated[0][1] if sd is None else sd)
    seen, scatter = looks_sky.total_flux(table)
    sd = scatter if sd is None else float(sd)
    if kind != "visibilities":
        told.append(
            f"The total flux was not given: {seen:.4g} ± {sd:.3g} Jy is what the shortest "
            "baselines show. Closures say nothing of it; give total_flux_jy where it is known."
        )
    return seen, sd


def _within_site(table: VisibilityTable, wavelengths: float | None) -> NDArray[np.bool_]:
    """Return the rows of baselines within a site."""
    longest = float(table.uv_distance.max(initial=0.0))
    if wavelengths is not None:
        return table.uv_distance < wavelengths
    place = table.positions
    apart = np.linalg.norm(place[table.station1] - place[table.station2], axis=1)
    known = (np.abs(place).sum(1) > 0)[[table.station1, table.station2]].all(0)
    short = table.uv_distance < SITE_SHARE * longest
    return short & (~known | (apart < SITE_M)) & (_longest_m(table) > 100 * SITE_M)


def _longest_m(table: VisibilityTable) -> float:
    return float(table.uv_distance.max(initial=0.0)) * looks_sky.LIGHT_M_PER_S / table.frequency


def _gains(gain_sd: float | dict[str, float], stations: tuple[str, ...]) -> NDArray:
    """Return the standard deviation of ln|g| by station."""
    if not isinstance(gain_sd, dict):
        gain_sd = {"*": gain_sd}
    unknown = sorted(set(gain_sd) - {*stations, "*"})
    given = [gain_sd.get(s, gain_sd.get("*")) for s in stations]
    values = np.array([np.nan if v is None or not is_number(v) else float(v) for v in given])
    if unknown or not (values >= 0).all():
        raise DataError(
            "The station gains are not given for the stations of the file",
            where="gain_sd",
            expected=f'a number ≥ 0 for each of {", ".join(stations)}, or "*" for the others',
            got=gain_sd,
            remedy='correct the station names, or add "*"',
        )
    return values


def _visibilities(table: VisibilityTable, scans: NDArray, params: dict, attrs: dict) -> xr.Dataset:
    y = np.stack([table.vis.real, table.vis.imag])
    return xr.Dataset(
        {
            "y": (("item", "part", "baseline"), y[None]),
            "u": ("baseline", table.u),
            "v": ("baseline", table.v),
            "noise_sd": ("baseline", table.sigma),
            "stations": (("baseline", "end"), np.stack([table.station1, table.station2], 1)),
            "scans": ("baseline", np.unique(scans, return_inverse=True)[1]),
        },
        coords=_row_coords(table),
        attrs=attrs | {"operator": "visibilities", "units": "Jy", "params": json.dumps(params)},
    )


def _row_coords(table: VisibilityTable) -> dict:
    rows = {"time": table.time, "station1": table.station1, "station2": table.station2}
    return {k: ("baseline", v) for k, v in rows.items()}


def _closures(
    table: VisibilityTable,
    groups: NDArray,
    count: Count,
    gains: NDArray | None,
    flux: tuple[float, float],
    params: dict,
    attrs: dict,
) -> xr.Dataset:
    error = 1.0 / table.snr
    found = closure_set(table.station1, table.station2, groups, error, count)
    if not len(found.triangles):
        raise DataError(
            "No closure phase can be formed",
            where=attrs["source"],
            expected="a scan with three stations and all three baselines between them",
            got=f"{len(table)} visibilities of {len(set(table.baseline_names()))} baselines",
            remedy='read kind="visibilities", lower snr_min, or set intra_site=True',
        )
    arrays: dict[str, tuple] = {
        "triangles": (("triangle", "leg"), found.triangles),
        "triangle_signs": (("triangle", "leg"), found.triangle_signs),
    }
    coords = {"triangle_stations": (("triangle", "leg"), found.triangle_stations)}
    if gains is not None:
        logs = np.log(np.abs(table.vis))
        block = amplitude_cholesky(table.station1, table.station2, groups, error, gains)
        factor = found.cholesky(error, flux[1], block)
        arrays["amplitudes"] = ("amplitude", np.arange(len(table)))
    else:
        logs = found.log_amplitudes(table.vis)
        factor = found.cholesky(error, flux[1])
        if len(logs):
            arrays["quadrangles"] = (("quadrangle", "side"), found.quadrangles)
            coords["quadrangle_stations"] = (("quadrangle", "side"), found.quadrangle_stations)
    y = np.concatenate([found.phases(table.vis), logs, [flux[0]]])
    return xr.Dataset(
        {
            "y": (("item", "closure"), y[None]),
            "u": ("baseline", table.u),
            "v": ("baseline", table.v),
            "cholesky": (("closure", "closure_2"), factor),
            **arrays,
        },
        coords=_row_coords(table) | coords,
        attrs=attrs
        | {
            "operator": "closures",
            "units": "rad (phases), 1 (log amplitudes), Jy (total flux)",
            "params": json.dumps(params),
        },
    )
