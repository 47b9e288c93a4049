"""The workflow end to end, killed and resumed, and what it says when something is wrong."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.cli import REPO, cli, environment

from sciinv import store, uncertainty
from sciinv.config import SUFFIXES

pytest.importorskip("snakemake")


def draws(folder: Path) -> dict[str, np.ndarray]:
    """Return all values of a posterior store but the time that they took."""
    data = store.to_dataset(store.open_posterior(folder / "results/ci/blur/posterior.zarr"))
    return {k: v.values for k, v in data.data_vars.items() if k != "seconds"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ci_config) -> Path:
    """A whole run: one core, one shard."""
    import yaml

    folder = tmp_path_factory.mktemp("finished")
    config = yaml.safe_load(yaml.safe_dump(ci_config))
    config["problems"]["blur"]["shards"] = {"draws": 16, "items": 2}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    done = cli("run", "--config", "run.yaml", "--cores", 1, "--profile", "ci", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_ci_configuration_runs_to_its_report(finished):
    found = finished / "results/ci/blur"
    assert (found / "report/index.html").is_file()
    assert (finished / "results/ci/report.html").is_file()
    pictures = {p.stem for p in (found / "report").glob("item-0-*.png")}
    assert pictures == {f"item-0-{k}" for k in ("mean", "sd", "q05", "q50", "q95", "draws", "chi2")}
    for name in ("measurement.zarr", "posterior.zarr", "summary.zarr"):
        assert store.verify(found / name).ok
    assert json.loads((found / "check.json").read_text())["prior"]["kind"] == "Gaussian"
    assert draws(finished)["image"].shape == (16, 2, 1, 16, 16)


def test_check_of_the_prior_stands_in_store_and_page(finished):
    found = finished / "results/ci/blur"
    check = json.loads((found / "check-prior.json").read_text())
    attrs = uncertainty.open_summary(found / "summary.zarr").attrs
    assert attrs["prior_check"] == check["answer"]
    assert attrs["prior_p_left_out"] == check["predictive"]["p"]
    assert attrs["log_evidence"] == check["log_evidence"]
    assert check["sentence"] in html.unescape((found / "report/index.html").read_text())


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    for folder, suffix in (("logs", "log"), ("benchmarks", "tsv")):
        names = {p.stem for p in (finished / "results/ci" / folder).rglob(f"*.{suffix}")}
        steps = {"prepare", "check", "merge", "check_prior", "summarize", "report", "overview"}
        assert names == steps | {"items-0-2-draws-0-16"}


def test_finished_run_has_nothing_left_to_do(finished):
    again = cli("run", "--config", "run.yaml", "--cores", 1, "-n", cwd=finished)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_killed_run_resumes_to_the_same_bits_with_other_shards_and_cores(
    tmp_path, ci_config, finished
):
    import yaml

    config = yaml.safe_load(yaml.safe_dump(ci_config))
    config["problems"]["blur"]["shards"] = {"draws": 8, "items": 2}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "sciinv.cli", "run", "--config", "run.yaml", "--cores", "1"]
    with (tmp_path / "first.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        shards = tmp_path / "results/ci/blur/shards"
        deadline = time.monotonic() + 300
        while not list(shards.glob("items-*.zarr/zarr.json")):
            assert process.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # The workflow, its scheduler and its jobs die at once, as when a node fails.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "results/ci/blur/posterior.zarr").exists()

    refused = cli("run", "--config", "run.yaml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "sciinv run --resume" in refused.stderr
    assert "Traceback" not in refused.stderr

    resumed = cli("run", "--config", "run.yaml", "--cores", 2, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = draws(tmp_path), draws(finished)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.array_equal(ours[name], theirs[name]), name


def test_exports_that_a_configuration_asks_for_are_written_and_nothing_is_drawn_again(
    finished, ci_config, write
):
    for package in ("nibabel", "astropy", "tifffile", "pydicom"):
        pytest.importorskip(package)
    config = write(ci_config, shards={"draws": 16, "items": 2}, export=list(SUFFIXES))
    done = cli("run", "--config", config, "--cores", 1, cwd=finished)
    assert done.returncode == 0, done.stderr
    written = {p.name for p in (finished / "results/ci/blur/export").iterdir()}
    assert written == {f"{name}.{suffix}" for name, suffix in SUFFIXES.items()}
    summary = zarr.open_group(finished / "results/ci/blur/summary.zarr", mode="r")
    maps = np.load(finished / "results/ci/blur/export/npy.npy")
    np.testing.assert_array_equal(maps[0], np.float32(summary["mean"][:, 0]))
    again = cli("run", "--config", config, "--cores", 1, "-n", cwd=finished)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_linter_of_snakemake_finds_nothing():
    configuration = "workflows/configs/ci.yaml"
    lint = [sys.executable, "-m", "snakemake", "--lint", "--configfile", configuration]
    done = subprocess.run(lint, cwd=REPO, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_more_draws_keep_the_shards_that_are_there(finished, ci_config):
    import yaml

    config = yaml.safe_load(yaml.safe_dump(ci_config))
    config["problems"]["blur"] |= {"shards": {"draws": 16, "items": 2}, "draws": 32}
    (finished / "more.yaml").write_text(yaml.safe_dump(config))
    plan = cli("run", "--config", "more.yaml", "--cores", 1, "-n", cwd=finished).stdout
    assert "items-0-2-draws-16-32.zarr" in plan
    assert plan.count("rule sample:") == 1
    assert "rule prepare:" not in plan


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"title": "another"}, {"report", "overview"}),
        ({"display": {"quantiles": [0.1, 0.9]}}, {"summarize", "report", "overview"}),
        ({"sampler__levels": 12}, {"sample", "merge", "summarize", "report", "overview"}),
        ({"prior__sd": 0.5}, {"check", "sample", "merge", "summarize", "report", "overview"}),
    ],
)
def test_change_repeats_only_what_depends_on_it(finished, ci_config, write, change, again):
    config = write(ci_config, shards={"draws": 16, "items": 2}, **change)
    plan = cli("run", "--config", config, "--cores", 1, "-n", cwd=finished).stdout
    rules = ("prepare", "check", "sample", "merge", "summarize", "report", "overview")
    assert {r for r in rules if f"rule {r}:" in plan} == again


def test_operator_that_does_not_fit_the_data_stops_before_the_first_draw(
    tmp_path, ci_config, write
):
    config = write(ci_config, operator__params={"size": 12})
    done = cli("run", "--config", config, "--cores", 1, cwd=tmp_path)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    for word in ("OperatorError", "expected:", "got:", "remedy:"):
        assert word in said
    assert "Traceback" not in said
    # The cause is the last thing said, below what Snakemake says.
    last = done.stderr[done.stderr.index("WorkflowError: 1 job(s) failed") :]
    assert "OperatorError" in last
    assert "results/ci/logs/blur/check.log" in last
    assert "OperatorError" in (tmp_path / "results/ci/logs/blur/check.log").read_text()
    assert not (tmp_path / "results/ci/blur/shards").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler__levls": 20}, ["levls", "did you mean 'levels'?", "conditional"]),
        ({"sampler__conditional": "tweedy"}, ["tweedy", "did you mean 'tweedie'?"]),
        ({"sampler__steps": 20}, ["daps has no such setting", "steps", "levels"]),
        ({"draws": "many"}, ["a whole number", "'many'", "problems.blur.draws"]),
        ({"prior": "priors/none.safetensors"}, ["problems.blur.prior", "none.safetensors"]),
        ({"data__reader": "uvfit"}, ["did you mean 'uvfits'?", "FILE.py:FUNCTION"]),
        ({"operator__name": "mir"}, ["did you mean 'mri'?", "FILE.py:CLASS"]),
    ],
)
def test_wrong_configuration_is_refused_before_the_first_job(
    tmp_path, ci_config, write, change, words
):
    done = cli("run", "--config", write(ci_config, **change), cwd=tmp_path)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_snakemake_alone_refuses_a_wrong_configuration_too(tmp_path, ci_config, write):
    config = write(ci_config, sampler__levls=20)
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPO / "Snakefile"]
    command += ["--configfile", config, "--cores", "1"]
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "did you mean 'levels'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_report_of_snakemake_holds_the_pages_of_all_problems(finished):
    option = "--snakemake=--report=all.zip"
    done = cli("run", "--config", "run.yaml", "--cores", 1, option, cwd=finished)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(finished / "all.zip") as archive:
        pages = {n.rpartition("/")[2]: n for n in archive.namelist() if n.endswith(".html")}
        assert "index.html" in pages  # the problem's own page, with its pictures beside it
        assert b"Blurred discs" in archive.read(pages["index.html"])
        pictures = {Path(n).stem for n in archive.namelist() if n.endswith(".png")}
    assert {"item-0-mean", "item-0-sd"} <= pictures


EXAMPLE = REPO / "workflows/examples/module/Snakefile"


def module(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(EXAMPLE), "--cores", "2"]
    return subprocess.run(
        [*command, "--directory", str(folder), *options],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )


def test_workflow_serves_as_a_module_of_another(tmp_path):
    done = module(tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rule inversion_sample:") == 2
    assert "rule brightest:" in done.stdout


@pytest.mark.slow
def test_step_of_ones_own_goes_on_from_the_summary_of_the_module(tmp_path):
    done = module(tmp_path)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "results/brightest.csv").read_text().splitlines()
    assert rows[0] == "item,row,column,mean,sd"
    summary = uncertainty.open_summary(tmp_path / "results/mine/blur/summary.zarr")
    for item, text in enumerate(rows[1:]):
        number, row, column, mean, sd = text.split(",")
        assert int(number) == item
        assert float(mean) == pytest.approx(float(summary["mean"][item].max()))
        assert float(sd) == pytest.approx(float(summary["sd"][item, 0, int(row), int(column)]))
    assert len(rows) == 3
