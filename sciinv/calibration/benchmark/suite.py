"""The calibration benchmark: cases whose right answer is known, small for CI and in full.

gaussian   Gaussian priors × linear operators: mode by mode against the closed form
mixture    random mixtures in 8 dimensions: sliced Wasserstein distance to exact samples
large      64-dimensional mixtures of 25 components under two noisy projections
coils      complex 8 × 8 mixtures of 6 under 2 and 4 coils, a third of the lines
levy       signals of independent increments, six laws × four operators, against Gibbs samples
bipsda     a mixture of 3 in 10 dimensions: inpainting, x-ray counts, phase retrieval
nonlinear  phase retrieval, Poisson counts and closure phases, against tempered references
robust     a thousand nonlinear problems, few draws each: errors and numbers that are not finite
speed      seconds a draw beside the released settings, in turns in one run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from sciinv.calibration.benchmark import bipsda
from sciinv.calibration.benchmark.foreign import default
from sciinv.calibration.benchmark.levy import LAWS, OPERATORS, levy_case
from sciinv.calibration.benchmark.linear import (
    Row,
    coil_matrix,
    gaussian_case,
    mixture_case,
    projections,
    random_mixture,
)
from sciinv.calibration.benchmark.nonlinear import KINDS, nonlinear_case, robust_case
from sciinv.calibration.benchmark.race import mixture_race
from sciinv.priors.gaussian import Gaussian
from sciinv.samplers import DAPS, Particles
from sciinv.samplers.base import Sampler

GROUPS = ("gaussian", "mixture", "large", "coils", "levy", "bipsda", "nonlinear", "robust", "speed")


def samplers_of(draws: int) -> dict[str, Callable[[Any], Sampler]]:
    """Return the samplers that the mixture cases compare, by name."""
    group = min(draws, 1000)
    return {
        "the default": default(draws),
        "particles, 50 levels": lambda p: Particles(p, levels=50, group=group),
        "tweedie DAPS, 50 levels": lambda p: DAPS(
            p, conditional="tweedie", levels=50, micro_batch=group
        ),
        "tweedie DAPS, 50 levels × 4 sweeps": lambda p: DAPS(
            p, conditional="tweedie", levels=50, sweeps=4, micro_batch=group
        ),
        "isotropic DAPS, 50 levels": lambda p: DAPS(
            p, conditional="isotropic", levels=50, micro_batch=group
        ),
        "the paper's loop, exact draws, 200 levels": lambda p: DAPS(
            p, conditional="published", levels=200, sigma_max=100, sigma_min=0.1, micro_batch=group
        ),
    }


def suite(
    full: bool, own: Mapping[str, Callable[[Any], Sampler]] | None = None
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield (group, name, function) of every case; small where not `full`.

    Args:
        full: All cases with 1,000 draws.
        own: Samplers of the user's, by name: the cases with a known answer are then run with these
            alone.
    """
    draws = 1000 if full else 300
    if own:
        yield from _of(own, full, draws)
        return
    makers = samplers_of(draws)

    def exact(prior: Gaussian) -> Sampler:
        return DAPS(prior, levels=10, micro_batch=250)

    for kind, operator, sd, side in _gaussian_grid(full):
        yield (
            "gaussian",
            f"{kind}, {operator}, noise {sd}, D {side * side}",
            partial(gaussian_case, kind, operator, sd, side, draws, exact),
        )
    for sd in (0.05, 0.3):
        for name, make in makers.items():
            if not full and "paper" in name:
                continue
            few = name not in ("the default", "particles, 50 levels", "tweedie DAPS, 50 levels")
            for seed in range((5 if few else 20) if full else 2):
                problem = random_mixture(seed, sd)
                yield (
                    "mixture",
                    f"{name}; β = {sd}; problem {seed}",
                    partial(mixture_case, problem, draws, make),
                )
    # With more angles or less noise one component takes the whole posterior.
    rows = projections(8, np.array([0, 60]))
    for name in ("the default", "particles, 50 levels", "tweedie DAPS, 50 levels"):
        for seed in range((3 if "tweedie" in name else 10) if full else 1):
            problem = random_mixture(seed, 0.5, 25, (1, 8, 8), rows)
            yield (
                "large",
                f"{name}; problem {seed}",
                partial(mixture_case, problem, draws, makers[name]),
            )
    for name in ("the default", "particles, 50 levels"):
        yield from _coils(name, makers[name], full, draws)
    yield from _levy("the default", lambda p: DAPS(p, micro_batch=9), full)
    makers["modes DAPS, 50 levels"] = lambda p: DAPS(
        p, kernel="modes", levels=50, micro_batch=min(draws, 1000)
    )
    for name in ("the default", "modes DAPS, 50 levels", "particles, 50 levels"):
        yield from _bipsda(name, makers[name], full, draws)
    for kind in KINDS:
        for name in ("particles, 50 levels", "tweedie DAPS, 50 levels", "modes DAPS, 50 levels"):
            for seed in range((20 if "particles" in name else 10) if full else 1):
                yield (
                    "nonlinear",
                    f"{kind}; {name}; problem {seed}",
                    partial(nonlinear_case, kind, seed, draws, makers[name]),
                )
    for kind in KINDS:
        for name, problems, make in (
            ("particles, 50 levels, groups of 32", 334, _small_groups),
            ("tweedie DAPS, 20 levels", 50, _short),
        ):
            count = problems if full else 10
            case = partial(robust_case, kind, count, 8, make)
            yield "robust", f"{kind}; {name}; {count} problems", case
    for sd in (0.05, 0.3):
        yield "speed", f"mixtures; β = {sd}", partial(_race, 20 if full else 4, draws, sd)


