"""Kills with -9 at random moments: every resumed run ends in the bits of the undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from support.cli import environment
from support.proofs import bits, blur, command, kill_tree, role

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow

SEED = 20261124
# Which tries: SCIINV_KILLS=12:20 goes on with the thirteenth, and does eight.
FIRST, LAST = map(int, os.environ.get("SCIINV_KILLS", "0:30").split(":"))
SIZES = {"size": 16, "items": 2, "draws": 8, "shards": {"draws": 4, "items": 2}}
# What is killed: everything, Snakemake alone, one job, or a process in the middle of a write.
VICTIMS = ("all", "snakemake", "job", "write")
PHASES = ("prepare", "sample", "summarize", "report")
# What is taken away from a finished run so that it goes on at a phase.
GONE = {
    "prepare": (
        "blur/measurement.zarr",
        "blur/check.json",
        "blur/shards",
        "blur/posterior.zarr",
        "blur/summary.zarr",
        "blur/quantities.json",
    ),
    "sample": ("blur/shards", "blur/posterior.zarr", "blur/summary.zarr", "blur/quantities.json"),
    "summarize": ("blur/posterior.zarr", "blur/summary.zarr", "blur/quantities.json"),
    "report": ("blur/report", "report.html"),
}
SLURM_OPTIONS = (
    "--slurm-status-command=squeue",
    "--latency-wait=5",
    "--slurm-init-seconds-before-status-checks=2",
    "--seconds-between-status-checks=2",
)


def options(profile: str) -> list[str]:
    if profile == "slurm":
        return ["--profile", "slurm", *(f"--snakemake={o}" for o in SLURM_OPTIONS)]
    return ["--cores", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    config = blur(folder, **SIZES)
    done = start(folder, config, "default")
    assert done.wait() == 0, (folder / "run.log").read_text()[-3000:]
    return folder, bits(folder / "results/ci")


def start(folder: Path, config: Path, profile: str, *more: str) -> subprocess.Popen:
    with (folder / "run.log").open("a") as log:
        return subprocess.Popen(
            command("run", "--config", config, *options(profile), *more),
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def jobs_of(folder: Path) -> list[psutil.Process]:
    """Return the processes of jobs in a folder, whoever started them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(folder) and role(process.cmdline()) not in (
                "snakemake",
                "other",
            ):
                found.append(process)
    return found


def writing(folder: Path) -> list[int]:
    """Return the processes that have a store half written."""
    names = [p.name for p in folder.rglob(".*.partial-*")]
    found = [re.search(r"-(\d+)-[0-9a-f]{8}$", n) for n in names]
    return [int(m[1]) for m in found if m]


def disturb(folder: Path, process: subprocess.Popen, victim: str, moment: float) -> str | None:
    """Wait for the moment and kill; return what was hit, None where the run was over."""
    time.sleep(moment)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if victim == "all":
            for job in jobs_of(folder):
                with contextlib.suppress(psutil.Error):
                    job.kill()
            kill_tree(process.pid)
            return "all"
        if victim == "snakemake":
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children():
                    child.kill()
                    return "snakemake"
        if victim == "job":
            for job in jobs_of(folder):
                with contextlib.suppress(psutil.Error):
                    name = role(job.cmdline())
                    job.kill()
                    return f"job {name}"
        if victim == "write":
            for pid in writing(folder / "results"):
                with contextlib.suppress(psutil.Error, OSError):
                    name = role(psutil.Process(pid).cmdline())
                    psutil.Process(pid).kill()
                    return f"write in {name}"
        time.sleep(0.002 if victim == "write" else 0.05)
    return None


