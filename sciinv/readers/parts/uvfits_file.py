"""UVFITS, the random-groups FITS file of interferometry, to a table of visibilities.

Source: Greisen, "AIPS FITS file format", AIPS Memo 117; the FITS Standard 4.0, section 6.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.readers.parts.vlbi import VisibilityTable

MJD0 = 2400000.5
# first value of the STOKES axis -> (axis values whose mean is Stokes I, name)
HANDS = {1: ((1,), "I"), -1: ((-1, -2), "RR, LL"), -5: ((-5, -6), "XX, YY")}


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


def bad_file(path: Path, what: str, expected: str, got: object, remedy: str) -> DataError:
    """Return the error of a file that is not as it should be."""
    return DataError(what, where=path, expected=expected, got=got, remedy=remedy)


def read_table(path: str | Path) -> VisibilityTable:
    """Read the Stokes I visibilities of one UVFITS file.

    I = (RR + LL)/2 with σ = ½ √(1/w_RR + 1/w_LL), weights being 1/σ² per real component; where
    one hand is missing, I is the other (as eht-imaging takes it). Linear feeds (XX, YY) and Stokes
    I files are read alike. Spectral channels and IFs are averaged with their weights at the mean
    frequency. UU and VV in seconds become wavelengths.

    Left out, and counted in `dropped`: samples of weight ≤ 0, infinite or NaN; NaN visibilities;
    visibilities that are exactly 0; autocorrelations.

    Raises:
        DataError: The file is not there, not UVFITS, cut off, or holds no usable visibility.
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as hdus:
                _check_whole(path, hdus)
                return _table(path, hdus)
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


def _table(path: Path, hdus: Any) -> VisibilityTable:
    header, groups = hdus[0].header, hdus[0].data
    if not header.get("GROUPS", False) or not header.get("GCOUNT", 0) or groups is None:
        raise bad_file(
            path,
            "The file holds no random groups",
            "GROUPS = T and GCOUNT > 0 in the primary header",
            f"GROUPS = {header.get('GROUPS')}, GCOUNT = {header.get('GCOUNT')}",
            "give a UVFITS file, not an image",
        )
    names, numbers, positions = _antennas(path, hdus)
    real, imag, weight, frequency, bandwidth = _correlations(path, header, groups)
    vis, sigma, dropped = _stokes_i(real, imag, weight)

    first, second = _baselines(groups)
    keep = np.isfinite(sigma)
    dropped["autocorrelation"] = int((keep & (first == second)).sum())
    keep &= first != second
    if not keep.any():
        raise bad_file(
            path,
            "No visibility is left: all are flagged, blank or autocorrelations",
            "a sample with a finite weight > 0 between two stations",
            f"{len(keep)} groups, left out: {dropped}",
            "check the flags of the file",
        )
    unknown = sorted(set(np.concatenate([first[keep], second[keep]])) - set(numbers))
    if unknown:
        raise bad_file(
            path,
            "Baselines refer to stations that the AIPS AN table does not list",
            f"station numbers {sorted(numbers)}",
            unknown,
            "write the file again with its whole antenna table",
        )
    u, v = (_uv(path, groups, axis, frequency)[keep] for axis in ("UU", "VV"))
    index = {n: i for i, n in enumerate(numbers)}
    a, b = (np.array([index[n] for n in s[keep]]) for s in (first, second))
    turn = a > b  # V_ba = V_ab*
    sign = np.where(turn, -1.0, 1.0)
    mjd, hours = _time(path, groups)
    vis = np.where(turn, vis[keep].conj(), vis[keep])
    has_time = "INTTIM" in groups.parnames
    seconds = np.asarray(groups.par("INTTIM"), float)[keep] if has_time else np.zeros(len(u))
    order = np.lexsort((np.maximum(a, b), np.minimum(a, b), hours[keep]))
    return VisibilityTable(
        time=hours[keep][order],
        station1=np.minimum(a, b)[order],
        station2=np.maximum(a, b)[order],
        u=(u * sign)[order],
        v=(v * sign)[order],
        vis=vis[order],
        sigma=sigma[keep][order],
        integration=seconds[order],
        stations=names,
        positions=positions,
        frequency=frequency,
        bandwidth=bandwidth,
        source=str(header.get("OBJECT", "")).strip(),
        ra=float(header.get("OBSRA", _axis_value(header, "RA"))),
        dec=float(header.get("OBSDEC", _axis_value(header, "DEC"))),
        mjd=mjd,
        dropped={k: n for k, n in dropped.items() if n},
    )


def _antennas(path: Path, hdus: Any) -> tuple[tuple[str, ...], list[int], NDArray]:
    tables = [h for h in hdus[1:] if str(h.header.get("EXTNAME", "")).strip() == "AIPS AN"]
    if not tables:
        raise bad_file(
            path,
            "The file has no antenna table",
            "an extension AIPS AN",
            [h.name for h in hdus[1:]] or "no extension",
            "write the file again with its antenna table",
        )
    data = tables[0].data
    names = tuple(str(n).strip() for n in data["ANNAME"])
    if len(names) < 2:
        raise bad_file(
            path,
            "The array has fewer than two stations",
            "two stations or more in AIPS AN",
            f"{len(names)}: {', '.join(names)}",
            "an interferometer needs a baseline; check the file",
        )
    numbers = [int(n) for n in data["NOSTA"]]
    return names, numbers, np.asarray(data["STABXYZ"], float).reshape(len(names), 3)


