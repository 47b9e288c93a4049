"""What is installed and what is there, and what a gap prevents."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from sciinv.config import Config
from sciinv.config.paths import checkout, locate, workflows
from sciinv.errors import SciinvError

CORE = ("torch", "torchvision", "deepinv", "numpy", "scipy", "xarray", "zarr", "dask", "h5py")
EXTRAS = {
    "snakemake": ("workflow", "`sciinv run`"),
    "astropy": ("eht", "UVFITS files"),
    "finufft": ("nufft", "MRI along a trajectory"),
    "arviz": ("arviz", "posterior stores in ArviZ"),
    "nibabel": ("train", "training the MRI prior"),
    "snakemake-executor-plugin-slurm": ("slurm", "the slurm profile"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        what: What was looked at.
        level: "ok"; "note" for what only some need; "bad" for what breaks things.
        got: What was found.
        remedy: What to do.
    """

    what: str
    level: Literal["ok", "note", "bad"]
    got: str
    remedy: str = ""


def examine(config: Path | None = None) -> list[Finding]:
    """Look at Python, packages, torch, the machine, the workflow, and a configuration's files.

    Args:
        config: A configuration; the main one of the checkout by default.
    """
    return [*_python(), *_packages(), *_torch(), *_machine(), *_files(config)]


def _python() -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding(
        "Python",
        "ok" if ok else "bad",
        f"{platform.python_version()} ({sys.executable})",
        "" if ok else "install Python 3.11 or newer",
    )
    root = checkout()
    yield Finding("sciinv", "ok", f"{version('sciinv')} ({root or 'installed package'})")


def _packages() -> Iterator[Finding]:
    for name in CORE:
        found = _version(name)
        yield Finding(
            name,
            "ok" if found else "bad",
            found or "missing",
            "" if found else f"pip install {name}",
        )
    for name, (extra, use) in EXTRAS.items():
        found = _version(name)
        yield Finding(
            name,
            "ok" if found else "note",
            found or "missing",
            "" if found else f'for {use}: pip install "sciinv[{extra}]"',
        )


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision  # type: ignore[import-untyped]

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # a binary mismatch shows itself in many ways
        yield Finding(
            "torch and torchvision",
            "bad",
            f"{type(error).__name__}: {str(error)[:120]}",
            "install a pair of one release: pip install --upgrade torch torchvision",
        )
        return
    yield Finding("torch and torchvision", "ok", "belong together")
    threads = torch.get_num_threads()
    one = Finding("threads", "ok", f"1 in torch, as draws take; {os.cpu_count()} cores for jobs")
    yield (
        one
        if threads == 1
        else Finding(
            "threads",
            "note",
            f"{threads} in torch though a command asks for 1",
            "unset what sets them",
        )
    )
    if torch.cuda.is_available():
        yield Finding("GPU", "ok", torch.cuda.get_device_name())
    else:
        yield Finding("GPU", "note", "none", "sampling runs on the CPU (run.device: cpu)")


def _machine() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding(
        "disk space",
        "ok" if free > 5 else "bad" if free < 0.5 else "note",
        f"{free:.1f} GB free in {Path.cwd()}",
        "" if free > 5 else "free some: results of a large run take gigabytes",
    )
    writable = os.access(Path.cwd(), os.W_OK)
    yield Finding(
        "working directory",
        "ok" if writable else "bad",
        "writable" if writable else "not writable",
        "" if writable else "change to a folder of yours: results are written there",
    )
    slurm = shutil.which("sbatch")
    yield Finding(
        "SLURM", "ok" if slurm else "note", slurm or "none", "" if slurm else "for --profile slurm"
    )


def _files(config: Path | None) -> Iterator[Finding]:
    try:
        folder = workflows()
        path = config or folder / "configs" / "main.yaml"
        yield Finding("workflow", "ok", str(folder))
        checked = Config.of_file(locate(path, "--config"))
    except SciinvError as error:
        got = " ".join(f"{error.what} ({error.where}): {error.got}".split())
        yield Finding("configuration", "bad", got, error.remedy or "")
        return
    yield Finding("configuration", "ok", f"{path}: {', '.join(checked.problems)}")
    for name, problem in checked.problems.items():
        for part in ("data", "operator", "prior", "reference"):
            for found in problem.inputs(part):
                yield Finding(f"{name}: {part}", "ok", found)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
