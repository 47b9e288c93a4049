"""Draws of the generic prior that are far stronger than the data allow end in no result."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import Denoising, GaussianNoise

from sciinv import samplers
from sciinv.errors import DivergenceError
from sciinv.samplers import checks
from sciinv.steps import build


def test_a_draw_stronger_than_the_scale_of_the_data_is_refused():
    prior = build._generic(1, "1", 2.0)
    _, rms = prior.typical
    sampler = samplers.DAPS(prior, levels=2, micro_batch=1)
    physics = Denoising(GaussianNoise(0.1))
    # a fitting draw has 0.5 of the class's rms, exploded ones had 1.8 and more
    checks.drawn(torch.full((1, 1, 8, 8), 0.5 * rms), sampler, physics)
    with pytest.raises(DivergenceError, match="name a prior of such images"):
        checks.drawn(torch.full((1, 1, 8, 8), 1.8 * rms), sampler, physics)
