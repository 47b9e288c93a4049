"""Noise and scanner unknown, drawn with the image: does an interval hold as often as it says?

CT, MRI (cases coils and lines) as `unknowns_mri.py` has it, and an array that does not know where
it points (case position), with the sources and baselines of `unknown_gains.py`. Truths from a
Gaussian prior on 20² pixels, 24 views in parallel beam, the unknown from its prior (noise: 0.5–2
times what is declared; error: 1 to 10 % of the line integrals, of half-width 5 %), 19 draws each.
If the draws are right, the truth's rank among them, 0–19, is 1–18 in 90 % of the problems. The same
is counted over the pixels of the image, and
over those of a second run of each problem that is told the unknown's true value.

A hundred problems cannot tell 90 % from 87 % (3 points are one standard error of one unknown). The
posterior of the factor and of the shift is known, by quadrature over it and in closed form over the
image: the draws' mean and standard deviation are compared with that too, problem by problem.

    python docs/studies/unknowns.py --problems 100 --seed 1000 --cases noise scale shift rings
    python docs/studies/unknowns.py --problems 100 --seed 1000 --cases coils lines
    python docs/studies/unknowns.py --problems 100 --seed 1000 --cases error position
    python docs/studies/unknowns.py … --show

Each problem is a line of results/unknowns.jsonl (or of `--out FILE`) as soon as it is done, and is
not run again; `--show` prints the rows of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import unknown_gains
import unknowns_mri
from torch import Tensor

from sciinv import priors, samplers
from sciinv.operators.ct import CT
from sciinv.operators.parts.model_errors import mean_around
from sciinv.seeds import Streams

SIZE, VIEWS, ELEMENTS, SD, DRAWS = 20, 24, 36, 0.02, 19
SCALE, SHIFT, RINGS = 0.1, 1.5, 0.02  # prior standard deviations
ERROR, POSITION = 0.05, 10.0  # half-width of a size's prior; sd of a position, µas
GRID = 41  # values of an unknown over ± 6 posterior sd
TOGETHER = 5  # problems of MRI in a chain
OUT = Path(__file__).resolve().parents[2] / "results/unknowns.jsonl"
MRI = {"coils": "coil_maps", "lines": "line_phase"}


def power() -> Tensor:
    """Return the power spectrum of the prior, (1/mm)²."""
    f = torch.fft.fftfreq(SIZE)
    power = 1 / (1 + (f[:, None] ** 2 + f[None] ** 2) / 0.06**2) ** 2
    return 4e-5 * power / power.mean()


def prior() -> priors.Gaussian:
    """Return smooth attenuation that falls to its rough part at the border."""
    window = torch.hann_window(SIZE, periodic=False)
    mean = 0.04 * (window[:, None] * window[None])[None]
    return priors.Gaussian(mean, power_spectrum=power())


def scan(noise_sd: float = SD, **more: Any) -> CT:
    """Return the scan."""
    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    return CT(angles, SIZE, 1.0, ELEMENTS, 1.0, noise_sd=noise_sd, **more)


def problem(case: str, seed: int) -> dict[str, Any]:
    """Return a simulated problem.

    Returns:
        "physics", "y": operator and data; "image", "truth": the true image and unknown; "name": the
        unknown's variable; "known": operator and data of who knows the unknown.
    """
    if case in MRI:
        return unknowns_mri.problem(MRI[case], seed)
    g = torch.Generator().manual_seed(seed)
    if case == "position":
        x0 = unknown_gains.prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))
        array = unknown_gains.array(unknowns={"position": POSITION})
        place = POSITION * torch.randn(1, 2, generator=g)
        u = array.at(place).A(x0)
        y = u + unknown_gains.SD * torch.randn(u.shape, generator=g)
        return {
            "physics": array, "y": y, "image": x0.numpy(), "truth": place.numpy().flatten(),
            "name": "position", "known": (array.at(place), y),
        }  # fmt: skip
    x0 = prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    noise = SD * normal(1, 1, VIEWS, ELEMENTS)
    if case == "noise":
        s = 2.0 ** (2 * float(torch.rand((), generator=g)) - 1)
        physics, theta, y = scan(), torch.tensor([s]), scan().A(x0) + s * noise
        known, name = (scan(s * SD), y), "noise_scale"
    elif case == "error":
        t = 0.01 * 10 ** float(torch.rand((), generator=g))
        u = scan().A(x0)
        sd = (SD**2 + (t * mean_around(u, 0.0)).square()).sqrt()
        physics, theta = scan(unknowns={"model_error": ERROR}), torch.tensor([t])
        y, name = u + sd / SD * noise, "model_error"
        known = scan(sd[0, 0]), y
    elif case == "rings":
        physics, theta = scan(unknowns={"element_offset": RINGS}), RINGS * normal(ELEMENTS)
        y = scan().A(x0) + theta + noise
        known, name = (scan(), y - theta), "element_offset"
    else:
        name = {"scale": "attenuation_scale", "shift": "detector_shift"}[case]
        mean, sd = (1.0, SCALE) if case == "scale" else (0.0, SHIFT)
        physics, theta = scan(unknowns={name: sd}), mean + sd * normal(1, 1)
        y = physics.at(theta).A(x0) + noise
        known = (physics.at(theta), y)
    return {
        "physics": physics, "y": y, "image": x0.numpy(), "truth": theta.numpy().flatten(),
        "name": name, "known": known,
    }  # fmt: skip


class Quadrature:
    """The posterior of one parameter of the scan, with the image integrated out.

    p(θ | y) ∝ p(θ) N(y; A_θ m, A_θ C A_θᵀ + σ²), in the image's coordinates.
    """

    def __init__(self) -> None:
        self.basis = torch.eye(SIZE**2).reshape(-1, 1, SIZE, SIZE)
        image = torch.fft.fft2(self.basis.double()) * power().double()
        covariance = torch.fft.ifft2(image).real.flatten(1)
        self.precision = torch.linalg.inv(covariance)
        self.mean = prior().mean.flatten().double()

    def log_posterior(self, physics: CT, y: Tensor, a: Tensor, theta: float) -> float:
        """Return log p(θ | y) up to a constant, with A_θ as a matrix [M, D]."""
        factor = torch.linalg.cholesky(self.precision + a.mT @ a / SD**2)
        r = y.flatten().double() - a @ self.mean
        b = torch.linalg.solve_triangular(factor, (a.mT @ r / SD**2)[:, None], upper=False)
        (unknown,) = physics.unknowns
        log_prior = -0.5 * ((theta - unknown.mean) / unknown.sd) ** 2
        fit = -0.5 * r.square().sum() / SD**2 + 0.5 * b.square().sum()
        return float(fit - factor.diagonal().log().sum()) + log_prior

    def moments(self, physics: CT, y: Tensor, centre: float, sd: float) -> tuple[float, float]:
        """Return mean and standard deviation of θ | y, looked for within 6 sd of a centre."""
        grid = np.linspace(centre - 6 * sd, centre + 6 * sd, GRID)
        predict = physics.predictions(self.basis)
        logs = np.array(
            [
                self.log_posterior(physics, y, a.flatten(1).mT.double(), t)
                for t, a in (
                    (t, predict(torch.full((len(self.basis), 1), t))) for t in grid.tolist()
                )
            ]
        )
        p = np.exp(logs - logs.max())
        p /= p.sum()
        mean = float((p * grid).sum())
        return mean, math.sqrt(float((p * (grid - mean) ** 2).sum()))


def held(draws: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of components whose truth has a rank of 1 to 18 among 19 draws."""
    rank = (draws.reshape(DRAWS, -1) < truth.reshape(1, -1)).sum(0)
    return float(((rank > 0) & (rank < DRAWS)).mean())


