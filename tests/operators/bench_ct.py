"""Time of CT products against deepinv's Tomography: python tests/operators/bench_ct.py.

The goal at 256 × 256 pixels, 180 views, batch 8: forward 8 × and adjoint 30 × as fast. Only the
ratios of one run mean anything: both take turns, and the median of the turns' ratios is reported.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sciinv.operators.ct import CT


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(size: int, views: int, batch: int, turns: int) -> dict[str, tuple[float, float, float]]:
    """Return (deepinv's time ÷ ours, ours in s, deepinv's in s) of "forward" and "adjoint"."""
    from deepinv.physics import Tomography

    angles = np.arange(views) * 180.0 / views
    width = int(np.ceil(np.sqrt(2) * size))
    ours = CT(angles, size, 1.0, width, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Tomography(
            angles=torch.as_tensor(angles, dtype=torch.float32),
            img_width=size,
            circle=False,
            normalize=False,
        )
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    y, z = ours.A(x), theirs.A(x)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "forward": (lambda: ours.A(x), lambda: theirs.A(x)),
        "adjoint": (lambda: ours.A_adjoint(y), lambda: theirs.A_adjoint(z)),
    }
    out = {}
    with torch.no_grad():
        for name, (mine, other) in pairs.items():
            _seconds(mine), _seconds(other)
            times = [(_seconds(mine), _seconds(other)) for _ in range(turns)]
            out[name] = (
                statistics.median(b / a for a, b in times),
                statistics.median(a for a, _ in times),
                statistics.median(b for _, b in times),
            )
    return out


@pytest.mark.slow
def test_products_reach_the_speed_goal_against_deepinv() -> None:
    found = ratios(256, 180, 8, 5)
    assert found["forward"][0] >= 8, found
    assert found["adjoint"][0] >= 30, found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    for label, (ratio, a, b) in ratios(given.size, given.views, given.batch, given.turns).items():
        print(f"{label}: {ratio:.1f} × as fast ({1e3 * a:.1f} ms; deepinv {1e3 * b:.1f} ms)")
