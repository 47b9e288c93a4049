"""The collapsed draw of an operator's parameters, where the data are few.

    θ ~ p(θ | x_t, y),  the image integrated out (`kernels.marginal`);  then x0 ~ p(x0 | x_t, θ, y)

so (x0, θ) is a draw of their joint law however far the image follows the parameters. θ moves by
Hamiltonian Monte Carlo, p ~ N(0, F), F the information at a centre that does not follow the state:

    p ← p − (ε/2) ∇U,   θ ← θ + ε F⁻¹ p,   accepted on U + ½ pᵀ F⁻¹ p.

At the first level a chain has to find its mode. From a draw of the prior it goes downhill under
noise whose variance is raised by T, from a T at which the data say no more than the prior does to
1: station gains of random phase end in modes that do not fit when T is 1 at once. Values of a
parameter that counts modulo a period are equally likely up to their prior, and are drawn from it.

Source: Liu 1994, "The collapsed Gibbs sampler"; Neal 2011, "MCMC using Hamiltonian dynamics".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Implicit
from sciinv.kernels.base import Level
from sciinv.kernels.chain import Chain, Rule
from sciinv.kernels.marginal import Marginal
from sciinv.kernels.rows import SharedRows, span
from sciinv.likelihoods import Gaussian
from sciinv.problem import LANE_ROWS, per_lane
from sciinv.seeds import Streams

if TYPE_CHECKING:
    from sciinv.kernels.unknowns import Unknowns

MOST_DATA = LANE_ROWS  # a K per lane is factored at each step
MOST_SLOPES = 10_000_000  # numbers of ∂B/∂θ per lane
BY_DIFFERENCES = 4  # parameters: without autograd a slope costs two predictions for each

# Rungs of T, steps at each, and at T = 1. With 7 rungs half of the chains of random phases ended
# beside their mode (three sets of gains, 19 starts each), with 11 none did (four sets).
RUNGS, STEPS, LAST = 11, 3, 6
SEARCHES = 2  # per lane; one of 152 ended in a mode that the data all but exclude
HIGHEST = 10.0  # × the χ² of no signal at all: the first T
CUTS = 4  # of a step that does not descend, to 1/27

LEAPFROG, JITTER = 5, 0.2  # ε near 0.6 in units of F: half an oscillation, never quite the same
FIRST, LATER = 12, 3  # trajectories at the first level, which has to forget its start; at others
ACCEPTANCE = Rule(target=0.75, gain=0.5, slow=4)
START = 0.5  # ε of the first trajectory
TURNS = 6  # standard deviations of the prior that whole periods are drawn within


def reason(at: Unknowns, linear: bool) -> tuple[bool, str]:
    """Return whether the parameters can be drawn so, and why or why not, as a sentence's end.

    What is found of the operator is kept in its problem's cache: `at.rows`.

    Args:
        at: The unknowns at their start.
        linear: Whether the operator is linear.
    """
    data, count = at.nominal.y[0].numel(), at.theta.shape[1]
    if not (linear and isinstance(at.nominal.likelihood, Gaussian)):
        return False, "operator or noise are not linear and Gaussian"
    if at.nominal.likelihood.period is not None:
        return False, "data live on a circle"
    if data > MOST_DATA:
        return False, f"{data} data are more than {MOST_DATA}"
    cache = at.nominal.cache
    key = ("shared rows", len(at.theta))
    if key not in cache:
        physics, prior = at.nominal.physics, at.prior()
        q = span(physics, at.nominal.y, at.shape, prior)
        small = q is not None and data * len(q) * count <= MOST_SLOPES
        made = None
        if q is not None and small:
            there = (prior[0] + 0.1 * prior[1]).expand_as(at.theta)
            made = SharedRows(physics, q, len(at.theta), there, prior[1])
        cache[key] = made
    rows = cache[key]
    if rows is None:
        return False, "the data see too many sides of an image as the parameters change"
    if not rows.smooth and count > BY_DIFFERENCES:
        return False, f"{count} parameters whose derivatives come from differences"
    at.rows = rows
    return True, f"{data} data are at most {MOST_DATA}, linear in the image, of Gaussian noise"


def applies(moments: Moments) -> bool:
    """Return whether p(x0 | x_t) is a Gaussian that can be integrated out."""
    other = moments.gradient, moments.components, moments.scales
    return all(o is None for o in other) and not isinstance(moments.covariance, Implicit)


def draw(at: Unknowns, moments: Moments, streams: Streams, level: Level) -> Tensor:
    """Draw θ given x_t and the data; `at.theta` becomes the new one.

    Returns:
        The share of trajectories accepted, [B].
    """
    assert at.rows is not None
    target = Marginal(at.rows, moments, at.nominal.y, at.likelihood(), at.prior())
    first = at.centre is None
    if first:
        found = [_folded(at, _search(target, streams))[0] for _ in range(SEARCHES)]
        at.centre = _best(target, found, streams)
        at.log_step = torch.full_like(target.y[:, 0, 0], math.log(START))
    assert at.centre is not None
    f = target.information(at.centre)
    if first:
        at.theta = at.centre + _root(torch.linalg.cholesky(f), streams, at.centre)
    moved = _trajectories(target, at, f, streams, FIRST if first else LATER)
    at.theta = _turned(at, streams)
    at.centre = _down(target, at.centre, f, None, 1)
    return moved.to(moments.mean)


def _best(target: Marginal, modes: list[Tensor], streams: Streams) -> Tensor:
    """Return one of a lane's modes, drawn by their evidence in Laplace's approximation."""
    best, highest = modes[0], None
    for mode in modes:
        volume = torch.linalg.slogdet(target.information(mode))[1]
        evidence = -target.energy(mode) - 0.5 * volume
        # the largest of log p + Gumbel noise is a draw by p
        gumbel = -(-streams.rand((), evidence).clamp(1e-12, 1 - 1e-12).log()).log()
        score = evidence + gumbel
        take = score > highest if highest is not None else torch.ones_like(score, dtype=torch.bool)
        best = torch.where(take[:, None], mode, best)
        highest = score if highest is None else torch.where(take, score, highest)
    return best


def _search(target: Marginal, streams: Streams) -> Tensor:
    """Return a mode per lane, from a draw of the prior down a ladder of T."""
    sd = target.sd
    theta = target.mean + sd * streams.randn(sd.shape, sd)
    signal = target.y.square().mean((1, 2)).clamp_min(1.0)
    for rung in range(RUNGS):
        temper = (HIGHEST * signal) ** (1 - rung / (RUNGS - 1))
        f = target.information(theta, temper)
        theta = _down(target, theta, f, temper, STEPS if rung + 1 < RUNGS else LAST)
    return theta


def _down(target: Marginal, theta: Tensor, f: Tensor, temper: Tensor | None, steps: int) -> Tensor:
    """Return θ after so many steps F⁻¹ ∇U, cut until they descend."""
    factor = torch.linalg.cholesky(f)
    for _ in range(steps):
        value, g = target.slope(theta, temper)
        full = torch.cholesky_solve(g[..., None], factor)[..., 0]
        start, size, moved = theta, 1.0, torch.zeros_like(value, dtype=torch.bool)
        for _ in range(CUTS):
            trial = start - size * full
            better = ~moved & (target.energy(trial, temper) < value)
            theta = torch.where(better[:, None], trial, theta)
            moved = moved | better
            if bool(moved.all()):
                break
            size /= 3
    return theta


def _root(factor: Tensor, streams: Streams, like: Tensor) -> Tensor:
    """Return a draw of N(0, F⁻¹), [B, P], from the Cholesky factor of F."""
    z = streams.randn(like.shape[1:], like)[..., None]
    return torch.linalg.solve_triangular(factor.mT, z, upper=True)[..., 0]


def _trajectories(
    target: Marginal, at: Unknowns, f: Tensor, streams: Streams, count: int
) -> Tensor:
    """Move θ by so many trajectories, and return the share that was accepted, [B]."""
    # in z = Lᵀ θ, where momenta are standard normal and a step is one product
    inverse = torch.linalg.inv(torch.linalg.cholesky(f))
    assert at.log_step is not None
    value, g = target.slope(at.theta)
    g = (inverse @ g[..., None])[..., 0]
    chain = Chain((at.theta, g), value, count, ACCEPTANCE)
    for _ in range(count):
        theta, g = chain.state
        step = at.log_step.exp() * (1 - JITTER + 2 * JITTER * streams.rand((), value))
        e = per_lane(step, theta)
        p = streams.randn(theta.shape[1:], theta)
        before = 0.5 * p.square().sum(1)
        there = chain.nll
        for _ in range(LEAPFROG):
            p = p - 0.5 * e * g
            theta = theta + e * (inverse.mT @ p[..., None])[..., 0]
            there, g = target.slope(theta)
            g = (inverse @ g[..., None])[..., 0]
            p = p - 0.5 * e * g
        log_a = chain.nll + before - there - 0.5 * p.square().sum(1)
        at.log_step = at.log_step + chain.offer(log_a, (theta, g), there, streams, value)
    at.theta = chain.state[0]
    return chain.stats()["acceptance"]


def _folded(at: Unknowns, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return θ less whole periods, as near to the prior's mean as can be, and the periods, [P]."""
    mean, sd = at.prior()
    period = sd.new_tensor([u.period for u in at.parameters for _ in range(u.size or 1)])
    turns = torch.round((theta - mean) / period.where(period > 0, torch.inf))
    return theta - period * turns, period


def _turned(at: Unknowns, streams: Streams) -> Tensor:
    """Return θ with whole periods drawn from the prior where parameters count modulo one."""
    (mean, sd), (theta, period) = at.prior(), _folded(at, at.theta)
    if not bool((period > 0).any()):
        return at.theta
    most = int((TURNS * sd / period.where(period > 0, torch.inf)).max()) + 1
    turns = torch.arange(-most, most + 1, device=sd.device).to(sd)
    off = ((theta - mean)[..., None] + period[:, None] * turns) / sd[:, None]
    weight = (-0.5 * off.square()).softmax(-1).cumsum(-1)
    u = streams.rand(sd.shape, sd)[..., None]
    turn = turns[(weight < u * weight[..., -1:]).sum(-1)]
    return torch.where(period > 0, theta + period * turn, at.theta)
