"""Why ring diameters miss by more than their interval: estimator, prior, or sampler?

    python docs/studies/ring_causes.py estimator | data | widths | own [COUNT] | start NUMBER …

SIMULATED, for the sources and draws of `ring_errors.py`. `estimator`: the diameter is what one
function returns of truth and draws. Were it another quantity of a sharp truth than of a draw, it
would change when the truth is passed through the prior's denoiser, D(x + σn, σ), at low σ; and a
draw's when it is. `widths`: rings of the family (seeds apart from the scored ones) are noised and
denoised, and the error x0 − D along some directions g is compared with what the fitted widths of
p(x0 | x_t) make of it, gᵀC g at κ = 1: the sum of all pixels, the image's answer to a dilation by
2 % (of sum 0), and waves of 128 to 16 µas. `own`: truths that are draws of the prior itself and
show a ring, observed and sampled as the others: what is wrong there is the sampler's, as such a
truth is of its prior. `data`: the truth dilated by ± 2 %, against the data: the scale where it fits
best, and by how much the data tell it where the shape is known. `start`: chains that begin at the
truth with noise of 2 u, as if the levels above had found it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import ring_errors as rings
import torch
from compare_sources import FIELD, PRIOR, SIZE, operator
from scipy.ndimage import affine_transform
from torch import Tensor

from sciinv import likelihoods, priors, samplers
from sciinv.priors.draws import prior_draws
from sciinv.priors.phantoms import blackholes
from sciinv.problem import Problem
from sciinv.quantities.ringfit import ring_parameters
from sciinv.samplers.daps import State
from sciinv.seeds import Streams

PIXEL = FIELD / SIZE
SEED, COUNT, OWN = 16, 24, 8
START = 2.0  # u
UNIT = blackholes.SCALE  # Jy/pixel of one u


def _diameters(images: np.ndarray) -> np.ndarray:
    return ring_parameters(images, PIXEL).diameter


def estimator() -> None:
    """Print diameters of truths and draws as they are, and denoised."""
    prior = priors.load(PRIOR)
    generator = torch.Generator().manual_seed(SEED)

    def denoised(images: np.ndarray, sigma: float) -> np.ndarray:
        x = torch.as_tensor(images, dtype=torch.float32)[:, None]
        noise = sigma * torch.randn(x.shape, generator=generator)
        with torch.no_grad():
            return prior(x + noise, sigma)[:, 0].double().numpy()

    times = (1, 5, 20)
    each = " | ".join(f"truth, D at σ = {k * prior.sigma_min / UNIT:.2f} u" for k in times)
    print(f"| source | truth | {each} | draws | change of a draw by D at σ_min |")
    changes: list[np.ndarray] = []
    for path in sorted(rings.OUT.glob("??.npz")):
        stack = np.load(path)
        truth, draws = stack["truth"], stack["draws"].astype("f8")
        if not np.isfinite(seen := float(_diameters(truth))):
            continue
        again = [_diameters(denoised(np.stack([truth] * 4), k * prior.sigma_min)) for k in times]
        before, after = _diameters(draws), _diameters(denoised(draws, prior.sigma_min))
        changes.append(np.array([np.nanmean(one) - seen for one in again]))
        print(f"| {path.stem} | {seen:.2f} | "
              + " | ".join(f"{np.nanmean(one):.2f}" for one in again)
              + f" | {np.nanmedian(before):.2f} | {np.nanmean(after - before):+.2f} |")  # fmt: skip
    mean, rms = np.mean(changes, 0), np.sqrt(np.square(changes).mean(0))
    print("change of the truth's diameter, µas, mean (rms): "
          + ", ".join(f"{m:+.2f} ({r:.2f})" for m, r in zip(mean, rms, strict=True)))  # fmt: skip


def _dilated(image: np.ndarray, factor: float, order: int = 1) -> np.ndarray:
    middle = (SIZE - 1) / 2
    offset = middle - middle / factor
    return affine_transform(image, np.eye(2) / factor, offset=offset, order=order) / factor**2


def directions(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield directions g by name, each [N, 64, 64]."""
    yield "sum", np.ones_like(images)
    moved = np.stack([_dilated(x, 1.01) - _dilated(x, 0.99) for x in images])
    yield "dilation", moved - moved.mean((1, 2), keepdims=True)
    column = np.arange(SIZE) + 0.5
    for cycles in (1, 2, 3, 5, 8):
        wave = np.cos(2 * np.pi * cycles * column / SIZE)
        yield f"{FIELD / cycles:.0f} µas", np.broadcast_to(wave, images.shape)


