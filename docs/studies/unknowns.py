"""Noise and scanner unknown, drawn with the image: does an interval hold as often as it says?

Truths from a Gaussian prior on 20² pixels, 24 views in parallel beam, the unknown from its prior
(noise: 0.5–2 times what is declared; shift: the prior cut at ± 3 elements), 19 draws each. If the
draws are right, the truth's rank among them, 0–19, is 1–18 in 90 % of the problems. The same is
counted over the pixels of the image.

    python docs/studies/unknowns.py --problems 100 --cases noise scale shift rings
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch

from sciinv import priors, samplers
from sciinv.operators.ct import CT
from sciinv.seeds import Streams

SIZE, VIEWS, ELEMENTS, SD, DRAWS = 20, 24, 36, 0.02, 19


def prior() -> priors.Gaussian:
    """Return smooth attenuation that falls to its rough part at the border."""
    f = torch.fft.fftfreq(SIZE)
    power = 1 / (1 + (f[:, None] ** 2 + f[None] ** 2) / 0.06**2) ** 2
    window = torch.hann_window(SIZE, periodic=False)
    mean = 0.04 * (window[:, None] * window[None])[None]
    return priors.Gaussian(mean, power_spectrum=4e-5 * power / power.mean())


def scan(**more: Any) -> CT:
    """Return the scan."""
    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    return CT(angles, SIZE, 1.0, ELEMENTS, 1.0, noise_sd=SD, **more)


def problem(case: str, seed: int) -> tuple[CT, torch.Tensor, np.ndarray, np.ndarray, str]:
    """Return operator, data, the true image, the truth of the unknown and its variable."""
    g = torch.Generator().manual_seed(seed)
    x0 = prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    noise, shape = SD * normal(1, 1, VIEWS, ELEMENTS), (1, 1)
    if case == "noise":
        s = 2.0 ** (2 * torch.rand((), generator=g) - 1)
        return scan(), scan().A(x0) + s * noise, x0.numpy(), np.array([float(s)]), "noise_scale"
    if case == "scale":
        physics = scan(unknowns={"attenuation_scale": 0.1})
        theta = 1 + 0.1 * normal(*shape)
        name = "attenuation_scale"
    elif case == "shift":
        physics = scan(unknowns={"detector_shift": 2.0})
        theta, name = 2.0 * normal(*shape).clamp(-1.5, 1.5), "detector_shift"
    else:
        physics = scan(unknowns={"element_offset": 0.02})
        rings = 0.02 * normal(ELEMENTS)
        y = scan().A(x0) + rings + noise
        return physics, y, x0.numpy(), rings.numpy(), "element_offset"
    return physics, physics.at(theta).A(x0) + noise, x0.numpy(), theta.numpy()[0], name


def held(draws: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of components whose truth has a rank of 1 to 18 among 19 draws."""
    rank = (draws.reshape(DRAWS, -1) < truth.reshape(1, -1)).sum(0)
    return float(((rank > 0) & (rank < DRAWS)).mean())


def main() -> None:
    """Run the cases and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--cases", nargs="+", default=["noise", "scale", "shift", "rings"])
    args = parser.parse_args()
    print(f"{args.problems} problems, {DRAWS} draws, {args.levels} levels")
    for case in args.cases:
        unknown, pixels, errors, start = [], [], [], time.perf_counter()
        for seed in range(args.problems):
            physics, y, x0, truth, name = problem(case, seed)
            noise = "drawn" if case == "noise" else "fixed"
            sampler = samplers.DAPS(prior(), levels=args.levels, micro_batch=DRAWS, noise=noise)
            post = sampler.sample(y, physics, draws=DRAWS, seed=seed)
            draws = post[name].values.reshape(DRAWS, -1)
            unknown.append(held(draws, truth))
            pixels.append(held(post["image"].values, x0))
            errors.append((draws.mean(0) - truth) / draws.std(0, ddof=1))
        z = np.concatenate(errors)
        n = len(z)
        print(
            f"{case}: 90 % interval holds the unknown {100 * np.mean(unknown):.1f} % "
            f"(± {100 * math.sqrt(0.09 / n):.1f}), pixels {100 * np.mean(pixels):.1f} %; "
            f"error ÷ posterior sd: mean {z.mean():+.2f}, rms {np.sqrt((z**2).mean()):.2f}; "
            f"{(time.perf_counter() - start) / args.problems:.1f} s a problem",
            flush=True,
        )


if __name__ == "__main__":
    main()
