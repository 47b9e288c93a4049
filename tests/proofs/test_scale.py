"""A thousand items against a hundred, and what Snakemake and the stores take of ten minutes."""

from __future__ import annotations

import pytest
from proof_tools import blur, inodes, seconds, watched

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow

ITEMS, DRAWS, SIZE, SHARD, LEVELS = 1000, 8, 128, 100, 5


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
    steps = ("prepare", "check", "sample", "merge", "summarize", "report", "overview")
    for name in steps:
        a, b = (seconds(roots[n] / "benchmarks", name) for n in runs)
        show(f"seconds {name}: {a:.1f} → {b:.1f}")
    ratio = large.cpu / small.cpu / 10
    show(f"CPU seconds: {small.cpu:.0f} → {large.cpu:.0f}, ÷ linear {ratio:.3f}")
    files = inodes(roots[ITEMS] / "blur/posterior.zarr")
    show(f"files of the posterior store: {files}")
    sampling = seconds(roots[ITEMS] / "benchmarks", "sample")
    jobs = sum(seconds(roots[ITEMS] / "benchmarks", s) for s in steps)
    rest = large.wall - jobs
    stores = seconds(roots[ITEMS] / "benchmarks", "merge")
    show(
        f"of {large.wall:.0f} s: sampling jobs {sampling:.0f} s, merging {stores:.1f} s, "
        f"between the jobs (Snakemake) {rest:.1f} s; share {(rest + stores) / large.wall:.3f}"
    )
    peak_small, peak_large = (max(r.peak.values()) for r in (small, large))
    assert peak_large <= 1.1 * peak_small
    assert all(large.peak[k] <= 1.1 * small.peak[k] for k in small.peak if k in large.peak)
    assert large.cpu <= 1.1 * 10 * small.cpu
    assert (rest + stores) <= 0.05 * large.wall
