"""A learned prior with other constants or another network, its own networks shared."""

from __future__ import annotations

from typing import Any

from sciinv.priors.learned.network import LearnedPrior


def remade(prior: LearnedPrior, **changes: Any) -> LearnedPrior:
    """Return the prior with other arguments of its constructor.

    Networks whose specification is not among the changes are the prior's own; the others are new.

    Args:
        prior: The prior.
        changes: Arguments of `LearnedPrior` by name.
    """
    own: dict[str, Any] = {
        "spec": prior.spec,
        "constants": prior.constants,
        "train_shape": prior.train_shape,
        "fixed_size": prior.shape is not None,
        "units": prior.units,
        "name": prior.name,
        "high": prior.high_spec,
        "coarse": prior.coarse_spec,
        "widths": prior.widths,
        "local": prior.local,
        "inflate": prior.inflate,
        "levels": prior.levels,
        "local_inflate": prior.local_inflate,
        "metadata": dict(prior.metadata),
    }
    out = LearnedPrior(**own | changes)
    for role, argument in (("network", "spec"), ("high", "high"), ("coarse", "coarse")):
        if argument not in changes and own[argument] is not None:
            setattr(out, role, getattr(prior, role))
    out.micro_batch = prior.micro_batch
    return out
