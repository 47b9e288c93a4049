"""A posterior store ten times the memory limit: summarized inside the limit, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from support.cli import environment

from sciinv import store, uncertainty

pytestmark = pytest.mark.slow

LIMIT = 32 * 2**20
DRAWS, ITEMS, SIZE = 160, 32, 128  # 335 MB
# The kernel's own account of the process: the highest resident memory since it was reset.
PROGRAM = """
import json, sys
from pathlib import Path
from sciinv import pipeline

def status(key):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(key)[1].split()[0])

small, large, out, limit = sys.argv[1:]
pipeline.summarize(small, out + "-small", memory=int(limit))  # what is loaded once
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS:")
pipeline.summarize(large, out, memory=int(limit))
print(json.dumps({"before": before, "peak": status("VmHWM:")}))
"""


def image(item: int) -> np.ndarray:
    return np.random.default_rng(item).normal(size=(DRAWS, 1, SIZE, SIZE)).astype("f4")


def test_a_store_ten_times_the_memory_limit_is_summarized_inside_it(tmp_path, show):
    paths = []
    for items in (1, ITEMS):
        values = np.stack([image(i) for i in range(items)], axis=1)
        dataset = xr.Dataset({"image": (("draw", "item", "channel", "y", "x"), values)})
        path = tmp_path / f"{items}.zarr"
        paths.append(store.write_posterior(dataset, path, shard=(16, 8)))
        size = values.nbytes
    del values, dataset
    assert size >= 10 * LIMIT
    out = tmp_path / "summary.zarr"
    arguments = [sys.executable, "-c", PROGRAM, *map(str, paths), str(out), str(LIMIT)]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    grown = found["peak"] - found["before"]
    show(
        f"summary of {size / 2**20:.0f} MiB of draws, limit {LIMIT / 2**20:.0f} MiB: "
        f"took {grown / 2**20:.1f} MiB"
    )
    assert grown <= LIMIT
    summary = uncertainty.open_summary(out)
    for item in range(ITEMS):
        wanted = np.quantile(image(item), (0.05, 0.5, 0.95), axis=0).astype("f4")
        assert np.array_equal(summary["quantiles"].isel(item=item), wanted), item
