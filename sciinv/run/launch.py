"""Start Snakemake on the workflow: one run per folder, and stale locks told from live ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from sciinv.config import Config
from sciinv.config.paths import CONFIG_FOLDER, checkout, locate, snakefile, workflows
from sciinv.errors import ConfigError, DataError, StoreError, WorkflowError
from sciinv.run import lock, show
from sciinv.run.job import RUN
from sciinv.run.watch import Watch

# The end of a job's log that `sciinv.run.job.guard` writes: an error's name and its rows.
_FAILURE = re.compile(r"^\w+(Error|Exception|Interrupt)\b.*\Z", re.MULTILINE | re.DOTALL)
DEFAULT = "workflows/configs/main.yaml"
TRIAL = "workflows/configs/ci.yaml"
SNAKEMAKE_TEXT = "snakemake.txt"  # in the run's folder
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
POLL = 0.5  # s
ROOM = 2**23  # bytes that must be free before a run starts


def run(
    config: Path | None = None,
    *,
    profile: str = "default",
    cores: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
    extra: Sequence[str] = (),
    verbose: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Check the configuration, then run Snakemake in the working directory.

    Args:
        config: YAML file of the run.
        profile: Name of a shipped profile, or the path of one.
        cores: CPU cores; the profile's by default.
        resume: Remove the lock that a killed run left.
        dry_run: Only say what would be done.
        extra: Arguments for Snakemake itself.
        verbose: Let Snakemake speak; else its text goes to `snakemake.txt` in the run's folder.
        quiet: Say nothing but errors.
        as_json: Print what was found as one JSON object on standard output.

    Returns:
        Snakemake's exit code; 130 where it was interrupted.

    Raises:
        SciinvError: The configuration is wrong, Snakemake is missing, a run is under way here, or
            jobs failed.
    """
    path = locate(config or DEFAULT, "--config")
    # Jobs inherit it: the configuration's relative paths mean the same on every node.
    os.environ[CONFIG_FOLDER] = str(path.absolute().parent)
    try:
        checked = Config.of_file(path)
    except DataError as error:
        if config is not None or checkout() is not None:
            raise
        raise ConfigError(
            "The main job's data and priors are no part of the installed package",
            where=Path.cwd(),
            expected="a checkout of the repository as the working directory",
            got=f"nothing where there should be {error.expected}",
            remedy="run it in a checkout, name your own with --config, or try the workflow with "
            f"`sciinv run --config {TRIAL}`, which needs no data",
        ) from error
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError(
            "The workflow needs Snakemake",
            where=sys.executable,
            expected="snakemake ≥ 9",
            got="not installed",
            remedy='pip install "sciinv[workflow]"',
        )
    chosen = _profile(profile)
    _check_executor(chosen)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile())]
    command += ["--configfile", str(path), "--profile", str(chosen)]
    if cores is not None:
        command += ["--cores", str(cores)]
    if dry_run:
        return subprocess.run([*command, "--dry-run", "--nolock", *extra], check=False).returncode
    with _alone(Path(".snakemake")) as own, _alone(Path(checked.folder)) as other:
        stale = _locked()
        if stale and not resume:
            raise ConfigError(
                "A run that was killed has left its lock",
                where=Path(".snakemake/locks").absolute(),
                expected="no lock",
                got=f"{len(stale)} lock files, and no run of this machine that holds them",
                remedy="go on with `sciinv run --resume`",
            )
        if stale:
            subprocess.run([*command, "--unlock", "--quiet"], check=True)
        _check_room(Path(checked.folder))
        start = time.time()
        command += ["--rerun-incomplete", *extra]
        watch = None if quiet or verbose else Watch(checked, start)
        told = None if verbose else Path(checked.folder) / SNAKEMAKE_TEXT
        code = _snakemake(command, [own.fileno(), other.fileno()], told, watch)
    resumed = f"sciinv run --resume --config {config or DEFAULT}"
    if code == INTERRUPTED:
        print(f"Stopped: finished draws are kept. Go on with `{resumed}`.", file=sys.stderr)
        return code
    if code:
        _raise_failures(Path(checked.folder) / "logs", start, told)
    found = show.results(checked)
    if as_json:
        about = {"run": checked.run.name, "folder": checked.folder, "code": code}
        about |= {"seconds": round(time.time() - start, 1), "problems": found}
        print(json.dumps(about, ensure_ascii=False))
    elif not quiet and not code:
        for line in show.found_lines(found):
            print(line)
        overview = Path(checked.folder) / "report.html"
        print(f"All on one page: {overview}" if overview.is_file() else f"In {checked.folder}")
    return code


