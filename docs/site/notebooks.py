"""Notebooks: executed cell by cell without a Jupyter server, and shown as pages of the site.

    python docs/site/notebooks.py                 run all in docs/notebooks/ and keep what they show
    python docs/site/notebooks.py own-kspace      one of them

The same way they run in the tests, in small (SCIINV_SMALL=1).
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
DPI = 70


def notebooks() -> list[Path]:
    """Return all notebooks, by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    """Return a notebook's JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def execute(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the cells in order, in the notebook's folder.

    Returns:
        The notebook with the outputs of this run: printed text, the value of a last expression,
        and open figures as PNG; and the names that its cells have defined.
    """
    import matplotlib

    matplotlib.use("Agg")
    made, names = read(path), {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        for number, cell in enumerate(c for c in made["cells"] if c["cell_type"] == "code"):
            cell["outputs"] = _outputs("".join(cell["source"]), names, f"{path.name}[{number}]")
            cell["execution_count"] = number + 1
    finally:
        os.chdir(before)
    return made, names


def _outputs(source: str, names: dict[str, Any], where: str) -> list[dict[str, Any]]:
    import matplotlib.pyplot as plt

    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    text, value = io.StringIO(), None
    with contextlib.redirect_stdout(text):
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    out: list[dict[str, Any]] = []
    if text.getvalue():
        lines = text.getvalue().splitlines(keepends=True)
        out.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None and not plt.get_fignums():
        shown = {"text/plain": str(value).splitlines(keepends=True)}
        out.append({"output_type": "execute_result", "execution_count": None, "metadata": {},
                    "data": shown})  # fmt: skip
    for number in plt.get_fignums():
        stream = io.BytesIO()
        plt.figure(number).savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        data = {"image/png": base64.b64encode(stream.getvalue()).decode()}
        out.append({"output_type": "display_data", "metadata": {}, "data": data})
    plt.close("all")
    return out


def page(path: Path) -> str:
    """Return a notebook as Markdown, its figures inside."""
    parts = []
    for cell in read(path)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for out in cell["outputs"]:
            data = out.get("data", {})
            if "image/png" in data:
                parts.append(f"![figure](data:image/png;base64,{data['image/png']})")
            else:
                text = "".join(out.get("text") or data.get("text/plain", ()))
                parts.append(f"```text\n{text.rstrip()}\n```")
    name = path.name
    parts.append(f"As a notebook: `docs/notebooks/{name}`; run it with Jupyter, or by "
                 f"`python docs/site/notebooks.py {path.stem}`.")  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main(chosen: list[str]) -> None:
    """Run notebooks and keep their outputs."""
    for path in notebooks():
        if not chosen or path.stem in chosen:
            made, _ = execute(path)
            path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
