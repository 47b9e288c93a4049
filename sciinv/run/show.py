"""What a run says: a live table on a terminal, plain lines in a log, and what was found."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sciinv import store
from sciinv.config import Config
from sciinv.errors import SciinvError
from sciinv.run.watch import State, Watch

LINE_EVERY = 30.0  # s between lines on draws under way, in a log


def lasting(seconds: float | None) -> str:
    """Return a time for people: 40 s, 12 min, 3.5 h."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def shown(watch: Watch) -> Iterator[Callable[[], None]]:
    """Yield a function to call now and then: it says on standard error what the run does."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), refresh_per_second=2) as live:
            yield lambda: live.update(_table(watch.states()))
            live.update(_table(watch.states()))
        return
    last = time.monotonic()

    def say() -> None:
        nonlocal last
        lines = watch.news()
        if time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            lines += [_line(n, s) for n, s in watch.states().items() if s.running]
        for line in lines:
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    yield say
    say()


def _line(name: str, state: State) -> str:
    anew = ", some drawn anew" if state.anew else ""
    return (
        f"{name}: {state.draws:.1f} of {state.total} draws{anew}, {lasting(state.seconds)} a draw, "
        f"about {lasting(state.left)} left"
    )


def _table(states: Mapping[str, State]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("problem", "step", "draws", "a draw", "left"):
        table.add_column(head)
    for name, s in states.items():
        draws = f"{s.draws:.0f}/{s.total}"
        left = "" if s.step == "done" else lasting(s.left)
        step = f"{s.step}, some anew" if s.anew else s.step
        table.add_row(name, step, draws, lasting(s.seconds), left)
    if used := memory():
        table.caption = f"memory of the jobs on this machine: {used / 1e9:.1f} GB"
        table.caption_justify = "left"
    return table


def memory() -> int:
    """Return what this process's children hold in memory, bytes; 0 where that is not known.

    Pages that jobs share are counted by each. Jobs of a cluster are elsewhere, and not counted.
    """
    try:
        import psutil  # comes with snakemake
    except ImportError:
        return 0
    used = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            used += child.memory_info().rss
    return used


def results(config: Config) -> dict[str, dict[str, Any]]:
    """Return what was found, of every problem whose report is written.

    Returns:
        By problem: draws, items, the median reduced χ² (or None; by the noise as found where its
        scale was drawn: "noise_found" is then that scale's median ÷ declared), the quantities of
        the first item as {name: {mean, sd, units}}, the number of doubts that the page states, and
        its path.
    """
    out = {}
    for name, problem in config.problems.items():
        folder = Path(config.folder) / name
        page = folder / "report" / "index.html"
        if not page.is_file():
            continue
        values = json.loads((folder / "quantities.json").read_text(encoding="utf-8"))
        out[name] = {
            "draws": problem.draws,
            "items": problem.items,
            **_fit(folder / "posterior.zarr"),
            "quantities": {
                k: {"mean": v.get("mean"), "sd": v.get("sd"), "units": v.get("units")}
                for k, v in (values[0] if values else {}).items()
            },
            "doubts": page.read_text(encoding="utf-8").count('<li class="doubt">'),
            "report": str(page),
        }
    return out


def _fit(path: Path) -> dict[str, float | None]:
    try:
        stats = store.to_dataset(store.open_posterior(path))
    except SciinvError:
        return {"chi2_median": None, "noise_found": None}
    chi2, drawn = store.reduced_chi2(stats)  # None: draws by hand may carry none
    return {
        "chi2_median": None if chi2 is None else float(chi2.median()),
        "noise_found": float(stats["noise_scale"].median()) if drawn else None,
    }


def found_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return at most five lines on each problem."""
    lines = []
    for name, one in found.items():
        chi2 = one["chi2_median"]
        noise = one.get("noise_found")
        by = "" if noise is None else f", by a noise {noise:.3g} times the declared"
        fit = "" if chi2 is None else f", reduced χ² {chi2:.3g} (median{by})"
        items = f" of {one['items']} items" if one["items"] > 1 else ""
        lines.append(f"{name}: {one['draws']} draws{items}{fit}")
        spoken = [_quantity(k, v) for k, v in one["quantities"].items() if v["mean"] is not None]
        lines += [f"  {'; '.join(spoken[i : i + 3])}" for i in (0, 3) if spoken[i : i + 3]]
        if one["doubts"]:
            plural = "s" if one["doubts"] > 1 else ""
            lines.append(f"  {one['doubts']} reason{plural} for doubt, on the page")
        lines.append(f"  {one['report']}")
    return lines


def _quantity(name: str, value: Mapping[str, Any]) -> str:
    sd = "" if value["sd"] is None else f" ± {value['sd']:.2g}"
    units = value["units"] if value["units"] not in (None, "1") else ""
    return f"{name} {value['mean']:.4g}{sd} {units}".rstrip()
