"""What a run says of itself is read from its folder: steps, draws, time, and what was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support.cli import REPO, cli, environment

from sciinv.config import Config
from sciinv.run import show
from sciinv.run.watch import State, Watch

CI = yaml.safe_load((REPO / "workflows/configs/ci.yaml").read_text())


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.chdir(tmp_path)
    return Watch(Config.of_mapping(CI), time.time() - 60)


def touched(path: str, text: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_run_that_has_not_begun_is_at_its_first_step(watch: Watch) -> None:
    state = watch.states()["blur"]
    assert (state.step, state.draws, state.total, state.left) == ("prepare", 0, 32, None)


def test_draws_and_time_left_come_from_stores_and_logs(watch: Watch) -> None:
    touched("results/ci/blur/measurement.zarr/zarr.json")
    touched("results/ci/blur/check.json")
    touched("results/ci/blur/shards/items-0-2-draws-0-8.zarr/zarr.json")
    touched("results/ci/logs/blur/sample/items-0-2-draws-0-8.log", "2026 x\n2026 done in 32.0 s\n")
    state = watch.states()["blur"]
    assert state.step == "sample"
    assert state.draws == 16
    assert state.seconds == pytest.approx(2)  # 16 images in 32 s
    assert state.left == pytest.approx(32)
    assert watch.news() == ["blur: draws 0-7 of items 0-1 done in 32 s"]
    assert watch.news() == []
    touched("results/ci/logs/blur/sample/items-0-2-draws-8-16.log", "2026 20 of 40 levels\n")
    state = watch.states()["blur"]
    assert state.running == 1
    assert state.draws == 24


def test_draws_made_anew_are_said_and_no_time_is_promised_at_the_end(watch: Watch) -> None:
    log = "results/ci/logs/blur/sample/items-0-2-draws-0-8.log"
    touched(log, "2026 36 of 40 levels\n2026 40 of 40 levels\n")
    state = watch.states()["blur"]
    assert (state.draws, state.anew) == (16, False)
    touched(log, "2026 40 of 40 levels\n2026 44 of 80 levels, some drawn anew\n")
    state = watch.states()["blur"]
    assert state.anew
    assert state.draws == pytest.approx(16 * 44 / 80)
    assert "some drawn anew" in show._line("blur", state)
    last = State("sample", 32.0, 32, running=1, seconds=2.0)
    assert last.left is None


def test_logs_of_an_earlier_run_say_nothing(watch: Watch) -> None:
    log = "results/ci/logs/blur/prepare.log"
    touched(log, "2026 done in 3.0 s\n")
    os.utime(log, (0, 0))
    assert watch.news() == []


def test_what_was_found_takes_five_lines_at_most() -> None:
    quantities = {f"q{i}": {"mean": 41.93, "sd": 0.81, "units": "µas"} for i in range(9)}
    one = {"draws": 8, "items": 1, "chi2_median": 1.02, "quantities": quantities, "doubts": 2}
    lines = show.found_lines({"m87": one | {"report": "r/index.html"}})
    assert len(lines) == 5
    assert lines[0] == "m87: 8 draws, reduced χ² 1.02 (median)"
    found = show.found_lines({"m87": one | {"noise_found": 0.51, "report": "r/index.html"}})
    assert found[0] == "m87: 8 draws, reduced χ² 1.02 (median, by a noise 0.51 times the declared)"
    assert "q0 41.93 ± 0.81 µas" in lines[1]
    assert "2 reasons for doubt" in lines[3]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (2.34, "2.3 s"), (42, "42 s"), (600, "10 min"), (9e3, "2.5 h")],
)
def test_times_are_said_in_the_unit_that_suits_them(seconds: float | None, said: str) -> None:
    assert show.lasting(seconds) == said


def test_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    pytest.importorskip("snakemake")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CI))
    command = [sys.executable, "-m", "sciinv.cli", "run", "--config", "run.yaml", "--cores", "1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        # a shell starts what runs in its background with Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    text = tmp_path / "results/ci/snakemake.txt"
    deadline = time.monotonic() + 200
    while not (text.is_file() and "rule prepare" in text.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 130
    assert "sciinv run --resume --config run.yaml" in said
    assert "Traceback" not in said
    done = cli("run", "--config", "run.yaml", "--resume", "--cores", 1, "--json",
               "--snakemake=--until=prepare", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["problems"] == {}
    assert "rule prepare" not in done.stderr
    assert "blur: prepare done in" in done.stderr


def test_the_table_says_what_the_jobs_hold_in_memory():
    pytest.importorskip("psutil")
    hold = "import sys; x = bytearray(b'x' * 100_000_000); print(len(x), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", hold], **pipes) as job:
        assert job.stdout.readline() == "100000000\n"
        before = show.memory()
        caption = show._table({}).caption
        job.communicate("\n")
    assert before > 100e6
    assert caption == f"memory of the jobs on this machine: {before / 1e9:.1f} GB"
    assert show.memory() < before
