"""What the site's pages take from the source: messages of errors, options of readers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sciinv.readers import READERS


@pytest.fixture
def site(repo: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(repo / "docs/site"))
    monkeypatch.delitem(sys.modules, "errors", raising=False)
    monkeypatch.delitem(sys.modules, "readers", raising=False)
    import errors
    import readers

    return {"errors": errors, "readers": readers}


def test_messages_are_found_with_their_remedy(site: dict[str, ModuleType]) -> None:
    found = {m.what: m for m in site["errors"].messages()}
    message = found["The prior and the operator have different units"]
    assert message.kind == "PriorError"
    assert message.file == "sciinv/units.py"
    assert message.remedy.startswith("give the operator and its data in the prior's unit")
    assert "There is no … of this name" in found  # filled in at run time
    assert found["The signs do not match the triangles"].kind == "OperatorError"  # by a helper


def test_no_error_of_the_source_is_left_out(site: dict[str, ModuleType], repo: Path) -> None:
    errors = site["errors"]
    told = {(m.kind, m.file) for m in errors.messages()}
    for folder in ("sciinv", "operators"):
        for path in (repo / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and errors._name(call) in errors.KINDS:
                    if not call.args or not errors.words(call.args[0]):
                        continue  # the text is an argument of the function around
                    assert (errors._name(call), str(path.relative_to(repo))) in told


@pytest.mark.parametrize("reader", READERS)
def test_every_option_of_a_reader_is_described(site: dict[str, ModuleType], reader: str) -> None:
    options = site["readers"].options(reader)  # KeyError where the docstring leaves one out
    assert options[0].name == "path"
    assert options[0].default is None
    for option in options:
        assert option.about, option.name
        assert option.about.endswith((".", ")", '"')), option.about


def test_defaults_are_those_of_the_signature(site: dict[str, ModuleType]) -> None:
    options = {o.name: o for o in site["readers"].options("htc2022")}
    assert options["model_error"].default == "0.015"
    assert "quadrature" in site["readers"].table("htc2022")
