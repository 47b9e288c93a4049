"""Sparse coefficients: draws of which are there against the enumeration of all patterns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from sciinv.priors.scales import gibbs, presences
from sciinv.priors.scales.laws import BernoulliLaplace, Normal
from sciinv.seeds import Streams

PRESENT, VARIANCES, SD = 0.3, (0.3, 3.0), 0.3
LANES, SWEEPS, BURN = 2000, 24, 4
F64 = torch.float64


class TwoWidths(Normal):
    """Zero, or normal with one of two variances, as likely: every posterior is a finite sum."""

    mixes = True
    present = PRESENT

    def prior_variances(self, streams, count, like):
        """Return one of the two."""
        return torch.where(streams.rand((count,), like) < 0.5, *VARIANCES).to(like)

    def variances(self, u, streams):
        """Return one of the two, by their densities at u."""
        log_p = [-0.5 * u.square() / v - 0.5 * math.log(v) for v in VARIANCES]
        first = streams.rand(u.shape[1:], u) < torch.sigmoid(log_p[0] - log_p[1])
        return torch.where(first, *VARIANCES).to(u)


def data(seed=5):
    """Return A, of four data that each see all six increments, and y."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(4, 6, generator=g, dtype=F64) @ torch.ones(6, 6, dtype=F64).tril()
    u = torch.tensor([0, 1.0, 0, 0, -1.5, 0], dtype=F64)
    return a, a @ u + SD * torch.randn(4, generator=g, dtype=F64)


def enumerated(a, y):
    """Return p of the 3⁶ patterns of (z, v), and the mean of u."""
    log_p, means = [], []
    for pattern in itertools.product((0.0, *VARIANCES), repeat=6):
        v = torch.tensor(pattern, dtype=F64)
        cov = (a * v) @ a.mT + SD**2 * torch.eye(4, dtype=F64)
        n = int((v > 0).sum())
        prior = n * math.log(PRESENT / 2) + (6 - n) * math.log(1 - PRESENT)
        log_p.append(prior - 0.5 * y @ torch.linalg.solve(cov, y) - 0.5 * cov.logdet())
        means.append(v * (a.mT @ torch.linalg.solve(cov, y)))
    p = torch.softmax(torch.stack(log_p), 0)
    return p, p @ torch.stack(means)


def test_patterns_come_as_often_as_their_enumeration_says():
    a, y = data()
    p, mean = enumerated(a, y)
    gram, pull = a.mT @ a / SD**2, (y @ a / SD**2).expand(LANES, -1)
    streams = Streams([(1, k) for k in range(LANES)], stock=True)
    law = TwoWidths()
    state, counts, found = gibbs.start(law, streams, 6, pull), torch.zeros(729), []
    for k in range(SWEEPS):
        state = gibbs.sweep(state, law, gram, pull, streams)
        if k >= BURN:
            kinds = torch.where(state.z > 0, torch.where(state.v > 1, 2, 1), 0)
            code = (kinds * 3 ** torch.arange(5, -1, -1)).sum(1)
            counts += torch.bincount(code, minlength=729)
            found.append(state.u.mean(0))
    share = counts.double() / counts.sum()
    # Half the mean of |share − p| of as many independent draws, Σ √(p(1 − p) / 2πn), and half more
    # for sweeps that are not independent of each other.
    expected = float((p * (1 - p) / (2 * math.pi * float(counts.sum()))).sqrt().sum())
    assert 0.5 * float((share - p).abs().sum()) < 1.5 * expected
    # The posterior sd of an increment is below 1; LANES chains, four standard errors.
    assert float((torch.stack(found).mean(0) - mean).abs().max()) < 4 / LANES**0.5


def test_a_jump_leaves_a_place_that_it_cannot_leave_step_by_step():
    """Precise data of the sum alone before and after each sample: one sweep finds the place."""
    d, at, size = 16, 11, 3.0
    g = torch.eye(d, dtype=F64) * 1e4
    pull = torch.zeros(400, d, dtype=F64)
    pull[:, at] = 1e4 * size
    z = torch.zeros(400, d, dtype=F64)
    z[:, 3] = 1
    v = torch.where(z > 0, size**2, 0.0).to(F64)
    _, after = presences.draw(v, z, BernoulliLaplace(0.05), g, pull, Streams.of_seed(0, 400))
    assert bool((after[:, at] == 1).all())
    assert float(after[:, 3].mean()) < 0.05


def test_changes_of_one_coefficient_add_up_to_the_inverse():
    """r, Q and the gains after many changes are those of their definitions."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 7))
    gram, pull = a.T @ a, rng.standard_normal((3, 7))
    now = presences._Integrated(gram, pull)
    lanes, total = np.arange(3), np.zeros(3)
    for _ in range(40):  # more than the terms that there is room for at first
        k = rng.integers(7, size=3)
        delta = rng.exponential(size=3) - now.e[lanes, k] * rng.integers(2, size=3)
        total += presences._gain(delta, now.r[lanes, k], now.q[lanes, k])
        now.change(lanes, k, delta)
    for lane in range(3):
        e = np.diag(now.e[lane])
        inverse = np.linalg.inv(np.eye(7) + gram @ e)
        np.testing.assert_allclose(now.r[lane], inverse @ pull[lane], rtol=0, atol=1e-9)
        q = inverse @ gram
        np.testing.assert_allclose(now.rows(lanes, lanes)[lane], q[lane], rtol=0, atol=1e-9)
        np.testing.assert_allclose(now.q[lane], np.diag(q), rtol=0, atol=1e-9)
        evidence = 0.5 * pull[lane] @ e @ inverse @ pull[lane]
        evidence -= 0.5 * np.linalg.slogdet(np.eye(7) + gram @ e)[1]
        np.testing.assert_allclose(total[lane], evidence, rtol=1e-9)
