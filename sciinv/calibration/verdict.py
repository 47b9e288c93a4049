"""Does this prior know this object? One sentence from the checks, at a stated rate of false alarms.

Each check gives a p-value that is at least uniform where prior, operator, noise and draws are
right.
The smallest times their number is at most the rate in at most that share of such cases
(Bonferroni). Draws under a network are not exact: an alarm may then be the sampler's, and the rate
of false alarms is not known (`docs/evidence/alarm.md`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sciinv.calibration.predictive import Predictive
from sciinv.calibration.typicality import Typicality

RATE = 0.05  # false alarms

FITS, DOES_NOT, CANNOT_TELL = "fits", "does not fit", "cannot tell"


@dataclass(frozen=True)
class Verdict:
    """What the checks say together.

    Attributes:
        answer: "fits", "does not fit" or "cannot tell".
        sentence: The answer with its reasons and numbers.
        p: The smallest p-value times the number of checks, at most 1; 1 without a check.
        rate: Rate of false alarms.
        predictive: The check on left-out data, where it was made.
        typicality: The check of the draws themselves, where it was made.
    """

    answer: str
    sentence: str
    p: float
    rate: float
    predictive: Predictive | None = None
    typicality: Typicality | None = None

    def row(self) -> dict[str, Any]:
        """Return JSON types only."""
        row: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples are lists there
        return row


def judge(
    predictive: Predictive | None = None,
    typicality: Typicality | None = None,
    rate: float = RATE,
    exact: bool = True,
    without: str = "none was made",
) -> Verdict:
    """Return the verdict of the checks that were made.

    Args:
        predictive: The check on left-out data.
        typicality: The check of the draws themselves.
        rate: Rate of false alarms.
        exact: Whether the prior is in closed form. If not, typicality is kept beside the verdict
            and does not count: it hears what the sampler leaves in the finest structure of draws.
        without: Why there is no check, where there is none.

    "cannot tell": no check has references enough for an alarm at this rate.
    """
    checks = [
        (check.p, 1 / (1 + number), say)
        for check, number, say in (
            (predictive, predictive.draws if predictive else 0, lambda: _predicted(predictive)),
            (
                typicality if exact else None,
                typicality.own if typicality else 0,
                lambda: _typical(typicality),
            ),
        )
        if check is not None
    ]
    count = len(checks)
    p = min([1.0, *(count * each for each, _, _ in checks)])
    close = f"; false alarms: {100 * rate:g} %"
    if not exact:
        close += " if the draws are right, which is not shown for a network"
    if p <= rate:
        reasons = [say() for each, _, say in checks if count * each <= rate]
        answer, sentence = DOES_NOT, f"The prior does not fit: {'; '.join(reasons)}{close}."
    elif not any(count * least <= rate for _, least, _ in checks):
        answer = CANNOT_TELL
        sentence = (
            "Whether the prior fits, these checks cannot tell: "
            + (without if not checks else "too few draws or images of the prior to rank in")
            + "."
        )
    else:
        parts = []
        if predictive is not None:
            parts.append(
                f"{predictive.left_out} left-out values ({predictive.blocks}) are predicted with "
                f"χ² {predictive.chi2:.3g}, p = {predictive.p:.2g}"
            )
        if typicality is not None and exact:
            parts.append(f"its denoiser takes the draws for its own images, p = {typicality.p:.2g}")
        answer, sentence = FITS, f"The prior fits as far as can be seen: {'; '.join(parts)}{close}."
    return Verdict(answer, sentence, p, rate, predictive, typicality)


def _predicted(check: Predictive | None) -> str:
    assert check is not None
    return (
        f"{check.left_out} values that were left out ({check.blocks}) lie at χ² {check.chi2:.3g} "
        f"of what the draws from the rest predict (expected: 1; p = {check.p:.2g})"
    )


def _typical(check: Typicality | None) -> str:
    assert check is not None
    worst = min(range(len(check.each)), key=lambda k: check.each[k])
    return (
        f"its denoiser errs on the draws {check.ratios[worst]:.3g} times as much as on its own "
        f"images at noise {check.sigmas[worst]:.3g} (p = {check.p:.2g})"
    )
