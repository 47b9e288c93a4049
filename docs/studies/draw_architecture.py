"""Draw docs/pictures/architecture.svg from the imports: python docs/studies/draw_architecture.py.

A row is a floor of the list in tests/test_imports.py, a box a room or a loose module, a line an
import of the room below by the one above. Of these only the lines that no other path implies are
drawn. `--check` draws nothing and fails where the picture is not that of the imports.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[2]
PICTURE = REPO / "docs/pictures/architecture.svg"
ROW, BOX, GAP, HIGH, LEFT = 62, 112, 18, 28, 20  # px
BESIDE = "run"  # stands beside the floors, at the height of the highest that it imports


def floors_test() -> ModuleType:
    """Return the module of the import test, which holds the list of floors."""
    spec = importlib.util.spec_from_file_location("test_imports", REPO / "tests/test_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imports() -> dict[str, set[str]]:
    """Return what each room imports of the others, at the top of a file or inside a function."""
    test = floors_test()
    out: dict[str, set[str]] = {}
    for name, path in test.modules():
        own = test.part(name)
        if own is not None:
            out.setdefault(own, set()).update(test.parts_imported(name, path))
    return out


def reduced(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the (importer, imported) pairs that no chain of other imports implies."""

    def below(room: str) -> set[str]:
        found, todo = set(), list(graph[room])
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += graph[one]
        return found

    reach = {room: below(room) for room in graph}
    return {
        (room, used)
        for room, uses in graph.items()
        for used in uses
        if not any(used in reach[other] for other in uses if other != used)
    }


def draw() -> str:
    """Return the picture as SVG."""
    graph = imports()
    rows = [sorted(row) for row in floors_test().FLOORS]
    at = 1 + max(i for i, row in enumerate(rows) if graph[BESIDE] & set(row))
    wide = max(map(len, rows))
    width = 2 * LEFT + wide * BOX + (wide - 1) * GAP + BOX + 2 * GAP
    height = len(rows) * ROW + 20
    place = {}
    for i, row in enumerate(rows):
        start = LEFT + (wide - len(row)) * (BOX + GAP) / 2
        for k, room in enumerate(row):
            place[room] = (start + k * (BOX + GAP), height - (i + 1) * ROW)
    place[BESIDE] = (width - LEFT - BOX, height - (at + 1) * ROW)
    lines, boxes = [], []
    for room, used in sorted(reduced(graph)):
        (xa, ya), (xb, yb) = place[room], place[used]
        a, b, bend = xa + BOX / 2, xb + BOX / 2, (yb - ya - HIGH) / 2
        if ya == yb:  # on one floor: an arc below both
            lines.append(
                f'<path d="M{a:.0f} {ya + HIGH:.0f} C{a:.0f} {ya + HIGH + 18:.0f} '
                f'{b:.0f} {ya + HIGH + 18:.0f} {b:.0f} {ya + HIGH:.0f}"/>'
            )
            continue
        lines.append(
            f'<path d="M{a:.0f} {ya + HIGH:.0f} C{a:.0f} {ya + HIGH + bend:.0f} '
            f'{b:.0f} {yb - bend:.0f} {b:.0f} {yb:.0f}"/>'
        )
    for room, (x, y) in place.items():
        boxes.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{HIGH}" rx="4"/>'
            f'<text x="{x + BOX / 2:.0f}" y="{y + 19:.0f}">{room}</text>'
        )
    style = (
        "path{fill:none;stroke:#7a8f99;stroke-width:1.2}rect{fill:#e6f1ef;stroke:#2a7f72}"
        "text{font:13px sans-serif;text-anchor:middle;fill:#12332e}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            f"<style>{style}</style>",
            f'<rect width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def main() -> None:
    """Write the picture, or compare it with the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where the picture is old")
    if not parser.parse_args().check:
        PICTURE.write_text(draw(), encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != draw():
        sys.exit("docs/pictures/architecture.svg is old: python docs/studies/draw_architecture.py")


if __name__ == "__main__":
    main()
