"""How far a reconstruction can be trusted: numbers of one item, and the words they say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from sciinv import store
from sciinv.report.nuisances import sentences, short

_OBJECT = 0.1  # of the signal: pixels above belong to the object


@dataclass(frozen=True)
class Finding:
    """One sentence on the result.

    Attributes:
        text: The sentence, with its numbers.
        warning: Whether it is a reason for doubt.
        advice: Whether it asks for more draws: what is shown is right as far as it goes.
    """

    text: str
    warning: bool = False
    advice: bool = False


@dataclass(frozen=True)
class Trust:
    """What the draws of one item say of themselves.

    Attributes:
        draws: Number of draws.
        signal: 99th percentile of |mean| over the image, its units.
        relative_sd: Median sd over the object ÷ signal; the object is where |mean| > signal / 10.
        relative_width: Median width of the credible interval over the object ÷ signal.
        significant: Share of the object's pixels whose mean is more than two sd from zero.
        chi2: Median reduced χ² of the draws, or None; see `store.reduced_chi2`.
        chi2_half: The truth's own χ² lies within 1 ± this (`store.expected_half`), or None.
        outside: By name of a classical reconstruction, the share of the object's pixels at which
            it lies outside of the credible interval.
        findings: The words.
        drawn: Whether χ² is by the noise as it was drawn with the image.
    """

    draws: int
    signal: float
    relative_sd: float
    relative_width: float
    significant: float
    chi2: float | None
    chi2_half: float | None
    outside: Mapping[str, float]
    findings: tuple[Finding, ...]
    drawn: bool = False

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The reasons for doubt."""
        return tuple(f for f in self.findings if f.warning)

    @property
    def advice(self) -> tuple[Finding, ...]:
        """What more draws would mend."""
        return tuple(f for f in self.findings if f.advice)


def assess(
    summary: xr.Dataset,
    stats: xr.Dataset,
    classical: Mapping[str, np.ndarray] | None = None,
    components: int | None = None,
    truth: np.ndarray | None = None,
) -> Trust:
    """Judge the draws of one item.

    Args:
        summary: Of one item and channel: `sciinv.uncertainty.summarize(…).isel(item=…, channel=…)`.
        stats: The draws' statistics [draw]: "chi2", "acceptance" and others, as far as known.
        classical: Images [y, x] by name, in the same units.
        components: Number M of measured real components.
        truth: The true image [y, x], where the data are simulated.
    """
    draws = int(summary.attrs["draws"])
    mean, sd = (summary[k].values.astype(np.float64) for k in ("mean", "sd"))
    low, high = (summary["quantiles"].values[i].astype(np.float64) for i in (0, -1))
    level = float(summary["quantile"][-1] - summary["quantile"][0])
    # What the interval between interpolated order statistics of n draws holds of one more draw.
    held = level * (draws - 1) / (draws + 1)
    signal = float(np.quantile(np.abs(mean), 0.99)) or float(np.abs(mean).max()) or 1.0
    inside = np.abs(mean) > _OBJECT * signal
    inside = inside if inside.any() else np.ones_like(inside)
    relative_sd = float(np.median(sd[inside])) / signal
    relative_width = float(np.median((high - low)[inside])) / signal
    significant = float((np.abs(mean) > 2 * sd)[inside].mean())
    outside = {
        name: float(((image < low) | (image > high))[inside].mean())
        for name, image in (classical or {}).items()
    }
    each, drawn = store.reduced_chi2(stats)
    chi2 = None if each is None else float(each.median())
    chi2_half = store.expected_half(components) if components else None
    findings = [
        *_fit(chi2, chi2_half, components, drawn),
        *(Finding(*said) for said in sentences(stats)),
        _width(relative_sd, relative_width, significant, level),
        _where(summary["sd"], sd, signal),
        *(_against(name, share, level, held) for name, share in outside.items()),
        *_inside(truth, low, high, inside, level, held),
        *_sampling(draws, float(summary["quantile"][0])),
        *_chain(stats),
        *_tries(stats),
    ]
    return Trust(
        draws, signal, relative_sd, relative_width, significant, chi2, chi2_half, outside,
        tuple(findings), drawn,
    )  # fmt: skip


