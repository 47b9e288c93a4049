"""A coarse expert for the highest noise levels of a prior: another network joins it.

At σ of several u only structure of many pixels shows. A network that sees means over blocks of
pixels, with the class's Wiener filter for what is finer (`NetworkSpec.coarse`, `linear`), learns
these levels on whole images at a small part of the price; below its levels the prior stays as it
is, to the bit.
"""

from __future__ import annotations

from sciinv.errors import PriorError
from sciinv.priors.learned.copies import check_class, remade
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.learned.specs import HighSpec


def join(prior: LearnedPrior, expert: LearnedPrior, above: float, alone: float) -> LearnedPrior:
    """Return `prior` with the network of `expert` for high noise; weights are shared.

    Args:
        prior: The prior; a coarse expert that it has is replaced.
        expert: A prior of the same class of images, of which the network is taken.
        above: σ below which the prior serves alone, units of u.
        alone: σ from which the expert serves alone; between the two D is blended (see `bands`).

    Raises:
        PriorError: The two differ in channels, size or units, or the levels are not in order.
    """
    check_class(prior, expert)
    least, most = expert.constants.sigma_min, prior.constants.sigma_max
    if not least <= above <= alone <= most:
        raise PriorError(
            "The expert cannot serve these noise levels",
            expected=f"{least:g} ≤ above ≤ alone ≤ {most:g}, units of u",
            got=f"above {above:g}, alone {alone:g}",
            remedy="begin where the expert was trained and end below the prior's largest σ",
        )
    metadata = {**prior.metadata, "training_coarse": expert.metadata["training"]}
    out = remade(prior, coarse=HighSpec(expert.spec, above, alone), metadata=metadata)
    # copied, for the map of ln σ is kept to the levels served
    out.coarse.load_state_dict(expert.network.state_dict())
    out.coarse.to(next(prior.network.parameters()))
    return out
