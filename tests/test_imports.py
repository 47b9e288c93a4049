"""Imports run one way, and what has to start fast does not import the numerics."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FOLDERS = {"sciinv": REPO / "sciinv", "sciinv.operators": REPO / "operators"}

# Lower floors know nothing of higher ones. Every module stands on one; the list is closed.
FLOORS = [
    ["errors", "seeds", "registry", "arithmetic"],
    ["covariances", "displaced", "likelihoods", "noise", "diffusion", "units", "metrics"],
    ["solvers"],
    ["priors", "operators"],
    ["readers"],
    ["images"],
    ["config", "store"],
    ["model_error", "problem", "conditionals"],
    ["kernels"],
    ["samplers"],
    ["quantities", "uncertainty"],
    ["plots"],
    ["calibration", "report"],
    ["steps"],
    ["commands"],
    ["cli"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
# Beside the numerics: what knows Snakemake and jobs may be used by steps and commands, and knows
# the configuration, stores and errors alone.
BESIDE = {"run": {"errors", "config", "store", "registry"}}
ABOVE_RUN = {"steps", "commands", "cli"}


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


def test_every_module_stands_on_a_floor():
    parts = {part(n) for n, _ in modules()} - {None}
    assert parts == set(FLOOR) | set(BESIDE)


@pytest.mark.parametrize(("name", "path"), modules(), ids=[n for n, _ in modules()])
def test_imports_run_one_way(name, path):
    own = part(name)
    used = parts_imported(name, path)
    if own is None:  # the package itself hands its rooms on, by name
        assert not used
    elif own in BESIDE:
        assert used <= BESIDE[own], f"{name} imports {used - BESIDE[own]}"
    else:
        above = {p for p in used if FLOOR.get(p, -1) > FLOOR[own]}
        assert not above, f"{name} imports {above} of a higher floor"
        assert own in ABOVE_RUN or not used & set(BESIDE), f"{name} imports the run"


def imports_of_modules() -> dict[str, set[str]]:
    """Return which modules each module imports, at its top or inside a function."""
    known = {n for n, _ in modules()}
    out = {}
    for name, path in modules():
        found = {i for i in imported(name, path) if i in known}
        # `from package import module` names both; the package alone is what it re-exports.
        out[name] = {i for i in found if not any(o.startswith(f"{i}.") for o in found)} - {name}
    return out


def test_no_two_modules_import_each_other():
    graph = imports_of_modules()
    circles = {tuple(sorted((a, b))) for a in graph for b in graph[a] if a in graph.get(b, ())}
    assert not circles


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
        "import sciinv.steps.prepare",
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
        assert text.startswith("from sciinv.run.job import guard"), path
