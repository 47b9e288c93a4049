"""The messages of sciinv's errors, read from the source: what is said, where, and the remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
KINDS = {
    "ConfigError": "a value, option or name that is not known or not allowed",
    "DataError": "a file or array that cannot be read or does not hold what it should",
    "OperatorError": "an operator that does not match its image, measurement or adjoint",
    "PriorError": "a prior that cannot be loaded or does not fit the image",
    "StoreError": "a store that is incomplete, damaged, in use or not ours to replace",
    "DivergenceError": "a chain that left the finite numbers",
    "WorkflowError": "a run in which jobs failed",
}


@dataclass(frozen=True, order=True)
class Message:
    """One error that the source can raise.

    Attributes:
        what: Its first line; "…" stands for what is filled in.
        kind: Its class.
        remedy: The remedy, as far as the source says it in words; "" where it gives none.
        file: Path in the repository.
    """

    what: str
    kind: str
    remedy: str
    file: str


def words(node: ast.expr | None) -> list[str]:
    """Return the texts that an expression can be, "…" for what only a run knows; [] for none."""
    if node is None:
        return []
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
        return ["".join(str(p) for p in parts)]
    if isinstance(node, ast.IfExp):
        return words(node.body) + words(node.orelse)
    if isinstance(node, ast.BoolOp):
        return [w for v in node.values for w in words(v)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = words(node.left) or ["…"], words(node.right) or ["…"]
        return [a + b for a in left for b in right]
    return []


@cache
def messages() -> list[Message]:
    """Return every error of the package, sorted by what it says."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("sciinv", "operators")
        for path in sorted((REPO / folder).rglob("*.py"))
    }
    helpers = {name: made for tree in trees.values() for name, made in _helpers(tree).items()}
    found = set()
    for path, tree in trees.items():
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            for kind, what, remedy in _raised(call, helpers):
                said = "; or ".join(words(remedy))
                for text in words(what):
                    first = text.split("\n")[0]
                    found.add(Message(first, kind, said, str(path.relative_to(REPO))))
    return sorted(m for m in found if m.what.strip("… "))


def _helpers(tree: ast.Module) -> dict[str, tuple[str, list[str]]]:
    """Return the functions that make an error of their own arguments: (class, argument names)."""
    out = {}
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        names = [a.arg for a in function.args.args]
        for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
            first = call.args[0] if call.args else None
            own = isinstance(first, ast.Name) and first.id in names and "what" in names
            if own and _name(call) in KINDS:
                out[function.name] = (_name(call), names)
    return out


def _raised(
    call: ast.Call, helpers: dict[str, tuple[str, list[str]]]
) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    name = _name(call)
    given = {k.arg: k.value for k in call.keywords if k.arg}
    if name in KINDS and call.args:
        yield name, call.args[0], given.get("remedy")
    elif name == "error" and call.args and "remedy" in given:  # the class is the caller's choice
        yield "ConfigError", call.args[0], given["remedy"]
    elif name in helpers:
        kind, names = helpers[name]
        given |= dict(zip(names, call.args, strict=False))
        yield kind, given.get("what"), given.get("remedy") or given.get("otherwise")


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def page() -> str:
    """Return the messages as Markdown: one section per class, one row per message."""
    rows = messages()
    out = []
    for kind, about in KINDS.items():
        out.append(
            f"## {kind}\n\nRaised for {about}.\n\n| message | what to do | said by |\n|---|---|---|"
        )
        for m in (m for m in rows if m.kind == kind):
            remedy = m.remedy or "as the message itself says"
            out.append(f"| {_cell(m.what)} | {_cell(remedy)} | `{m.file}` |")
        out.append("")
    return "\n".join(out)


def _cell(text: str) -> str:
    """Return a text as a table's cell: what stands in backticks stays code, the rest is literal."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        parts = ["\\`".join(parts)]
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_\[\]{}])", r"\\\1", parts[i])
        parts[i] = parts[i].replace("<", "&lt;").replace(">", "&gt;")
    return "`".join(parts).replace("|", "\\|")
