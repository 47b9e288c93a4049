"""Run the calibration benchmark and write its table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from sciinv import __version__
from sciinv.arithmetic import fixed_arithmetic
from sciinv.calibration.benchmark.linear import Row
from sciinv.calibration.benchmark.suite import GROUPS, suite
from sciinv.errors import StoreError
from sciinv.samplers.base import Sampler
from sciinv.store.atomic import write_file
from sciinv.store.ours import check_new


@fixed_arithmetic()
def run(
    out: str | Path,
    full: bool = False,
    groups: tuple[str, ...] = GROUPS,
    progress: Callable[[str], None] | None = None,
    overwrite: bool = False,
    own: Mapping[str, Callable[[Any], Sampler]] | None = None,
) -> str:
    """Compute every case of the groups, and write `benchmark.json` and `benchmark.md` to a folder.

    Args:
        out: The folder; made where it is not there. Groups that are not run keep their old rows.
        full: All cases with 1,000 draws each; otherwise a small selection with 300.
        groups: Which groups.
        progress: Called with the name of each case that is done.
        own: Samplers of the user's, by name, see `suite.suite`.
        overwrite: Replace the rows of these groups that are there already.

    Returns:
        The table as Markdown.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmark.json"
    rows: list[Row] = []
    if path.is_file():
        rows, old = _kept(path, groups)
        if old:
            check_new([path], overwrite)
    else:
        check_new([folder / "benchmark.md"], overwrite)
    for group, name, case in suite(full, own):
        if group not in groups:
            continue
        found = {"group": group, "case": name, "full": full, "date": str(date.today()), **case()}
        rows.append({**found, "version": __version__})
        if progress is not None:
            progress(f"{group}: {name}")
        write_file(path, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    text = table(rows)
    write_file(folder / "benchmark.md", text.encode())
    return text


def _kept(path: Path, groups: tuple[str, ...]) -> tuple[list[Row], bool]:
    """Return the rows of other groups in an earlier table, and whether it has rows of these."""
    try:
        known: list[Row] = json.loads(path.read_text())
        kept = [r for r in known if r["group"] not in groups]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "The file of this name is no table of `sciinv benchmark`",
            where=path.absolute(),
            expected="a JSON list of rows",
            got=f"{type(error).__name__}: {error}",
            remedy="choose another folder",
        ) from error
    return kept, len(kept) < len(known)


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown: Gaussian cases by operator, the others by method and noise."""
    out = [
        "# Calibration benchmark",
        "",
        "Made by `sciinv benchmark --full`; `benchmark.json` has every case with the date and "
        "version it was made with, and seeds are fixed. Distances are sliced 1-Wasserstein ÷ "
        "posterior sd; the floor is the distance of two exact sample sets of the same size.",
    ]
    gaussian = [r for r in rows if r["group"] == "gaussian"]
    if gaussian:
        out += [
            "",
            "## Gaussian priors: every posterior mode against the closed form",
            "",
            "| prior | operator | cases | calls a draw | mean sd ratio (worst case) | "
            "rms of sd ratio − 1 ÷ its Monte-Carlo value | "
            "rms mean error ÷ its Monte-Carlo value |",
            "|---|---|---|---|---|---|---|",
        ]
        for key in sorted({(r["prior"], r["operator"]) for r in gaussian}):
            part = [r for r in gaussian if (r["prior"], r["operator"]) == key]
            worst = max((r["sd_ratio_mean"] for r in part), key=lambda v: abs(v - 1))
            spread = np.mean([r["sd_ratio_rms"] / r["sd_ratio_rms_expected"] for r in part])
            error = np.mean([r["mean_error_rms"] / r["mean_error_rms_expected"] for r in part])
            out.append(
                f"| {key[0]} | {key[1]} | {len(part)} | {part[0]['nfe']:.0f} | {worst:.3f} "
                f"| {spread:.2f} | {error:.2f} |"
            )
    for group, title in (
        ("mixture", "Mixtures of 6 Gaussians in 8 dimensions, 3 measurements"),
        ("large", "Mixtures of 25 Gaussians in 64 dimensions, 2 projections 60° apart, β = 0.5"),
        ("coils", "Complex mixtures of 6 in 8 × 8 pixels under coils, a third of the lines"),
        ("bipsda", "BIPSDA: a mixture of 3 in 10 dimensions (arXiv 2503.03007)"),
        ("nonlinear", "Nonlinear operators on the 8-dimensional mixtures"),
    ):
        part = [r for r in rows if r["group"] == group]
        if part:
            out += ["", f"## {title}", "", *_components(part), *_distances(part)]
    levy = [r for r in rows if r["group"] == "levy"]
    if levy:
        out += ["", "## Lévy signals: 64 samples of independent increments", "", *_levy(levy)]
    robust = [r for r in rows if r["group"] == "robust"]
    if robust:
        out += ["", "## Random nonlinear problems, 8 draws each", "", *_robust(robust)]
    for row in rows:
        if row["group"] == "speed":
            out += ["", f"## Seconds a draw, in turns in one run: {row['case']}", "", *_speed(row)]
    return "\n".join(out) + "\n"


def _levy(rows: list[Row]) -> list[str]:
    def shares(values: list[float]) -> str:
        return " / ".join(f"{100 * v:.0f}" for v in values)

    head = [
        "| method; law, operator | signals | calls a draw | truth inside 50 / 80 / 90 % highest "
        "density | the same, by sample | spread ÷ RMSE | distance | floor | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return head + [
        f"| {r['case']} | {r['signals']} | {r['nfe']:.0f} | {shares(r['hpd'])} "
        f"| {shares(r['coverage'])} | {r['spread_skill']:.2f} | {r['distance']:.3f} "
        f"| {r['floor']:.3f} | {r['failures']} |"
        for r in rows
    ]


def _robust(rows: list[Row]) -> list[str]:
    head = [
        "| method | problems | errors | draws not finite | median χ²: typical (worst problem) |",
        "|---|---|---|---|---|",
    ]
    return head + [
        f"| {r['case'].rsplit('; ', 1)[0]} | {r['problems']} | {len(r['errors'])} "
        f"| {r['not_finite']} | {r['chi2_median']:.2f} ({r['chi2_worst']:.3g}) |"
        for r in rows
    ]


def _speed(row: Row) -> list[str]:
    head = [
        "| method | calls a draw | ms a draw | × faster | CRPS | spread ÷ RMSE | residual ÷ β "
        "| truth inside 50 / 80 / 90 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return head + [
        f"| {m['method']} | {m['nfe']:.0f} | {1e3 * m['seconds']:.2f} | {m['faster']:.1f} "
        f"| {m['crps']:.4f} ± {m['crps_error']:.4f} | {m['spread_skill']:.2f} "
        f"| {m['residual']:.2f} | {' / '.join(f'{100 * c:.0f}' for c in m['coverage'])} |"
        for m in row["methods"]
    ]


def _components(rows: list[Row]) -> list[str]:
    found = [r["components"] for r in rows if "components" in r]
    if not found:
        return []
    return [
        f"The posteriors spread over {min(found):.1f} to {max(found):.1f} components (exp of the "
        "entropy of their weights); in brackets, the modes' floor of two exact sets.",
        "",
    ]


def _distances(rows: list[Row]) -> list[str]:
    head = [
        "| method | problems | calls a draw | distance, mean (worst) | floor | sd ratio | modes |",
        "|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(r["case"].rsplit("; problem", 1)[0] for r in rows))
    for name in names:
        part = [r for r in rows if r["case"].rsplit("; problem", 1)[0] == name]

        def mean(key: str, part: list[Row] = part) -> Any:
            values = [r[key] for r in part if key in r]
            return float(np.mean(values)) if values else math.nan

        worst = max(r["distance"] for r in part)
        head.append(
            f"| {name} | {len(part)} | {mean('nfe'):.0f} | {mean('distance'):.2f} ({worst:.2f}) "
            f"| {mean('floor'):.2f} | {_shown(mean('sd_ratio'))} | {_shown(mean('mode_error'))}"
            f"{_bracketed(mean('mode_floor'))} |"
        )
    return head


def _bracketed(value: float) -> str:
    return "" if math.isnan(value) else f" ({value:.2f})"


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
