"""The draw of x0 given x_t and y where the prior is a scale mixture of Gaussians and A is linear.

With x0 = S u both x_t and y are Gaussian data of u, of precision and pull

    G = Sᵀ (Āᵀ Ā + I / σ²) S,    b = Sᵀ (Āᵀ W y + x_t / σ²),

and Gibbs sweeps (`sciinv.priors.scales.gibbs`) draw the variances and u in turn. The variances that
a level ends with are where the next one starts: with x_{t−1} given x0 it is one chain whose every
step leaves p(x0 | y) as it is, so that the sweeps of all levels add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.errors import ConfigError
from sciinv.kernels.mixture import normal
from sciinv.priors.scales import gibbs
from sciinv.priors.scales.prior import Scales
from sciinv.problem import Problem
from sciinv.seeds import Streams

FIRST, EACH = 20, 2  # sweeps at the first level and at each of the others
SPARSE = 1  # the same of a law with zeros, whose sweeps integrate u out: two found nothing more


def draw(given: Scales, problem: Problem, streams: Streams) -> Tensor:
    """Return x0 ~ p(x0 | x_t, y), [B, C, H, W].

    Raises:
        ConfigError: Noise or instrument are drawn with the image.
    """
    if problem.nominal is not None:
        raise ConfigError(
            "A scale mixture is drawn by sweeps under one noise and one instrument alone",
            where=type(problem.physics).__name__,
            got="noise or instrument drawn with the image",
            remedy="use conditional='tweedie', or take noise and instrument as known",
        )
    prior, x_t, precision = given.prior, given.x_t, given.sigma**-2
    s = prior.synthesis.to(x_t).double()
    lin, u = problem.linearise(torch.zeros_like(x_t))
    data = problem.likelihood.residual(torch.zeros_like(u), problem.y)  # W y
    h = lin.adjoint(data, x_t).flatten(1).double()
    key = ("scales", "normal")
    if key not in problem.cache:
        problem.cache[key] = s.mT @ normal(lin, problem, x_t) @ s
    gram = problem.cache[key] + precision * s.mT @ s
    pull = (h + precision * x_t.flatten(1).double()) @ s
    state = problem.chain.get("scales")
    sparse = prior.law.present < 1
    sweeps = SPARSE if sparse else EACH
    if state is None:
        sweeps = FIRST
        state = gibbs.start(prior.law, streams, s.shape[1], pull)
    for _ in range(sweeps if prior.law.mixes or sparse else 1):  # of one Gaussian a draw is exact
        state = gibbs.sweep(state, prior.law, gram, pull, streams)
    problem.chain["scales"] = state
    return (state.u @ s.mT).to(x_t).reshape(x_t.shape)
