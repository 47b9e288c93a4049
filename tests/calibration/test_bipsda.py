"""The problems of BIPSDA: what is known of them, and the default where its posterior is exact."""

from __future__ import annotations

import pytest
import torch

from sciinv.calibration.benchmark import bipsda
from sciinv.samplers import DAPS


def test_the_prior_has_three_modes_of_the_papers_weights_and_spreads():
    p = bipsda.prior()
    assert torch.allclose(p.weights, torch.tensor([0.4, 0.3, 0.3]).double())
    assert torch.allclose(p.means.mean((1, 2, 3)), torch.tensor([-5.0, 0.0, 5.0]).double())
    # eigenvalues of all three: 1, and 1 to 2 twice
    assert torch.allclose(p.values[0], torch.ones(10).double())
    for k in (1, 2):
        assert torch.allclose(p.values[k].sort().values, torch.linspace(1, 2, 10).double())


@pytest.mark.parametrize("kind", bipsda.PROBLEMS)
def test_data_follow_the_operator_and_its_noise(kind):
    _, physics, y, x0 = bipsda.problem(kind, 3)
    _, a = bipsda.operator(kind)
    u = x0.flatten(1) @ a.mT
    if kind == "x-ray counts":
        expected = 1000 * torch.exp(-(x0.flatten(1) + 10) @ a.mT)
        assert torch.allclose(physics.A(x0), expected)
        assert torch.equal(y, y.round())
        # Poisson: the mean of (y − λ)²/λ over 15 counts is 1 ± 0.37
        assert ((y - expected).square() / expected).mean() < 1 + 4 * 0.37
    elif kind == "phase retrieval":
        assert torch.allclose(physics.A(x0), u.square())
        assert ((y - u.square()) / 25).square().mean() < 1 + 4 * (2 / 5) ** 0.5
    else:
        sd = bipsda.INPAINTING[kind]
        assert torch.allclose(physics.A(x0), x0.flatten(1)[:, list(bipsda.OBSERVED)])
        assert ((y - u) / sd).square().mean() < 1 + 4 * (2 / 8) ** 0.5


@pytest.mark.parametrize("kind", list(bipsda.INPAINTING))
def test_the_default_reaches_the_exact_posterior_of_inpainting(kind):
    found = bipsda.bipsda_case(kind, 0, 500, lambda p: DAPS(p, levels=20, micro_batch=500))
    # two exact sets of 500 differ by 0.05, and that varies by a third from pair to pair
    assert found["distance"] < 2 * 0.05 + found["floor"]
    assert abs(found["sd_ratio"] - 1) < 0.15
