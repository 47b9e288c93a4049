"""What surrounds a job: its log, and failures told in rows instead of tracebacks."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sciinv.errors import (
    ConfigError,
    DataError,
    DivergenceError,
    OperatorError,
    PriorError,
    SciinvError,
)
from sciinv.run import lock

Say = Callable[[str], None]
RUN = "SCIINV_RUN"  # environment variable: the run that a job belongs to
# A retry brings more memory and time; these want a person.
FINAL = (ConfigError, DataError, OperatorError, PriorError, DivergenceError)
INTERNAL = 70  # exit code of a failure that is not the user's (EX_SOFTWARE)


def quiet_imports() -> None:
    """Silence what torch tells deepinv's authors while it is imported."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def one_thread() -> None:
    """Let torch and the linear algebra under it compute on one CPU thread in this process.

    For the entry of a job or a command, before torch is imported: draws are the same whatever the
    number of threads, and Snakemake runs as many jobs beside each other as there are cores.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:  # too late for the variable
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def guard(log: str | Path) -> Iterator[Say]:
    """Run a job's body with its log; end the process with a message where it fails.

    A `SciinvError` is written as its rows to the log and to standard error, and the process ends
    with code 1, without a traceback. Where more memory or time cannot mend it (`FINAL`) a retry in
    the same run says it again at once. Anything else is a defect: its traceback goes to the log,
    one line to standard error.

    Args:
        log: The job's log file.

    Yields:
        A function that writes a line, with the time, to the log.
    """
    quiet_imports()
    one_thread()
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = path.with_name(f".{path.name}.refused")
    run = os.environ.get(RUN, "")
    if run and refusal.is_file():
        mark, _, text = refusal.read_text(encoding="utf-8").partition("\n")
        if mark == run:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{text}\n  refused in this run already: not tried again\n")
            raise SystemExit(1)
    refusal.unlink(missing_ok=True)
    own = lock.of_job(path.with_name(f".{path.name}.lock"))
    with own, path.open("w", buffering=1, encoding="utf-8") as stream:

        def say(line: str) -> None:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

        start = time.monotonic()
        try:
            yield say
            say(f"done in {time.monotonic() - start:.1f} s")
        except SciinvError as error:
            stream.write(f"\n{type(error).__name__}: {error}\n")
            sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
            if run and isinstance(error, FINAL):
                text = f"{run}\n\n{type(error).__name__}: {error}\n"
                refusal.write_text(text, encoding="utf-8")
            raise SystemExit(1) from None
        except Exception as error:
            traceback.print_exc(file=stream)
            sys.stderr.write(
                f"\nUnexpected {type(error).__name__}: {error}\n  the traceback is in {path}\n"
            )
            raise SystemExit(INTERNAL) from None


def probed(found: str | Path) -> dict[str, Any]:
    """Return what the check before the first draw found: micro_batch, inflate, scale."""
    known = json.loads(Path(found).read_text())
    return {k: known[k] for k in ("micro_batch", "inflate", "scale") if k in known}


def progress_lines(say: Say, parts: int = 10) -> Callable[[int, int], None]:
    """Return a progress callback that says about `parts` lines, and as many of draws made anew."""
    last, first = 0, 0

    def report(done: int, total: int) -> None:
        nonlocal last, first
        first = first or total
        part = done * parts // first  # the total grows where draws are refused and made anew
        if part > last:
            last = part
            say(f"{done} of {total} levels" + (", some drawn anew" if total > first else ""))

    return report
