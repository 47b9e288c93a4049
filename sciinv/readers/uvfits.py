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
from sciinv.readers.parts.uvfits_file import read_table
from sciinv.readers.parts.uvfits_writer import write
from sciinv.readers.parts.vlbi import SCAN_GAP_S, VisibilityTable, concatenate

__all__ = ["read", "read_table", "write"]


def read(
    path: str | Path | Sequence[str | Path],
    kind: Literal["closures", "amplitudes", "visibilities"] = "closures",
    *,
    scan_average: bool = True,
    scan_gap_s: float = SCAN_GAP_S,
    systematic_noise: float = 0.0,
    snr_min: float = 3.0,
    intra_site: bool = False,
    intra_site_wavelengths: float = 1e8,
    count: Count = "minimal",
    gain_sd: float | dict[str, float] = 0.1,
    total_flux_jy: float = 0.6,
    total_flux_sd_jy: float = 0.1,
    image_size: int = 64,
    field_of_view_uas: float = 128.0,
    flux_unit_jy: float | None = None,
) -> xr.Dataset:
    """Read UVFITS files into the measurement dataset of one image.

    Each file is averaged over scans, given its systematic noise and cut by itself; then all are
    joined, so that several days or bands of a source that stays the same make one measurement.

    Args:
        path: A file, or several of one source.
        kind: "closures" (closure phases, log closure amplitudes and the total flux; free of
            station gains), "amplitudes" (closure phases, log amplitudes whose station gains are
            marginalised, and the total flux) or "visibilities" (trusts the calibration).
        scan_average: Whether to average coherently over scans; without, each integration counts.
        scan_gap_s: A gap in time that starts a new scan, s.
        systematic_noise: Fraction of |V| added to σ in quadrature.
        snr_min: Baselines of a lower |V|/σ are left out of the closures: below about 3 a phase
            error is no longer Gaussian and its first-order variance too small. 0 keeps all.
        intra_site: Whether to keep baselines within a site (ALMA–APEX, JCMT–SMA). They see flux
            beyond the field of view (the jet of M87), so the default leaves them out.
        intra_site_wavelengths: Length below which a baseline is within a site, wavelengths.
        count: Closure set, see `sciinv.operators.parts.closure_sets`.
        gain_sd: For amplitudes: standard deviation of ln|g| of each station in each scan, one
            number, or by station name ("*" for all others). The a-priori budget of April 2017 is
            7 to 22 % of the SEFD, half of that in g; the LMT is worse than its budget (EHT
            2019-D01-02).
        total_flux_jy: Total flux within the field of view, a datum of its own, since closures
            say nothing of it. It is not the zero-baseline flux. 0.6 Jy is the compact flux of
            M87 in April 2017 that the released pipelines take (EHT 2019-D01-02, eht-imaging).
        total_flux_sd_jy: Its standard deviation.
        image_size: Pixels along each side of the image.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: Flux in Jy of an image of pixel sum 1; `total_flux_jy` unless given for
            closures, 1 for visibilities.

    Returns:
        Dataset with `y` (item, …) and the arrays and parameters of the operator `kind`.

    Raises:
        DataError: A file that cannot be read, or too few stations for any closure quantity.
    """
    if kind not in ("closures", "amplitudes", "visibilities"):
        raise DataError(
            "There is no measurement of this kind in a UVFITS file",
            expected="closures, amplitudes or visibilities",
            got=kind,
            remedy="choose one of the three",
        )
    paths = [path] if isinstance(path, str | Path) else list(path)
    tables, groups = [], []
    for i, item in enumerate(paths):
        table = read_table(item)
        if scan_average:
            table = table.average_scans(scan_gap_s)
        table = table.with_systematic_noise(systematic_noise)
        keep = np.ones(len(table), bool)
        if not intra_site:
            keep &= table.uv_distance >= intra_site_wavelengths
        if kind != "visibilities":
            keep &= table.snr >= snr_min
        table = table.select(keep)
        if not len(table):
            raise DataError(
                "No baseline is left after the cuts",
                where=item,
                expected=f"|V|/σ of at least {snr_min:g}, longer than {intra_site_wavelengths:g} λ",
                got=f"{len(keep)} visibilities, none of them so",
                remedy="lower snr_min, or set intra_site=True",
            )
        tables.append(table)
        # without averaging, each integration is a group of its own
        groups.append(i * 10**6 + table.scans(scan_gap_s if scan_average else 0.0))
    table = concatenate(tables)
    params: dict[str, Any] = {"image_size": image_size, "field_of_view_uas": field_of_view_uas}
    attrs = {
        "source": ", ".join(Path(p).name for p in paths),
        "title": f"{table.source.strip()}, {len(paths)} file(s), {table.frequency / 1e9:.3f} GHz",
        "stations": list(table.stations),
    }
    if kind == "visibilities":
        params["flux_unit_jy"] = 1.0 if flux_unit_jy is None else flux_unit_jy
        return _visibilities(table, params, attrs)
    params["flux_unit_jy"] = total_flux_jy if flux_unit_jy is None else flux_unit_jy
    gains = _gains(gain_sd, table.stations) if kind == "amplitudes" else None
    flux = total_flux_jy, total_flux_sd_jy
    return _closures(table, np.concatenate(groups), count, gains, flux, params, attrs)


def _gains(gain_sd: float | dict[str, float], stations: tuple[str, ...]) -> NDArray:
    """Return the standard deviation of ln|g| by station."""
    if not isinstance(gain_sd, dict):
        gain_sd = {"*": gain_sd}
    unknown = sorted(set(gain_sd) - {*stations, "*"})
    values = np.array([float(gain_sd.get(s, gain_sd.get("*", np.nan))) for s in stations])
    if unknown or not (values >= 0).all():
        raise DataError(
            "The station gains are not given for the stations of the file",
            where="gain_sd",
            expected=f'a number ≥ 0 for each of {", ".join(stations)}, or "*" for the others',
            got=gain_sd,
            remedy='correct the station names, or add "*"',
        )
    return values


def _visibilities(table: VisibilityTable, params: dict, attrs: dict) -> xr.Dataset:
    y = np.stack([table.vis.real, table.vis.imag])
    return xr.Dataset(
        {
            "y": (("item", "part", "baseline"), y[None]),
            "u": ("baseline", table.u),
            "v": ("baseline", table.v),
            "noise_sd": ("baseline", table.sigma),
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
