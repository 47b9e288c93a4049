"""The reduced χ² of stored draws, by the noise that each was drawn with."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sciinv import store

DIMS = ("draw", "item")
CHI2 = np.array([[0.25], [1.0]])


def test_chi2_is_by_the_noise_of_each_draw_where_its_scale_was_drawn():
    scale = np.array([[0.5], [2.0]])
    stats = xr.Dataset({"chi2": (DIMS, CHI2), "noise_scale": (DIMS, scale)})
    chi2, drawn = store.reduced_chi2(stats)
    assert drawn
    assert chi2 is not None
    assert chi2.values.tolist() == [[1.0], [0.25]]


def test_chi2_stays_that_of_the_declared_noise_without_one_scale_for_all_data():
    by_group = np.ones((2, 1, 3))
    stats = xr.Dataset({"chi2": (DIMS, CHI2), "noise_scale": ((*DIMS, "group"), by_group)})
    for given in (stats, stats[["chi2"]]):
        chi2, drawn = store.reduced_chi2(given)
        assert not drawn
        assert chi2 is not None
        assert np.array_equal(chi2.values, CHI2)
    assert store.reduced_chi2(xr.Dataset()) == (None, False)
