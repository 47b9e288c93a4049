"""Write docs/evidence/hundred-gigabytes.md: a large run on paper, from costs measured here.

python docs/studies/hundred_gigabytes.py    # about two minutes of one core
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from sciinv import store
from sciinv.steps.summarize import summarize
from sciinv.store.atomic import walk

ROOT = Path(__file__).resolve().parents[2]
ITEMS, DRAWS, SIZE, COILS, GPUS = 20_000, 32, 320, 15, 8
SHARD_DRAWS, SHARD_ITEMS = 32, 4
# Assumed, for want of a GPU: GPU seconds of one draw of one slice, in batches that fill it.
DRAW_SECONDS = (0.5, 2.0, 10.0)
SUBMIT_SECONDS = 0.1  # assumed: of SLURM's controller per job
MAPS, MAP_FILE = 8, 2**24  # variables of the summary of a complex image; bytes of one file at most
START_SECONDS = 20.0  # assumed: Python, torch, network and CUDA at the start of a job


@dataclass
class Costs:
    """CPU seconds, files and bytes of the parts, measured on small stores."""

    numbers: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def cpu(self, name: str, per: float) -> Iterator[None]:
        """Keep the CPU seconds of the block (all threads and children), divided by `per`."""
        start = _cpu()
        yield
        self.numbers[name] = (_cpu() - start) / per


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def draws(first: int, items: int, size: int) -> xr.Dataset:
    """Return noise with the variables of a sampler's draws of complex images."""
    rng = np.random.default_rng(first)
    image = rng.normal(size=(SHARD_DRAWS, items, 2, size, size)).astype("f4")
    statistics = ("chi2", "loglike", "nfe", "seconds", "accepted")
    grid = rng.random((SHARD_DRAWS, items))
    return xr.Dataset(
        {"image": (("draw", "item", "channel", "y", "x"), image)}
        | dict.fromkeys(statistics, (("draw", "item"), grid)),
        coords={
            "draw": np.arange(SHARD_DRAWS),
            "item": np.arange(first, first + items),
            "channel": ["real", "imag"],
            "y": np.arange(size, dtype=float),
            "x": np.arange(size, dtype=float),
        },
    )


def measured(items: int) -> xr.Dataset:
    """Return noise with the shape of fully sampled k-space."""
    y = np.random.default_rng(0).normal(size=(items, COILS, SIZE, SIZE, 2)).astype("f4")
    return xr.Dataset(
        {"y": (("item", "coil", "row", "column", "part"), y)},
        attrs={"operator": "mri", "params": "{}", "units": "1"},
    )


def disk(path: Path) -> int:
    """Return the bytes of a store's files."""
    return sum((path / name).stat().st_size for name in walk(path))


