"""BART's `sample` beside sciinv's default on complex mixtures under coils, through files.

    python docs/studies/bart_sample.py --bart COMMAND [--side 8] [--coils 2] [--settings 0,1,2] \
        [--problems 1] [--draws 500]

COMMAND is BART 1.0's `bart` (Debian 12's 0.8 has no `sample`), or whatever takes its arguments,
such as the `bartorch` of PyPI. BART's mixtures have one variance a component, so the priors here
have: 6 complex Gaussians of variance 0.09 around means of variance 1, every third line under
coils. Both draw from the same posterior, which is known; a row is printed as soon as it is there.

What BART leaves open, levels, Langevin steps a level and the scale γ of a step, is run in several
settings: its defaults (100 levels, one step, γ = 0.5) and finer ones. Its CPU time is that of the
process less that of one with a single step, so that starting up is not counted. `--bart ""` runs
sciinv alone.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

COMPONENTS, VARIANCE = 6, 0.09
# (levels N, steps K, γ, smallest σ, more): the defaults of the command, what its own tests use
# and finer ones; the standard deviation of a component is 0.3.
SETTINGS: tuple[tuple[int, int, float, float, tuple[str, ...]], ...] = (
    (100, 1, 0.5, 0.01, ()),
    (100, 10, 0.1, 0.01, ()),
    (100, 10, 0.5, 0.01, ()),
    (1000, 1, 0.5, 0.01, ("-a",)),
    (100, 10, 0.5, 0.1, ()),
    (100, 20, 0.1, 0.01, ("-p",)),
    (100, 100, 0.1, 0.01, ()),
    (100, 100, 0.025, 0.01, ()),
)


def noise(side: int) -> float:
    """Return the noise that leaves more than one component, as in the benchmark's `coils`."""
    return side / 2


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


def problem(seed: int, coils: int, side: int = 8):  # type: ignore[no-untyped-def]
    """Return a mixture of one variance a component under coils, with its known posterior."""
    from sciinv.calibration.benchmark.linear import MixtureProblem, coil_matrix
    from sciinv.priors.mixture import GaussianMixture
    from sciinv.seeds import Streams

    shape, sd = (2, side, side), noise(side)
    d = 2 * side * side
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(COMPONENTS, *shape, generator=g, dtype=torch.float64) / 2**0.5
    weights = torch.rand(COMPONENTS, generator=g, dtype=torch.float64) + 0.2
    cov = 0.5 * VARIANCE * torch.eye(d, dtype=torch.float64).repeat(COMPONENTS, 1, 1)
    prior = GaussianMixture(means, cov, weights)
    a = coil_matrix(coils, side, seed)
    x0 = prior.sample(Streams([(seed, "truth")]), torch.zeros(1, dtype=torch.float64))
    y = x0.flatten(1) @ a.mT
    y = y + sd * torch.randn(y.shape, generator=g, dtype=torch.float64)
    return MixtureProblem(prior, a, sd, y[0], shape, x0[0])


