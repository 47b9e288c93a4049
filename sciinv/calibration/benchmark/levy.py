"""Lévy signals: 64 samples whose increments are independent, from Gaussian to Cauchy and sparse.

x_k = x_{k−1} + u_k, x_0 = u_0; six laws of u under four linear operators, 24 cells. The truths are
drawn from the prior, so that coverage of right draws is the level, whatever the law.

The settings were chosen before any sampler was run: laws of scale 1; noise of 1 for the identity,
of 0.1 for the others. Imputation keeps the first and the last sample: behind the last one kept a
Cauchy law has no mean that a distance could be compared by.

Source of the benchmark: Zach, Haouchat & Unser, "A statistical benchmark for diffusion posterior
sampling algorithms", ICLR 2026 (arXiv 2509.12821); operators and constants here are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import likelihoods, metrics
from sciinv.calibration.benchmark.linear import Matrix, Row
from sciinv.calibration.diagnostics import sliced_wasserstein
from sciinv.calibration.figures import LEVELS
from sciinv.errors import SciinvError
from sciinv.priors.scales import gibbs
from sciinv.priors.scales.laws import BernoulliLaplace, Laplace, Law, Normal, StudentT
from sciinv.priors.scales.prior import ScaleMixture
from sciinv.problem import Problem
from sciinv.samplers import DAPS
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams

SAMPLES = 64
SHAPE = (1, 1, SAMPLES)
LAWS: dict[str, Callable[[], Law]] = {
    "Gaussian": Normal,
    "Laplace": Laplace,
    "Student t, 3 degrees": lambda: StudentT(3),
    "Student t, 2 degrees": lambda: StudentT(2),
    "Student t, 1 degree": lambda: StudentT(1),
    "Bernoulli–Laplace, 0.1": lambda: BernoulliLaplace(0.1),
}
OPERATORS = ("identity", "deconvolution", "imputation", "Fourier")
_BURN = 300  # sweeps of the reference before its draws are taken
_BURN_SPARSE = 100  # where u is integrated out: no trend was seen from the 20th to the 300th
_TOGETHER = 100  # signals whose chains are lanes of one


@dataclass(frozen=True)
class Cell:
    """A law under an operator.

    Attributes:
        prior: Of the signals.
        matrix: A, [M, 64].
        sd: Noise standard deviation.
    """

    prior: ScaleMixture
    matrix: Tensor
    sd: float

    @property
    def physics(self) -> Matrix:
        """The operator with its noise."""
        return Matrix(self.matrix, SHAPE, self.sd)

    def signals(self, count: int) -> tuple[Tensor, Tensor]:
        """Return truths [count, 64] and their data [count, M], signal k from the stream k."""
        streams = Streams([("levy", k) for k in range(count)])
        like = torch.zeros(1, dtype=torch.float64)
        x0 = self.prior.sample(streams, like).flatten(1)
        noise = streams.randn((len(self.matrix),), like)
        return x0, x0 @ self.matrix.mT + self.sd * noise


def operator(kind: str) -> Tensor:
    """Return A [M, 64]: identity; blur of sd 2 samples; 40 % of the samples; half the spectrum."""
    eye = torch.eye(SAMPLES, dtype=torch.float64)
    if kind == "identity":
        return eye
    if kind == "deconvolution":  # the signal is 0 outside
        k = torch.arange(SAMPLES, dtype=torch.float64)
        kernel = torch.exp(-0.5 * ((k[:, None] - k) / 2) ** 2)
        return (
            kernel * ((k[:, None] - k).abs() <= 6) / torch.exp(-0.5 * (k[:13] - 6) ** 2 / 4).sum()
        )
    g = torch.Generator().manual_seed(0)
    if kind == "imputation":
        inner = torch.randperm(SAMPLES - 2, generator=g)[:24] + 1
        return eye[torch.cat([inner, torch.tensor([0, SAMPLES - 1])]).sort().values]
    z = torch.fft.rfft(eye, norm="ortho")  # [64, 33], symmetric: the rows of a real signal's DFT
    keep = torch.cat([torch.tensor([0]), torch.randperm(31, generator=g)[:15] + 1])
    return torch.cat([z[:, keep].real.mT, z[:, keep[1:]].imag.mT])


@cache
def cell(law: str, kind: str) -> Cell:
    """Return the cell of this law and operator."""
    walk = torch.ones(SAMPLES, SAMPLES, dtype=torch.float64).tril()
    prior = ScaleMixture(walk, LAWS[law](), SHAPE)
    return Cell(prior, operator(kind), 1.0 if kind == "identity" else 0.1)


def reference(c: Cell, y: Tensor, draws: int, seed: int = 0) -> Tensor:
    """Return samples of p(x0 | y) by Gibbs sweeps without any x_t, one chain each, [draws, 64]."""
    streams = Streams([(seed, "levy reference", k) for k in range(draws)], stock=True)
    s, law = c.prior.synthesis, c.prior.law
    rows = c.matrix @ s / c.sd
    gram, pull = rows.mT @ rows, ((y / c.sd) @ rows).expand(draws, -1)
    state = gibbs.start(law, streams, SAMPLES, pull)
    for _ in range(_BURN if law.present >= 1 else _BURN_SPARSE):
        state = gibbs.sweep(state, law, gram, pull, streams)
    return state.u @ s.mT


def log_posterior(c: Cell, x: Tensor, y: Tensor) -> Tensor:
    """Return log p(x | y) up to a constant, [n], x [n, 64]."""
    misfit = ((y - x @ c.matrix.mT) / c.sd).square().sum(-1)
    return c.prior.log_density(x.reshape(-1, *SHAPE)) - 0.5 * misfit


def levy_case(
    law: str,
    kind: str,
    make: Callable[[Any], Sampler],
    signals: int,
    draws: int = 9,
    compared: int = 2,
    seed: int = 0,
) -> Row:
    """Return coverage over many signals, and the distance to the reference on a few of them.

    Args:
        law: Of `LAWS`.
        kind: Of `OPERATORS`.
        make: The sampler, from a prior.
        signals: Truths.
        draws: Draws of each; the ranks of 9 divide evenly at 50, 80 and 90 %.
        compared: Signals with 192 draws beside the reference's.
        seed: Of the draws.

    Returns:
        See `summary`.
    """
    found = levy_part(law, kind, make, range(signals), draws, seed)
    return summary([found, levy_distance(law, kind, make, compared, seed)])


def levy_part(
    law: str, kind: str, make: Callable[[Any], Sampler], signals: range, draws: int = 9,
    seed: int = 0,
) -> Row:  # fmt: skip
    """Return figures of each of some signals, numbers of JSON: parts of a cell add up.

    Returns:
        "ranks": share of the draws whose log density is above the truth's; "coverage"; "crps";
        "error" and "spread": mean over the samples of the squared error of the mean and of the
        variance; "nfe"; each a list over the signals that did not end in an error, of which
        "failures" is the number. "seconds": CPU of all.
    """
    c = cell(law, kind)
    truths, data = (part[signals.start :] for part in c.signals(signals.stop))
    lists = ("ranks", "coverage", "crps", "error", "spread", "nfe")
    row: Row = {name: [] for name in lists}
    row |= {"law": law, "operator": kind, "first": signals.start, "draws": draws, "failures": 0}
    start = time.process_time()
    for k, (x, calls) in enumerate(_each(c, data, make, draws, seed + signals.start)):
        if x is None:
            row["failures"] += 1
            continue
        truth, number = truths[k].numpy(), signals.start + k
        log_p = log_posterior(c, torch.cat([truths[k : k + 1], x]), data[k])
        higher = float((log_p[1:] > log_p[0]).sum())
        ties = np.random.default_rng((seed, number)).random()
        covered = metrics.coverage(x.numpy(), truth, LEVELS, seed=number)
        row["ranks"].append((higher + ties) / (draws + 1))
        row["coverage"].append([float(v) for v in covered])
        row["crps"].append(float(metrics.crps_ensemble(x.numpy(), truth).mean()))
        row["error"].append(float((x.mean(0) - truths[k]).square().mean()))
        row["spread"].append(float(x.var(0).mean()))
        row["nfe"].append(calls)
    return row | {"seconds": time.process_time() - start}


def levy_distance(
    law: str, kind: str, make: Callable[[Any], Sampler], compared: int = 2, seed: int = 0
) -> Row:
    """Return the mean distance to the reference's draws, "distance", and its "floor"."""
    c = cell(law, kind)
    _, data = c.signals(compared)
    pairs = [_compared(c, y, make, seed + k) for k, y in enumerate(data)]
    distance, floor = np.mean(pairs, 0)
    return {"law": law, "operator": kind, "distance": float(distance), "floor": float(floor)}


