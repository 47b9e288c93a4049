"""A trained prior from a checkpoint: its file, its errors and samples, its card."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from sciinv.arithmetic import fixed_arithmetic
from sciinv.errors import PriorError
from sciinv.priors import widths
from sciinv.priors.learned import evaluation, files
from sciinv.priors.learned.network import HighSpec, LearnedPrior, Preconditioning
from sciinv.priors.learned.precision import chosen, native
from sciinv.priors.learned.recipes import TrainConfig, images_of
from sciinv.priors.learned.state import State, spec_of, start
from sciinv.priors.phantoms import Family, family

TABLE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_PLACES = (
    "command",
    "device",
    "source",
    "high",
    "high_above",
    "init",
    "init_network",
    "checkpoints",
    "output",
    "name",
    "nc",
    "nb",
    "patch",
    "highpass",
    "mean",
    "phase",
    "turn",
    "linear",
    "coarse",
    "gains",
)


def prior_of(config: TrainConfig, state: State, kind: Family) -> LearnedPrior:
    """Return the averaged weights as a prior in physical units."""
    from sciinv import __version__

    high = files.load(config.high) if config.high else None
    prior = LearnedPrior(
        spec_of(config, kind),
        Preconditioning(
            config.sigma_data, config.sigma_min, config.sigma_max, kind.offset, kind.scale
        ),
        train_shape=kind.shape,
        fixed_size=kind.fixed_size,
        units=kind.units,
        name=config.name,
        high=None
        if high is None
        else HighSpec(high.spec, max(config.high_above, high.constants.sigma_min)),
        metadata={
            "pixel": {"side": kind.pixel, "unit": kind.pixel_unit},
            "data": {"family": kind.name, "summary": kind.summary, "licence": kind.licence},
            "training": {
                **{k: v for k, v in asdict(config).items() if k not in _PLACES},
                **(
                    {"started_from": f"{Path(config.init).name}: {config.init_network}"}
                    if config.init
                    else {}
                ),
                "steps": state.step,
                "images": state.images,
                "stretches": state.stretches,
                "seconds": round(state.seconds),
                "optimizer": "Adam (0.9, 0.99), EDM loss, "
                + ("bfloat16 autocast" if native(chosen(config.device)) else "float32")
                + ", averaged weights",
            },
            **({} if high is None else {"training_high": high.metadata["training"]}),
            "command": config.command or f"sciinv train workflows/configs/train-{config.name}.yaml",
            "version": __version__,
        },
    )
    prior.network.load_state_dict(state.ema.state_dict())
    if high is not None:
        if high.constants.sigma_data != config.sigma_data:
            raise PriorError(
                "The network for high noise has another scale",
                where=config.high,
                expected=f"sigma_data {config.sigma_data}",
                got=high.constants.sigma_data,
                remedy="train it with the same sigma_data",
            )
        prior.high.load_state_dict(high.network.state_dict())
    return prior


def export(
    config: TrainConfig,
    *,
    kind: Family | None = None,
    log: Callable[[str], None] | None = None,
    level_count: int = 24,
    budget: float | None = None,
) -> LearnedPrior:
    """Measure the prior in the latest checkpoint and write NAME.safetensors, NAME.md and pictures.

    Widths, errors and samples are those of the weights as stored (float16).

    Args:
        config: The run.
        kind: The images, where they are no family of `phantoms`.
        log: Takes a line of progress.
        level_count: Noise levels of the widths.
        budget: Seconds that measuring may take, about; None: on all held-out images.

    Raises:
        PriorError: There is no checkpoint.
    """
    say = log or (lambda line: print(line, file=sys.stderr, flush=True))
    with fixed_arithmetic(config.threads):
        kind = kind or family(config.family)
        source = kind.source(config.source)
        state = start(config, kind)
        checkpoint, out = (
            Path(config.checkpoints) / f"{config.name}.safetensors",
            Path(config.output),
        )
        if not checkpoint.is_file():
            raise PriorError("There is no checkpoint to export", where=checkpoint)
        state.restore(checkpoint)
        path = out / f"{config.name}.safetensors"
        files.save(prior_of(config, state, kind), path, storage=torch.float16)
        prior = files.load(path)
        held, samples = config.validation, 64
        if budget is not None:
            begin = time.monotonic()
            with torch.no_grad():
                prior(torch.zeros(4, *kind.shape), prior.sigma_max)
            calls = budget * 4 / max(time.monotonic() - begin, 1e-4)
            held = min(held, max(round(calls / 2 / (level_count + len(TABLE))), 16))
            samples = min(samples, max(round(calls / 2 / 48) // 8 * 8, 16))
        x0 = kind.offset + kind.scale * images_of(config, kind, source, block=0, count=held)
        known = kind.offset + kind.scale * images_of(config, kind, source, block=1, count=512)
        ends = (math.log10(prior.sigma_min), math.log10(prior.sigma_max))
        say(f"{config.name}: fitting widths")
        prior.widths = widths.measure(
            prior, x0, torch.logspace(*ends, level_count), seed=config.seed
        )
        prior.metadata["validation"] = state.curve
        files.save(prior, path, storage=torch.float16)
        say(f"{config.name}: errors")
        rows = evaluation.error_table(
            prior,
            x0,
            evaluation.Wiener.of_images(known),
            [s * kind.scale for s in TABLE if config.sigma_min <= s <= config.sigma_max],
            seed=config.seed,
        )
        say(f"{config.name}: samples")
        drawn = evaluation.unconditional(prior, samples, kind.shape, seed=config.seed)
        evaluation.picture(drawn, out / f"{config.name}-samples.png")
        evaluation.picture(known[:32], out / f"{config.name}-training.png")
        pictures = {
            "Unconditional samples (Heun, 24 levels)": f"{config.name}-samples.png",
            "Training images": f"{config.name}-training.png",
        }
        (out / f"{config.name}.md").write_text(evaluation.card(prior, rows, kind.limits, pictures))
        say(f"{config.name}: wrote {path}")
        return prior