def files(folder: Path, p, coils: int, seed: int) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Write a problem as BART's files: everything shifted, as its Fourier transform is centred.

    BART takes k-space noise for CN(0, 1), where a real and an imaginary part have a variance of ½.
    """
    side = p.shape[-1]
    y, x = np.mgrid[:side, :side] / side - 0.5
    keep = np.arange(side) % 3 == seed % 3
    scale = 1 / (p.sd * 2**0.5)
    maps = []
    for angle in 2 * np.pi * np.arange(coils) / coils:  # as `linear.coil_matrix` makes them
        far = (y - 0.5 * np.sin(angle)) ** 2 + (x - 0.5 * np.cos(angle)) ** 2
        maps.append(np.exp(-2 * far + 1j * angle))
    half = len(p.y) // 2
    lines = (p.y[:half] + 1j * p.y[half:]).numpy().reshape(coils, keep.sum(), side)
    kspace = np.zeros((coils, side, side), complex)
    kspace[:, keep] = lines
    pattern = np.repeat(keep[:, None], side, 1).astype(float)
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


def run(command: str, f: dict[str, str], side: int, setting: tuple,  # type: ignore[type-arg]
        draws: int, seed: int) -> tuple[Tensor, float]:  # fmt: skip
    """Return BART's draws as real rows [draws, 2 side²], and the CPU seconds of its process."""
    levels, steps, gamma, least, more = setting
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [
        *shlex.split(command), "sample", "--dims", f"{side}:{side}", "-s", str(seed + 1),
        "-S", str(draws), "-N", str(levels), "-K", str(steps), *more, f"--gamma={gamma}",
        "--sigma", f"max=10,min={least}", "--gmm", f"mean={f['mean']},var={f['var']},w={f['w']}",
        "--posterior", f"k={f['k']},s={f['s']},p={f['p']}", f["out"],
    ]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    x = np.moveaxis(read(Path(f["out"])).reshape(side, side, -1), -1, 0)
    x = torch.as_tensor(np.fft.ifftshift(x, axes=(-2, -1)))
    rows = torch.cat([x.real.flatten(1), x.imag.flatten(1)], 1).double()
    return rows, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def figures(p, x: Tensor) -> str:  # type: ignore[no-untyped-def]
    """Return distance ÷ sd, floor, sd ratio, the components' error in % and its floor."""
    from sciinv.calibration import sliced_wasserstein

    one, two = p.exact(len(x), 1), p.exact(len(x), 2)
    return (f"{sliced_wasserstein(x, one):.3f} | {sliced_wasserstein(two, one):.3f} "
            f"| {float(x.std(0).mean() / one.std(0).mean()):.2f} "
            f"| {100 * p.mode_error(x):.1f} ({100 * p.mode_error(one):.1f})")  # fmt: skip


def main() -> None:
    """Print the table."""
    from sciinv.calibration.benchmark.linear import Matrix
    from sciinv.samplers import DAPS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bart", required=True, help="the command of BART 1.0")
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("--coils", type=int, default=2)
    parser.add_argument("--settings", default="0,1,2,3", help="numbers of `SETTINGS`")
    parser.add_argument("--problems", type=int, default=1)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--levels", type=int, default=50, help="of sciinv")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [SETTINGS[int(k)] for k in asked.settings.split(",") if asked.bart]
    print("| side, coils, problem | sampler | distance ÷ sd | floor | sd ratio "
          "| components off by, % (exact set) | draws | CPU ms a draw |\n" + "|---" * 8 + "|",
          flush=True)  # fmt: skip
    for seed in range(asked.problems):
        p = problem(seed, asked.coils, asked.side)
        start = f"| {asked.side}, {asked.coils}, {seed} |"

        def row(title: str, x: Tensor, cpu: float, start: str = start, p: Any = p) -> None:
            each = 1e3 * cpu / asked.draws
            print(f"{start} {title} | {figures(p, x)} | {len(x)} | {each:.2f} |", flush=True)

        began = time.process_time()
        sampler = DAPS(p.prior, levels=asked.levels, micro_batch=min(asked.draws, 500))
        physics = Matrix(p.matrix, p.shape, p.sd)
        post = sampler.sample(p.y[None], physics, draws=asked.draws, seed=seed)
        cpu = time.process_time() - began
        x = torch.as_tensor(post["image"].values).double().reshape(asked.draws, -1)
        row(f"sciinv DAPS(prior), {asked.levels} levels", x, cpu)
        with tempfile.TemporaryDirectory() as name:
            f = files(Path(name), p, asked.coils, seed)
            one = (1, 1, 0.5, 0.01, ())
            idle = run(asked.bart, f, asked.side, one, 1, seed)[1] if chosen else 0.0
            for setting in chosen:
                levels, steps, gamma, least, more = setting
                title = f"bart sample -N{levels} -K{steps} --gamma={gamma} σ ≥ {least} "
                x, cpu = run(asked.bart, f, asked.side, setting, asked.draws, seed)
                row((title + " ".join(more)).strip(), x, max(cpu - idle, 0.0))


if __name__ == "__main__":
    main()
