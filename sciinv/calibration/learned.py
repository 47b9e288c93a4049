"""Calibration under a learned prior: truths drawn from it, simulated data, draws, ranks.

Two operators that any image prior can be tried with:

    fourier   y = M F x + β n: a random 26 % of the Fourier modes, all of the lowest ones
    ct        y = P x + β n: line sums over 15 view angles from 0 to 60°, scaled to ‖P‖ ≈ 1

The noise β is a share of the prior's unit. Source: Talts et al. 2018 (SBC, arXiv 1804.06788).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv import calibration, metrics, plots
from sciinv.arithmetic import fixed_arithmetic
from sciinv.calibration import distances
from sciinv.calibration.operators import operator
from sciinv.calibration.secant import secant
from sciinv.priors.learned.network import LearnedPrior
from sciinv.quantities.holes import holes_of
from sciinv.samplers import DAPS
from sciinv.samplers.base import Sampler
from sciinv.store.atomic import write_file
from sciinv.store.ours import check_new

# Coverage is measured on about this many pixels of an image, spread evenly.
PIXELS = 1024


@dataclass(frozen=True)
class Measured:
    """What one sampler showed: the figures of the pixels, and of the field's quantities."""

    pixels: calibration.Calibration
    quantities: Mapping[str, Mapping[str, Any]]
    ranks: np.ndarray
    settings: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """Return JSON types only."""
        return {
            **self.pixels.row(),
            "quantities": dict(self.quantities),
            "settings": dict(self.settings),
        }


