"""From counts to line integrals: flat and dark field, −log, noise, bad pixels, rings, the axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter, median_filter

from sciinv.errors import DataError
from sciinv.readers.parts import fields, special

MOST_BAD = 0.1  # share of samples that may be repaired before the data count as damaged


@dataclass(frozen=True)
class Sinogram:
    """One corrected sinogram.

    Attributes:
        y: Line integrals −log(I/I0), [angle, detector], finite everywhere.
        noise_sd: Their standard deviation, [angle, detector]; infinite where a sample was
            repaired and so carries no data.
        blank: Counts without the object, dark-corrected, [detector].
        dark: Counts without a beam, [detector].
        gain: Variance of the counts ÷ counts (1 for single photons).
        doubts: What is wrong with the flat and dark fields, in sentences.
    """

    y: np.ndarray
    noise_sd: np.ndarray
    blank: np.ndarray
    dark: np.ndarray
    gain: float = 1.0
    doubts: tuple[str, ...] = ()

    @property
    def repaired(self) -> int:
        """Number of samples that carry no data."""
        return int(np.isinf(self.noise_sd).sum())


def correct(
    counts: np.ndarray,
    flats: np.ndarray,
    darks: np.ndarray,
    gain: float | None = None,
    where: object = None,
    no_data: np.ndarray | None = None,
) -> Sinogram:
    """Return line integrals y = −log((I − dark)/(flat − dark)) and their noise.

    The noise follows from counting, carried through the logarithm: with N = I − dark,

        var y = (gain · N + var dark) / N² + gain / (flats · (flat − dark))

    A sample is repaired, that is interpolated along its view and given infinite noise, where the
    counts are not finite or not above the dark field, and in whole columns where the element is
    dead (a blank below 5 % of the median one) or its dark field damaged. Single values of flats and
    darks that are none are left out first (`fields.cleaned`).

    Args:
        counts: Raw counts, [angle, detector].
        flats: Counts without the object, [frame, detector] or [detector].
        darks: Counts without a beam, [frame, detector] or [detector].
        gain: Variance ÷ mean of the counts; None estimates it from the flats, and takes 1 where
            there are fewer than 3.
        where: What to call the data in an error.
        no_data: Counts that stand for no measurement, bool, the shape of `counts`.

    Raises:
        DataError: Shapes differ, the gain is not above 0, flats are no brighter than darks, raw
            counts are negative, or more than a tenth of the samples would have to be repaired.
    """
    counts = np.asarray(counts, np.float64)
    flats, darks = (np.atleast_2d(np.asarray(v)) for v in (flats, darks))
    _check_fields(counts, flats, darks, where, no_data)
    if gain is not None and not 0 < gain < np.inf:
        raise DataError("The gain cannot be so", where=where, expected="variance ÷ mean, above 0",
                        got=gain, remedy="leave it out, to have it estimated")  # fmt: skip
    field = fields.cleaned(distinct(flats), darks)
    flats, darks = field.flats, field.darks
    dark = darks.mean(0)
    blank = np.where(field.lost, np.nan, flats.mean(0) - dark)
    dark = np.where(np.isfinite(dark), dark, 0.0)
    typical = float(np.nanmedian(blank)) if np.isfinite(blank).any() else np.nan
    if not typical > 0:
        raise DataError(
            "The flat field is no brighter than the dark field",
            where=where,
            expected="flat − dark above 0 in most detector elements",
            got=f"a median of {typical:.4g} counts",
            remedy="check that flats and darks are not swapped or all zero",
        )
    dead = ~(blank > 0.05 * typical)
    if gain is None:
        gain = flat_gain(flats[:, ~dead], dark[~dead])
    n = counts - dark
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(n) | (n <= 0) | dead
    if no_data is not None:
        bad |= no_data
    _check_share(bad, counts, where)
    safe = np.where(bad, typical, n)
    blank = np.where(dead, typical, blank)
    y = -np.log(safe / blank)
    read = float(np.nanmedian(darks.var(0, ddof=1))) if len(darks) > 2 else 0.0
    sd = np.sqrt((gain * safe + read) / safe**2 + gain / (len(flats) * blank))
    _check_smooth(y[~bad.any(1)], float(np.median(sd)), where)
    noise = np.where(bad, np.inf, sd)
    return repair(Sinogram(y, noise, blank, dark, float(gain), field.doubts), bad)


def distinct(frames: np.ndarray) -> np.ndarray:
    """Return the frames [frame, detector], each once: copies of a frame show no noise."""
    if len(frames) < 2:
        return frames
    differ = [not any(np.array_equal(f, g) for g in frames[:i]) for i, f in enumerate(frames)]
    return frames[np.array(differ)]


def flat_gain(flats: np.ndarray, dark: np.ndarray) -> float:
    """Return variance ÷ mean of the counts, from repeated flats [frame, detector]; 1 if unknown.

    Each frame is scaled to the same total first, so that the beam's drift is no noise.
    """
    if len(flats) < 3:
        return 1.0
    n = flats - dark
    n = n / n.mean(1, keepdims=True) * n.mean()
    ratio = n.var(0, ddof=1) / n.mean(0)
    gain = float(np.mean(ratio))
    return gain if np.isfinite(gain) and gain > 0 else 1.0


def repair(sinogram: Sinogram, bad: np.ndarray) -> Sinogram:
    """Return the sinogram with `bad` samples interpolated along their view, noise infinite."""
    y = sinogram.y.copy()
    k = np.arange(y.shape[1])
    for row, wrong in zip(y, bad, strict=True):
        if wrong.any():
            row[wrong] = 0.0 if wrong.all() else np.interp(k[wrong], k[~wrong], row[~wrong])
    return replace(sinogram, y=y, noise_sd=np.where(bad, np.inf, sinogram.noise_sd))


def without_zingers(sinogram: Sinogram, threshold: float = 10.0) -> Sinogram:
    """Return the sinogram with single bright flashes (stray X-rays on the camera) repaired.

    A flash is a sample that lies `threshold` standard deviations below the median of its 3 × 3
    neighbours, and 3 below the lowest of them.
    """
    y, sd = sinogram.y, sinogram.noise_sd
    depth = median_filter(y, 3) - y
    finite = np.where(np.isfinite(sd), sd, np.nanmedian(np.where(np.isinf(sd), np.nan, sd)))
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    lowest = -maximum_filter(-y, footprint=around)
    flash = (depth > threshold * finite) & (lowest - y > 3 * finite)
    return repair(sinogram, np.isinf(sd) | flash)


def without_rings(y: np.ndarray, width: int = 9) -> np.ndarray:
    """Return line integrals without the detector elements' constant errors, [angle, detector].

    An element whose response is off gives a stripe in the sinogram and a ring in the image. Its
    height is the median over all views of what the element differs by from the median of its
    `width` neighbours in the same view. A true edge moves from element to element as the object
    turns, so that the median over the views does not see it.
    """
    if y.shape[0] < 8:
        return y  # too few views to tell an element from the object
    stripe = np.median(y - median_filter(y, (1, width), mode="nearest"), axis=0)
    return y - stripe


def estimated_noise(y: np.ndarray) -> np.ndarray:
    """Return the noise of line integrals from the data alone, [angle, detector].

    For counts, sd(y) = sd_0 exp(y/2). The object is taken out by second differences along views
    and elements (sum of squared weights 36); sd_0 is the median absolute deviation of what is
    left, scaled by exp(−y/2).
    """
    if min(y.shape) < 3:
        raise DataError(
            "The sinogram is too small to estimate its noise",
            expected="3 or more views and detector elements",
            got=list(y.shape),
            remedy="give noise_sd",
        )
    rough = np.diff(np.diff(y, 2, axis=0), 2, axis=1) / 6.0
    sd = fields.MAD * float(np.median(np.abs(rough * np.exp(-0.5 * y[1:-1, 1:-1]))))
    if not sd > 1e-6:  # of 10¹² photons; single precision rounds to less
        raise DataError(
            "The sinogram shows no noise",
            expected="measured data, whose neighbouring samples differ",
            got=f"second differences with a median of {sd:.2g}",
            remedy="give noise_sd",
        )
    return sd * np.exp(0.5 * y)


def binned(values: np.ndarray, factor: int, where: Path | str | None = None) -> np.ndarray:
    """Return means over `factor` neighbouring detector elements, [..., detector / factor]."""
    n = values.shape[-1]
    if factor < 1 or n % factor:
        raise DataError(
            "The detector cannot be binned so",
            where=where,
            expected=f"a divisor of its {n} elements",
            got=factor,
            remedy=f"choose one of {[i for i in range(1, 17) if n % i == 0]}",
        )
    return values.reshape(*values.shape[:-1], n // factor, factor).mean(-1)


def _check_fields(
    counts: np.ndarray,
    flats: np.ndarray,
    darks: np.ndarray,
    where: object,
    no_data: np.ndarray | None = None,
) -> None:
    if counts.ndim != 2 or 0 in counts.shape:
        raise DataError(
            "The counts have the wrong shape",
            where=where,
            expected="[angle, detector], none of them 0",
            got=list(counts.shape),
            remedy="choose one row of the detector",
        )
    for name, field in (("flat", flats), ("dark", darks)):
        if field.ndim != 2 or field.shape[-1] != counts.shape[-1] or 0 in field.shape:
            raise DataError(
                f"The {name} field does not match the counts",
                where=where,
                expected=f"[frame, {counts.shape[-1]}]",
                got=list(field.shape),
                remedy=f"give the {name} field of the same detector row",
            )
    counts = counts if no_data is None else np.where(no_data, 0, counts)
    flats = np.where(special.no_data(flats, counts=True), 0, flats)
    lowest = min(float(np.nanmin(np.where(np.isfinite(v), v, 0))) for v in (counts, flats))
    if lowest < 0:
        raise DataError(
            "The raw counts hold negative values",
            where=where,
            expected="counts of 0 or more",
            got=f"a minimum of {lowest:.6g}",
            remedy="16-bit counts above 32767 were read as signed, or the data are corrected "
            "already: read them as unsigned, or as line integrals",
        )


def _check_smooth(y: np.ndarray, noise: float, where: object) -> None:
    """Raise `DataError` where neighbouring elements have nothing in common, noise apart."""
    if y.size == 0 or y.shape[1] < 8:
        return
    spread = float(np.median(np.abs(y - np.median(y))))
    step = float(np.median(np.abs(np.diff(y, axis=1))))
    if spread > 10 * noise and step > 0.8 * spread:
        raise DataError(
            "The counts are no picture of anything",
            where=where,
            expected="neighbouring elements that differ less than far ones",
            got=f"a typical difference of {step:.3g} within a typical spread of {spread:.3g}",
            remedy="check the byte order and the number of columns",
        )


def _check_share(bad: np.ndarray, counts: np.ndarray, where: object) -> None:
    share = float(bad.mean())
    if share > MOST_BAD:
        raise DataError(
            "Too many samples carry no signal",
            where=where,
            expected=f"at most {MOST_BAD:.0%} dead, not finite or below the dark field",
            got=f"{share:.1%}; {int((~np.isfinite(counts)).sum())} are not finite",
            remedy="check the byte order, the dark field and the exposure",
        )
