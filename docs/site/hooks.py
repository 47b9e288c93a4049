"""Hooks of mkdocs: what the pages take from the source, the API pages, and the package's layout."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))

import errors  # noqa: E402
import notebooks  # noqa: E402
import readers  # noqa: E402

SOURCE = REPO / "build/docs-source"
MARK = re.compile(r"^<!-- made: (\w+)(?: ([\w./-]+))? -->$", re.MULTILINE)
LOOSE = "loose-modules"  # the page of the modules that stand in no room


def lay_out() -> None:
    """Lay the package out as it is installed."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for folder, name in (("sciinv", "sciinv"), ("operators", "sciinv/operators")):
        shutil.copytree(REPO / folder, SOURCE / name, ignore=shutil.ignore_patterns("__pycache__"))


# While the configuration is read: a plugin that looks for the folder later finds it, also the first
# time, when it looks before any event reaches this file.
lay_out()


def on_config(config: Any) -> Any:
    """List one API page per room."""
    config.nav[-1] = {"API reference": [f"reference/{room}.md" for room in rooms()]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the API pages and the notebooks."""
    for path in notebooks.notebooks():
        src = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, src, content=notebooks.page(path)))
    for room, modules in rooms().items():
        title = "Modules without a room" if room == LOOSE else f"sciinv.{room}"
        body = "\n\n".join(map(_entry, modules))
        page = f"# {title}\n\n{body}\n"
        files.append(File.generated(config, f"reference/{room}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Replace each `<!-- made: … -->` by what is made from the source."""

    def made(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "errors":
            return errors.page()
        if kind == "reader":
            return readers.table(name)
        if kind == "file":  # a page of the repository's top; its links lead into docs/
            return (REPO / name).read_text(encoding="utf-8").replace("](docs/", "](")
        raise ValueError(f"{page.file.src_path}: nothing is made by {match.group()}")

    return MARK.sub(made, markdown)


def _entry(name: str) -> str:
    """Return mkdocstrings' directive of a module; of a package, with what it defines itself."""
    path = SOURCE.joinpath(*name.split(".")) / "__init__.py"
    if not path.is_file():
        return f"::: {name}"
    kinds = (ast.FunctionDef, ast.ClassDef)
    own = [n.name for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, kinds)]
    members = [n for n in own if not n.startswith("_")]
    return f"::: {name}\n    options:\n      members: {members or 'false'}"


def rooms() -> dict[str, list[str]]:
    """Return the public modules of every room of the package."""
    found: dict[str, list[str]] = {}
    for package, folder in (("sciinv", REPO / "sciinv"), ("sciinv.operators", REPO / "operators")):
        for path in sorted(folder.rglob("*.py")):
            parts = [*package.split("."), *path.relative_to(folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            if len(parts) < 2 or any(p.startswith("_") for p in parts):
                continue
            room = parts[1] if len(parts) > 2 or path.name == "__init__.py" else LOOSE
            found.setdefault(room, []).append(".".join(parts))
    return dict(sorted(found.items()))
