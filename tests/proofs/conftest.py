"""The long proofs: `python -m pytest -m slow tests/proofs`; their figures end the output."""

from __future__ import annotations

from collections.abc import Callable

import pytest

FIGURES: list[str] = []


@pytest.fixture
def show() -> Callable[[str], None]:
    """Keep a line of figures for the end of the output."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)
