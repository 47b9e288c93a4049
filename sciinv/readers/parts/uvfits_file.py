"""UVFITS, the random-groups FITS file of interferometry, to a table of visibilities.

Source: Greisen, "AIPS FITS file format", AIPS Memo 117; the FITS Standard 4.0, section 6.
"""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.readers.parts.looks_sky import LIGHT_M_PER_S, check_levels, check_uv
from sciinv.readers.parts.uvfits_axes import axis_value, correlations, stokes_i
from sciinv.readers.parts.uvfits_columns import (
    antennas,
    bad_file,
    column,
    source_table,
)
from sciinv.readers.parts.uvfits_columns import chosen as choose
from sciinv.readers.parts.vlbi import VisibilityTable

MJD0 = 2400000.5
LEAST_UNPACKED, MOST_PACKED = 1 << 28, 100  # bytes, and times the size, of a compressed file


def astropy_fits() -> Any:
    """Return astropy's FITS module; it comes with an extra."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise DataError(
            "UVFITS files are read with astropy, which is not installed",
            remedy='pip install "sciinv[eht]"',
        ) from error
    return fits


def read_table(
    path: str | Path,
    *,
    source: int | str | None = None,
    freqsel: int | None = None,
    subarray: int | None = None,
    average_ifs: bool | None = None,
    uv_units: Literal["seconds", "metres", "wavelengths"] | None = None,
) -> VisibilityTable:
    """Read the Stokes I visibilities of one source in one UVFITS file.

    I = (RR + LL)/2 with σ = ½ √(1/w_RR + 1/w_LL), weights being 1/σ² per real component; where
    one hand is missing, from a sample or from the file, I is the other (as eht-imaging takes it).
    Linear feeds (XX, YY) and Stokes I files are read alike. Spectral channels are averaged with
    their weights at the IF's mean frequency: that of the header and the IF's offset in the table
    AIPS FQ. UU and VV in seconds become wavelengths.

    Left out, and counted in `dropped`: samples of weight ≤ 0, infinite or NaN; NaN visibilities;
    visibilities that are exactly 0; autocorrelations.

    Args:
        path: The file.
        source: Number or name of the source, where the file holds several.
        freqsel: Number of the frequency set-up, where the file holds several.
        subarray: Number of the subarray, where the file holds several.
        average_ifs: Whether to average the IFs too, at their mean frequency; if not, each makes
            rows at (u, v) of its own. None averages IFs that lie within 1 % of their mean.
        uv_units: Unit of UU and VV, where the file's names for them do not tell it right. None
            takes wavelengths for UU-L and VV-L, and seconds else.

    Raises:
        DataError: The file is not there, not UVFITS, cut off, holds several sources, set-ups or
            subarrays of which none was chosen, or holds no usable visibility.
    """
    fits = astropy_fits()
    path = Path(path)
    if not path.is_file():
        raise DataError(
            "The UVFITS file is not there",
            where=path,
            expected="a file",
            got="a folder" if path.is_dir() else "nothing",
            remedy="check the path",
        )
    if uv_units not in (None, "seconds", "metres", "wavelengths"):
        raise bad_file(path, "There is no such unit of (u, v)", "seconds, metres or wavelengths",
                       uv_units, "choose one of them, or leave it out")  # fmt: skip
    options = {"SOURCE": source, "FREQSEL": freqsel, "SUBARRAY": subarray}
    try:
        _check_unpacked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as hdus:
                _check_whole(path, hdus)
                return _table(path, hdus, options, average_ifs, uv_units)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "The file cannot be read as UVFITS",
            where=path,
            expected="a FITS file of random groups with an AIPS AN table",
            got=f"{type(error).__name__}: {error}",
            remedy="check that the file is UVFITS (not FITS-IDI or a measurement set) and whole",
        ) from error


def _check_unpacked(path: Path) -> None:
    """Refuse a compressed file that unpacks to far more than visibilities of its size can."""
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return
    most = max(LEAST_UNPACKED, MOST_PACKED * path.stat().st_size)
    size = 0
    with gzip.open(path) as unpacked:
        while block := unpacked.read(1 << 20):
            size += len(block)
            if size > most:
                raise bad_file(
                    path,
                    "The compressed file unpacks to too much",
                    f"at most {most} bytes, {MOST_PACKED} times its own size",
                    f"{size} and more",
                    "check where it comes from, and unpack it with gunzip",
                )


def _check_whole(path: Path, hdus: Any) -> None:
    info = hdus[0].fileinfo()
    end = info["datLoc"] + info["datSpan"]
    for hdu in hdus[1:]:
        end = max(end, hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"])
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if not compressed and path.stat().st_size < end:
        raise bad_file(
            path,
            "The file is cut off",
            f"{end} bytes, as its headers say",
            f"{path.stat().st_size} bytes",
            "copy or download it again",
        )


def _table(
    path: Path,
    hdus: Any,
    options: dict[str, Any],
    average_ifs: bool | None,
    uv_units: str | None,
) -> VisibilityTable:
    header, groups = hdus[0].header, hdus[0].data
    if not header.get("GROUPS", False) or not header.get("GCOUNT", 0) or groups is None:
        raise bad_file(
            path,
            "The file holds no random groups",
            "GROUPS = T and GCOUNT > 0 in the primary header",
            f"GROUPS = {header.get('GROUPS')}, GCOUNT = {header.get('GCOUNT')}",
            "give a UVFITS file, not an image",
        )
    first, second = _baselines(groups)
    usable, chosen = (first != second) & _has_data(groups), {}
    sources = source_table(hdus)
    names_of = {"SOURCE": {k: v[0] for k, v in sources.items()}}
    for name in ("SOURCE", "FREQSEL", "SUBARRAY"):
        usable, chosen[name] = choose(
            path, groups, usable, name, options[name], names_of.get(name, {})
        )
    names, numbers, positions = antennas(path, hdus, chosen["SUBARRAY"])
    parts, frequency, bandwidth = correlations(path, hdus, groups, chosen["FREQSEL"], average_ifs)
    mine = np.ones(len(groups), bool)
    for name in chosen:
        mine &= column(groups, name) == chosen[name]
    mjd, hours = _time(path, groups)
    has_time = "INTTIM" in groups.parnames
    seconds = np.asarray(groups.par("INTTIM"), float) if has_time else np.zeros(len(groups))
    index = {n: i for i, n in enumerate(numbers)}
    rows: dict[str, list[NDArray]] = {}
    dropped: dict[str, int] = {}
    for band, (real, imag, weight, hertz) in enumerate(parts):
        vis, sigma, lost = stokes_i(real[mine], imag[mine], weight[mine])
        keep = np.isfinite(sigma)
        auto = first[mine] == second[mine]
        lost["autocorrelation"] = int((keep & auto).sum())
        keep &= ~auto
        dropped = {k: dropped.get(k, 0) + n for k, n in lost.items()}
        one, other = first[mine][keep], second[mine][keep]
        unknown = sorted({int(n) for n in [*one, *other]} - set(numbers))
        if unknown:
            raise bad_file(
                path,
                "Baselines refer to stations that the AIPS AN table does not list",
                f"station numbers {sorted(numbers)}",
                unknown,
                "write the file again with its whole antenna table",
            )
        given = [_uv(path, groups, axis, hertz, frequency, uv_units) for axis in ("UU", "VV")]
        u, v = (value[mine][keep] for value in given)
        check_uv(path, u, v, hertz, positions)
        a, b = (np.array([index[n] for n in s], dtype=np.int64) for s in (one, other))
        turn = a > b  # V_ba = V_ab*
        sign = np.where(turn, -1.0, 1.0)
        found = {
            "time": hours[mine][keep],
            "station1": np.minimum(a, b),
            "station2": np.maximum(a, b),
            "u": u * sign,
            "v": v * sign,
            "vis": np.where(turn, vis[keep].conj(), vis[keep]),
            "sigma": sigma[keep],
            "integration": seconds[mine][keep],
            "band": np.full(len(u), band),
        }
        for k, value in found.items():
            rows.setdefault(k, []).append(value)
    joined: dict[str, Any] = {k: np.concatenate(v) for k, v in rows.items()}
    if not len(joined["u"]):
        raise bad_file(
            path,
            "No visibility is left: all are flagged, blank or autocorrelations",
            "a sample with a finite weight > 0 between two stations",
            f"{len(groups)} groups, left out: {dropped}",
            "check the flags of the file",
        )
    check_levels(path, joined["vis"], joined["sigma"])
    order = np.lexsort((joined["station2"], joined["station1"], joined["band"], joined["time"]))
    own = sources.get(chosen["SOURCE"])
    if own is None or not own[0]:
        ra = float(header.get("OBSRA", axis_value(header, "RA")))
        dec = float(header.get("OBSDEC", axis_value(header, "DEC")))
        own = (str(header.get("OBJECT", "")).strip(), ra, dec)
    return VisibilityTable(
        **{k: v[order] for k, v in joined.items()},
        stations=names,
        positions=positions,
        frequency=frequency,
        bandwidth=bandwidth,
        source=own[0],
        ra=own[1],
        dec=own[2],
        mjd=mjd,
        dropped={k: n for k, n in dropped.items() if n},
    )


def _has_data(groups: Any) -> NDArray[np.bool_]:
    """Return the groups with a positive weight, [G]."""
    weight = np.asarray(groups["DATA"])[..., 2] if groups["DATA"].shape[-1] > 2 else None
    if weight is None:
        return np.ones(len(groups), bool)
    with np.errstate(invalid="ignore"):
        return np.asarray((weight > 0).reshape(len(weight), -1).any(1))


def _baselines(groups: Any) -> tuple[NDArray, NDArray]:
    """Return both station numbers; 256 a + b, or 2048 a + b + 65536 in large arrays."""
    if "BASELINE" in groups.parnames:
        code = np.floor(np.asarray(groups.par("BASELINE"), float)).astype(int)  # .01: subarray
        large = code > 65536
        step = np.where(large, 2048, 256)
        code = code - np.where(large, 65536, 0)
        return code // step, code % step
    return tuple(np.asarray(groups.par(f"ANTENNA{i}"), float).astype(int) for i in (1, 2))  # type: ignore[return-value]


def _uv(
    path: Path, groups: Any, axis: str, hertz: float, frequency: float, units: str | None
) -> NDArray:
    names = [n for n in groups.parnames if n.split("-")[0] == axis]
    if not names:
        raise bad_file(
            path,
            f"The file has no {axis} coordinate",
            f"a random parameter {axis}, {axis}-- or {axis}---SIN",
            ", ".join(dict.fromkeys(groups.parnames)),
            "write the file again with its (u, v) coordinates",
        )
    value = np.asarray(groups.par(names[0]), float)
    if units is None:  # AIPS Memo 117
        units = "wavelengths" if names[0].startswith(f"{axis}-L") else "seconds"
    if units == "wavelengths":  # at the mean frequency
        return value * (hertz / frequency)
    return value * (hertz if units == "seconds" else hertz / LIGHT_M_PER_S)


def _time(path: Path, groups: Any) -> tuple[int, NDArray]:
    """Return the Julian day number of the first sample as MJD, and hours since its 0 h."""
    if "DATE" not in groups.parnames:
        raise bad_file(
            path, "The samples have no time", "a random parameter DATE",
            ", ".join(groups.parnames), "write the file again with DATE",
        )  # fmt: skip
    # the parts are subtracted one by one: their sum would round to 40 µs
    parts = [
        np.asarray(groups.field(i), float)
        for i, n in enumerate(groups.parnames) if n == "DATE"
    ]  # fmt: skip
    whole = parts[0] - MJD0
    days = whole + sum(parts[1:], np.zeros_like(whole))
    if not np.isfinite(days).all() or days.min() < 0 or days.max() > 1e5:
        raise bad_file(
            path,
            "The times are no Julian dates",
            "DATE between JD 2400000.5 and 2500000.5",
            f"{days.min() + MJD0:.3f} to {days.max() + MJD0:.3f}",
            "check PZERO of DATE, which is added to the stored values",
        )
    mjd = int(np.floor(days.min()))
    return mjd, ((whole - mjd) + sum(parts[1:], np.zeros_like(whole))) * 24.0
