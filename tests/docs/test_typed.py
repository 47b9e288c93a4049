"""A user's own code is checked against the types of the package, as CONTRIBUTING.md says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MINE = """
from typing import Any
from sciinv import metrics
image: Any = None
right: float = metrics.psnr(image, image)
wrong: str = metrics.psnr(image, image)
"""


@pytest.mark.slow
def test_mypy_follows_the_editable_install_that_the_page_names(repo: Path, tmp_path: Path) -> None:
    """Installed so, `sciinv` is found by its files, and py.typed says that its types count."""
    assert "--config-settings editable_mode=strict" in (repo / "CONTRIBUTING.md").read_text()
    copy = tmp_path / "copy"  # such an install leaves links in a folder `build` of the source
    skip = shutil.ignore_patterns(".git", "data", "results", "build", "site", ".*cache")
    shutil.copytree(repo, copy, ignore=skip)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    install = [python, "-m", "pip", "install", "--no-deps", "-q", "-e", copy]
    subprocess.run([*install, "--config-settings", "editable_mode=strict"], check=True)
    (tmp_path / "mine.py").write_text(MINE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "mine.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "import-not-found" not in done.stdout, done.stdout
    assert "import-untyped" not in done.stdout, done.stdout
    assert "mine.py:6: error" in done.stdout
    assert "mine.py:5: error" not in done.stdout