def measure(folder: Path) -> Costs:
    """Measure on small stores what each part of a large one costs."""
    found = Costs()
    raw = measured(3)
    with found.cpu("write the measurement, s/GB", raw["y"].nbytes / 1e9):
        path = store.write_measurement(raw, folder / "m.zarr")
    found.numbers["measurement: files per item"] = len(list((path / "y").glob("c*"))) / 3
    found.numbers["measurement: stored ÷ values"] = disk(path) / raw["y"].nbytes

    full = draws(0, SHARD_ITEMS, SIZE)
    y = measured(SHARD_ITEMS).assign_coords(item=np.arange(SHARD_ITEMS))
    shard = (SHARD_DRAWS, SHARD_ITEMS)
    with found.cpu("write a shard, s/GB", (full["image"].nbytes + y["y"].nbytes) / 1e9):
        path = store.write_posterior(full, folder / "shard.zarr", observed=y, shard=shard)
    found.numbers["shard: files"] = len(walk(path)) + 1  # and its seal
    found.numbers["shard: folders"] = sum(1 for p in path.rglob("*") if p.is_dir()) + 1
    found.numbers["shard: stored ÷ values"] = disk(path) / full["image"].nbytes
    with found.cpu("summarize, s/GB", full["image"].nbytes / 1e9):
        summary = summarize(path, folder / "s.zarr")
    found.numbers["summary: bytes per item"] = disk(summary) / SHARD_ITEMS
    del full, y, raw

    count = 20
    shards = []
    for k in range(count):
        part = draws(k, 1, 8)
        shards.append(store.write_posterior(part, folder / f"{k}.zarr", shard=(SHARD_DRAWS, 1)))
    with found.cpu("merge, s per shard", count):
        whole = store.merge_posteriors(shards, folder / "whole.zarr")
    linked = sum((whole / n).stat().st_nlink > 1 for n in walk(whole))
    found.numbers["merged: names per shard"] = linked / count

    seconds = {}
    for jobs in (50, 450):
        plan = folder / str(jobs)
        plan.mkdir()
        config = yaml.safe_load((ROOT / "workflows/configs/ci.yaml").read_text())
        problem = config["problems"]["blur"]
        problem["data"]["options"]["items"] = jobs
        problem |= {"items": jobs, "draws": 8, "shards": {"draws": 8, "items": 1}}
        (plan / "run.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "sciinv.cli", "run", "--config", "run.yaml", "-n"]
        start = _cpu()
        done = subprocess.run(
            command, cwd=plan, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        done.check_returncode()
        seconds[jobs] = _cpu() - start
    found.numbers["Snakemake plans, s per job"] = (seconds[450] - seconds[50]) / 400
    return found


def page(found: Costs) -> str:
    """Return the page."""
    n = found.numbers
    jobs = math.ceil(ITEMS / SHARD_ITEMS) * math.ceil(DRAWS / SHARD_DRAWS)
    raw = ITEMS * COILS * SIZE**2 * 2 * 4 / 1e9
    image = ITEMS * DRAWS * SIZE**2 * 2 * 4 / 1e9
    stored = {
        "measurement store": raw * n["measurement: stored ÷ values"],
        "draws (shards; the merged store links them)": image * n["shard: stored ÷ values"],
        "summary": ITEMS * n["summary: bytes per item"] / 1e9,
    }
    files = {
        "measurement store": ITEMS * n["measurement: files per item"],
        "shards": jobs * (n["shard: files"] + n["shard: folders"]),
        "summary": MAPS * math.ceil(ITEMS / (MAP_FILE // (3 * SIZE**2 * 4))),  # three quantiles
        "logs, benchmarks, Snakemake's records": 3 * jobs,
    }
    names = jobs * n["merged: names per shard"]
    hours = {
        "prepare (one process)": raw * n["write the measurement, s/GB"] / 3600,
        "plan": jobs * n["Snakemake plans, s per job"] / 3600,
        "merge": jobs * n["merge, s per shard"] / 3600,
        "summarize (one core)": image * n["summarize, s/GB"] / 3600,
    }
    # What a GPU waits for in each job: the process's start and the writing of its shard.
    idle = START_SECONDS + (image + raw) / jobs * n["write a shard, s/GB"]
    sampling = {}
    for seconds in DRAW_SECONDS:
        job = SHARD_DRAWS * SHARD_ITEMS * seconds + idle
        sampling[seconds] = max(math.ceil(jobs / GPUS) * job, jobs * SUBMIT_SECONDS) / 3600
    others = max(hours, key=lambda k: hours[k])
    lines = [
        "# A hundred gigabytes and more, on paper",
        "",
        f"{ITEMS:,} slices of {SIZE}² pixels × {COILS} coils, {DRAWS} draws each, {GPUS} GPUs: "
        f"{raw:,.0f} GB of fully sampled k-space (float32 pairs; {raw / 2.5:,.0f} GB where 40 % is "
        f"sampled) and {image:,.0f} GB of complex draws. This page is computed by",
        "",
        "```console",
        "$ python docs/studies/hundred_gigabytes.py",
        "```",
        "",
        "from what small stores cost. Nothing of this size was run.",
        "",
        "## Measured",
        "",
        "CPU seconds of one core, files and bytes, on stores of noise (which does not compress):",
        "",
        "| what | value |",
        "|---|---|",
        *(f"| {k} | {v:.3g} |" for k, v in n.items()),
        "",
        "## Assumed",
        "",
        f"GPU seconds per draw ({', '.join(map(str, DRAW_SECONDS))}: no GPU was at hand), "
        f"{START_SECONDS:.0f} s for a job to start, {SUBMIT_SECONDS} s of SLURM's controller per "
        "job, disks that are faster than the CPU seconds above, and no waiting in the queue.",
        "",
        "## Found",
        "",
        f"Jobs: **{jobs:,}** of {SHARD_DRAWS} draws × {SHARD_ITEMS} slices.",
        "",
        "| what | bytes | inodes |",
        "|---|---|---|",
        *(f"| {k} | {v:,.0f} GB | |" for k, v in stored.items()),
        *(f"| {k} | | {v:,.0f} |" for k, v in files.items()),
        f"| in all | **{sum(stored.values()):,.0f} GB** | **{sum(files.values()):,.0f}**, "
        f"and {names:,.0f} further names of the same files |",
        "",
        "| step | hours |",
        "|---|---|",
        *(f"| {k} | {v:.2f} |" for k, v in hours.items()),
        *(
            f"| sample, {GPUS} GPUs, {s} s per draw | {h:.1f}, of which "
            f"{jobs / GPUS * idle / 3600:.1f} the GPUs wait |"
            for s, h in sampling.items()
        ),
        "",
        f"**First bottleneck:** sampling, at every assumed cost of a draw ({sampling[2.0]:.0f} h "
        f"at 2 s). Behind it comes **{others}** ({hours[others]:.1f} h), {_remedy(others)} "
        f"Of space, the draws: {image / raw:.1f} times the raw data.",
        "",
    ]
    return "\n".join(lines)


def _remedy(step: str) -> str:
    if step.startswith("summarize"):
        return "which the workers of a dask scheduler share (`run.dask`)."
    if step.startswith("prepare"):
        return "which `sciinv convert --workers` reads in parallel, and writes in one process."
    return "one process by its nature."


def main() -> None:
    """Measure, compute, write the page."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    (ROOT / "docs/evidence/hundred-gigabytes.md").write_text(page(found))
    print(json.dumps(found.numbers, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
