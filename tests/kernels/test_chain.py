"""The Metropolis step and the effective size that the Markov kernels share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv.calibration.benchmark.nonlinear import nonlinear_problem
from sciinv.kernels.chain import Chain, Rule, effective_size, metropolis
from sciinv.samplers import DAPS
from sciinv.seeds import Streams


def autoregressive(phi: float, n: int, lanes: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(lanes, generator=g, dtype=torch.float64)
    out = []
    for _ in range(n):
        noise = torch.randn(lanes, generator=g, dtype=torch.float64)
        x = phi * x + math.sqrt(1 - phi**2) * noise
        out.append(3.0 + 2.0 * x)
    return out


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.3])
def test_effective_size_of_an_autoregressive_chain_is_known(phi):
    n, lanes = 4000, 50
    size = effective_size(autoregressive(phi, n, lanes))
    # τ = (1 + φ)/(1 − φ); Geyer's sequence errs by a few per cent at this length.
    expected = min(n * (1 - phi) / (1 + phi), n)
    assert float(size.mean()) == pytest.approx(expected, rel=0.1)


def test_effective_size_does_not_depend_on_unit_or_offset_and_has_bounds():
    trace = autoregressive(0.7, 60, 5)
    moved = [1e4 - 100.0 * t for t in trace]
    torch.testing.assert_close(effective_size(trace), effective_size(moved), rtol=1e-6, atol=0)
    assert bool(((effective_size(trace) >= 1) & (effective_size(trace) <= 60)).all())
    still = [torch.ones(3)] * 10
    assert effective_size(still).tolist() == [1, 1, 1]
    assert effective_size(still[:1]).tolist() == [1, 1, 1]
    jump = [torch.tensor([0.0, math.inf]), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])]
    assert bool(torch.isfinite(effective_size(jump)).all())


def test_metropolis_step_has_the_bits_of_its_formula():
    log_a = torch.tensor([0.3, -0.2, -2.0, math.nan, math.inf, -math.inf])
    seeds = [(0, 0, lane) for lane in range(6)]
    take, rate = metropolis(log_a, Streams(seeds), torch.zeros(1))
    u = Streams(seeds).rand((), torch.zeros(1)).log()
    assert torch.equal(take, torch.isfinite(log_a) & (u < log_a))
    expected = torch.where(torch.isfinite(log_a), log_a.clamp_max(0).exp(), 0.0)
    assert torch.equal(rate, expected)
    assert take[0]
    assert rate.tolist()[3:] == [0, 0, 0]


def test_metropolis_accepts_as_often_as_it_says():
    n = 4000
    streams = Streams([(1, 0, lane) for lane in range(n)])
    take, rate = metropolis(torch.full((n,), math.log(0.3)), streams, torch.zeros(1))
    assert float(rate[0]) == pytest.approx(0.3)
    # four binomial standard deviations
    assert float(take.double().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / n))


@pytest.mark.parametrize(
    ("kernel", "states"), [("langevin", 30), ("hmc", 5), ("metropolis", 200), ("newton", 8)]
)
def test_kernels_say_the_effective_size_of_their_chains(kernel, states):
    prior, physics, y = nonlinear_problem("counts", 0)
    post = DAPS(prior, kernel=kernel, levels=2, micro_batch=4).sample(y, physics, draws=4)
    assert post["ess"].dims == ("draw", "item")
    assert np.all((post["ess"].values >= 1) & (post["ess"].values <= states))


def test_a_random_walk_led_by_its_rule_has_the_acceptance_asked_for_and_the_right_spread():
    rule, moves = Rule(target=0.4, gain=1.5, slow=20), 2000
    streams = Streams.of_seed(0, 20)
    x = torch.zeros(20, 1, dtype=torch.float64)
    log_step = torch.full((20,), 3.0, dtype=torch.float64)  # far too large: all but refused
    chain = Chain((x,), 0.5 * x[:, 0] ** 2, moves, rule, settle=moves // 2)
    kept = []
    for _ in range(moves):
        (x,) = chain.state
        new = x + log_step.exp()[:, None] * streams.randn((1,), x)
        nll = 0.5 * new[:, 0] ** 2
        log_step = log_step + chain.offer(chain.nll - nll, (new,), nll, streams, x)
        kept.append(chain.state[0])
    # 20 chains × 1,000 counted moves of about 4 moves' memory: 0.4 ± 0.01, variance 1 ± 0.03
    assert float(chain.stats()["acceptance"].mean()) == pytest.approx(0.4, abs=0.04)
    assert float(torch.stack(kept[moves // 2 :]).var()) == pytest.approx(1.0, abs=0.1)
    assert len(chain.trace) == moves // 2


def test_a_refused_move_leaves_a_lane_and_its_energy_as_they_were():
    x = torch.arange(3.0)[:, None]
    chain = Chain((x, x[:, 0]), torch.zeros(3), 1)
    log_a = torch.tensor([float("nan"), -torch.inf, 50.0])
    change = chain.offer(log_a, (x + 9, x[:, 0] + 9), torch.ones(3), Streams.of_seed(0, 3), x)
    assert chain.state[0][:, 0].tolist() == chain.state[1].tolist() == [0.0, 1.0, 11.0]
    assert chain.nll.tolist() == [0.0, 0.0, 1.0]
    assert change.tolist() == [0.0, 0.0, 0.0]  # without a rule no step changes
