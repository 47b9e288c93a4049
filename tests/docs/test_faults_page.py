"""The page of faults names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_test_that_the_page_names_is_there(repo: Path) -> None:
    text = (repo / "docs/evidence/faults.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)(?:::(\w+))?`", text))
    assert len(named) > 60
    lost = []
    for file, test in named:
        path = repo / "tests" / file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not source or (test and not re.search(rf"(?:def|class) {test}\b", source)):
            lost.append(f"{file}::{test}")
    assert not lost
