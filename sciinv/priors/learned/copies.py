"""A learned prior with other constants or another network, the rest shared."""

from __future__ import annotations

from typing import Any

from sciinv.errors import PriorError
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.learned.specs import UPPER, HighSpec


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
        "middle": prior.middle_spec,
        "coarse": prior.coarse_spec,
        "widths": prior.widths,
        "local": prior.local,
        "moves": prior.moves,
        "inflate": prior.inflate,
        "levels": prior.levels,
        "local_inflate": prior.local_inflate,
        "metadata": dict(prior.metadata),
    }
    out = LearnedPrior(**own | changes)
    for role, argument in (("network", "spec"), *((role, role) for role in UPPER)):
        if argument not in changes and own[argument] is not None:
            setattr(out, role, getattr(prior, role))
    out.micro_batch = prior.micro_batch
    return out


def check_class(prior: LearnedPrior, trained: LearnedPrior) -> None:
    """Raise unless two priors are of one class of images, so that they may share networks.

    Raises:
        PriorError: They differ in channels, units, size or root mean square.
    """
    for what, a, b in (
        ("channels", prior.channels, trained.channels),
        ("unit", prior.units, trained.units),
        ("offset and scale", (prior.offset, prior.scale), (trained.offset, trained.scale)),
        ("root mean square", prior.constants.sigma_data, trained.constants.sigma_data),
        ("fixed size", prior.shape, trained.shape),
    ):
        if a != b:
            raise PriorError(
                "The network's images are not those of the prior",
                where=what,
                expected=a,
                got=b,
                remedy="train it on the same class, with the same sigma_data",
            )


def with_network(
    prior: LearnedPrior, role: str, trained: LearnedPrior, above: float = 0.0, alone: float = 0.0
) -> LearnedPrior:
    """Return the prior with another network in the place of one, or beside it; the rest is shared.

    Widths are carried over: they are those of the network before, and want to be measured anew.

    Args:
        prior: The prior.
        role: "network" (the one for low σ), "high" or "middle".
        trained: A prior of the same class, of which the network for low σ is taken.
        above: Least σ that an upper network serves, units of u.
        alone: σ from which it serves alone, see `bands`; 0: from `above` alone.

    Raises:
        PriorError: The classes differ, there is no such role, or the network was not trained on
            these levels.
    """
    if role not in ("network", "high", "middle"):
        raise PriorError(
            "A prior has no such network to replace",
            expected="network, high, middle",
            got=role,
            remedy="a coarse expert is put in place by `sciinv.priors.learned.coarse.join`",
        )
    check_class(prior, trained)
    least = trained.constants.sigma_min / (1 if role == "network" else 2)  # as low as `loss` goes
    needed = prior.constants.sigma_min if role == "network" else above
    if least > needed or 0 < alone < above:
        raise PriorError(
            "The network cannot serve these noise levels",
            where=role,
            expected=f"{least:g} ≤ above ≤ alone, units of u",
            got=f"above {needed:g}, alone {alone:g}",
            remedy="begin where it was trained",
        )
    training = trained.metadata["training"]
    if role == "network":
        out = remade(prior, spec=trained.spec, metadata={**prior.metadata, "training": training})
    else:
        changes: dict[str, Any] = {role: HighSpec(trained.spec, above, alone)}
        out = remade(prior, metadata={**prior.metadata, f"training_{role}": training}, **changes)
    network = getattr(out, role)
    # copied, for the map of ln σ is kept to the levels served
    network.load_state_dict(trained.network.state_dict())
    network.to(next(prior.network.parameters()))
    return out
