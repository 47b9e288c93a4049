"""The README stays one page that a newcomer can read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sciinv.config import Config


@pytest.fixture(scope="module")
def readme(repo: Path) -> str:
    return (repo / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_ninety_lines_and_sixty_numbers(readme: str) -> None:
    assert len(readme.splitlines()) <= 90
    assert len(re.findall(r"\d+", readme)) <= 60


def test_it_has_three_pictures_and_a_figure_of_calibration_and_no_table(readme: str) -> None:
    top, calibration = readme.split("## Is the uncertainty right?")
    assert top.count("](docs/pictures/") == 3
    assert calibration.count("](data/calibration/") == 1
    assert not re.findall(r"^\|", readme, re.MULTILINE)


def test_it_has_the_two_commands(readme: str) -> None:
    assert '$ python -m pip install -e ".[workflow,eht]" && sciinv run\n' in readme
    assert '$ python -m pip install -e ".[test]" && python -m pytest\n' in readme


def test_its_configuration_passes_the_check(
    readme: str, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    block = readme.split("```yaml\n")[1].split("```")[0]
    assert list(Config.of_mapping(yaml.safe_load(block)).problems) == ["disc"]


def test_its_python_runs(readme: str, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for fewer levels and draws and a smaller image."""
    monkeypatch.chdir(repo)
    code = readme.split("```python\n")[1].split("```")[0]
    assert "levels=20" in code
    assert "draws=4" in code
    names: dict = {}
    exec(code.replace("levels=20", "levels=2").replace("draws=4", "draws=1"), names)
    assert names["draws"]["image"].sizes == {"draw": 1, "item": 1, "channel": 1, "y": 128, "x": 128}
