"""The shipped profiles: every key is one of Snakemake's; and a dry run gives its reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.cli import REPO, cli

from sciinv import store

pytest.importorskip("snakemake")

PROFILES = sorted(p.name for p in (REPO / "workflows/profiles").iterdir())


def options() -> set[str]:
    """Return the names of all options of Snakemake itself."""
    from snakemake.cli import get_argument_parser

    actions = get_argument_parser()._actions
    return {o.removeprefix("--") for a in actions for o in a.option_strings if o.startswith("--")}


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_of_a_profile_is_an_option_of_snakemake(name):
    profile = yaml.safe_load((REPO / f"workflows/profiles/{name}/config.yaml").read_text())
    assert set(profile) <= options()
    # Edits of the code alone must not repeat draws that took hours.
    assert "code" not in profile["rerun-triggers"]
    assert profile["rerun-incomplete"] is True
    if profile.get("executor"):
        assert profile["retries"] >= 1
        assert profile["default-resources"].keys() == {"mem_mb", "runtime"}


def test_dry_run_says_why_each_job_is_planned(tmp_path, ci_config, write):
    done = cli("run", "--config", write(ci_config), "--cores", 1, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = [j for j in done.stdout.split("rule ")[1:] if "reason: " in j]
    reasons = {
        j.split(":")[0]: j.split("reason: ")[1].split("\n")[0] for j in jobs if "reason" in j
    }
    assert reasons["prepare"] == "Missing output files: results/ci/blur/measurement.zarr"
    assert "Missing output files" in reasons["sample"]
    assert "Input files updated by another job" in reasons["report"]
    assert not (tmp_path / "results").exists()


def bucket(folder: Path) -> list[str]:
    """Return options that put results into a folder as into a bucket: no shared disk is used."""
    options = ["--default-storage-provider=fs", f"--default-storage-prefix={folder}"]
    return [f"--snakemake={o}" for o in options]


def needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"needs pip install {module.replace('_', '-')}")


def test_kubernetes_plugin_plans_every_job_with_its_results_in_the_storage(
    tmp_path, ci_config, write
):
    needs("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
    arguments = ["--config", write(ci_config), "--profile", "kubernetes", "--dry-run"]
    done = cli("run", *arguments, *bucket(tmp_path / "bucket"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outputs = [line for line in done.stdout.splitlines() if line.startswith("    output: ")]
    assert len(outputs) == 8  # prepare, check, two shards, merge, summarize, report, overview
    assert all("(send to storage)" in line for line in outputs)
    # What the image carries stays where it is: the operator's file is no object of the bucket.
    assert f"{tmp_path}/bucket/results/ci/blur/measurement.zarr" in outputs[0]
    assert "tiny.py (retrieve from storage)" not in done.stdout


@pytest.mark.slow
def test_jobs_that_share_no_disk_pass_their_results_through_a_bucket(
    tmp_path, ci_config, write, s3_server
):
    needs("snakemake_storage_plugin_s3")
    options = ["--default-storage-provider=s3", "--default-storage-prefix=s3://scans/mine"]
    options += ["--shared-fs-usage=none"]
    arguments = ["--config", write(ci_config), "--cores", 1]
    done = cli("run", *arguments, *[f"--snakemake={o}" for o in options], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    s3 = pytest.importorskip("boto3").client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="scans"):
        for entry in page["Contents"]:
            path = tmp_path / "fetched" / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("scans", entry["Key"], str(path))
    found = tmp_path / "fetched/mine/results/ci"
    for name in ("measurement.zarr", "posterior.zarr", "summary.zarr"):
        assert store.verify(found / "blur" / name).ok
    assert (found / "blur/report/index.html").is_file()
    assert (found / "report.html").is_file()
