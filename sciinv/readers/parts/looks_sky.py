"""Looks at visibilities: lengths the array cannot have, levels that cannot be, flux and field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.readers.parts.vlbi import VisibilityTable

LIGHT_M_PER_S = 299_792_458.0
BRIGHTEST_JY = 1e9  # the active Sun is 1e7
LARGEST_SNR = 1e7
MOST_RESOLVED = 20  # a source whose shortest baseline sees less of it is resolved out: no image
UAS = 1e-6 / 3600 * np.pi / 180


def check_uv(path: Path, u: NDArray, v: NDArray, hertz: float, positions: NDArray) -> None:
    """Raise `DataError` where baselines are longer than the stations of the array are apart.

    Args:
        path: The file.
        u: Wavelengths, [N].
        v: Wavelengths, [N].
        hertz: Frequency.
        positions: Geocentric station coordinates, m, [S, 3]; not all known where any is 0.
    """
    if not len(u):
        return
    length = float(np.hypot(u, v).max()) * LIGHT_M_PER_S / hertz
    if length == 0 or not np.isfinite(length):
        raise DataError(
            "The baselines have no length",
            where=path,
            expected="UU and VV in seconds, finite and not all 0",
            got=f"a longest baseline of {length:g} m",
            remedy="write the file again with its (u, v) coordinates",
        )
    known = np.abs(positions).sum(1) > 0
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1).max()
    most = float(apart) if known.all() and apart > 0 else 1e9  # beyond any orbit so far
    if length > 1.1 * most + 1.0:
        raise DataError(
            "The baselines are longer than the array",
            where=path,
            expected=f"UU and VV in seconds: up to {most / 1e3:.6g} km between stations",
            got=f"{length / 1e3:.6g} km if they are seconds; {length / LIGHT_M_PER_S / 1e3:.4g} km "
            f"if metres, {length / hertz / 1e3:.4g} km if wavelengths",
            remedy='read with uv_units="metres" or "wavelengths", whichever fits',
        )


def check_levels(path: Path, vis: NDArray, sigma: NDArray) -> None:
    """Raise `DataError` where visibilities or weights are beyond any source or receiver."""
    brightest = float(np.abs(vis).max())
    if not brightest < BRIGHTEST_JY:
        raise DataError(
            "The visibilities are brighter than any source",
            where=path,
            expected=f"|V| below {BRIGHTEST_JY:g} Jy",
            got=f"{brightest:.4g} Jy",
            remedy="check the byte order and the calibration; visibilities are in Jy",
        )
    snr = float(np.median(np.abs(vis) / sigma))
    if snr > LARGEST_SNR:
        raise DataError(
            "The weights are no inverse variances",
            where=path,
            expected=f"1/σ² in 1/Jy²: a typical |V|/σ below {LARGEST_SNR:g}",
            got=f"{snr:.3g}",
            remedy="set the weights from the noise (AIPS FIXWT, CASA statwt, eht-imaging)",
        )


def total_flux(table: VisibilityTable) -> tuple[float, float]:
    """Return a total flux and its standard deviation, Jy, from the shortest baselines.

    The mean |V| of the rows shorter than a tenth of the longest, or else of the shortest tenth;
    a source that these resolve is brighter, so that a fifth is taken for the standard deviation,
    or the scatter where that is more. It is never less than the largest |V| seen well.
    """
    uv, level = table.uv_distance, np.abs(table.vis)
    short = uv <= max(0.1 * float(uv.max()), float(np.quantile(uv, 0.1)))
    flux = float(np.average(level[short], weights=table.sigma[short] ** -2.0))
    seen = level - 3 * table.sigma
    flux = max(flux, float(np.quantile(seen, 0.99)))
    return flux, max(0.2 * flux, float(level[short].std()))


def field_uas(table: VisibilityTable, image_size: int) -> float:
    """Return a field of view, µas: pixels of a third of the beam 1/(longest baseline)."""
    return image_size / 3 / float(table.uv_distance.max()) / UAS


def doubts(
    table: VisibilityTable, total: tuple[float, float] | None, field: float, image_size: int
) -> list[str]:
    """Return what contradicts the data: a total flux below them, a field that does not fit.

    Args:
        table: Visibilities that are used.
        total: Stated flux and its standard deviation, Jy; None where there is none.
        field: Angle along each side, µas.
        image_size: Pixels along each side.
    """
    told = []
    beam = 1 / float(table.uv_distance.max()) / UAS
    if total is not None:
        excess = np.abs(table.vis) - total[0] - 3 * np.hypot(table.sigma, total[1])
        share = float((excess > 0).mean())
        if share > 0.01:
            told.append(
                f"The total flux is stated as {total[0]:.4g} ± {total[1]:.3g} Jy, but "
                f"{share:.0%} of the visibilities are brighter, up to "
                f"{float(np.abs(table.vis).max()):.4g} Jy: no image of that flux gives them."
            )
        seen = float(np.abs(table.vis).max())
        if total[0] > MOST_RESOLVED * seen:
            told.append(
                f"The total flux is stated as {total[0]:.4g} Jy, {total[0] / seen:.2g} times the "
                f"brightest visibility of {seen:.3g} Jy: is it in Jy?"
            )
    if field * UAS > 0.1:
        told.append(
            f"The field of view of {np.rad2deg(field * UAS):.3g}° is too wide for the flat sky of "
            "this operator, which has no w-term."
        )
    if beam > 0.5 * field:
        told.append(
            f"The beam of the longest baseline is {beam:.4g} µas, more than half of the field of "
            f"view of {field:.4g} µas: the data cannot tell apart what lies in it."
        )
    if beam < 1.5 * field / image_size:
        told.append(
            f"The pixels of {field / image_size:.4g} µas are coarser than two thirds of the beam "
            f"of {beam:.4g} µas: the data hold more than such an image can."
        )
    return told
