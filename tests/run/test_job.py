"""What surrounds a job: refusals that are not tried again, and one process per job."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sciinv.errors import ConfigError, StoreError
from sciinv.run import job as jobs
from sciinv.run import lock


def fail(log, error):
    done = []

    def job():
        with jobs.guard(log):
            done.append(True)
            raise error

    with pytest.raises(SystemExit) as ended:
        job()
    return done, ended.value.code


def test_users_mistake_is_not_tried_again_in_the_same_run(tmp_path, monkeypatch, capsys):
    log = tmp_path / "a.log"
    monkeypatch.setenv(jobs.RUN, "first")
    assert fail(log, ConfigError("wrong name", remedy="mend it")) == ([True], 1)
    with pytest.raises(SystemExit), jobs.guard(log):
        raise AssertionError("the body must not run again")
    assert "not tried again" in capsys.readouterr().err
    assert "ConfigError: wrong name" in log.read_text()
    # A new run tries, and a success clears the mark.
    monkeypatch.setenv(jobs.RUN, "second")
    with jobs.guard(log) as say:
        say("works")
    assert [p.name for p in tmp_path.iterdir()] == ["a.log"]


def test_failure_that_memory_or_time_may_mend_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv(jobs.RUN, "first")
    for _ in range(2):
        assert fail(tmp_path / "a.log", StoreError("disk full"))[0] == [True]
        assert fail(tmp_path / "b.log", MemoryError())[0] == [True]


def _hold(log, started):
    with lock.of_job(log):
        started.set()
        time.sleep(0.5)


def test_job_waits_for_the_same_job_of_a_killed_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "a.log", started))
    other.start()
    assert started.wait(60)
    with lock.of_job(tmp_path / "a.log"):
        other.join(1)
        assert other.exitcode == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("entry", ["from sciinv.run.job import guard", "import torch, sciinv.cli"])
def test_a_job_and_a_command_compute_on_one_thread_whatever_the_machine_says(entry, tmp_path):
    code = (
        f"{entry}\nfrom sciinv.run.job import guard\nimport sys\n"
        f"with guard({str(tmp_path / 'a.log')!r}):\n"
        "    import torch\n    print(torch.get_num_threads())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "3"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1"]


def test_no_library_function_leaves_torchs_thread_count_changed():
    """Only the entry of a job sets it for good; elsewhere it is put back (`arithmetic`)."""
    root = Path(__file__).resolve().parents[2]
    setting = {
        str(path.relative_to(root))
        for folder in ("sciinv", "operators", "workflows")
        for path in (root / folder).rglob("*.py")
        if "set_num_threads" in path.read_text(encoding="utf-8")
    }
    assert setting == {"sciinv/arithmetic.py", "sciinv/run/job.py"}
