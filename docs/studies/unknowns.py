"""Noise and scanner unknown, drawn with the image: does an interval hold as often as it says?

CT, and MRI (cases coils and lines) as `unknowns_mri.py` has it. Truths from a Gaussian prior on 20²
pixels, 24 views in parallel beam, the unknown from its prior
(noise: 0.5–2 times what is declared), 19 draws each. If the draws are right, the truth's rank among
them, 0–19, is 1–18 in 90 % of the problems. The same is counted over the pixels of the image, and
over those of a second run of each problem that is told the unknown's true value.

A hundred problems cannot tell 90 % from 87 % (3 points are one standard error of one unknown). The
posterior of the factor and of the shift is known, by quadrature over it and in closed form over the
image: the draws' mean and standard deviation are compared with that too, problem by problem.

    python docs/studies/unknowns.py --problems 100 --seed 1000 --cases noise scale shift rings
    python docs/studies/unknowns.py --problems 100 --seed 1000 --cases coils lines
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

import numpy as np
import torch
import unknowns_mri
from torch import Tensor

from sciinv import priors, samplers
from sciinv.operators.ct import CT
from sciinv.seeds import Streams

SIZE, VIEWS, ELEMENTS, SD, DRAWS = 20, 24, 36, 0.02, 19
SCALE, SHIFT, RINGS = 0.1, 1.5, 0.02  # prior standard deviations
GRID = 41  # values of an unknown over ± 6 posterior sd
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
    x0 = prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    noise = SD * normal(1, 1, VIEWS, ELEMENTS)
    if case == "noise":
        s = 2.0 ** (2 * float(torch.rand((), generator=g)) - 1)
        physics, theta, y = scan(), torch.tensor([s]), scan().A(x0) + s * noise
        known, name = (scan(s * SD), y), "noise_scale"
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


def study(case: str, seeds: range, levels: int) -> dict[str, Any]:
    """Return the figures of one case."""
    out: dict[str, list[Any]] = {
        key: [] for key in ("unknown", "pixels", "known", "z", "mean", "sd")
    }
    exact = Quadrature() if case in ("scale", "shift") else None
    images = unknowns_mri.prior() if case in MRI else prior()
    start = time.perf_counter()
    for seed in seeds:
        p = problem(case, seed)

        def draws(physics: Any, y: Tensor, noise: Any, seed: int = seed) -> Any:
            sampler = samplers.DAPS(images, levels=levels, micro_batch=DRAWS, noise=noise)
            return sampler.sample(y, physics, draws=DRAWS, seed=seed)

        post = draws(p["physics"], p["y"], "drawn" if case == "noise" else "fixed")
        theta = post[p["name"]].values.reshape(DRAWS, -1).astype(float)
        out["unknown"].append(held(theta, p["truth"]))
        out["pixels"].append(held(post["image"].values, p["image"]))
        known = draws(*p["known"], "fixed")
        out["known"].append(held(known["image"].values, p["image"]))
        found, sd = theta.mean(0), theta.std(0, ddof=1)
        out["z"].append((found - p["truth"]) / sd)
        if exact is not None:
            mean, true_sd = exact.moments(p["physics"], p["y"], float(found[0]), float(sd[0]))
            out["mean"].append((found[0] - mean) / true_sd)
            out["sd"].append(sd[0] / true_sd)
        if len(out["z"]) > 1:  # what a run that is cut has shown
            so_far = {key: np.array(value) for key, value in out.items()}
            print(row(case, so_far, time.perf_counter() - start), file=sys.stderr, flush=True)
    return {key: np.array(value) for key, value in out.items()}


def row(case: str, found: dict[str, Any], seconds: float) -> str:
    """Return a line of the table."""
    n = len(found["unknown"])
    error = 100 * math.sqrt(0.09 / found["z"].size)
    apart = 100 * (found["pixels"] - found["known"])
    parts = [
        f"{100 * found['unknown'].mean():.1f} ± {error:.1f} %",
        f"{100 * found['pixels'].mean():.1f} %",
        f"{100 * found['known'].mean():.1f} %",
        f"{apart.mean():+.1f} ± {apart.std(ddof=1) / math.sqrt(n):.1f}",
        f"{np.sqrt((found['z'] ** 2).mean()):.2f}",
    ]
    if len(found["mean"]):
        rms = [math.sqrt((found[key] ** 2).mean()) for key in ("mean", "sd")]
        parts += [f"{rms[0]:.2f}", f"{rms[1]:.2f} ± {1 / math.sqrt(2 * n * (DRAWS - 1)):.2f}"]
    else:
        parts += ["–", "–"]
    return f"| {case} | {n} | " + " | ".join(parts) + f" | {seconds / n:.1f} s |"


def main() -> None:
    """Run the cases and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--cases", nargs="+", default=["noise", "scale", "shift", "rings"])
    args = parser.parse_args()
    print(f"{DRAWS} draws, {args.levels} levels, seeds from {args.seed}")
    print(f"right draws: rms 1.09 against the truth, {1 / math.sqrt(DRAWS):.2f} of the mean")
    heads = (
        "unknown", "problems", "90 % interval holds it", "pixels inside 90 %",
        "pixels, unknown told", "difference", "error ÷ posterior sd, rms",
        "error of the mean ÷ exact sd, rms", "sd ÷ exact sd, rms", "a problem",
    )  # fmt: skip
    print("| " + " | ".join(heads) + " |")
    for case in args.cases:
        start = time.perf_counter()
        seeds = range(args.seed, args.seed + args.problems)
        found = study(case, seeds, args.levels)
        print(row(case, found, time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