def _axes(header: Any) -> dict[str, int]:
    """Return the number of each named axis (2, 3, …); groups have NAXIS1 = 0."""
    n = range(2, int(header["NAXIS"]) + 1)
    return {str(header.get(f"CTYPE{i}", "")).strip().upper(): i for i in n}


def _axis_value(header: Any, name: str) -> float:
    axis = _axes(header).get(name)
    return float(header.get(f"CRVAL{axis}", np.nan)) if axis else float("nan")


def _correlations(
    path: Path, header: Any, groups: Any
) -> tuple[NDArray, NDArray, NDArray, float, float]:
    """Return real, imaginary part and weight [G, hand, channel]; frequency and bandwidth, Hz."""
    axes = _axes(header)
    for name in ("COMPLEX", "STOKES", "FREQ"):
        if name not in axes:
            raise bad_file(
                path,
                f"The data have no {name} axis",
                "CTYPE of COMPLEX, STOKES and FREQ in the primary header",
                ", ".join(k for k in axes if k) or "none",
                "convert the file with AIPS, CASA or eht-imaging, which write these axes",
            )
    data = np.asarray(groups["DATA"])
    data = data.astype(data.dtype.newbyteorder("="))  # FITS is big-endian
    last = data.ndim + 1  # FITS axis k is numpy axis last − k

    order = [0] + [last - axes[k] for k in ("STOKES", "IF", "FREQ") if k in axes]
    rest = [i for i in range(1, data.ndim) if i not in [*order, last - axes["COMPLEX"]]]
    if any(data.shape[i] != 1 for i in rest) or data.shape[last - axes["COMPLEX"]] < 3:
        raise bad_file(
            path,
            "The axes of the data are not those of UVFITS",
            "COMPLEX of length 3 (real, imaginary, weight), and no further axes",
            dict(sorted(axes.items())) | {"shape": data.shape},
            "convert the file with AIPS, CASA or eht-imaging",
        )
    data = data.transpose([*order, last - axes["COMPLEX"], *rest])
    data = data.reshape(len(data), data.shape[1], -1, data.shape[len(order)])

    axis, step = axes["STOKES"], int(header.get(f"CDELT{axes['STOKES']}", -1))
    start = int(header[f"CRVAL{axis}"]) + step * (1 - int(header.get(f"CRPIX{axis}", 1)))
    if start not in HANDS:
        raise bad_file(
            path,
            "The polarisation of the data is not known",
            "a STOKES axis that starts at 1 (I), −1 (RR) or −5 (XX)",
            start,
            "convert the file to Stokes I or to parallel hands first",
        )
    wanted, _ = HANDS[start]
    hands = [i for i in range(data.shape[1]) if start + step * i in wanted]
    data = data[:, hands].astype(float)

    axis = axes["FREQ"]
    n, width = int(header[f"NAXIS{axis}"]), float(header.get(f"CDELT{axis}", 0.0))
    channel = np.arange(1, n + 1) - float(header.get(f"CRPIX{axis}", 1.0))
    frequency = float(header[f"CRVAL{axis}"]) + width * float(channel.mean())
    if not frequency > 0:
        raise bad_file(
            path, "The observing frequency is not positive", "CRVAL > 0 Hz", frequency,
            "mend CRVAL of the FREQ axis in the header",
        )  # fmt: skip
    bandwidth = abs(width) * data.shape[2]
    return data[..., 0], data[..., 1], data[..., 2], frequency, bandwidth


def _stokes_i(
    real: NDArray, imag: NDArray, weight: NDArray
) -> tuple[NDArray, NDArray, dict[str, int]]:
    """Return I [G], its σ (NaN where there is none), and the number of rows lost by reason."""
    finite = np.isfinite(real) & np.isfinite(imag)
    blank = (real == 0) & (imag == 0)
    usable = np.isfinite(weight) & (weight > 0)
    good = usable & finite & ~blank
    w = np.where(good, weight, 0.0)
    vis = np.where(good, real, 0.0) + 1j * np.where(good, imag, 0.0)
    total = w.sum(2)  # over channels and IFs, [G, hand]
    valid = total > 0
    safe = np.where(valid, total, 1.0)
    hand = (w * vis).sum(2) / safe
    n = valid.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        stokes = np.where(valid, hand, 0).sum(1) / n
        sigma = np.sqrt(np.where(valid, 1 / safe, 0).sum(1)) / n
    lost = n == 0
    reasons = {
        "flagged (weight ≤ 0, infinite or NaN)": lost & ~usable.any((1, 2)),
        "not a number": lost & usable.any((1, 2)) & ~(usable & finite).any((1, 2)),
        "exactly 0": lost & (usable & finite).any((1, 2)),
    }
    return stokes, np.where(lost, np.nan, sigma), {k: int(m.sum()) for k, m in reasons.items()}


def _baselines(groups: Any) -> tuple[NDArray, NDArray]:
    """Return both station numbers; 256 a + b, or 2048 a + b + 65536 in large arrays."""
    if "BASELINE" in groups.parnames:
        code = np.floor(np.asarray(groups.par("BASELINE"), float)).astype(int)  # .01: subarray
        large = code > 65536
        step = np.where(large, 2048, 256)
        code = code - np.where(large, 65536, 0)
        return code // step, code % step
    return tuple(np.asarray(groups.par(f"ANTENNA{i}"), float).astype(int) for i in (1, 2))  # type: ignore[return-value]


def _uv(path: Path, groups: Any, axis: str, frequency: float) -> NDArray:
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
    if names[0].startswith(f"{axis}-L"):  # already wavelengths (AIPS Memo 117)
        return value
    return value * frequency


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