def _fit(
    chi2: float | None, chi2_half: float | None, components: int | None, drawn: bool = False
) -> list[Finding]:
    """A draw and the truth have the same joint law with y, so their χ² has the same law too."""
    if chi2 is None:
        return [Finding("The fit of the draws to the data was not recorded.", True)]
    if not math.isfinite(chi2):
        return [
            Finding(
                "The reduced χ² of the draws is not a finite number: no sample carries data, or "
                "the noise is 0 or infinite where the draws do not fit. Nothing is known of the "
                "fit, and the draws may be those of the prior.",
                True,
            )
        ]
    if chi2_half is not None:
        half = chi2_half
        # 99.7 % of what the truth itself would have: "explain the data" is said inside of it alone.
        places = max(2, 1 - math.floor(math.log10(half)))
        expected = f"{max(0.0, 1 - half):.{places}f} to {1 + half:.{places}f} for "
        expected += f"{components:,} measured values".replace(",", " ")
    else:
        expected, half = "0.8 to 1.2, as the number of measured values is not known", 0.2
    by = " by the noise as found" if drawn else ""
    start = f"Half of the draws have a reduced χ² below {short(chi2)}{by} (expected: {expected})"
    # A small relative excess says little of the image, however sure it is.
    if chi2 > 1 + max(half, 0.05):
        return [
            Finding(
                f"{start}: they do not explain the data. The noise is larger than stated, the "
                "operator misses an effect, or the chains have not settled; the intervals are then "
                "too narrow.",
                True,
            )
        ]
    if chi2 < 1 - max(half, 0.05):
        return [
            Finding(
                f"{start}: they fit better than the truth would. The noise is smaller than stated, "
                "or its values are correlated; the intervals are then too wide.",
                True,
            )
        ]
    if abs(chi2 - 1) > half:
        larger, way = ("larger", "narrow") if chi2 > 1 else ("smaller", "wide")
        share = _share(abs(math.sqrt(chi2) - 1))
        return [
            Finding(
                f"{start}: that is outside of the expected interval. The misfit would be that of a "
                f"noise {share} {larger} than stated; by about as much the intervals may be too "
                f"{way}."
            )
        ]
    return [Finding(f"{start}: they explain the data to within the noise.")]


def _width(relative_sd: float, relative_width: float, significant: float, level: float) -> Finding:
    text = (
        f"Within the object a pixel is known to ± {_share(relative_sd)} of the signal (median "
        f"standard deviation); its central {100 * level:.4g} % interval is "
        f"{_share(relative_width)} of the signal wide. {_share(significant)} of the object’s "
        "pixels stand more than two standard deviations from zero."
    )
    return Finding(text, significant < 0.5)


def _where(panel: xr.DataArray, sd: np.ndarray, signal: float) -> Finding:
    row, column = np.unravel_index(int(np.argmax(sd)), sd.shape)
    place = ", ".join(
        f"{name} = {short(float(panel[name][i]))} {panel[name].attrs.get('units', '')}".strip()
        for name, i in (("x", column), ("y", row))
    )
    largest = float(sd[row, column]) / signal
    return Finding(
        f"Trust it least near {place}, where the standard deviation is largest: "
        f"{_share(largest)} of the signal."
    )


def _against(name: str, share: float, level: float, held: float) -> Finding:
    return Finding(
        f"The {name} reconstruction lies outside of the {100 * level:.4g} % interval at "
        f"{_share(share)} of the object’s pixels ({_share(1 - held)} if it were one more draw)."
    )


def _inside(
    truth: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray,
    inside: np.ndarray,
    level: float,
    held: float,
) -> list[Finding]:
    if truth is None:
        return []
    share = float(((truth >= low) & (truth <= high))[inside].mean())
    text = (
        f"The truth lies within the {100 * level:.4g} % interval at {_share(share)} of the "
        f"object’s pixels ({_share(held)} if it were one more draw)."
    )
    return [Finding(text, share < held - 0.1)]


def _sampling(draws: int, lowest: float) -> list[Finding]:
    mean, sd = 1 / math.sqrt(draws), 1 / math.sqrt(2 * (draws - 1))
    text = (
        f"From {draws} draws the mean is known to {short(mean)} of a standard deviation, and the "
        f"standard deviation to {_share(sd)}."
    )
    out = [Finding(text, draws < 8)]
    if 0 < lowest * (draws + 1) < 1:
        needed = math.ceil(1 / lowest) - 1
        out.append(
            Finding(
                f"The {100 * lowest:.4g} % quantile lies beyond the lowest of {draws} draws, so "
                f"the outer quantiles are too near the middle: {needed} draws would bound them.",
                advice=True,
            )
        )
    return out


def _chain(stats: xr.Dataset) -> list[Finding]:
    if "acceptance" not in stats:
        return []
    rate = stats["acceptance"].values
    rate = rate[np.isfinite(rate)]
    if rate.size == 0 or np.median(rate) > 0.2:
        return []
    return [
        Finding(
            f"Half of the chains accepted less than {_share(float(np.median(rate)))} of their "
            "proposals: they may not have settled.",
            True,
        )
    ]


def _tries(stats: xr.Dataset) -> list[Finding]:
    """Say how many draws the data rejected given their fellows."""
    if "failed" not in stats or not (stats["tries"] > 1).any():
        return []
    n, failed = stats["failed"].size, int((stats["failed"] > 0).sum())
    again = int((stats["tries"] > 1).sum())
    start = (
        f"{again} of {n} draws ended where the data reject them given the others (χ² beyond what "
        "draws of one posterior can differ by) and were drawn anew"
    )
    if not failed:
        return [Finding(f"{start}; all then settled.")]
    return [
        Finding(
            f"{start}; {failed} failed {int(stats['tries'].max())} times and are left out of every "
            "map and number here. The posterior has modes that the sampler finds by chance only: "
            "trust no detail that the remaining draws alone show.",
            True,
        )
    ]


def _share(value: float) -> str:
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
