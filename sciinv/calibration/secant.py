"""The factor κ at which what is measured of the draws is right: secant steps in ln κ."""

from __future__ import annotations

import math
from collections.abc import Callable

REACH = 10.0  # factor from the start that κ stays within


def secant(
    measure: Callable[[float], tuple[float, float]],
    start: float,
    steps: int,
    slope: float,
    slopes: tuple[float, float],
    least: float = 0.0,
) -> float:
    """Return the κ, of those tried, at which the logarithm of a ratio is nearest to 0.

    Args:
        measure: Returns ln(ratio) at κ, and how near to 0 is near enough.
        start: κ of the first step.
        steps: Steps at most.
        slope: d ln(ratio)/d ln κ, before two steps have measured it.
        slopes: Least and largest slope that is believed.
        least: κ that is not gone below.
    """
    tried: list[tuple[float, float]] = []
    ln = math.log(start)
    low, high = ln - math.log(REACH), ln + math.log(REACH)
    if least > 0:
        low = max(low, math.log(least))
    for _ in range(steps):
        miss, enough = measure(math.exp(ln))
        tried.append((ln, miss))
        if abs(miss) < enough:
            break
        if len(tried) > 1 and tried[-1][0] != tried[-2][0]:
            slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        slope = min(max(slope, slopes[0]), slopes[1])
        following = min(max(ln - miss / slope, low), high)
        if following == ln:
            break
        ln = following
    return math.exp(min(tried, key=lambda pair: abs(pair[1]))[0])
