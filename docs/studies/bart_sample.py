"""BART's `sample` beside sciinv's default on complex mixtures under coils, through files.

    python docs/studies/bart_sample.py --bart COMMAND [PROBLEMS DRAWS]

COMMAND is BART 1.0's `bart` (Debian 12's 0.8 has no `sample`), or whatever takes its arguments,
such as the `bartorch` of PyPI. BART's mixtures have one variance a component, so the priors here
have: 6 complex Gaussians of variance 0.09 around means of variance 1, images of 8 × 8, every third
line under 2 and 4 coils. Both draw from the same posterior, which is known.

What BART leaves open, levels, Langevin steps a level and the scale γ of a step, is run in several
settings: its defaults (100 levels, one step, γ = 0.5) and finer ones. Its CPU time is that of the
process less that of one with a single step, so that starting up is not counted.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE, COMPONENTS, VARIANCE, SD = 8, 6, 0.09, 4.0  # SD as in the cases `coils` of the benchmark
# (levels N, steps K, γ, more): the defaults of the command, then what its own tests use, and finer.
SETTINGS = (
    (100, 1, 0.5, ()),
    (100, 10, 0.1, ()),
    (100, 100, 0.1, ()),
    (100, 100, 0.025, ()),
    (100, 20, 0.1, ("-p",)),
    (1000, 1, 0.5, ("-a",)),
)


def write(path: Path, array: np.ndarray) -> str:
    """Write a .cfl of BART's, and return its name."""
    dims = [*array.shape, *[1] * (16 - array.ndim)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    array.astype(np.complex64).ravel("F").tofile(path.with_suffix(".cfl"))
    return str(path)


def read(path: Path) -> np.ndarray:
    """Return a .cfl of BART's."""
    dims = [int(n) for n in path.with_suffix(".hdr").read_text().split("\n")[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(dims, order="F")


def problem(seed: int, coils: int):  # type: ignore[no-untyped-def]
    """Return a mixture of one variance a component under coils, with its known posterior."""
    from sciinv.calibration.benchmark.linear import MixtureProblem, coil_matrix
    from sciinv.priors.mixture import GaussianMixture
    from sciinv.seeds import Streams

    shape = (2, SIDE, SIDE)
    d = 2 * SIDE * SIDE
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(COMPONENTS, *shape, generator=g, dtype=torch.float64) / 2**0.5
    weights = torch.rand(COMPONENTS, generator=g, dtype=torch.float64) + 0.2
    cov = 0.5 * VARIANCE * torch.eye(d, dtype=torch.float64).repeat(COMPONENTS, 1, 1)
    prior = GaussianMixture(means, cov, weights)
    a = coil_matrix(coils, SIDE, seed)
    x0 = prior.sample(Streams([(seed, "truth")]), torch.zeros(1, dtype=torch.float64))
    y = x0.flatten(1) @ a.mT
    y = y + SD * torch.randn(y.shape, generator=g, dtype=torch.float64)
    return MixtureProblem(prior, a, SD, y[0], shape, x0[0])


def files(folder: Path, p, coils: int, seed: int) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Write a problem as BART's files: everything shifted, as its Fourier transform is centred.

    BART takes k-space noise for CN(0, 1), where a real and an imaginary part have a variance of ½.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    keep = np.arange(SIDE) % 3 == seed % 3
    scale = 1 / (SD * 2**0.5)
    maps = []
    for angle in 2 * np.pi * np.arange(coils) / coils:  # as `linear.coil_matrix` makes them
        far = (y - 0.5 * np.sin(angle)) ** 2 + (x - 0.5 * np.cos(angle)) ** 2
        maps.append(np.exp(-2 * far + 1j * angle))
    half = len(p.y) // 2
    lines = (p.y[:half] + 1j * p.y[half:]).numpy().reshape(coils, keep.sum(), SIDE)
    kspace = np.zeros((coils, SIDE, SIDE), complex)
    kspace[:, keep] = lines
    pattern = np.repeat(keep[:, None], SIDE, 1).astype(float)
    means = (p.prior.means[:, 0] + 1j * p.prior.means[:, 1]).numpy()

    def shifted(a: np.ndarray) -> np.ndarray:
        return np.fft.fftshift(a, axes=(-2, -1))

    def last(a: np.ndarray) -> np.ndarray:  # [n, y, x] → [y, x, 1, n]
        return np.moveaxis(shifted(a), 0, -1)[:, :, None]

    one = (1, 1, 1, COMPONENTS)
    return {
        "mean": write(folder / "mean", last(means)),
        "var": write(folder / "var", np.full(one, VARIANCE)),
        "w": write(folder / "w", p.prior.weights.numpy().reshape(one)),
        "k": write(folder / "k", scale * last(kspace)),
        "s": write(folder / "s", scale * last(np.stack(maps))),
        "p": write(folder / "p", shifted(pattern)),
        "out": write(folder / "out", np.zeros((1, 1))),
    }


def run(command: str, f: dict[str, str], levels: int, steps: int, gamma: float, more: tuple,
        draws: int, seed: int) -> tuple[Tensor, float]:  # fmt: skip
    """Return BART's draws as real rows [draws, 2 SIDE²], and the CPU seconds of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [
        *shlex.split(command), "sample", "--dims", f"{SIDE}:{SIDE}", "-s", str(seed + 1),
        "-S", str(draws), "-N", str(levels), "-K", str(steps), *more, f"--gamma={gamma}",
        "--sigma", "max=10,min=0.01", "--gmm", f"mean={f['mean']},var={f['var']},w={f['w']}",
        "--posterior", f"k={f['k']},s={f['s']},p={f['p']}", f["out"],
    ]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    x = np.moveaxis(read(Path(f["out"])).reshape(SIDE, SIDE, -1), -1, 0)
    x = torch.as_tensor(np.fft.ifftshift(x, axes=(-2, -1)))
    rows = torch.cat([x.real.flatten(1), x.imag.flatten(1)], 1).double()
    return rows, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def figures(p, x: Tensor) -> list[float]:  # type: ignore[no-untyped-def]
    """Return distance ÷ sd, floor, sd ratio, modes' error against the known weights."""
    from sciinv.calibration import sliced_wasserstein
    from sciinv.calibration.benchmark.linear import _shares

    one, two = p.exact(len(x), 1), p.exact(len(x), 2)
    share = _shares(x, p.prior.means.flatten(1))
    return [
        sliced_wasserstein(x, one), sliced_wasserstein(two, one),
        float(x.std(0).mean() / one.std(0).mean()), float(0.5 * (share - p.weights()).abs().sum()),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    from sciinv.calibration.benchmark.linear import Matrix
    from sciinv.samplers import DAPS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bart", required=True, help="the command of BART 1.0")
    parser.add_argument("problems", type=int, nargs="?", default=5)
    parser.add_argument("draws", type=int, nargs="?", default=500)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| coils | sampler | distance ÷ sd | floor | sd ratio | modes off by | CPU ms a draw |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    for coils in (2, 4):
        found: dict[str, list[list[float]]] = {}
        for seed in range(asked.problems):
            p = problem(seed, coils)
            began = time.process_time()
            post = DAPS(p.prior, micro_batch=asked.draws).sample(
                p.y[None], Matrix(p.matrix, p.shape, SD), draws=asked.draws, seed=seed
            )
            cpu = time.process_time() - began
            x = torch.as_tensor(post["image"].values).double().reshape(asked.draws, -1)
            found.setdefault("sciinv DAPS(prior)", []).append([*figures(p, x), cpu])
            with tempfile.TemporaryDirectory() as name:
                f = files(Path(name), p, coils, seed)
                idle = run(asked.bart, f, 1, 1, 0.5, (), 1, seed)[1]
                for levels, steps, gamma, more in SETTINGS:
                    title = f"bart sample -N{levels} -K{steps} --gamma={gamma} {' '.join(more)}"
                    x, cpu = run(asked.bart, f, levels, steps, gamma, more, asked.draws, seed)
                    row = [*figures(p, x), max(cpu - idle, 0.0)]
                    found.setdefault(title.strip(), []).append(row)
        for title, rows in found.items():
            d, floor, ratio, modes, cpu = np.mean(rows, 0)
            print(f"| {coils} | {title} | {d:.3f} | {floor:.3f} | {ratio:.2f} | {modes:.3f} "
                  f"| {1e3 * cpu / asked.draws:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
