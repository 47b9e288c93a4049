"""Data of known truths: y ~ p(y | x0)."""

from __future__ import annotations

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.seeds import Streams


def simulate(physics: Physics, truths: Tensor, seed: int = 0) -> Tensor:
    """Return y ~ p(y | x0) for each truth, one random stream each."""
    streams = Streams([(seed, "noise", k) for k in range(len(truths))])
    with torch.no_grad():
        u = torch.cat([physics.A(t[None]) for t in truths])
        return likelihoods.of(physics).simulate(u, streams)
