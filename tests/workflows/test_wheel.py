"""The wheel alone, outside a checkout: it carries the workflow, and runs it anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support.cli import REPO, environment

from sciinv import store

pytest.importorskip("snakemake")
pytest.importorskip("setuptools", minversion="77", reason="needs setuptools ≥ 77 to build a wheel")
pytestmark = pytest.mark.slow

PARTS = ("sciinv", "operators", "workflows", "Snakefile", "pyproject.toml", "README.md", "LICENSE")


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves folders beside its source
    source.mkdir()
    for part in PARTS:
        if (REPO / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPO / part, source / part, ignore=ignored)
        else:
            shutil.copy(REPO / part, source / part)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = call(*command, "--wheel-dir", folder, source, cwd=folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("sciinv-*.whl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel) -> Path:
    """An environment with the wheel, and everything else as it is installed here."""
    folder = tmp_path_factory.mktemp("environment")
    done = call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = folder / "venv/bin/python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(call(found, "-c", asked, cwd=folder).stdout.strip())
    # A path in a .pth file brings packages, but not the .pth files, and so no editable install.
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = call(found, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    asked = "import sciinv, sciinv.operators as o; print(sciinv.__file__, o.__file__)"
    places = call(found, "-c", asked, cwd=folder)
    assert places.returncode == 0, places.stderr
    assert all(Path(p).is_relative_to(own) for p in places.stdout.split())
    return found


def test_wheel_carries_the_workflow_and_no_caches(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for part in ("Snakefile", "workflows/rules/posterior.smk", "workflows/configs/ci.yaml"):
        assert f"sciinv/workflow/{part}" in names
    for profile in (REPO / "workflows/profiles").iterdir():
        assert f"sciinv/workflow/workflows/profiles/{profile.name}/config.yaml" in names
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests/", "docs/"))]


def test_wheel_runs_a_configuration_from_an_empty_folder(python, tmp_path):
    command = [python.parent / "sciinv", "run", "--config", "workflows/configs/ci.yaml"]
    done = call(*command, "--cores", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = tmp_path / "results/ci"
    for name in ("measurement.zarr", "posterior.zarr", "summary.zarr"):
        assert store.verify(found / "blur" / name).ok
    assert (found / "report.html").is_file()
    assert json.loads((found / "blur/check.json").read_text())["prior"]["kind"] == "Gaussian"
    again = call(*command, "--cores", 1, "--dry-run", cwd=tmp_path)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_wheel_without_a_configuration_says_what_can_be_run(python, tmp_path):
    done = call(python.parent / "sciinv", "run", "--dry-run", cwd=tmp_path)
    assert done.returncode == 1
    assert "no part of the installed package" in done.stderr
    assert "sciinv run --config workflows/configs/ci.yaml" in done.stderr
