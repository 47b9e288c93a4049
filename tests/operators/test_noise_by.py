"""A scale of the noise for each coil, view or pair of stations, by the name of a dimension."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import operators, priors, samplers
from sciinv.errors import OperatorError
from sciinv.operators.ct import CT
from sciinv.operators.interferometry import Visibilities
from sciinv.operators.mri import MultiCoilMRI
from sciinv.seeds import Streams

SIZE = 12


def coils(n=3):
    y, x = np.meshgrid(*(np.linspace(-1, 1, SIZE),) * 2, indexing="ij")
    maps = [np.exp(1j * k * x - (x - np.cos(2 * k)) ** 2 - (y - np.sin(2 * k)) ** 2)
            for k in range(n)]  # fmt: skip
    return np.array(maps) / np.sqrt((np.abs(maps) ** 2).sum(0))


def test_each_coil_has_the_scale_that_it_was_simulated_with():
    physics = operators.load(
        "mri", mask=np.ones((SIZE, SIZE), bool), coil_maps=coils(), noise_sd=0.05, noise_by="coil"
    )
    assert physics.noise_groups.flatten().tolist() == [0, 1, 2]
    prior = priors.Gaussian(torch.zeros(2, SIZE, SIZE), power_spectrum=torch.ones(SIZE, SIZE))
    x0 = prior.sample(Streams.of_seed(1, 1), torch.zeros(1))
    true = torch.tensor([0.5, 1.0, 3.0])
    u = physics.A(x0)
    g = torch.Generator().manual_seed(2)
    y = u + 0.05 * true.reshape(1, 1, 3, 1) * torch.randn(u.shape, generator=g)
    post = samplers.DAPS(prior, levels=12, micro_batch=40, noise="drawn").sample(
        y, physics, draws=40, seed=0
    )
    assert post["noise_scale"].dims == ("draw", "item", "noise_group")
    found = post["noise_scale"].values[:, 0]
    # 288 data a coil, and two of three coils' worth of unknowns beside: sds of 5 to 10 %
    assert np.allclose(found.mean(0) / true.numpy(), 1, atol=4 * 0.08)
    assert (found.std(0) / true.numpy() < 0.15).all()


def test_views_and_elements_of_ct_are_groups():
    for by, shape in (("angle", (3, 1)), ("detector", (6,))):
        physics = CT([0.0, 45.0, 90.0], 4, 1.0, 6, 1.0, noise_by=by)
        assert physics.noise_groups.shape == shape
        index = physics.noise_groups.expand(1, 3, 6)
        assert len(index.unique()) == max(shape)


def test_pairs_of_stations_are_groups_whichever_is_first():
    pairs = [["AA", "AP"], ["AP", "AA"], ["AA", "LM"], ["AP", "LM"]]
    u = 1e9 * np.arange(1, 5)
    physics = Visibilities(u, u, 0.1, 4, 100.0, stations=pairs, noise_by="stations")
    groups = physics.noise_groups.tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    alone = Visibilities(u, u, 0.1, 4, 100.0, noise_by="baseline")
    assert alone.noise_groups.flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("by", ["coils", "part", "view", 3])
def test_a_dimension_that_is_not_there_is_refused_with_those_that_are(by):
    with pytest.raises(OperatorError, match="no such dimension") as told:
        MultiCoilMRI(np.ones((SIZE, SIZE), bool), coils(), 0.05, noise_by=by)
    assert "coil, sample" in str(told.value)


def test_pairs_need_their_stations():
    with pytest.raises(OperatorError, match="need the stations"):
        Visibilities([1e9], [1e9], 0.1, 4, 100.0, noise_by="stations")
