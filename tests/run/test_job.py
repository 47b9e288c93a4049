"""What surrounds a job: refusals that are not tried again, and one process per job."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from sciinv.errors import ConfigError, StoreError
from sciinv.run import job as jobs


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
    with jobs.alone(log):
        started.set()
        time.sleep(0.5)


def test_job_waits_for_the_same_job_of_a_killed_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "a.log", started))
    other.start()
    assert started.wait(60)
    with jobs.alone(tmp_path / "a.log"):
        other.join(1)
        assert other.exitcode == 0
    assert not list(tmp_path.iterdir())
