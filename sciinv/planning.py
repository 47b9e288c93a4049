"""What a run will take, on paper: jobs, files, bytes and hours from costs that were measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sciinv.errors import ConfigError


@dataclass(frozen=True)
class Costs:
    """Measured costs of one unit of work; see `docs/hundred-gigabytes.md` for where they are from.

    Attributes:
        draw_seconds: GPU (or core) seconds of one draw.
        start_seconds: Seconds until a job's process has imported what it needs.
        submit_seconds: Seconds of the scheduler per job it starts, one job after the other.
        plan_seconds: Seconds of Snakemake per job while it plans the run.
        shard_seconds: Seconds per shard to open and link it in the merge.
        write_rate: Bytes per second to write, hash and flush a store.
        read_rate: Bytes per second of draws that one core summarizes.
        convert_rate: Bytes per second of raw data that one core converts.
    """

    draw_seconds: float
    start_seconds: float = 5.0
    submit_seconds: float = 0.05
    plan_seconds: float = 0.002
    shard_seconds: float = 0.06
    write_rate: float = 2.0e8
    read_rate: float = 5.0e7
    convert_rate: float = 1.0e8


@dataclass(frozen=True)
class Load:
    """The size of a run.

    Attributes:
        items: Slices, scans or frames.
        draws: Posterior draws of each.
        image: (channels, rows, columns).
        measurement: Real numbers measured per item.
        shard: (draws, items) of one job.
        workers: GPUs (or cores) that sample at the same time.
        bytes_per_value: 4 for float32.
        maps: Maps of the summary: mean, sd, three quantiles, width, two errors, two phases.
    """

    items: int
    draws: int
    image: tuple[int, int, int]
    measurement: int
    shard: tuple[int, int]
    workers: int
    bytes_per_value: int = 4
    maps: int = 10

    def __post_init__(self) -> None:
        numbers = (self.items, self.draws, *self.image, self.measurement, *self.shard)
        if min(*numbers, self.workers) < 1:
            raise ConfigError(
                "A run has no part of size 0",
                expected="numbers of at least 1",
                got=numbers,
                remedy="correct the number that is too small",
            )


@dataclass(frozen=True)
class Plan:
    """What the run takes; hours are by the clock."""

    jobs: int
    files: int
    bytes: dict[str, int]
    hours: dict[str, float]
    job_minutes: float

    @property
    def total_hours(self) -> float:
        """Hours from the first job to the report, steps one after the other."""
        return sum(self.hours.values())

    @property
    def bottleneck(self) -> str:
        """The step that takes the most hours."""
        return max(self.hours, key=lambda k: self.hours[k])

    @property
    def second(self) -> str:
        """The step that would be the bottleneck with unlimited samplers."""
        rest = {k: v for k, v in self.hours.items() if k != "sample"}
        return max(rest, key=lambda k: rest[k])


def plan(load: Load, costs: Costs) -> Plan:
    """Return jobs, files, bytes and hours of a run.

    Files per shard store: one per array chunk and one zarr.json per array and group, about 24 with
    nine statistics; the merged store links the shards' data files (no new bytes, but names), so
    that inodes are those of the shards alone.
    """
    shards = math.ceil(load.items / load.shard[1]) * math.ceil(load.draws / load.shard[0])
    pixels = math.prod(load.image)
    measured = load.items * load.measurement * load.bytes_per_value
    drawn = load.items * load.draws * pixels * load.bytes_per_value
    maps = load.items * (load.maps * pixels // load.image[0]) * load.bytes_per_value
    per_file = 2**24
    files = {
        "measurement": math.ceil(measured / per_file) + 8,
        "shards": shards * FILES_PER_SHARD,
        "summary": math.ceil(maps / per_file) * load.maps + 20,
        "logs, benchmarks, metadata": 3 * shards,
    }
    per_job = load.shard[0] * load.shard[1]
    busy = per_job * costs.draw_seconds + costs.start_seconds
    busy += per_job * pixels * load.bytes_per_value / costs.write_rate
    rounds = math.ceil(shards / load.workers)
    # The scheduler starts one job after the other: no faster than it can submit.
    sample = max(rounds * busy, shards * costs.submit_seconds)
    hours = {
        "prepare": measured / costs.convert_rate + measured / costs.write_rate,
        "plan": shards * costs.plan_seconds,
        "sample": sample,
        "merge": shards * costs.shard_seconds,
        "summarize": drawn / costs.read_rate + maps / costs.write_rate,
    }
    return Plan(
        jobs=shards + 7,
        files=sum(files.values()),
        bytes={"measurement": measured, "draws": drawn, "summary": maps},
        hours={k: v / 3600 for k, v in hours.items()},
        job_minutes=busy / 60,
    )


FILES_PER_SHARD = 26  # of one job's store; counted by the test


def table(load: Load, costs: Costs) -> str:
    """Return a plan as a Markdown table."""
    found = plan(load, costs)
    rows = [
        ("jobs", f"{found.jobs:,}, of {found.job_minutes:.1f} minutes each while sampling"),
        ("files (inodes)", f"{found.files:,}"),
        *((f"bytes of the {k}", f"{v / 1e9:,.0f} GB") for k, v in found.bytes.items()),
        *((f"hours: {k}", f"{v:.2f}") for k, v in found.hours.items()),
        ("hours in all", f"{found.total_hours:.1f}"),
        ("first bottleneck", f"{found.bottleneck}; with more samplers, {found.second}"),
    ]
    width = max(len(k) for k, _ in rows)
    lines = [f"| {'what':<{width}} | value |", f"| {'-' * width} | --- |"]
    return "\n".join(lines + [f"| {k:<{width}} | {v} |" for k, v in rows])
