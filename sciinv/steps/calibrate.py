"""Calibration of a problem: its operator and noise, truths drawn from its prior."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sciinv import calibration, metrics, plots, samplers, store
from sciinv.arithmetic import fixed_arithmetic
from sciinv.config import Operator, Prior, Sampler
from sciinv.steps.generic import scale_for
from sciinv.steps.sample import build, load_prior
from sciinv.store.atomic import write_file


@fixed_arithmetic()
def calibrate(
    measurement: str | Path,
    out: str | Path,
    *,
    operator: Operator,
    prior: Prior,
    sampler: Sampler,
    truths: int = 16,
    draws: int = 19,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> list[tuple[str, str, str]]:
    """Simulate truths and their data, sample each, and write what the ranks and errors say.

    Args:
        measurement: The measurement store: its first item's operator and noise.
        out: The folder: `calibration.json`, `ranks.npy` [truth, channel, y, x] and
            `calibration.png`.
        operator: The operator and its parameters.
        prior: The prior that truths are drawn from, and that is sampled with.
        sampler: The sampler and its settings.
        truths: Number of truths.
        draws: Draws per truth.
        seed: Seed of truths, noise and draws.
        progress: Called with (truths done, truths).
        overwrite: Write over the files of an earlier calibration.

    Returns:
        Rows (what, found, right) for a table.

    Raises:
        SciinvError: See `calibration.run`.
    """
    folder = Path(out)
    store.check_new(
        [folder / n for n in ("calibration.json", "ranks.npy", "calibration.png")], overwrite
    )
    dataset = store.open_measurement(measurement)
    physics, _ = build(dataset, operator)
    spec = physics.image_spec
    model = load_prior(prior, spec.shape, spec.units, *scale_for(prior, dataset, operator))
    method = samplers.build(sampler.kind, model, **sampler.settings)
    x0 = calibration.prior_draws(model, truths, spec.shape, seed)
    found, x, _ = calibration.run(method, physics, x0, draws, seed, progress=progress)
    ranks = metrics.ranks(x, x0.numpy(), seed)
    row = {**found.row(), "units": spec.units, **method.settings(), "seed": seed}
    write_file(folder / "calibration.json", json.dumps(row, indent=1).encode())
    buffer = io.BytesIO()
    np.save(buffer, ranks, allow_pickle=False)
    write_file(folder / "ranks.npy", buffer.getvalue())
    apart = metrics.scattered(ranks)
    write_file(folder / "calibration.png", plots.png(plots.calibration_figure(apart, draws)))
    return [
        ("spread ÷ RMSE", f"{found.spread_skill:.3f} ± {found.spread_skill_error:.3f}", "1"),
        ("root mean χ²", f"{found.residual:.3f} ± {found.residual_error:.3f}", "1"),
        *(
            (f"coverage of {100 * level:.0f} %", f"{c:.3f} ± {e:.3f}", f"{level:.3f}")
            for level, c, e in zip(found.levels, found.coverage, found.coverage_error, strict=True)
        ),
        ("CRPS", f"{found.crps:.4g} ± {found.crps_error:.2g} {spec.units}", "small"),
        ("RMSE of the mean", f"{found.rmse:.4g} {spec.units}", "small"),
        ("network evaluations per draw", f"{found.nfe:.4g}", ""),
        ("seconds per draw", f"{found.seconds:.3g}", ""),
    ]
