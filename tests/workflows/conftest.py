from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.cli import REPO


@pytest.fixture(scope="session")
def ci_config() -> dict:
    return yaml.safe_load((REPO / "workflows/configs/ci.yaml").read_text())


@pytest.fixture
def write(tmp_path):
    """Write a configuration; its changes are given by dotted keys below the one problem."""

    def make(config: dict, name: str = "run.yaml", **changes: object) -> Path:
        config = yaml.safe_load(yaml.safe_dump(config))
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = config["problems"]["blur"]
            for parent in parents:
                place = place[parent]
            place[last] = value
        path = tmp_path / name
        path.write_text(yaml.safe_dump(config))
        return path

    return make
