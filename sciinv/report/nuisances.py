"""Words on noise and instrument as they were drawn with the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

# The scale of the noise as found. What is left beyond the declared noise may be an effect that the
# operator misses, so more than twice is a doubt. Less noise than declared is what a careful
# estimate leaves, and no doubt: the intervals follow the noise as found. Ten times or a tenth is
# what a wrong unit does.
LARGER, WRONG_UNITS = 2.0, 10.0
FRACTION = 0.2  # of the signal: a model error beyond it is no small correction
FITTED = ("local", "spectral", "isotropic")  # conditionals of a learned prior's widths
OF_THE_NOISE = ("noise_scale", "model_error")  # and not of the instrument
# Where the interval is nearly the prior's, the data have told little.
UNTOLD, WIDTH_90 = 0.9, 3.29  # of the prior's width, which is 3.29 sd


def short(value: Any) -> str:
    """Return three digits, with the sign that is no hyphen."""
    return f"{float(value):.3g}".replace("-", "−")


def label(name: str) -> str:
    """Return an unknown's name as a report says it."""
    return "noise level ÷ declared" if name == "noise_scale" else name.replace("_", " ")


def sentences(stats: xr.Dataset) -> list[tuple[str, bool]]:
    """Return what was found of noise and instrument where these were drawn, and if it is a doubt.

    Args:
        stats: The draws' statistics of one item; variables with an attribute "unknown" count.
    """
    out = []
    for name, value in stats.data_vars.items():
        if not value.attrs.get("unknown"):
            continue
        low, middle, high = _unrolled(value).quantile([0.05, 0.5, 0.95], "draw").values
        units = str(value.attrs.get("units", "1"))
        units = "" if units == "1" else f" {units}"
        called = label(str(name))
        if middle.ndim:
            width = float(np.median(high - low))
            text = (
                f"Drawn with the image: {called}, {middle.size} values from "
                f"{short(float(middle.min()))} to {short(float(middle.max()))}{units}, with 90 % "
                f"intervals {short(width)}{units} wide (median){_beforehand(value, width, units)}."
            )
            out.append((text, False))
            continue
        text = (
            f"Drawn with the image: {called} {short(float(middle))}{units} (90 % of the draws from "
            f"{short(float(low))} to {short(float(high))})."
        )
        doubt = _of_noise(float(middle)) if name == "noise_scale" else ""
        if name == "model_error" and float(middle) > FRACTION:
            doubt = (
                " That is no small correction: the operator misses an effect, or its parameters or "
                "the units of the noise are wrong."
            )
        if name == "noise_scale" and 1 / WRONG_UNITS < float(middle) < 1 / LARGER:
            text += (
                " The declared noise is larger than what the data show, and the intervals are "
                "those of the noise as found."
            )
        out.append((text + doubt, bool(doubt)))
    return [*out, *_under_a_width(stats)]


def _unrolled(value: xr.DataArray) -> xr.DataArray:
    """Return values that count modulo a period within half of it from their circular mean."""
    period = float(value.attrs.get("period", 0.0))
    if not period:
        return value
    turn = 2 * np.pi / period
    sine, cosine = (value.copy(data=f(turn * value.values)) for f in (np.sin, np.cos))
    mean = np.arctan2(sine.mean("draw"), cosine.mean("draw")) / turn
    return value - period * ((value - mean) / period).round()


def _under_a_width(stats: xr.Dataset) -> list[tuple[str, bool]]:
    """Return a sentence of doubt on instrument parameters drawn under a learned prior's width.

    Draws of one scan agree in its scale to 0.02 where the prior leaves 0.045, and of measured and
    simulated scans of 60° most have images as good as with known values, some not
    (docs/evidence/unknowns.md): widths take sums of many pixels for known better than they are.
    """
    told = [
        label(str(name))
        for name, value in stats.data_vars.items()
        if value.attrs.get("unknown") and name not in OF_THE_NOISE and value.ndim == 1
    ]
    if not told or stats.attrs.get("conditional") not in FITTED:
        return []
    what = ", ".join(told)
    return [
        (
            f"The intervals of {what} rest on the width of a learned prior, which holds for pixels "
            "more than for sums of many: on scans of 60° those of the attenuation were too narrow "
            "by half, and some images worse than with known values. Compare with a run that takes "
            "these as known.",
            True,
        )
    ]


def _beforehand(value: xr.DataArray, width: float, units: str) -> str:
    """Return how wide the interval of an unknown was before the data, and whether they tell it."""
    if "prior_sd" not in value.attrs:
        return ""
    prior = WIDTH_90 * float(value.attrs["prior_sd"])
    little = "; the data tell little of them" if width > UNTOLD * prior else ""
    return f", {short(prior)}{units} before the data{little}"


def _of_noise(scale: float) -> str:
    """Return a sentence of doubt where the noise that was found is not that which was declared."""
    if not 1 / WRONG_UNITS < scale < WRONG_UNITS:
        return " That is another order of magnitude: check the units of the noise."
    if scale > LARGER:
        return (
            " The draws leave more than twice the declared noise: it was declared too small, or "
            "the operator misses an effect, which an interval does not hold."
        )
    return ""