def measure(
    sampler: Sampler,
    prior: LearnedPrior,
    physics: LinearPhysics,
    truths: Tensor,
    draws: int = 16,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Sample the posterior of simulated data of each truth [N, C, H, W] and rank the truth.

    Pixel figures are in the prior's unit u. Coverage is over an even choice of pixels.
    """
    found, x, _ = calibration.run(sampler, physics, truths, draws, seed, progress=progress)
    t = truths.numpy()
    u, v = (np.asarray(a, np.float64) / prior.scale for a in (x, t))
    step = max(1, round(math.sqrt(np.prod(t.shape[1:]) / PIXELS)))
    inner = calibration.measure(
        u, v, np.full(x.shape[:2], found.residual**2), found.nfe, found.seconds
    )
    thin = calibration.measure(u[..., ::step, ::step], v[..., ::step, ::step], np.ones(x.shape[:2]))
    pixels = calibration.Calibration(
        **{
            **inner.row(),
            "residual": found.residual,
            "residual_error": found.residual_error,
            "coverage": thin.coverage,
            "coverage_error": thin.coverage_error,
        }
    )
    quantities = {}
    for name, of in quantities_of(prior).items():
        a, b = of(x), of(t)
        known = np.isfinite(b) & np.isfinite(a).all(0)
        if known.sum() < 2:
            continue
        q = calibration.measure(a[:, known, None], b[known, None], np.ones((draws, known.sum())))
        quantities[name] = {
            "truths": int(known.sum()),
            "coverage": q.coverage,
            "coverage_error": q.coverage_error,
            "spread_skill": q.spread_skill,
            "rank_uniformity_p": calibration.rank_uniformity(a[:, known], b[known], 4, seed),
        }
    ranks = metrics.ranks(x[..., ::step, ::step], t[..., ::step, ::step], seed)
    return Measured(pixels, quantities, ranks, sampler.settings())


def seconds_per_truth(
    prior: LearnedPrior,
    kind: str,
    noise: float,
    draws: int,
    settings: Mapping[str, Any],
    seed: int = 0,
) -> float:
    """Return the seconds that one truth of `run` takes here: drawn, measured, sampled.

    A pair of draws is timed. Counted from calls of the network alone a truth came out 2.5 times too
    cheap: beside a small network the solves of the exact draws take most of the time.
    """
    physics = operator(kind, prior, noise, seed)
    begin = time.monotonic()
    x0 = calibration.prior_draws(prior, 1, prior.train_shape, seed)
    drawn = time.monotonic() - begin
    begin = time.monotonic()
    y = calibration.simulate(physics, x0, seed)
    DAPS(prior, **settings).sample(y, physics, draws=2, seed=seed)
    return drawn + (time.monotonic() - begin) * draws / 2


def quantities_of(prior: LearnedPrior) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the field's scalar quantities of the class, each of images [..., C, H, W]."""
    kind = prior.metadata.get("data", {}).get("family")
    pixel = float(prior.metadata.get("pixel", {}).get("side", 1.0))
    if kind == "blackholes":
        return {
            "ring diameter, µas": _each(lambda a: _ring(a, pixel)),
            "flux inside 30 µas, Jy": _each(lambda a: float(a[0][_disc(a, 30 / pixel)].sum())),
        }
    if kind == "discs":
        return {
            "area of the holes, mm²": _each(lambda a: holes_of(a[0], pixel**2)[1]),
            "mean of the inner disc, 1/mm": _each(
                lambda a: float(a[0][_disc(a, 15 / pixel)].mean())
            ),
        }
    return {
        "mean magnitude, middle 24 × 24": _each(lambda a: _magnitude(a, 24)),
        "mean magnitude, middle 6 × 6": _each(lambda a: _magnitude(a, 6)),
    }


def _each(f: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    def of(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1, *x.shape[-3:])
        return np.array([f(a) for a in flat]).reshape(x.shape[:-3])

    return of


def _disc(a: np.ndarray, radius: float) -> np.ndarray:
    h, w = a.shape[-2:]
    y, x = np.ogrid[:h, :w]
    return np.hypot(y - (h - 1) / 2, x - (w - 1) / 2) < radius


def _ring(a: np.ndarray, pixel: float) -> float:
    from sciinv.quantities.ringfit import ring_parameters

    return float(ring_parameters(a[:1], pixel).diameter[0])


def _magnitude(a: np.ndarray, side: int) -> float:
    h, w = a.shape[-2:]
    inner = a[:, (h - side) // 2 : (h + side) // 2, (w - side) // 2 : (w + side) // 2]
    return float(np.linalg.norm(inner, axis=0).mean())


def match(
    make: Callable[[float], Sampler],
    prior: LearnedPrior,
    physics: LinearPhysics,
    truths: Tensor,
    draws: int = 8,
    seed: int = 0,
    start: float = 3.0,
    steps: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Return the factor κ at which draws are as far from each other as from the truth.

    Secant steps in ln κ, within a factor of 10 of the start and from 1 up: a width below D's own
    measured error makes draws that miss the data (at κ = 0.21 by 1.6 times the noise), whatever
    their spread. Take other truths than those that the calibration is then shown on.
    """

    def apart(kappa: float) -> tuple[float, float]:
        found, x, _ = calibration.run(make(kappa), physics, truths, draws, seed)
        each = distances.log_ratios(truths, torch.from_numpy(x).transpose(0, 1))
        ratio, error = distances.mean(each)
        say(f"κ = {kappa:.2f}: draws {math.exp(ratio):.3f} (± {error:.3f}) times as far from each "
            f"other as from the truth, spread ÷ RMSE {found.spread_skill:.3f}, residual "
            f"{found.residual:.3f}, CRPS {found.crps / prior.scale:.4g}")  # fmt: skip
        return ratio, max(0.015, error)

    # 0.25: of ln(spread ÷ RMSE) on ln κ, as measured on three priors
    return secant(apart, start, steps, 0.25, (0.1, 1.0), least=1.0)


@fixed_arithmetic()
def run(
    prior: str | Path,
    out: str | Path,
    kind: str,
    noise: float,
    truths: int,
    draws: int,
    settings: Mapping[str, Any],
    matching: int = 0,
    published: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    overwrite: bool = False,
) -> tuple[Path, list[tuple[str, list[tuple[str, str]]]]]:
    """Calibrate DAPS under the prior in a file, and write PRIOR-KIND.json and .png.

    Args:
        prior: File of the learned prior.
        out: Folder to write.
        kind: Operator, see `operator`.
        noise: β in the prior's unit.
        truths: Truths, drawn by the reverse SDE in 100 steps.
        draws: Draws per truth.
        settings: Settings of `samplers.DAPS`.
        matching: Truths, drawn apart from the others, on which κ is matched first; 0: not.
        published: Truths on which the published loop (exact inner draws) is run too; 0: not.
        seed: Seed of everything.
        progress: Called with (truths done, truths).
        say: Takes a line of progress.
        overwrite: Write over the files of an earlier calibration.

    Returns:
        The file, and a (name, rows) per sampler for a table.

    Raises:
        SciinvError: See `operator`, `samplers.DAPS` and `calibration.run`.
    """
    from sciinv.priors import load

    name = f"{Path(prior).stem}-{kind}"
    check_new([Path(out) / f"{name}{end}" for end in (".json", ".png")], overwrite)
    model = load(prior)
    physics = operator(kind, model, noise, seed)
    settings = dict(settings)
    if matching:
        others = calibration.prior_draws(model, matching, model.train_shape, seed + 1_000_003)
        settings["inflate"] = round(
            match(
                lambda k: DAPS(model, **{**settings, "inflate": k}),
                model, physics, others, max(draws // 2, 2), seed + 1,
                start=float(settings.get("inflate", model.local_inflate)), say=say,
            ), 2,
        )  # fmt: skip
    about = {
        "prior": model.name, "operator": kind, "noise": noise, "truths": truths, "draws": draws,
        "seed": seed, "matching_truths": matching, "unit": f"{model.scale:g} {model.units}",
    }  # fmt: skip
    x0 = calibration.prior_draws(model, truths, model.train_shape, seed)
    found = {"sciinv": measure(DAPS(model, **settings), model, physics, x0, draws, seed, progress)}
    path = write(out, name, found, about)  # not lost if the rest is
    if published:
        few = x0[:published]
        found["sciinv, the same truths"] = measure(
            DAPS(model, **settings), model, physics, few, draws, seed
        )
        loop = DAPS(model, conditional="published", levels=200)
        found["published loop"] = measure(loop, model, physics, few, draws, seed)
        path = write(out, name, found, about)
    return path, [(name, rows(m)) for name, m in found.items()]


def rows(m: Measured) -> list[tuple[str, str]]:
    """Return (what, found) of a measurement, as text."""
    p = m.pixels
    out = [
        ("width factor κ", f"{m.settings.get('inflate', math.nan):.3g}"),
        ("spread ÷ RMSE", f"{p.spread_skill:.3f} ± {p.spread_skill_error:.3f}"),
        ("residual ÷ β", f"{p.residual:.3f} ± {p.residual_error:.3f}"),
        ("CRPS, u", f"{p.crps:.4g} ± {p.crps_error:.2g}"),
        *(
            (f"coverage of {100 * level:.0f} %", f"{c:.3f} ± {e:.3f}")
            for level, c, e in zip(p.levels, p.coverage, p.coverage_error, strict=True)
        ),
        ("network evaluations per draw", f"{p.nfe:.0f}"),
        ("seconds per draw", f"{p.seconds:.3g}"),
    ]
    for name, q in m.quantities.items():
        share = " / ".join(f"{c:.2f}" for c in q["coverage"])
        out.append(
            (f"{name}: coverage 50/80/90 %", f"{share}; SBC p = {q['rank_uniformity_p']:.2f}")
        )
    return out


def write(folder: str | Path, name: str, found: Mapping[str, Measured], about: Any) -> Path:
    """Write NAME.json and NAME.png (ranks of the first sampler) into the folder."""
    folder = Path(folder)
    body = {"about": about, "samplers": {k: m.row() for k, m in found.items()}}
    write_file(folder / f"{name}.json", json.dumps(body, indent=1, ensure_ascii=False).encode())
    first = next(iter(found.values()))
    apart = metrics.scattered(first.ranks)
    figure = plots.calibration_figure(apart, first.pixels.draws, title=f"Ranks of truths: {name}")
    write_file(folder / f"{name}.png", plots.png(figure))
    return folder / f"{name}.json"
