"""The shipped prior of nothing in particular: for any scale of values, real images and complex.

It was trained on images of about unit size (`phantoms.generic`). For images s times as large,

    D_s(x, σ) = s D(x/s, σ/s),

with its widths. Complex images are the same network on the real and on the imaginary part, after
the slow phase was taken off, so that most of the image is in one of them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sciinv.errors import PriorError
from sciinv.priors.learned import files
from sciinv.priors.learned.copies import remade
from sciinv.priors.learned.network import HighSpec, LearnedPrior, NetworkSpec
from sciinv.priors.widths.local import LocalWidths

WARNING = (
    "No prior of this object was named; a generic one was used, which knows nothing of this object "
    "but what images of many kinds share: edges, smooth parts, textures, points."
)


def load(path: str | Path, scale: float, units: str = "") -> LearnedPrior:
    """Return the generic prior in a file, for images `scale` times as large as those it knows."""
    prior = scaled(files.load(path), scale)
    prior.units = units
    prior.metadata["warning"] = WARNING
    return prior


def scaled(prior: LearnedPrior, factor: float) -> LearnedPrior:
    """Return the prior of the images `factor` times as large; the weights are shared.

    Raises:
        PriorError: The factor is not positive.
    """
    if not 0 < factor < float("inf"):
        raise PriorError("The scale of a prior's images is a positive number", got=factor,
                         expected="> 0", remedy="give the size of a typical value")  # fmt: skip
    c = prior.constants
    local = None
    if (own := prior.local) is not None:
        local = LocalWidths(
            own.network, own.sigmas * factor, own.mean * factor**2, own.correlation,
            own.offset * factor, own.unit * factor,
        )  # fmt: skip
    return remade(
        prior,
        constants=replace(c, offset=c.offset * factor, scale=c.scale * factor),
        widths=None if prior.widths is None else prior.widths.to(factor),
        local=local,
        moves=None if (moved := prior.moves) is None else moved.to(factor),
    )


def linear_above(prior: LearnedPrior, images: Tensor, above: float) -> LearnedPrior:
    """Return the prior with the class's Wiener filter for σ ≥ `above`; weights are shared.

    In strong noise a network needs long to become as good as the best linear filter of the class,
    and for images of nothing in particular it cannot become much better.

    Args:
        prior: A prior of one network.
        images: Clean images u [N, C, H, W]; wide ones, or the filter takes means for small.
        above: The least σ of the filter, units of u.
    """
    plain = NetworkSpec(prior.spec.channels, (8, 8, 8, 8), 1, 2, linear=True)
    out = remade(prior, high=HighSpec(plain, above))
    out.high.linear.fit(images)  # its F is zero as made
    return out


def complex_of(prior: LearnedPrior, phase: bool = True) -> LearnedPrior:
    """Return the prior of complex images (real, imaginary) whose parts are real ones of `prior`.

    Args:
        prior: A prior of real images; its widths do not hold for both parts together.
        phase: Whether the slow phase is taken off before the parts are looked at.

    Raises:
        PriorError: Its images are not real.
    """
    if prior.spec.channels != 1:
        raise PriorError("Complex images are made of a network of real ones",
                         expected="a prior of one channel",
                         got=f"{prior.spec.channels} channels",
                         remedy="take a prior of real images")  # fmt: skip

    def both(spec: HighSpec) -> HighSpec:
        return replace(spec, network=replace(spec.network, channels=2, apart=True))

    uppers: dict[str, Any] = {role: both(spec) for role, spec in prior.uppers()}

    out = LearnedPrior(
        replace(prior.spec, channels=2, apart=True, phase=phase),
        prior.constants,
        **uppers,
        train_shape=(2, *prior.train_shape[1:]),
        units=prior.units,
        name=f"{prior.name}-complex",
        inflate=prior.inflate,
        levels=prior.levels,
        local_inflate=prior.local_inflate,
        metadata={k: v for k, v in prior.metadata.items() if k not in ("local", "calibration")},
    )
    out.network.load_state_dict(prior.network.state_dict())
    for role, spec in prior.uppers():
        upper = getattr(out, role)
        upper.load_state_dict(getattr(prior, role).state_dict())
        if spec.network.linear:  # each part has half of the power
            upper.linear.spectrum -= math.log(2)
    return out
