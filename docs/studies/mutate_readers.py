"""Mutated files for every reader: cut, flipped, NaN, wrong dtype, swapped axes, huge headers.

Each file is read in a process of its own with a limit of CPU time and memory, as is its operator.
What counts is how that ends: read, a clear error (`SciinvError`), a traceback, a hang, or too much
memory; of what was read, whether every array and parameter is that of the good file, and else what
differs. The seed decides the files.

    python docs/studies/mutate_readers.py --files 200 --out readers.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mutations

from sciinv.errors import SciinvError

CPU_S, MEMORY = 30, 6 << 30
READERS = (
    "uvfits",
    "kspace-npy",
    "fastmri",
    "ismrmrd",
    "bart",
    "htc2022",
    "dxchange",
    "projections",
    "sinogram",
)


def read(reader: str, path: Path) -> Any:
    """Read a file, build its operator, and return the dataset."""
    import torch

    from sciinv import readers
    from sciinv.operators import from_measurement

    torch.set_num_threads(1)
    name = {"kspace-npy": "kspace", "fastmri": "kspace", "ismrmrd": "kspace", "bart": "kspace"}
    options: dict[str, Any] = (
        {"angles": np.arange(60) * 3.0} if reader in ("sinogram", "projections") else {}
    )
    dataset = readers.find(name.get(reader, reader))(path, **options)
    from_measurement(dataset)
    return dataset


# ---------------------------------------------------------------- one child, one file


def _child(reader: str, path: str, reference: dict, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 2))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        dataset = read(reader, Path(path))
    except SciinvError as error:
        remedy = bool(getattr(error, "remedy", None))
        answer.send(("clear" if remedy else "no remedy", str(error)[:300]))
        return
    except BaseException:  # what a user would see as a traceback
        answer.send(("traceback", traceback.format_exc()[-1500:]))
        return
    told = difference(dataset, reference)
    doubted = bool(dataset.attrs.get("warnings"))
    kind = "same" if not told else ("changed, doubted" if doubted else "changed")
    answer.send((kind, "; ".join(told) or ""))


def content(dataset: Any) -> dict[str, Any]:
    """Return what decides an image: arrays and parameters of the operator, not the data's unit."""
    known = {k: v for k, v in dataset.data_vars.items() if k != "scale"}
    arrays = {k: v.values for k, v in known.items() if v.dtype.kind in "biufc"}
    return arrays | {"params": dataset.attrs.get("params")}


def difference(dataset: Any, reference: dict[str, Any]) -> list[str]:
    """Return what differs from the good file's content by more than a thousandth, in words."""
    out = []
    now = content(dataset)
    for name, was in reference.items():
        found = now.get(name)
        if not isinstance(was, np.ndarray):
            out += [f"{name} {found} for {was}"] if found != was else []
        elif not isinstance(found, np.ndarray) or found.shape != was.shape:
            out.append(f"{name} has shape {getattr(found, 'shape', None)} for {was.shape}")
        else:
            with np.errstate(all="ignore"):
                a, b = found.astype(complex), was.astype(complex)
                infinite = np.isinf(found) if found.dtype.kind == "f" else np.zeros(1, bool)
                more = infinite & ~np.isinf(was) if found.dtype.kind == "f" else infinite
                scale = float(np.nanmax(np.abs(np.where(np.isfinite(b), b, 0)), initial=0))
                off = ~(np.isclose(a, b, rtol=1e-3, atol=1e-6 * scale + 1e-3 * scale) | infinite)
                if more.any():
                    out.append(f"{name}: {int(more.sum())} of {more.size} without data")
                if off.any():
                    ratio = np.abs(a[off]) / np.abs(b[off])
                    largest = float(np.nanmax(np.abs(a[off] - b[off])) / scale) if scale else 0.0
                    out.append(
                        f"{name}: {int(off.sum())} of {off.size} differ, by up to {largest:.3g} of "
                        f"the largest, ratio {np.nanmedian(ratio):.4g}"
                    )
    return out


def run(reader: str, files: int, seed: int, keep: Path | None = None) -> list[dict]:
    """Return what came of the mutated files of a reader."""
    context = multiprocessing.get_context("fork")
    out = []
    with tempfile.TemporaryDirectory() as folder:
        first = mutations.good(reader, Path(folder))
        dataset = read(reader, first)
        reference = content(dataset)
        for i in range(files):
            rng = np.random.default_rng([seed, READERS.index(reader), i])
            mutation = mutations.MUTATIONS[i % len(mutations.MUTATIONS)]
            with tempfile.TemporaryDirectory() as place:
                for file in Path(folder).iterdir():
                    shutil.copy(file, place)
                path = Path(place) / first.name
                try:
                    mutation(path, rng)
                except Exception as error:  # a mutation that this format does not take
                    out.append(
                        {"mutation": mutation.__name__, "end": "not made", "say": str(error)}
                    )
                    continue
                here, there = context.Pipe(duplex=False)
                start = time.monotonic()
                process = context.Process(target=_child, args=(reader, str(path), reference, there))
                process.start()
                there.close()
                found = here.poll(4 * CPU_S)
                try:
                    end, say = here.recv() if found else ("hang", "")
                except EOFError:
                    end, say = "killed", ""
                if not found:
                    process.kill()
                process.join()
                if end == "killed":
                    end = "hang" if process.exitcode in (-24, -9) else "crash"
                if keep is not None and end == "changed":
                    shutil.copytree(place, keep / f"{reader}-{i}-{mutation.__name__}")
                took = round(time.monotonic() - start, 2)
                row = {"mutation": mutation.__name__, "end": end, "say": say, "seconds": took}
                out.append(row | {"file": i})
    return out


def main() -> None:
    """Run the mutations and print a table of how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="*", default=list(READERS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the files that were changed unsaid")
    arguments = parser.parse_args()
    everything = {}
    ends = ("same", "changed, doubted", "changed", "clear", "no remedy", "traceback", "hang",
            "crash", "not made")  # fmt: skip
    print("| reader | " + " | ".join(ends) + " |\n|" + "---|" * (len(ends) + 1), flush=True)
    for reader in arguments.readers:
        rows = run(reader, arguments.files, arguments.seed, arguments.keep)
        everything[reader] = rows
        count = Counter(r["end"] for r in rows)
        print(f"| {reader} | " + " | ".join(str(count[e]) for e in ends) + " |", flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
