"""The price of a draw of the shipped problems, by its parts: network, width, solve, the rest."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import Physics

from sciinv import __version__, operators, priors, readers
from sciinv.arithmetic import fixed_arithmetic
from sciinv.config import Config
from sciinv.config.paths import locate, located_name, workflows
from sciinv.samplers import DAPS, build
from sciinv.samplers.base import Sampler
from sciinv.store.atomic import write_file
from sciinv.store.ours import check_new

BATCHES = (1, 4, 8, 16, 64)  # lanes; a few levels of each show what a batch is worth
LEVELS = 6


@dataclass
class Clock:
    """CPU seconds of named parts; what a part calls of another is the other's."""

    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Any:
        """Count what runs inside to `name`."""
        now = time.process_time()
        if self._open:
            outer, since = self._open[-1]
            self._add(outer, now - since)
        self._open.append((name, now))
        try:
            yield
        finally:
            now = time.process_time()
            _, since = self._open.pop()
            self._add(name, now - since)
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def around(self, owner: Any, attribute: str, name: str) -> None:
        """Count the calls of a method of an object to `name`."""
        inner = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return inner(*args, **kwargs)

        setattr(owner, attribute, timed)


def shares(sampler: Sampler, y: torch.Tensor, physics: Physics, draws: int) -> dict[str, float]:
    """Return CPU seconds a draw, in all and by part, of one call of a DAPS sampler."""
    clock = Clock()
    clock.around(sampler.prior, "forward", "network")
    if sampler.prior.local is not None:
        clock.around(sampler.prior.local, "variance", "width")
    start = sampler.start

    def started(*args: Any) -> Any:
        state = start(*args)
        own: Any = sampler
        kernel = own._kernel

        def timed(*a: Any, **k: Any) -> Any:
            with clock.part("solve"):
                return kernel(*a, **k)

        own._kernel = timed
        return state

    setattr(sampler, "start", started)  # noqa: B010
    try:
        with clock.part("rest"):
            post = sampler.sample(y, physics, draws=draws, seed=0)
    finally:
        del sampler.prior.forward
        if sampler.prior.local is not None:
            del sampler.prior.local.variance
    out = {name: seconds / draws for name, seconds in clock.seconds.items()}
    return {"all": sum(out.values()), **out, "nfe": float(post["nfe"].mean())}


@fixed_arithmetic()
def measure(say: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Return a row per problem of `workflows/configs/main.yaml`, on one thread."""
    rows = []
    for name, problem in Config.of_file(workflows() / "configs/main.yaml").problems.items():
        paths = [locate(p) for p in problem.data.paths]
        data = readers.find(located_name(problem.data.reader))(*paths, **problem.data.options)
        physics, y = operators.from_measurement(data)
        assert problem.prior.path is not None
        prior = priors.load(locate(problem.prior.path))
        settings = dict(problem.sampler.settings)
        lanes = int(settings.pop("micro_batch", prior.micro_batch))
        whole = build("daps", prior, micro_batch=lanes, **settings)
        row: dict[str, Any] = {"problem": name, "lanes": lanes, **shares(whole, y, physics, lanes)}
        for batch in BATCHES:
            # At so few levels a draw is none, so that none is refused and made again.
            few = DAPS(prior, **{**settings, "levels": LEVELS}, micro_batch=batch, retries=0)
            part = shares(few, y, physics, batch)
            row[f"batch {batch}"] = part["all"] / LEVELS
            row[f"network, batch {batch}"] = part["network"] / LEVELS
        row["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(row)
        say(f"{name}: {row['all']:.2f} s a draw, network {row['network'] / row['all']:.0%}")
    return rows


def gains(row: dict[str, Any], batch: int) -> tuple[float, float]:
    """Return by what factor a level of a draw, and its network alone, gain by a micro-batch."""
    one, network = row["batch 1"], row["network, batch 1"]
    return one / row[f"batch {batch}"], network / row[f"network, batch {batch}"]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    machine = f"{platform.machine()}, {platform.processor() or platform.system()}, one thread"
    lines = [
        f"Price of a draw, CPU seconds; sciinv {__version__}, {date.today()}, {machine}.",
        "",
        "| problem | calls | s a draw | network | width | solve | rest | "
        + " | ".join(f"s a level, batch {b}" for b in BATCHES)
        + f" | gain by {BATCHES[-1]} | the network's own | peak MB so far |",
        "|" + "---|" * (10 + len(BATCHES)),
    ]
    for r in rows:
        parts = [f"{r.get(k, 0.0) / r['all']:.0%}" for k in ("network", "width", "solve", "rest")]
        batches = [f"{r[f'batch {b}']:.3f}" for b in BATCHES]
        cells = [r["problem"], f"{r['nfe']:.0f}", f"{r['all']:.2f}", *parts, *batches]
        both = [f"{gain:.2f}" for gain in gains(r, BATCHES[-1])]
        lines.append("| " + " | ".join([*cells, *both, f"{r['peak MB']:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def write(
    out: str | Path, overwrite: bool = False, say: Callable[[str], None] = lambda line: None
) -> str:
    """Measure, write `speed.json` and `speed.md` to a folder, and return the table."""
    folder = Path(out)
    check_new([folder / "speed.json", folder / "speed.md"], overwrite)
    rows = measure(say)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "speed.json", json.dumps(rows, indent=1).encode())
    text = table(rows)
    write_file(folder / "speed.md", text.encode())
    return text
