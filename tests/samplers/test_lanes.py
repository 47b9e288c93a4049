"""Items that are computed together: the draws stay their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepinv.physics import Denoising, GaussianNoise

from sciinv import priors, samplers
from sciinv.errors import ConfigError
from sciinv.samplers.lanes import blocks


@pytest.fixture
def prior():
    side = 6
    k = torch.fft.fftfreq(side)
    spectrum = 1.0 / (0.1 + k[:, None] ** 2 + k**2)
    return priors.Gaussian(torch.zeros(1, side, side), power_spectrum=spectrum)


@pytest.fixture
def physics():
    physics = Denoising(GaussianNoise(0.3))
    physics.img_size = (1, 6, 6)
    return physics


def data(count):
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def drawn(prior, physics, y, items, **settings):
    sampler = samplers.DAPS(prior, "tweedie", "exact", levels=6, micro_batch=2, **settings)
    return sampler.sample(y, physics, draws=3, seed=5, items=items)


def test_an_item_has_its_place_whatever_else_is_asked_for():
    assert blocks([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3], [4, None]]
    assert blocks([3, 1], 2) == [[None, 0], [None, 1]]
    assert blocks([1, 0], 2) == [[1, 0]]
    assert blocks([4, 4], 2) == [[0, None], [1, None]]
    assert blocks([7, 9], 1) == [[0], [1]]


def test_items_together_have_the_draws_of_items_alone(prior, physics):
    """Other batch sizes round otherwise: 1e-5 of images of size 1 in single precision."""
    y = data(5)
    alone = drawn(prior, physics, y, range(5))
    together = drawn(prior, physics, y, range(5), item_batch=3)
    np.testing.assert_allclose(together["image"], alone["image"], atol=1e-5)
    np.testing.assert_allclose(together["chi2"], alone["chi2"], rtol=1e-4)
    assert together.attrs["item_batch"] == 3
    assert "item_batch" not in alone.attrs


def test_a_draw_has_the_same_bits_whichever_items_are_asked_for(prior, physics):
    y = data(5)
    every = drawn(prior, physics, y, range(5), item_batch=3)
    for items in ([4], [1, 3], [2, 1, 0]):
        some = drawn(prior, physics, y[list(items)], items, item_batch=3)
        np.testing.assert_array_equal(some["image"], every["image"].isel(item=items))


def test_draws_made_anew_are_those_of_their_own_item(prior, physics, monkeypatch):
    """A draw of item 1 is refused: it alone runs again, and item 0 keeps its bits."""
    y = data(2)
    plain = drawn(prior, physics, y, range(2), item_batch=2, retries=1)
    chains = []
    inner = samplers.DAPS.chain

    def chain(self, problem, streams, like, report):
        x0, values = inner(self, problem, streams, like, report)
        chains.append(list(streams.keys))
        if len(chains) == 1:
            values["chi2"] = values["chi2"].clone() if "chi2" in values else torch.ones(len(x0))
            values["chi2"][3] = 1e6
        return x0, values

    monkeypatch.setattr(samplers.DAPS, "chain", chain)
    again = drawn(prior, physics, y, range(2), item_batch=2, retries=1)
    assert len(chains[0]) == 4
    assert chains[1] == [(5, 1, 1, "again", 1)]
    np.testing.assert_array_equal(again["tries"], [[1, 1], [1, 2], [1, 1]])
    np.testing.assert_array_equal(again["image"].isel(item=0), plain["image"].isel(item=0))
    assert not np.array_equal(again["image"].values[1, 1], plain["image"].values[1, 1])


def test_a_number_of_items_that_is_none_is_refused(prior):
    with pytest.raises(ConfigError, match="item_batch"):
        samplers.DAPS(prior, item_batch=0)