def widths() -> None:
    """Print mean (gᵀe)² ÷ mean gᵀC g of the denoiser's error e, level by level."""
    prior = priors.load(PRIOR)
    generator = torch.Generator().manual_seed(SEED)
    draws = [
        blackholes.generate_kind(("ring", "crescent")[k % 2], np.random.default_rng([SEED, k]))[0]
        for k in range(COUNT)
    ]
    images = np.stack(draws).astype("f8") * UNIT
    x0 = torch.as_tensor(images, dtype=torch.float32)[:, None]
    along = {
        name: torch.as_tensor(g.copy(), dtype=torch.float32)[:, None]
        for name, g in directions(images)
    }
    print(f"{COUNT} rings and crescents, one noise each; κ = 1\n| σ, u | pixels | "
          + " | ".join(along) + " | rms error of the sum | as modelled |")  # fmt: skip
    for sigma in np.geomspace(30, 0.01, 13) * UNIT:
        with torch.no_grad():
            x_hat = prior(x0 + sigma * torch.randn(x0.shape, generator=generator), sigma)
            c = prior.local_covariance(x_hat, float(sigma), 1.0)
        error = x0 - x_hat
        assert hasattr(c, "sd")
        pixels = float(error.square().sum() / c.sd.square().sum())
        found = {name: _ratio(g, error, c) for name, g in along.items()}
        ratios = " | ".join(f"{a / b:.2f}" for a, b in found.values())
        told, modelled = (value**0.5 for value in found["sum"])
        print(f"| {sigma / UNIT:.3g} | {pixels:.2f} | {ratios} | {told:.3f} | {modelled:.3f} |")


def _ratio(g: Tensor, error: Tensor, c: Any) -> tuple[float, float]:
    """Return the means of (gᵀe)² and gᵀC g."""
    found = (g * error).flatten(1).double().sum(1).square().mean()
    return float(found), float((g * c(g)).flatten(1).double().sum(1).mean())


def own(count: int = OWN) -> None:
    """Do so many rings among the prior's own draws, and print their table."""
    images = prior_draws(priors.load(PRIOR), 4 * count, (1, SIZE, SIZE), seed=SEED)
    truths = images[:, 0].double().numpy()
    numbers = np.flatnonzero(np.isfinite(_diameters(truths)))[:count]
    for number in numbers.tolist():
        rings.observe_and_draw(truths[number], number, rings.OUT / "own")
    rings.show(rings.OUT / "own", numbers.tolist())


def data() -> None:
    """Print where each truth, dilated, fits its data best, and the standard error of that."""
    print("| source | diameter, µas | χ² of the truth ÷ data | best scale − 1, % | µas |")
    for path in sorted(rings.OUT.glob("??.npz")):
        truth = np.load(path)["truth"]
        if not np.isfinite(seen := float(_diameters(truth))):
            continue
        physics, y = operator(path.with_suffix(".uvfits"), "amplitudes")
        factors = np.array([0.98, 0.99, 1.0, 1.01, 1.02])
        some = np.stack([_dilated(truth, f, order=3) for f in factors])
        x = torch.as_tensor(some * (truth.sum() / some.sum((1, 2)))[:, None, None]).float()
        likelihood = likelihoods.of(physics)
        with torch.no_grad():
            chi2 = likelihood.chi2(physics.A(x[:, None]), y.expand(5, *y.shape[1:])).numpy()
        bend, slope, _ = np.polyfit(factors - 1, chi2 * y.numel(), 2)
        best, error = -slope / (2 * bend), bend**-0.5
        percent = f"{100 * best:+.2f} ± {100 * error:.2f}"
        print(f"| {path.stem} | {seen:.1f} | {chi2[2]:.2f} | {percent} | "
              f"{seen * best:+.2f} ± {seen * error:.2f} |")  # fmt: skip


class FromTruth(samplers.DAPS):
    """The default from a known image and a noise level on."""

    def __init__(self, truth: np.ndarray, sigma: float) -> None:
        super().__init__(priors.load(PRIOR), noise="drawn", micro_batch=rings.DRAWS)
        self.sigmas = self.sigmas[self.sigmas <= sigma]
        self.truth = torch.as_tensor(truth, dtype=torch.float32)

    def start(self, problem: Problem, streams: Streams, like: Tensor) -> State:
        """Return the image with noise of the first level."""
        state = super().start(problem, streams, like)
        state.x_t = state.x_t + self.truth
        return state


def start(*numbers: str) -> None:
    """Print the table of sources whose chains begin at the truth."""
    for number in map(int, numbers):
        sampler = FromTruth(rings.source(number), START * UNIT)
        rings.observe_and_draw(rings.source(number), number, rings.OUT / "start", sampler)
    rings.show(rings.OUT / "start", map(int, numbers))


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, *words = sys.argv[1:]
    if command == "own":
        own(*map(int, words))
    else:
        {"estimator": estimator, "widths": widths, "data": data, "start": start}[command](*words)