def _snakemake(
    command: Sequence[str], locks: Sequence[int], told: Path | None, watch: Watch | None
) -> int:
    """Run Snakemake; it inherits the locks, which last until both processes are gone.

    Args:
        command: The call.
        locks: File descriptors of the run's locks.
        told: File of its text; None lets it speak on this process's own streams.
        watch: What the run does is shown from it; nothing if None.
    """
    env = {**os.environ, RUN: secrets.token_hex(8)}
    with ExitStack() as stack:
        stream = stack.enter_context(told.open("w")) if told is not None else None
        update = stack.enter_context(show.shown(watch)) if watch is not None else None
        process = subprocess.Popen(
            list(command), env=env, pass_fds=list(locks), stdout=stream, stderr=stream
        )
        try:
            while True:
                try:
                    return process.wait(timeout=POLL)
                except subprocess.TimeoutExpired:
                    if update is not None:
                        update()
        except KeyboardInterrupt:
            # The terminal has interrupted Snakemake too: it ends its jobs and frees its lock.
            process.wait()
            return INTERRUPTED


def _raise_failures(logs: Path, since: float, told: Path | None) -> None:
    """Raise with what the failed jobs say, or show the end of Snakemake's own text."""
    failures = failed(logs, since)
    if failures:
        raise WorkflowError(
            f"{len(failures)} job(s) failed\n\n" + "\n\n".join(failures),
            remedy="mend the cause and run again: what is finished is kept",
        )
    if told is not None and told.is_file():
        last = told.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        print("\n".join(last), file=sys.stderr)
        print(f"Snakemake's whole text: {told}", file=sys.stderr)


def failed(logs: Path, since: float) -> list[str]:
    """Return what the jobs that failed since a time say of it, with their logs."""
    out = []
    for log in sorted(logs.rglob("*.log")):
        if log.stat().st_mtime < since:
            continue
        found = _FAILURE.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            out.append(f"{log}\n{found[0].strip()}")
    return out


def _check_room(folder: Path) -> None:
    """Raise before the first job where a disk is full: Snakemake's own records need room too."""
    for place in (Path.cwd(), folder):
        free = shutil.disk_usage(place).free
        if free < ROOM:
            raise StoreError(
                "The disk is full",
                where=place.absolute(),
                expected=f"at least {ROOM / 2**20:.0f} MiB free before a run starts",
                got=f"{free / 2**20:.1f} MiB",
                remedy="free some space, or write to another disk (run.results)",
            )


def _profile(name: str) -> Path:
    shipped = workflows() / "profiles"
    for folder in (shipped / name, Path(name)):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        "There is no profile of this name",
        expected=", ".join(sorted(p.name for p in shipped.iterdir()))
        + ", or a folder with a config.yaml",
        got=name,
        remedy="name a shipped profile, or copy one and give its path",
    )


def _check_executor(profile: Path) -> None:
    """Raise where the profile's executor is a plugin of Snakemake's that is not installed."""
    text = (profile / "config.yaml").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^executor:\s*['\"]?([\w-]+)", text, re.MULTILINE)
    if found is None or found[1] in ("local", "dryrun", "touch"):
        return
    package = f"snakemake-executor-plugin-{found[1]}"
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise ConfigError(
            "The profile needs a part of Snakemake that is not installed",
            where=profile / "config.yaml",
            expected=package,
            got="not installed",
            remedy=f"pip install {package}, or take --profile default on this machine",
        )


def _locked() -> list[Path]:
    folder = Path(".snakemake/locks")
    return list(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def _alone(folder: Path = Path(".snakemake")) -> Iterator[IO[str]]:
    """Hold a folder's run lock, which the kernel frees however this process ends.

    The working directory's keeps Snakemake's own records apart, that of the results two runs in
    different directories which write to the same place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".sciinv.lock").open("a+")
    except OSError as error:
        from sciinv.store.atomic import describe_os_error

        described = describe_os_error(error, folder.absolute(), "The run cannot write here")
        raise described or error from error
    with stream:
        try:
            lock.take(stream, wait=False)
        except lock.Held as holder:
            raise ConfigError(
                "A run is under way in this folder",
                where=folder.absolute(),
                expected="one run at a time",
                got=str(holder),
                remedy="wait for it, or stop it; other folders can run at the same time",
            ) from None
        yield stream