def summary(parts: Sequence[Row]) -> Row:
    """Return the figures of one cell from parts of it, `levy_part` and `levy_distance`.

    Returns:
        "hpd": share of truths within the smallest region of 50, 80 and 90 % of p(x0 | y), by the
        rank of their log density among the draws'; "coverage": sample by sample; "crps" and
        "spread_skill", of medians, as a Cauchy law has no mean of errors; "distance" and "floor";
        "seconds" of CPU a draw; "failures": signals that ended in an error.
    """
    of_signals = [p for p in parts if "ranks" in p]
    draws = of_signals[0]["draws"]

    def every(name: str) -> Any:
        return np.concatenate([np.asarray(p[name], float) for p in of_signals])

    ranks, failures = every("ranks"), sum(p["failures"] for p in of_signals)
    signals = len(ranks) + failures
    spread = (1 + 1 / draws) * np.median(every("spread"))
    apart = next(p for p in parts if "distance" in p)
    return {
        "law": apart["law"],
        "operator": apart["operator"],
        "signals": signals,
        "draws": draws,
        "hpd": [float(np.mean(ranks <= level)) for level in LEVELS],
        "coverage": [float(v) for v in every("coverage").mean(0)],
        "crps": float(np.median(crps)) if len(crps := every("crps")) else float("nan"),
        "spread_skill": float(np.sqrt(spread / np.median(every("error")))),
        "distance": apart["distance"],
        "floor": apart["floor"],
        "nfe": float(every("nfe").mean()),
        "seconds": sum(p["seconds"] for p in of_signals) / (signals * draws),
        "failures": failures,
    }


