"""What a summary is asked for wrongly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from sciinv import uncertainty
from sciinv.errors import ConfigError
from sciinv.uncertainty.asked import check_levels, check_thresholds


def test_levels_and_thresholds_that_are_no_numbers_are_refused():
    for levels in ((math.nan,), (0.1, math.nan), (), (0.5, 0.1), (-0.1,), (1.5,)):
        with pytest.raises(ConfigError, match="quantiles"):
            check_levels(levels)
    with pytest.raises(ConfigError, match="threshold"):
        check_thresholds((0.1, math.nan))
    assert check_levels((0.0, 0.5)) == (0.0, 0.5)
    assert check_thresholds((math.inf,)) == (math.inf,)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool"])
def test_summaries_of_whole_numbers_have_fractions(dtype):
    """Draws 0, 1, 1, 0, 1 have the mean 0.6, the sd √0.3 and the median 1."""
    values = np.tile(np.array([0, 1, 1, 0, 1])[:, None, None, None, None], (1, 1, 1, 2, 2))
    draws = xr.Dataset(
        {"image": (("draw", "item", "channel", "y", "x"), values.astype(dtype))},
        coords={"y": np.arange(2.0), "x": np.arange(2.0)},
    )
    found = uncertainty.summarize(draws, quantiles=(0.1, 0.5), thresholds=(0.5,))
    np.testing.assert_allclose(found["mean"], 0.6, rtol=1e-6)
    np.testing.assert_allclose(found["sd"], np.sqrt(0.3), rtol=1e-6)
    np.testing.assert_allclose(found["quantiles"].sel(quantile=0.5), 1.0)
    np.testing.assert_allclose(found["probability"], 0.6, rtol=1e-6)