def attempt(finished, folder: Path, profile: str, number: int) -> tuple[str, bool]:
    """Disturb one run; return what happened, and whether it ended in the same bits.

    A try whose run was over before it was hit is no kill: it is made again with an earlier moment.
    """
    origin, wanted = finished
    rng = random.Random(f"{SEED}/{profile}/{number}")
    phase, victim = PHASES[number % 4], VICTIMS[(number + number // 4) % 4]
    if phase == "report" and victim == "write":
        victim = "job"  # a report is no store
    # The last step that the phase leads to: a try ends there, the finished run is whole.
    until = [] if phase == "report" else ["--snakemake=results/ci/blur/summary.zarr"]
    moment = 20.0
    missed = 0
    while missed < 6:
        moment = rng.uniform(1.0, moment)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(origin, folder, symlinks=True)
        for name in GONE[phase]:
            path = folder / "results/ci" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder / "run.log").write_text("")
        process = start(folder, folder / "run.yaml", profile, *until)
        hit = disturb(folder, process, victim, moment)
        # A retry mends a job that was killed on SLURM, and such a run may take as long as any;
        # everything else ends it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1800)
        retried = "Trying to restart" in (folder / "run.log").read_text()
        if hit is not None and (process.poll() != 0 or retried):
            break
        missed += 1
    else:
        return f"{profile} {number}: {phase}, {victim}: no run was hit", False
    for _ in range(20):  # the documented command; a job that was killed alone ends its run first
        before = len((folder / "run.log").read_text())
        resumed = start(folder, folder / "run.yaml", profile, "--resume", *until)
        if resumed.wait(timeout=600) == 0:
            break
        if "A run is under way" not in (folder / "run.log").read_text()[before:]:
            break
        time.sleep(3)
    text = f"{profile} {number}: {phase}, after {moment:.1f} s hit {hit}"
    if missed:
        text += f" ({missed} earlier tries were over before)"
    if resumed.returncode:
        return f"{text}: resume failed\n{(folder / 'run.log').read_text()[-2500:]}", False
    found = bits(folder / "results/ci")
    wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    left = [p.name for p in (folder / "results").rglob(".*.partial-*")]
    if wrong:
        text += f": differs in {wrong[:5]}"
    return text + (f" (left: {left})" if left else ""), not wrong


def proof(finished, tmp_path: Path, profile: str, show) -> None:
    good = 0
    for number in range(FIRST, LAST):
        folder = tmp_path / f"{profile}-{number}"
        text, same = attempt(finished, folder, profile, number)
        print(text, flush=True)
        show(text)
        good += same
        if same:
            shutil.rmtree(folder)
    show(f"{profile}: {good} of {LAST - FIRST} end bit-identical")
    assert good == LAST - FIRST


def test_killed_runs_end_in_the_same_bits(finished, tmp_path, show):
    proof(finished, tmp_path, "default", show)


def need_slurm() -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no SLURM controller answers (.ci/slurm start)")


def test_runs_killed_on_slurm_end_in_the_same_bits(finished, tmp_path, show):
    need_slurm()
    proof(finished, tmp_path, "slurm", show)


@pytest.mark.parametrize(
    ("profile", "draws", "items", "batch"),
    [("default", 3, 1, 4), ("default", 8, 2, 8), ("slurm", 8, 1, 4)],
)
def test_cores_shards_and_scheduler_do_not_change_a_bit(
    finished, tmp_path, show, profile, draws, items, batch
):
    _, wanted = finished  # two cores, shards of 4 draws × 2 items
    stores = {k for k in wanted if ".zarr/" in k or k.endswith("quantities.json")}
    assert any("posterior.zarr" in k for k in stores)
    if profile == "slurm":
        need_slurm()
    shards = {"draws": draws, "items": items}
    config = blur(tmp_path, **(SIZES | {"shards": shards}), micro_batch=batch)
    extra = options(profile) if profile == "slurm" else ["--cores", 1]
    done = subprocess.run(
        command("run", "--config", config, *extra, "--snakemake=--until=summarize"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = bits(tmp_path / "results/ci")
    wrong = [k for k in sorted(stores) if found.get(k) != wanted[k]]
    assert not wrong, f"{profile}, shards {shards}, micro-batches of {batch}: {wrong}"
    show(f"{profile}, shards {shards}, micro-batches of {batch}: every store has the same bits")
