"""What the proofs share: configurations, runs under watch, and the bits of a finished run."""

from __future__ import annotations

import contextlib
import hashlib
import re
import resource
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import xarray as xr
import yaml
from support.cli import REPO, environment

from sciinv import store
from sciinv.store.atomic import walk

# What differs between two runs of the same configuration, and may.
_TIMES = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:+]+|[\d.e-]+ (?:ms|s|min|h|µs) per draw.*?items?\b|[\d.e+-]+ s\b"
)


def blur(folder: Path, *, size: int, items: int, draws: int, shards: dict, **run: object) -> Path:
    """Write a configuration of the closed-form problem; return its path."""
    config = yaml.safe_load((REPO / "workflows/configs/ci.yaml").read_text())
    config["run"] |= run
    problem = config["problems"]["blur"]
    problem["data"]["options"] |= {"items": items, "size": size}
    for name in ("levels", "micro_batch"):
        if name in run:
            problem["sampler"][name] = config["run"].pop(name)
    problem |= {"items": items, "draws": draws, "shards": shards, "display": {"items": 1}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def command(*arguments: object) -> list[str]:
    """Return the command line of `sciinv`."""
    return [sys.executable, "-m", "sciinv.cli", *map(str, arguments)]


@dataclass(frozen=True)
class Watched:
    """A run that ended well.

    Attributes:
        wall: Seconds by the clock.
        cpu: CPU seconds of all its processes.
        peak: Highest resident memory (VmHWM) of any one process by its role, bytes.
    """

    wall: float
    cpu: float
    peak: dict[str, int]


def watched(arguments: list[object], cwd: Path) -> Watched:
    """Run `sciinv`, noting what each of its processes takes at most."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    with (cwd / "run.log").open("w") as log:
        process = subprocess.Popen(
            command(*arguments), cwd=cwd, env=environment(), stdout=log, stderr=log
        )
        peak: dict[str, int] = defaultdict(int)
        done = threading.Event()
        thread = threading.Thread(target=_watch, args=(process.pid, peak, done))
        thread.start()
        code = process.wait()
        done.set()
        thread.join()
    assert code == 0, (cwd / "run.log").read_text()[-3000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Watched(time.monotonic() - start, cpu, dict(peak))


def _watch(pid: int, peak: dict[str, int], done: threading.Event) -> None:
    roles: dict[int, str] = {}
    while not done.wait(0.1):
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError, IndexError):
                    if child.pid not in roles:
                        roles[child.pid] = role(child.cmdline())
                    text = Path(f"/proc/{child.pid}/status").read_text()
                    high = int(text.split("VmHWM:")[1].split()[0]) * 1024
                    peak[roles[child.pid]] = max(peak[roles[child.pid]], high)


def role(words: list[str]) -> str:
    """Return which step a process does: "snakemake", or the script's name."""
    for word in words:
        found = re.search(r"\.snakemake/scripts/\w+\.(\w+)\.py", word)
        if found:
            return found[1]
    return "snakemake" if "snakemake" in words else "other"


def seconds(folder: Path, rule: str) -> float:
    """Return the summed seconds of a rule's jobs, from the benchmark files."""
    total = 0.0
    for path in folder.rglob("*.tsv"):
        if rule in (path.stem, path.parent.name):
            total += float(path.read_text().split("\n")[1].split("\t")[0])
    return total


def bits(folder: Path) -> dict[str, str]:
    """Return a digest of everything that a run leaves, but for times, hosts and dates."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(".zarr") and path.parent.name != "shards":
            assert store.verify(path).ok, str(store.verify(path))
            found |= {f"{name}/{k}": v for k, v in _values(path).items()}
        elif (
            path.is_file()
            and "zarr" not in name
            and name.split("/")[0]
            not in (
                "logs",
                "benchmarks",
            )
        ):
            if path.name.startswith(".snakemake") or path.name == ".sciinv.lock":
                continue
            content = path.read_bytes()
            if path.suffix == ".html":
                content = _TIMES.sub("", content.decode()).encode()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def _values(path: Path) -> dict[str, str]:
    found = {}
    tree = xr.open_datatree(path, engine="zarr", chunks=None, cache=False)
    for group in tree.subtree:
        for name, variable in group.data_vars.items():
            if name != "seconds":
                values = np.ascontiguousarray(variable.values)
                text = f"{values.dtype}{values.shape}".encode() + values.tobytes()
                found[f"{group.path}/{name}"] = hashlib.sha256(text).hexdigest()
    return found


def inodes(folder: Path) -> int:
    """Return the number of files of a store."""
    return len(walk(folder))


def kill_tree(pid: int) -> None:
    """Kill a process and all below it, hardest signal, as a node that loses power."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # The first is left for its parent to reap, which learns from that how it ended.
        psutil.wait_procs(family[1:], timeout=10)
