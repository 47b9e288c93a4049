"""A table of visibilities to a UVFITS file.

Source: Greisen, "AIPS FITS file format", AIPS Memo 117.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sciinv.readers.parts.uvfits_columns import bad_file
from sciinv.readers.parts.uvfits_file import MJD0, astropy_fits
from sciinv.readers.parts.vlbi import VisibilityTable


def write(path: str | Path, table: VisibilityTable) -> None:
    """Write a table of visibilities as UVFITS, to be read by `read`, eht-imaging, AIPS or DIFMAP.

    RR = LL = I with weights 1/(2σ²), so that I = (RR + LL)/2 has σ; RL and LR carry weight 0.
    Values are float32, as the format has it; times are split so that they keep 1 ms.

    Raises:
        DataError: The file exists, or an entry is not finite.
    """
    fits = astropy_fits()
    path = Path(path)
    if path.exists():
        raise bad_file(path, "The file is there already", "a new path", "a file",
                   "choose another path, or remove the file")  # fmt: skip
    rows = np.stack([table.u, table.v, table.vis.real, table.vis.imag, table.sigma, table.time])
    if not len(table) or not np.isfinite(rows).all() or not (table.sigma > 0).all():
        raise bad_file(path, "The table cannot be written",
                   "finite values, and a σ > 0, on at least one row",
                   f"{len(table)} rows, {int((~np.isfinite(rows)).any(0).sum())} not finite",
                   "select the good rows first")  # fmt: skip
    data = np.zeros((len(table), 1, 1, 1, 1, 4, 3), np.float32)
    hands = np.stack([table.vis.real, table.vis.imag, 0.5 / table.sigma**2], 1)
    data[:, 0, 0, 0, 0, :2, :] = hands[:, None, :]
    day = np.floor(table.time / 24.0)
    # a half-integer Julian date is exact in float32
    pardata = [
        table.u / table.frequency,
        table.v / table.frequency,
        np.zeros(len(table)),
        256.0 * (table.station1 + 1) + table.station2 + 1,
        table.mjd + MJD0 + day,
        table.time / 24.0 - day,
        table.integration,
    ]
    names = ["UU---SIN", "VV---SIN", "WW---SIN", "BASELINE", "DATE", "DATE", "INTTIM"]
    groups = fits.GroupData(data, bitpix=-32, parnames=names, pardata=pardata)
    primary = fits.GroupsHDU(groups)
    header = primary.header
    date = np.datetime64("1858-11-17") + table.mjd
    axes = (
        ("COMPLEX", 1.0, 1.0),
        ("STOKES", -1.0, -1.0),
        ("FREQ", table.frequency, table.bandwidth),
        ("IF", 1.0, 1.0),
        ("RA", table.ra, 1.0),
        ("DEC", table.dec, 1.0),
    )
    for axis, (name, value, step) in enumerate(axes, start=2):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = name, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"], header[f"CROTA{axis}"] = step, 1.0, 0.0
    header["OBSRA"], header["OBSDEC"], header["OBJECT"] = table.ra, table.dec, table.source
    header["MJD"], header["DATE-OBS"], header["BUNIT"] = float(table.mjd), str(date), "JY"
    header["EQUINOX"], header["TELESCOP"] = "J2000", "VLBA"
    hdus = [primary, _antenna_hdu(fits, table, str(date)), _frequency_hdu(fits, table)]
    fits.HDUList(hdus).writeto(path)


def _antenna_hdu(fits: Any, table: VisibilityTable, date: str) -> Any:
    s = len(table.stations)
    zero, none = np.zeros(s), np.zeros((s, 3))
    columns = [
        fits.Column("ANNAME", "8A", array=np.array(table.stations)),
        fits.Column("STABXYZ", "3D", unit="METERS", array=table.positions),
        fits.Column("NOSTA", "1J", array=np.arange(1, s + 1)),
        fits.Column("MNTSTA", "1J", array=zero),
        fits.Column("STAXOF", "1E", unit="METERS", array=zero),
        fits.Column("POLTYA", "1A", array=np.array(["R"] * s)),
        fits.Column("POLAA", "1E", unit="DEGREES", array=zero),
        fits.Column("POLCALA", "3E", array=none),
        fits.Column("POLTYB", "1A", array=np.array(["L"] * s)),
        fits.Column("POLAB", "1E", unit="DEGREES", array=zero + 90),
        fits.Column("POLCALB", "3E", array=none),
        fits.Column("SEFD", "1D", array=zero),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="AIPS AN")
    values = {
        "EXTVER": 1, "ARRAYX": 0.0, "ARRAYY": 0.0, "ARRAYZ": 0.0, "RDATE": date,
        "FREQ": table.frequency, "TIMESYS": "UTC", "ARRNAM": "VLBA", "XYZHAND": "RIGHT",
        "FRAME": "????", "NUMORB": 0, "NO_IF": 1, "NOPCAL": 0, "POLTYPE": "VLBI", "FREQID": 1,
    }  # fmt: skip
    hdu.header.update(values)
    return hdu


def _frequency_hdu(fits: Any, table: VisibilityTable) -> Any:
    columns = [
        fits.Column("FRQSEL", "1J", array=[1]),
        fits.Column("IF FREQ", "1D", array=[0.0]),
        fits.Column("CH WIDTH", "1E", array=[table.bandwidth]),
        fits.Column("TOTAL BANDWIDTH", "1E", array=[table.bandwidth]),
        fits.Column("SIDEBAND", "1J", array=[1]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="AIPS FQ")
    hdu.header["NO_IF"], hdu.header["EXTVER"] = 1, 1
    return hdu
