"""The notebooks run from their first cell to their last, in small, and find what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs/notebooks"
NAMES = sorted(p.stem for p in FOLDER.glob("*.ipynb"))


@pytest.fixture
def site(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repo / "docs/site"))
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    import notebooks

    return notebooks


def own_kspace(names: dict[str, Any]) -> None:
    truth, mean = names["truth"], names["maps"]["mean"][0, 0].values
    # Half of the samples: the mean of the draws is nearer to the head than no image at all.
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.5 * np.sqrt(np.mean(truth**2))
    assert names["page"].is_file()


def swapped(names: dict[str, Any]) -> None:
    widths = names["widths"]
    assert widths["noise 0.025"] < widths["noise 0.1"]
    assert all(r.ok for r in check_results(names))


def check_results(names: dict[str, Any]) -> list[Any]:
    from sciinv.operators.check import check_operator

    return check_operator(names["quiet"])


def compared(names: dict[str, Any]) -> None:
    found = names["found"]
    # 64 draws of 64 pixels: sd ÷ right to 1/√(2 · 64 · 64) = 0.011, the mean's error to 1/√128.
    for name in ("DAPS", "Particles"):
        assert abs(found[name][1] - 1) < 0.06, name
        assert found[name][0] < 1.5, name


def trained(names: dict[str, Any]) -> None:
    assert names["prior"].shape == (1, 16, 16)
    assert names["prior"].units == "1/mm"
    assert np.isfinite(names["clean"].numpy()).all()


def opened(names: dict[str, Any]) -> None:
    # N(1, 1/2): 100 draws of 144 pixels know P(x > 1) = 1/2 to 0.5/√14400 = 0.004.
    assert float(names["above"].mean()) == pytest.approx(0.5, abs=0.021)
    assert len(names["table"]) == 2


SAID: dict[str, Callable[[dict[str, Any]], None]] = {
    "own-kspace": own_kspace,
    "swap-the-operator": swapped,
    "compare-samplers": compared,
    "train-a-prior": trained,
    "read-a-posterior": opened,
}


def test_there_is_a_test_of_each_notebook() -> None:
    assert sorted(SAID) == NAMES


SLOW = {"train-a-prior"}  # a minute of one core


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES]
)
def test_a_notebook_runs_and_finds_what_it_says(
    site: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIINV_SMALL", "1")
    _, names = site.execute(FOLDER / f"{name}.ipynb")
    SAID[name](names)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_the_site_has_text_code_and_what_was_found(site: ModuleType, name: str) -> None:
    text = site.page(FOLDER / f"{name}.ipynb")
    assert text.startswith("# ")
    assert "```python" in text
    assert "```text" in text
    assert "Traceback" not in text
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 200_000