def _each(
    c: Cell, data: Tensor, make: Callable[[Any], Sampler], draws: int, seed: int
) -> Iterator[tuple[Tensor | None, float]]:
    """Yield the draws [draws, 64] of each signal and the calls they took; None after an error.

    The chains of a hundred signals are lanes of one where that is DAPS: the
    streams, and so the draws to rounding, are those of one signal at a time, and a sparse
    coefficient is drawn for all lanes at once.
    """
    for first in range(0, len(data), _TOGETHER):
        part = data[first : first + _TOGETHER]
        seeds = range(seed + first, seed + first + len(part))
        sampler = make(c.prior)
        if isinstance(sampler, DAPS) and not sampler.retries:  # its lanes know nothing of others
            try:
                yield from _together(c, part, sampler, draws, seeds)
                continue
            except SciinvError:
                pass  # one of them fails: each alone says which
        for y, own in zip(part, seeds, strict=True):
            try:
                post = make(c.prior).sample(y[None], c.physics, draws=draws, seed=own)
            except SciinvError:
                yield None, 0.0
                continue
            x = torch.as_tensor(post["image"].values).double().reshape(draws, SAMPLES)
            yield x, float(post["nfe"].mean())


@torch.no_grad()
def _together(
    c: Cell, data: Tensor, sampler: Sampler, draws: int, seeds: Sequence[int]
) -> list[tuple[Tensor, float]]:
    """Return the draws of each signal, `draws` lanes of one chain."""
    like = torch.zeros(len(data) * draws, *SHAPE, dtype=data.dtype)
    problem = Problem.of(data[:1], c.physics, likelihoods.of(c.physics), like)
    problem = problem.with_data(data.repeat_interleave(draws, 0))
    # The keys that `Sampler.sample` gives the draws of one item.
    streams = Streams([(s, 0, d) for s in seeds for d in range(draws)], stock=True)
    x, stats = sampler.chain(problem, streams, like, lambda level: None)
    nfe = torch.as_tensor(stats["nfe"]).double().mean()
    return [(part, float(nfe)) for part in x.double().reshape(-1, draws, SAMPLES)]


def _compared(c: Cell, y: Tensor, make: Callable[[Any], Sampler], seed: int) -> tuple[float, float]:
    """Return the distance of 192 draws to as many of the reference, and of two such sets."""
    n = 192
    both = _references(c, tuple(y.tolist()), n)
    chunks = []
    for k in range(n // 64):
        post = make(c.prior).sample(y[None], c.physics, draws=64, seed=10_000 + 100 * seed + k)
        chunks.append(torch.as_tensor(post["image"].values).double().reshape(-1, SAMPLES))
    return sliced_wasserstein(torch.cat(chunks), both[:n]), sliced_wasserstein(both[n:], both[:n])


@cache
def _references(c: Cell, y: tuple[float, ...], n: int) -> Tensor:
    return reference(c, torch.tensor(y, dtype=torch.float64), 2 * n)
