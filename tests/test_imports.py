"""Imports run one way, and what has to start fast does not import the numerics."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FOLDERS = {"sciinv": REPO / "sciinv", "sciinv.operators": REPO / "operators"}

# Lower layers know nothing of higher ones; modules of one layer may know each other.
LAYERS = [
    ["errors"],
    ["seeds", "covariances", "places", "config_schema", "jobs"],
    ["diffusion", "priors", "likelihoods", "operators"],
    ["conditionals"],
    ["kernels"],
    ["samplers"],
    ["checks", "config"],
    [
        *("sampling", "pipeline", "calibration", "report", "reporting"),
        *("domain", "experiments", "convert"),
    ],
    ["doctor", "launch", "commands"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Beside the layers: what data, stores and figures may not know.
BESIDE = ("store", "readers", "uncertainty", "metrics", "plots", "ringfit")
SAMPLING = {"conditionals", "kernels", "samplers", "sampling", "pipeline", "commands", "cli"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found.append((".".join([package, *parts]), path))
    return found


def imported(name: str, path: Path) -> set[str]:
    """Return all modules that a file imports at run time, wherever in it."""
    is_package = path.name == "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")[: None if is_package else -1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{a.name}" for a in node.names}
    return names


def part(name: str) -> str | None:
    """Return the part of the package that a module belongs to."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "sciinv" and len(pieces) > 1 else None


def parts_imported(name: str, path: Path) -> set[str]:
    known = {part(n) for n, _ in modules()} - {None}
    return {p for i in imported(name, path) if (p := part(i)) in known} - {part(name)}


@pytest.mark.parametrize(("name", "path"), modules(), ids=[n for n, _ in modules()])
def test_imports_run_one_way(name, path):
    own = part(name)
    used = parts_imported(name, path)
    if own in RANK:
        above = {p for p in used if RANK.get(p, -1) > RANK[own]}
        assert not above, f"{name} imports {above} of a higher layer"
    elif own in BESIDE:
        assert not used & SAMPLING, f"{name} imports {used & SAMPLING}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=[n for n, _ in modules()])
def test_package_imports_neither_snakemake_nor_workflows(name, path):
    roots = {i.split(".")[0] for i in imported(name, path)}
    assert not roots & {"snakemake", "workflows", "tests"}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sciinv",
        "import sciinv.cli",
        "from sciinv.config import Config; Config.of_file('workflows/configs/ci.yaml')",
        "import sciinv.pipeline",
        "import sciinv.store",
    ],
)
def test_light_parts_import_no_torch(code, monkeypatch):
    monkeypatch.chdir(REPO)
    assert not loaded_by(code) & {"torch", "deepinv", "matplotlib"}


def test_help_imports_no_torch():
    code = "import sys, sciinv.cli\nsys.argv = ['sciinv', '--help']\n"
    code += "try:\n    sciinv.cli.main()\nexcept SystemExit as done:\n    assert not done.code"
    assert not loaded_by(code) & {"torch", "deepinv", "numpy"}


def test_snakefile_imports_only_light_modules():
    text = (REPO / "Snakefile").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert lines
    for line in lines:
        root = line.split()[1]
        assert root in ("sciinv", "sciinv.config", "sciinv.errors") or root.startswith("snakemake")


def test_scripts_are_short_and_only_unpack():
    for path in (REPO / "workflows/scripts").glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 40, path
        assert text.startswith("from sciinv.jobs import guard"), path
