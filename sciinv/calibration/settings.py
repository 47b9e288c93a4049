"""The setting that decides the spread, found on simulated data of the problem at hand.

Truths are drawn from the prior, the measurement at hand is simulated of each, and a pair of draws
x₁, x₂ of each is made. For draws of the posterior truth and draws are exchangeable, so

    ln ρ = ½ E(ln ‖x₁ − x₂‖² − ½ ln ‖x₁ − x₀‖² − ½ ln ‖x₂ − x₀‖²) = 0

(`calibration.distances`), and ρ < 1 says that draws are too near each other. The factor κ on the
variance of p(x0 | x_t) is moved until ρ = 1 within what the truths can tell: a secant in
(ln κ, ln ρ) with the same truths, noise and random numbers at every κ. One micro-batch holds the
pairs of all truths. Where data do not know where an object is, truth and draws are moved onto each
other first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.calibration import distances
from sciinv.calibration.secant import secant
from sciinv.calibration.simulate import simulate
from sciinv.errors import ConfigError
from sciinv.problem import Problem
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams
from sciinv.uncertainty.alignment import aligned

PASSES = 3  # values of κ that are tried at most
# ln ρ per ln κ before a second pass measures it, and what of a measured slope is believed: under a
# white prior half of whose pixels are seen it is 0.08 (tests/calibration/test_settings.py).
SLOPE, SLOPES = 0.3, (0.05, 0.9)
CLOSE = 0.03  # of ln ρ: closer than this nothing is gained by another pass
# Data that a move by an eighth of the field changes by less than this share of what another object
# would change do not know the place. Closures: 0 but for what leaves the field at its edges.
UNPLACED = 0.01


@dataclass(frozen=True)
class Pass:
    """What one κ showed.

    Attributes:
        inflate: κ.
        ratio: ρ.
        error: Standard error of ln ρ over the truths.
        chi2: Median reduced χ² of the draws.
        between: Share of pixels whose truth lies between the two draws; ⅓ for draws of the
            posterior, as truth and draws are then exchangeable.
        between_error: Its standard error over the truths.
    """

    inflate: float
    ratio: float
    error: float
    chi2: float
    between: float
    between_error: float


@dataclass(frozen=True)
class Found:
    """κ, and how it was found."""

    inflate: float
    passes: tuple[Pass, ...]
    truths: int

    def row(self) -> dict[str, Any]:
        """Return JSON types only."""
        return asdict(self)


def find_inflate(
    build: Callable[[float], Sampler],
    physics: Physics,
    truths: Tensor,
    start: float,
    seed: int = 0,
    passes: int = PASSES,
) -> Found:
    """Return the κ whose draws are as far from each other as from the truth.

    Args:
        build: Returns the sampler at a κ.
        physics: The operator with its noise, `Declared`.
        truths: Draws of the prior [N, C, H, W], units of the image; at least two.
        start: κ of the first pass.
        seed: Seed of noise and draws.
        passes: Passes at most.

    Raises:
        ConfigError: Fewer than two truths.
    """
    if len(truths) < 2:
        raise ConfigError("One truth does not say how far draws scatter", where="find_inflate",
                          expected="two truths or more", got=len(truths),
                          remedy="draw more")  # fmt: skip
    y = simulate(physics, truths, seed).repeat_interleave(2, 0)
    like = torch.zeros(len(y), *truths.shape[1:], dtype=y.dtype, device=y.device)
    with torch.no_grad():
        problem = Problem.of(y[:1], physics, likelihoods.of(physics), like)  # once: κ is none of it
        anywhere = unplaced(problem, truths)
    done: list[Pass] = []

    def measure(kappa: float) -> tuple[float, float]:
        sampler, mine = build(kappa), problem.with_data(y)
        done.append(_pass(sampler, kappa, mine, truths, like, seed, anywhere))
        return math.log(done[-1].ratio), max(CLOSE, done[-1].error)

    return Found(secant(measure, start, passes, SLOPE, SLOPES), tuple(done), len(truths))


def unplaced(problem: Problem, truths: Tensor) -> bool:
    """Return whether the data leave open where in the field an object is, as closures do.

    Args:
        problem: Operator and likelihood.
        truths: Objects to move, [N, C, H, W], two or more.
    """
    if problem.linear:
        return False
    a = problem.physics.A
    eighth = (truths.shape[-2] // 8, truths.shape[-1] // 8)

    def far(u: Tensor, v: Tensor) -> float:
        changes = problem.likelihood.residual(u, v).flatten(1).square().sum(1)
        return float(changes.median())

    here = a(truths)
    moved, another = a(truths.roll(eighth, (-2, -1))), a(truths.roll(1, 0))
    return far(here, moved) < UNPLACED * far(here, another)


def _pass(
    sampler: Sampler,
    kappa: float,
    problem: Problem,
    truths: Tensor,
    like: Tensor,
    seed: int,
    anywhere: bool,
) -> Pass:
    """Draw a pair of each truth in one batch, and compare; moved onto each other if `anywhere`."""
    streams = Streams([(seed, "pair", lane) for lane in range(len(like))], stock=True)
    with torch.no_grad():
        x, values = sampler.chain(problem, streams, like, lambda level: None)
        chi2 = values.get("chi2")
        if not isinstance(chi2, Tensor):
            chi2 = problem.likelihood.chi2(problem.physics.A(x), problem.y)
    each = torch.cat([truths.to(x)[:, None], x.reshape(len(truths), 2, *x.shape[1:])], 1).double()
    if anywhere:  # the three alike, or truth and draws were not exchangeable
        each = torch.stack([torch.from_numpy(aligned(e.cpu().numpy())) for e in each])
    truth, pairs = each.flatten(2).split((1, 2), 1)
    ratio, error = distances.mean(distances.log_ratios(truth[:, 0], pairs))
    held = (truth >= pairs.amin(1, True)) & (truth <= pairs.amax(1, True))
    shares = held.double().mean(2).squeeze(1)
    return Pass(
        kappa, math.exp(ratio), error, float(chi2.median()),
        float(shares.mean()), float(shares.std()) / math.sqrt(len(truths)),
    )  # fmt: skip
