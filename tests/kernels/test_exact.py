"""The exact kernel under a model that knows of displaced edges: draws have the posterior."""

from __future__ import annotations

import numpy as np
import torch

from sciinv import likelihoods
from sciinv.conditionals import Moments
from sciinv.covariances import Fourier, Pixelwise
from sciinv.displaced import Displaced, Moves
from sciinv.kernels.base import Level
from sciinv.kernels.exact import STEPS, Exact
from sciinv.operators.base import declared
from sciinv.operators.ct import CT
from sciinv.problem import Problem
from sciinv.seeds import Streams

SIDE, LANES = 16, 400


def moments() -> Moments:
    yy, xx = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = torch.sigmoid(5.0 - torch.hypot(yy - 7.5, xx - 7.0))[None, None].double()
    mean = disc.expand(LANES, -1, -1, -1)
    power = torch.ones(SIDE, SIDE, dtype=torch.float64)
    base = Pixelwise(0.02 + 0.1 * mean, Fourier(power), 0.01)
    return Moments(mean, Displaced(base, Moves.of(mean, {6.0: 0.5}, 0.2)))


def problem(y: torch.Tensor | None = None) -> Problem:
    physics = CT(np.linspace(0, 180, 12, endpoint=False), SIDE, 1.0, 23, 1.0, noise_sd=0.5)
    y = torch.zeros(LANES, 1, 12, 23, dtype=torch.float64) if y is None else y
    physics = declared(physics, y, (1, SIDE, SIDE))
    return Problem(y, physics, likelihoods.of(physics), linear=True)


def test_draws_with_moves_have_the_posterior_in_closed_form() -> None:
    model = moments()
    mean, c = model.mean, model.covariance
    g = torch.Generator().manual_seed(3)
    truth = mean[:1] + c.sqrt(torch.randn(LANES, *c.coordinates(mean), generator=g).double())[:1]
    clean = problem().physics.A(truth)
    y = clean + 0.5 * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    given = problem(y.expand(LANES, -1, -1, -1))
    assert not given.chain.get("preconditioned", False)
    draws = Exact()(model, given, Streams.of_seed(1, LANES), Level(0, 10, 1.0, 0.9)).x0.flatten(1)

    eye = torch.eye(SIDE**2, dtype=torch.float64).reshape(-1, 1, SIDE, SIDE)
    cov = torch.stack([c(v.expand(LANES, -1, -1, -1))[0].flatten() for v in eye])
    rows = torch.stack([problem().physics.A(v[None])[0].flatten() for v in eye], 1)
    gain = cov @ rows.T @ torch.linalg.inv(rows @ cov @ rows.T + 0.25 * torch.eye(len(rows)))
    post_mean = mean[0].flatten() + gain @ (y.flatten() - rows @ mean[0].flatten())
    post_cov = cov - gain @ rows @ cov
    sd = post_cov.diagonal().clamp_min(1e-12).sqrt()
    # 400 draws: a mean errs by 0.05 sd, a variance by 7 %; 4.5 of these over 256 pixels.
    assert float(((draws.mean(0) - post_mean) / sd).abs().max()) < 0.225
    assert float((draws.var(0) / sd.square() - 1).abs().max()) < 0.32
    # along the brightness, which the data tell much better than a pixel
    way = mean[0].flatten()
    found = (draws @ way).var() / (way @ post_cov @ way)
    assert 0.75 < float(found) < 1.3


def test_few_steps_are_not_taken_where_they_are_not_meant() -> None:
    c = moments().covariance
    given = problem()
    assert STEPS > 1
    assert not Exact._some(c, given)  # before a trial of preconditioners
    given.chain["preconditioned"] = False
    assert Exact._some(c, given)
    assert not Exact._some(c.base, given)
    given.nats = 0.1  # parameters of the instrument, or a scale that is handed out
    assert not Exact._some(c, given)
    given.nats = None
    given.chain["preconditioned"] = True
    assert not Exact._some(c, given)