def drawn(case: str, seeds: Sequence[int], levels: int) -> Iterator[dict[str, Any]]:
    """Yield what each problem of a case shows.

    The scans of MRI are one scanner's: problems k, k + 1, … of one block share a chain, as so small
    a problem costs what the calls cost (a third of the CPU time with five). A problem's place in
    its block is its own, so that its draws do not depend on which others are asked for.
    """
    images = unknowns_mri.prior() if case in MRI else prior()
    images = unknown_gains.prior() if case == "position" else images
    exact = Quadrature() if case in ("scale", "shift") else None
    together = TOGETHER if case in MRI else 1

    def sampler(noise: Any, items: int = 1) -> samplers.DAPS:
        return samplers.DAPS(
            images, levels=levels, micro_batch=DRAWS, noise=noise, item_batch=items
        )

    for _, block in itertools.groupby(seeds, lambda seed: seed // together):
        start, numbers = time.process_time(), list(block)
        problems = [problem(case, seed) for seed in numbers]
        post = sampler("drawn" if case == "noise" else "fixed", together).sample(
            torch.cat([p["y"] for p in problems]), problems[0]["physics"], draws=DRAWS,
            seed=numbers[0] if together == 1 else 0, items=numbers if together > 1 else [0],
        )  # fmt: skip
        shared = (time.process_time() - start) / len(numbers)
        for row, (seed, p) in enumerate(zip(numbers, problems, strict=True)):
            start = time.process_time()
            theta = post[p["name"]].values[:, row].reshape(DRAWS, -1).astype(float)
            physics, y = p["known"]
            known = sampler("fixed").sample(y, physics, draws=DRAWS, seed=seed)
            found, sd = theta.mean(0), theta.std(0, ddof=1)
            out = {
                "case": case, "seed": seed, "levels": levels,
                "unknown": held(theta, p["truth"]),
                "pixels": held(post["image"].values[:, row], p["image"]),
                "known": held(known["image"].values, p["image"]),
                "z": ((found - p["truth"]) / sd).tolist(),
            }  # fmt: skip
            if exact is not None:
                mean, true_sd = exact.moments(p["physics"], p["y"], float(found[0]), float(sd[0]))
                out |= {"mean": float(found[0] - mean) / true_sd, "sd": float(sd[0]) / true_sd}
            yield out | {"cpu": shared + time.process_time() - start}


def row(case: str, found: Sequence[dict[str, Any]]) -> str:
    """Return a line of the table; the ± of intervals is their scatter from problem to problem."""
    n = len(found)
    column = {
        key: np.array([one[key] for one in found])
        for key in ("unknown", "pixels", "known", "z", "cpu")
    }
    each = math.sqrt(0.09 / column["z"].size)  # all values independent, 90 % held
    error = max(each, column["unknown"].std(ddof=1) / math.sqrt(n)) if n > 1 else each
    apart = 100 * (column["pixels"] - column["known"])
    spread = apart.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    parts = [
        f"{100 * column['unknown'].mean():.1f} ± {100 * error:.1f} %",
        f"{100 * column['pixels'].mean():.1f} %",
        f"{100 * column['known'].mean():.1f} %",
        f"{apart.mean():+.1f} ± {spread:.1f}",
        f"{np.sqrt((column['z'] ** 2).mean()):.2f}",
    ]
    if "mean" in found[0]:
        rms = [math.sqrt(np.mean([one[key] ** 2 for one in found])) for key in ("mean", "sd")]
        parts += [f"{rms[0]:.2f}", f"{rms[1]:.2f} ± {1 / math.sqrt(2 * n * (DRAWS - 1)):.2f}"]
    else:
        parts += ["–", "–"]
    return f"| {case} | {n} | " + " | ".join(parts) + f" | {column['cpu'].mean():.1f} s |"


def records(path: Path) -> list[dict[str, Any]]:
    """Return the problems of a file, none where it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Run the problems that the file has not, and print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--cases", nargs="+", default=["noise", "scale", "shift", "rings"])
    parser.add_argument("--out", type=Path, default=OUT, help="file of results, a line a problem")
    parser.add_argument("--show", action="store_true", help="print what the file has, run nothing")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(args.seed, args.seed + args.problems)

    def mine(case: str) -> list[dict[str, Any]]:
        return [
            one for one in records(args.out)
            if (one["case"], one["levels"]) == (case, args.levels) and one["seed"] in seeds
        ]  # fmt: skip

    print(f"{DRAWS} draws, {args.levels} levels, seeds from {args.seed}")
    print(f"right draws: rms 1.09 against the truth, {1 / math.sqrt(DRAWS):.2f} of the mean")
    heads = (
        "unknown", "problems", "90 % interval holds it", "pixels inside 90 %",
        "pixels, unknown told", "difference", "error ÷ posterior sd, rms",
        "error of the mean ÷ exact sd, rms", "sd ÷ exact sd, rms", "CPU time a problem",
    )  # fmt: skip
    print("| " + " | ".join(heads) + " |", flush=True)
    for case in args.cases:
        there = {one["seed"] for one in mine(case)}
        missing = [] if args.show else [seed for seed in seeds if seed not in there]
        for one in drawn(case, missing, args.levels):
            with args.out.open("a") as file:  # a run that is cut goes on from here
                file.write(json.dumps(one) + "\n")
        if found := mine(case):
            print(row(case, found), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
