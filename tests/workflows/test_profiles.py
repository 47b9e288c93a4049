"""The shipped profiles: every key is one of Snakemake's; and a dry run gives its reasons."""

from __future__ import annotations

import pytest
import yaml
from workflow_tools import REPO, cli

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
