"""What a run has done so far, read from its folder: outputs, job logs, draws, time left."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from sciinv.config import Config, block
from sciinv.config.spec import Problem

# Step → its output below the problem's folder; `sample` has one for each block.
OUTPUTS = {
    "prepare": "measurement.zarr/zarr.json",
    "check": "check.json",
    "sample": "",
    "merge": "posterior.zarr/zarr.json",
    "summarize": "quantities.json",
    "report": "report/index.html",
}
_DONE = re.compile(r"done in ([\d.]+) s\s*\Z")
_PART = re.compile(r"(\d+) of (\d+) levels")
_ANEW = re.compile(r"levels, some drawn anew\n\Z")


@dataclass
class State:
    """One problem of a run.

    Attributes:
        step: The step under way or next; "done" after the last.
        draws: Draws of items that are finished, in a fraction where a job is under way.
        total: Draws of items in all.
        running: Jobs that draw now.
        seconds: Seconds a draw, of the jobs that this run has made; None before.
        anew: Whether a job draws some of its draws once more, as the data refused them.
    """

    step: str
    draws: float
    total: int
    running: int = 0
    seconds: float | None = None
    anew: bool = False

    @property
    def left(self) -> float | None:
        """Seconds until all draws are made, as fast as now; None where it is not known."""
        if self.seconds is None or (self.running and self.draws >= self.total):
            return None  # the last job checks and writes its draws, or is about to repeat some
        return (self.total - self.draws) * self.seconds / max(self.running, 1)


@dataclass
class Watch:
    """A run's folder.

    Attributes:
        config: The run.
        since: Time of its start, s since 1970: older logs are those of an earlier run.
    """

    config: Config
    since: float
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def states(self) -> dict[str, State]:
        """Return the state of every problem now."""
        return {name: self._state(name, p) for name, p in self.config.problems.items()}

    def news(self) -> list[str]:
        """Return lines on the steps that ended since the last call."""
        lines = []
        for name in self.config.problems:
            logs = Path(self.config.folder) / "logs" / name
            for log in sorted(logs.rglob("*.log")):
                text = self._text(log)
                key = (name, str(log.relative_to(logs)))
                if text is None or key in self._seen or not (done := _DONE.search(text)):
                    continue
                self._seen.add(key)
                what = log.stem
                if log.parent.name == "sample":
                    items, draws = _numbers(log.stem)
                    what = f"draws {draws.start}-{draws.stop - 1} of items " \
                        f"{items.start}-{items.stop - 1}"  # fmt: skip
                lines.append(f"{name}: {what} done in {float(done[1]):.0f} s")
        return lines

    def _state(self, name: str, problem: Problem) -> State:
        folder = Path(self.config.folder) / name
        logs = Path(self.config.folder) / "logs" / name
        state = State("done", 0.0, problem.draws * problem.items)
        spent = made = 0.0
        for items, draws in problem.blocks():
            size = len(block(items)) * len(block(draws))
            stem = f"items-{items}-draws-{draws}"
            log = logs / "sample" / f"{stem}.log"
            text = self._text(log) or ""
            if (folder / f"shards/{stem}.zarr/zarr.json").is_file():
                state.draws += size
                if done := _DONE.search(text):
                    spent, made = spent + float(done[1]), made + size
            elif text:
                parts = _PART.findall(text)
                part = int(parts[-1][0]) / int(parts[-1][1]) if parts else 0.0
                state.running += 1
                state.anew |= bool(_ANEW.search(text))
                state.draws += part * size
                spent += max(time.time() - _birth(log), 0.0) if part else 0.0
                made += part * size
        state.seconds = spent / made if made else None
        for step, output in OUTPUTS.items():
            whole = state.draws >= state.total if step == "sample" else (folder / output).is_file()
            if not whole:
                state.step = step
                break
        return state

    def _text(self, log: Path) -> str | None:
        """Return the text of a log of this run, or None."""
        try:
            if log.stat().st_mtime < self.since:
                return None
            return log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def _birth(log: Path) -> float:
    """Return when a job began: the time in the first line of its log, or that of its lock."""
    lock = log.with_name(f".{log.name}.lock")
    try:
        return lock.stat().st_mtime
    except OSError:
        return log.stat().st_mtime


def _numbers(stem: str) -> tuple[range, range]:
    """Return the items and draws of "items-0-2-draws-0-8"."""
    _, first, end, _, low, high = stem.split("-")
    return range(int(first), int(end)), range(int(low), int(high))
