"""What a summary is asked for wrongly."""

from __future__ import annotations

import math

import pytest

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