def _of(
    own: Mapping[str, Callable[[Any], Sampler]], full: bool, draws: int
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield the cases that any sampler can be put to."""
    rows = projections(8, np.array([0, 60]))
    for name, make in own.items():
        for kind, operator, sd, side in _gaussian_grid(full):
            case = partial(gaussian_case, kind, operator, sd, side, draws, make)
            yield "gaussian", f"{name}; {kind}, {operator}, noise {sd}, D {side * side}", case
        for sd in (0.05, 0.3):
            for seed in range(20 if full else 2):
                case = partial(mixture_case, random_mixture(seed, sd), draws, make)
                yield "mixture", f"{name}; β = {sd}; problem {seed}", case
        for seed in range(10 if full else 1):
            problem = random_mixture(seed, 0.5, 25, (1, 8, 8), rows)
            yield "large", f"{name}; problem {seed}", partial(mixture_case, problem, draws, make)
        yield from _coils(name, make, full, draws)
        yield from _levy(name, make, full)
        yield from _bipsda(name, make, full, draws)
        for kind in KINDS:
            for seed in range(20 if full else 1):
                case = partial(nonlinear_case, kind, seed, draws, make)
                yield "nonlinear", f"{kind}; {name}; problem {seed}", case


def _coils(
    name: str, make: Callable[[Any], Sampler], full: bool, draws: int
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield complex mixtures; noise 4 leaves weight on 1.1 to 4.7 of the 6 components."""
    for coils in (2, 4):
        for seed in range(5 if full else 1):
            matrix = coil_matrix(coils, 8, seed)
            problem = random_mixture(seed, 4.0, 6, (2, 8, 8), matrix)
            case = partial(mixture_case, problem, draws, make)
            yield "coils", f"{name}; {coils} coils; problem {seed}", case


def _levy(
    name: str, make: Callable[[Any], Sampler], full: bool
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield the cells; of 1,000 signals the standard error of a coverage of 90 % is one point."""
    for law in LAWS if full else ("Student t, 3 degrees", "Bernoulli–Laplace, 0.1"):
        for kind in OPERATORS if full else ("identity",):
            case = partial(levy_case, law, kind, make, 1000 if full else 4, 9, 2 if full else 1)
            yield "levy", f"{name}; {law}, {kind}", case


def _bipsda(
    name: str, make: Callable[[Any], Sampler], full: bool, draws: int
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield ten truths of each problem, one in small."""
    for kind in bipsda.PROBLEMS:
        for seed in range(10 if full else 1):
            case = partial(bipsda.bipsda_case, kind, seed, draws, make)
            yield "bipsda", f"{kind}; {name}; problem {seed}", case


def _small_groups(prior: Any) -> Sampler:
    return Particles(prior, levels=50, group=32)


def _short(prior: Any) -> Sampler:
    return DAPS(prior, conditional="tweedie", levels=20, micro_batch=8)


def _race(problems: int, draws: int, sd: float) -> Row:
    return {"methods": mixture_race(problems, min(draws, 250), sd)}


def _gaussian_grid(full: bool) -> Iterator[tuple[str, str, float, int]]:
    for kind in ("white", "1/f", "smooth + rough"):
        for operator in ("mask", "fourier", "blur", "ct", "dense"):
            if not full:
                yield kind, operator, 0.1, 8
                continue
            for sd in (0.01, 0.1, 1.0):
                yield kind, operator, sd, 16
            yield kind, operator, 0.1, 32
