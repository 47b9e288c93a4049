"""The data of UVFITS groups: axes, polarisations, channels and IFs → Stokes I by band.

Source: Greisen, "AIPS FITS file format", AIPS Memo 117.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.readers.parts.uvfits_columns import bad_file, if_frequencies

HANDS = ((1,), (-1, -2), (-5, -6))  # values of the STOKES axis whose mean is I: I; RR, LL; XX, YY
SAME_FREQUENCY = 0.01  # spread of IFs, relative, whose baselines may be taken for one


def _axes(header: Any) -> dict[str, int]:
    """Return the number of each named axis (2, 3, …); groups have NAXIS1 = 0."""
    n = range(2, int(header["NAXIS"]) + 1)
    return {str(header.get(f"CTYPE{i}", "")).strip().upper(): i for i in n}


def axis_value(header: Any, name: str) -> float:
    """Return the value of a named axis at its reference pixel; NaN where there is none."""
    axis = _axes(header).get(name)
    return float(header.get(f"CRVAL{axis}", np.nan)) if axis else float("nan")


def correlations(
    path: Path, hdus: Any, groups: Any, freqsel: int, average_ifs: bool | None
) -> tuple[list[tuple[NDArray, NDArray, NDArray, float]], float, float]:
    """Return (real, imaginary part, weight [G, hand, channel], Hz) by band; frequency, bandwidth.

    A band is an IF, or all IFs where they are averaged; the frequency is the mean of the bands.
    """
    header = hdus[0].header
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
    ifs = data.shape[2] if "IF" in axes else 1
    data = data.reshape(len(data), data.shape[1], -1, data.shape[len(order)])
    data = data[:, _hands(path, header, axes["STOKES"], data.shape[1])].astype(float)

    axis = axes["FREQ"]
    n, width = int(header[f"NAXIS{axis}"]), float(header.get(f"CDELT{axis}", 0.0))
    channel = np.arange(1, n + 1) - float(header.get(f"CRPIX{axis}", 1.0))
    centre = float(header[f"CRVAL{axis}"]) + width * float(channel.mean())
    hertz = centre + if_frequencies(path, hdus, freqsel, ifs)
    if not (hertz > 0).all() or not np.isfinite(hertz).all():
        raise bad_file(
            path, "The observing frequency is not positive", "CRVAL > 0 Hz", hertz.tolist(),
            "mend CRVAL of the FREQ axis in the header, and IF FREQ in AIPS FQ",
        )  # fmt: skip
    frequency = float(hertz.mean())
    bandwidth = abs(width) * data.shape[2]
    if average_ifs is None:
        average_ifs = bool(np.ptp(hertz) <= SAME_FREQUENCY * frequency)
    if average_ifs:
        return [(data[..., 0], data[..., 1], data[..., 2], frequency)], frequency, bandwidth
    split = data.reshape(*data.shape[:2], ifs, n, data.shape[-1])
    bands = [
        (split[:, :, i, :, 0], split[:, :, i, :, 1], split[:, :, i, :, 2], float(hertz[i]))
        for i in range(ifs)
    ]
    return bands, frequency, bandwidth


def _hands(path: Path, header: Any, axis: int, count: int) -> list[int]:
    """Return the positions on the STOKES axis whose mean is Stokes I."""
    step = round(float(header.get(f"CDELT{axis}", -1)))
    start = round(float(header[f"CRVAL{axis}"])) + step * (
        1 - round(float(header.get(f"CRPIX{axis}", 1)))
    )
    values = [start + step * i for i in range(count)]
    known = all(v > 0 for v in values) or all(v < 0 for v in values)
    for wanted in HANDS if known else ():
        hands = [i for i, value in enumerate(values) if value in wanted]
        if hands:
            return hands
    raise bad_file(
        path,
        "The polarisation of the data is not known",
        "a STOKES axis with 1 (I), −1 or −2 (RR, LL), or −5 or −6 (XX, YY)",
        values,
        "convert the file to Stokes I or to parallel hands first",
    )


def stokes_i(
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
