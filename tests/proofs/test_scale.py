"""A thousand items against a hundred, and what Snakemake and the stores take of ten minutes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.proofs import blur, inodes, seconds, watched

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow

ITEMS, DRAWS, SIZE, SHARD, LEVELS = 1000, 8, 128, 100, 5
STEPS = ("prepare", "check", "sample", "merge", "summarize", "report", "overview")
# Ten minutes of sampling: fewer items and more levels, in jobs of minutes.
LONG = {"items": 200, "draws": 8, "shards": {"draws": 8, "items": 50}}


def share(root: Path, wall: float, show: Callable[[str], None]) -> tuple[float, float]:
    """Return the seconds of sampling, and the part of the run that Snakemake and merging take."""
    sampling = seconds(root / "benchmarks", "sample")
    merging = seconds(root / "benchmarks", "merge")
    rest = wall - sum(seconds(root / "benchmarks", s) for s in STEPS)
    show(
        f"of {wall:.0f} s: sampling jobs {sampling:.0f} s, merging {merging:.1f} s, "
        f"between the jobs (Snakemake) {rest:.1f} s; share {(rest + merging) / wall:.3f}"
    )
    return sampling, (rest + merging) / wall


def test_memory_stays_and_time_is_linear_for_ten_times_the_items(tmp_path, show):
    runs, roots = {}, {}
    for items in (ITEMS // 10, ITEMS):
        folder = tmp_path / str(items)
        shards = {"draws": DRAWS, "items": SHARD}
        config = blur(
            folder, size=SIZE, items=items, draws=DRAWS, shards=shards, levels=LEVELS, name="scale"
        )
        runs[items] = watched(["run", "--config", config, "--cores", 1], folder)
        roots[items] = folder / "results/scale"
    small, large = runs[ITEMS // 10], runs[ITEMS]
    for name in sorted(small.peak.keys() & large.peak.keys()):
        show(
            f"peak memory {name}: {small.peak[name] / 2**20:.0f} → {large.peak[name] / 2**20:.0f}"
            f" MiB, × {large.peak[name] / small.peak[name]:.3f}"
        )
    for name in STEPS:
        a, b = (seconds(roots[n] / "benchmarks", name) for n in runs)
        show(f"seconds {name}: {a:.1f} → {b:.1f}")
    ratio = large.cpu / small.cpu / 10
    show(f"CPU seconds: {small.cpu:.0f} → {large.cpu:.0f}, ÷ linear {ratio:.3f}")
    files = inodes(roots[ITEMS] / "blur/posterior.zarr")
    show(f"files of the posterior store: {files}")
    share(roots[ITEMS], large.wall, show)
    peak_small, peak_large = (max(r.peak.values()) for r in (small, large))
    assert peak_large <= 1.1 * peak_small
    assert all(large.peak[k] <= 1.1 * small.peak[k] for k in small.peak if k in large.peak)
    assert large.cpu <= 1.1 * 10 * small.cpu


def test_snakemake_and_merging_take_a_twentieth_of_ten_minutes_of_sampling(tmp_path, show):
    levels = int(os.environ.get("SCIINV_LEVELS", "240"))  # more on a faster machine
    config = blur(tmp_path, size=SIZE, levels=levels, name="scale", **LONG)
    run = watched(["run", "--config", config, "--cores", 1], tmp_path)
    sampling, part = share(tmp_path / "results/scale", run.wall, show)
    assert sampling >= 600, "sampling was over too soon: raise SCIINV_LEVELS"
    assert part <= 0.05
