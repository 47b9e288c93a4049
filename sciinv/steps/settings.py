"""Settings that find themselves before the first draw: `inflate: auto`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deepinv.physics import Physics
from torch import Tensor

from sciinv.calibration.settings import find_inflate
from sciinv.conditionals import FittedWidth
from sciinv.config import Sampler
from sciinv.errors import ConfigError
from sciinv.priors.base import Prior as DiffusionPrior
from sciinv.priors.draws import prior_draws
from sciinv.samplers.daps import DAPS
from sciinv.steps.build import method


def asks(sampler: Sampler | None) -> bool:
    """Whether κ shall be found."""
    return sampler is not None and sampler.settings.get("inflate") == "auto"


def found(sampler: Sampler, values: dict[str, Any]) -> Sampler:
    """Return the sampler with what was found in place of "auto"."""
    if not asks(sampler):
        return sampler
    if "inflate" not in values:
        raise ConfigError(
            "inflate: auto was not found yet",
            where="sampler",
            expected="a number, or a run of the workflow, whose check finds it",
            got="auto",
            remedy="run `sciinv run`, or give the number that its check.json says",
        )
    return replace(sampler, settings={**sampler.settings, "inflate": values["inflate"]})


def find(
    sampler: Sampler,
    model: DiffusionPrior,
    physics: Physics,
    seed: int,
    micro_batch: int | None = None,
) -> dict[str, Any]:
    """Return κ found on truths drawn from the prior, with the passes of the search.

    One micro-batch of pairs: half as many truths as it has lanes, at least two.

    Args:
        sampler: Its kind and settings, `inflate: auto`.
        model: The prior.
        physics: The operator of the measurement, with its noise.
        seed: Seed of the run.
        micro_batch: Lanes of a micro-batch; the sampler's own if None.

    Raises:
        ConfigError: The sampler has no width to inflate.
    """
    plain = replace(sampler, settings={k: v for k, v in sampler.settings.items() if k != "inflate"})
    own = method(plain, model, micro_batch)
    if not isinstance(own, DAPS) or not isinstance(own.conditional, FittedWidth):
        raise ConfigError(
            "This sampler has no width to inflate",
            where="sampler.inflate",
            expected="kind: daps under a prior with fitted widths",
            got=own.conditional.name if isinstance(own, DAPS) else sampler.kind,
            remedy="leave inflate out",
        )
    shape = physics.image_spec.shape
    count = max(2, own.micro_batch // 2)

    def build(kappa: float) -> DAPS:
        return method(replace(plain, settings={**plain.settings, "inflate": kappa}), model, 2)

    truths: Tensor = prior_draws(model, count, shape, seed)
    start = float(own.conditional.inflate)
    out = find_inflate(build, physics, truths, start, seed)
    return {"inflate": out.inflate, "inflate_search": out.row()}
