"""Recipes for other machines say what pyproject.toml says, and the catalogue plans its jobs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.cli import REPO, environment

ENVS = REPO / "workflows/envs"
CATALOG = REPO / "workflows/catalog"
# name on PyPI → on conda-forge
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def needed(*extras: str) -> dict[str, str]:
    """Return name → lower bound of what the package and its extras need, by conda's names."""
    asked = list(PROJECT["dependencies"])
    for extra in extras:
        asked += PROJECT["optional-dependencies"][extra]
    out = {}
    for line in asked:
        name, bound = re.match(r"([\w-]+)(?:\[\w+\])?(?:>=|==)([\d.]+)", line).groups()
        out[CONDA.get(name, name)] = bound.rstrip(".")
    return out


def conda(lines: list) -> dict[str, str]:
    """Return name → lower bound of a list of conda's, and of the pip part in it."""
    out = {}
    for line in lines:
        if isinstance(line, dict):
            out |= conda(line["pip"])
            continue
        name, bound = re.match(r"([\w-]+)\s*(?:(?:>=|==)([\d.]+))?", line).groups()
        out[name] = (bound or "").rstrip(".")
    return out


def test_environment_files_have_every_dependency_with_its_bound() -> None:
    for file, extras in (
        ("sciinv.yaml", ("eht", "export")),
        ("environment.yml", ("eht", "export", "workflow")),
    ):
        found = conda(yaml.safe_load((ENVS / file).read_text())["dependencies"])
        assert needed(*extras).items() <= found.items(), file


def test_the_conda_recipe_has_every_dependency_version_and_command() -> None:
    recipe = yaml.safe_load((ENVS / "conda/meta.yaml").read_text())
    assert needed().items() <= conda(recipe["requirements"]["run"]).items()
    assert recipe["package"]["version"] == PROJECT["version"]
    (entry,) = recipe["build"]["entry_points"]
    assert entry == f"sciinv = {PROJECT['scripts']['sciinv']}"
    assert (ENVS / "conda" / recipe["source"]["path"] / "pyproject.toml").is_file()
    assert recipe["about"]["license"] == PROJECT["license"]


@pytest.mark.parametrize("file", ["Dockerfile", "apptainer.def"])
def test_containers_install_extras_that_exist_on_a_python_that_is_allowed(file: str) -> None:
    text = (ENVS / file).read_text()
    extras = re.search(r'-e "\.\[([\w,]+)\]"', text)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    version = re.search(r"python:(\d+)\.(\d+)-slim", text).groups()
    least = re.match(r">=(\d+)\.(\d+)", PROJECT["requires-python"]).groups()
    assert tuple(map(int, version)) >= tuple(map(int, least))
    for name in ("torch", "torchvision"):
        (asked,) = [d for d in PROJECT["dependencies"] if re.match(rf"{name}\b[>=]", d)]
        assert f'"{asked}"' in text


def test_the_catalogue_has_its_files_and_known_keys() -> None:
    for file in ("workflow/Snakefile", "config/README.md", "config/config.yaml"):
        assert (CATALOG / file).is_file()
    usage = yaml.safe_load((CATALOG / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    deployment = usage["software-stack-deployment"]
    assert set(deployment) == {"conda", "singularity", "singularity+conda"}
    assert any(deployment.values())
    assert all(isinstance(v, bool) for v in deployment.values())


def test_the_catalogue_s_workflow_plans_every_job_from_its_own_folder(tmp_path: Path) -> None:
    pytest.importorskip("snakemake")
    here = tmp_path / "copy"
    shutil.copytree(CATALOG, here)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--quiet", "rules"]
    done = subprocess.run(
        [*command, "--printshellcmds"], cwd=here, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    planned = subprocess.run(
        [*command[:-2], "--summary"], cwd=here, env=environment(), text=True, capture_output=True
    ).stdout
    for step in ("measurement.zarr", "posterior.zarr", "summary.zarr", "report.html"):
        assert f"results/ci/{'' if step == 'report.html' else 'blur/'}{step}" in planned
