"""The Lévy cases: signals of many chains drawn together are those of one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.calibration.benchmark import levy
from sciinv.samplers import DAPS, Particles


def make(prior):
    return DAPS(prior, levels=6, micro_batch=3)


@pytest.mark.parametrize("law", ["Laplace", "Bernoulli–Laplace, 0.1"])
def test_signals_drawn_together_are_those_of_one_at_a_time(law):
    c = levy.cell(law, "deconvolution")
    _, data = c.signals(4)
    together = [x for x, _ in levy._each(c, data, make, 3, seed=5)]
    one = make(c.prior).sample(data[2:3], c.physics, draws=3, seed=7)["image"].values
    # The same random numbers; factors of 64 × 64 matrices in another order: rounding.
    assert np.allclose(together[2], one.reshape(3, 64), rtol=0, atol=1e-9)
    assert not torch.allclose(together[1], together[2])


def test_lanes_that_exchange_are_never_of_two_signals(monkeypatch):
    monkeypatch.setattr(levy, "_together", lambda *a: pytest.fail("mixed signals"))
    c = levy.cell("Gaussian", "identity")
    _, data = c.signals(2)
    found = [x for x, _ in levy._each(c, data, lambda p: Particles(p, levels=1, group=2), 2, 0)]
    assert all(x is not None and x.shape == (2, 64) for x in found)
