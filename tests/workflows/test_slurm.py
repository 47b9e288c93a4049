"""The slurm profile on a real SLURM controller of one node (`.ci/slurm start`)."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from support.cli import cli

from sciinv import store


def why_not() -> str | None:
    if shutil.which("sinfo") is None:
        return "SLURM is not installed"
    found = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
    return None if found.returncode == 0 else "no SLURM controller answers"


@pytest.mark.slurm
def test_slurm_profile_gives_the_bits_of_a_local_run(tmp_path, ci_config, write):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("snakemake_executor_plugin_slurm")
    config = write(ci_config, items=1, draws=8, shards={"draws": 4, "items": 1})
    options = ["--until=merge", "--slurm-status-command=squeue", "--latency-wait=10"]
    options += ["--slurm-init-seconds-before-status-checks=5", "--seconds-between-status-checks=2"]
    images = {}
    for profile in ("slurm", "default"):
        folder = tmp_path / profile
        folder.mkdir()
        extra = options if profile == "slurm" else options[:1]
        cores = [] if profile == "slurm" else ["--cores", 2]
        arguments = [f"--snakemake={o}" for o in extra]
        done = cli(
            "run",
            "--verbose",
            "--config",
            config,
            "--profile",
            profile,
            *cores,
            *arguments,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        if profile == "slurm":
            assert "submitted with SLURM jobid" in done.stderr
        posterior = store.open_posterior(folder / "results/ci/blur/posterior.zarr")
        images[profile] = posterior["posterior/image"].values
    assert np.array_equal(images["slurm"], images["default"])
