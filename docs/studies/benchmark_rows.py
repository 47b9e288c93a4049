"""The default sampler against known posteriors: `python docs/studies/benchmark_rows.py ROWS`.

mixtures                        6 in 8 dimensions, 20 problems, two noises
large                           25 in 64 dimensions
floor                           mixtures with 2,000 draws and ten pairs of exact sets a problem:
                                is a ratio above 1 a bias or chance?
large-floor                     the same of 25 in 64 dimensions, ten problems: the default and
                                `Particles` in groups of a thousand (a quarter of an hour and more)
coils --side 16 --draws 2000    complex mixtures of 6 under 2 and 4 coils
phase --draws 1000              BIPSDA's phase retrieval: weights of the components
levy --signals 1000 --out FILE  24 cells; FILE has a line for each part that is done, and a
                                second start goes on from there
levy --laws "Laplace" …         of some laws alone
levy --show FILE                the table of what is done
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sciinv import likelihoods
from sciinv.calibration import sliced_wasserstein
from sciinv.calibration.benchmark import bipsda, levy
from sciinv.calibration.benchmark.linear import (
    Matrix,
    coil_matrix,
    mixture_case,
    projections,
    random_mixture,
)
from sciinv.kernels import modes
from sciinv.problem import Problem
from sciinv.samplers import DAPS, Particles
from sciinv.seeds import Streams

PART = 200  # Lévy signals of a cell between two lines of the file


def default(prior):
    """Return `samplers.DAPS(prior)` with a micro-batch of 500 draws."""
    return DAPS(prior, micro_batch=500)


def drawn(problem, draws, seed=0, build=default):
    """Return draws of a sampler, the default if none is named, [draws, D]."""
    physics = Matrix(problem.matrix, problem.shape, problem.sd)
    post = build(problem.prior).sample(problem.y[None], physics, draws=draws, seed=seed)
    return torch.as_tensor(post["image"].values).double().reshape(draws, -1)


def strays(problem, draws):
    """Return the share of draws nearest in density to a component of weight < 1e-4."""
    x = drawn(problem, draws).reshape(draws, *problem.shape)
    own = problem.prior._components(x, 0.0)[0].argmax(1)
    return float((problem.weights()[own] < 1e-4).double().mean())


def shown(name, problems, draws=500):
    """Print the mean figures of some problems."""
    start = time.process_time()
    rows = [mixture_case(p, draws, default) for p in problems]
    seconds = (time.process_time() - start) / (draws * len(problems))
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    away = max(strays(p, draws) for p in problems)
    print(f"| {name} | {len(rows)} | {mean['nfe']:.0f} | {mean['distance']:.3f} | "
          f"{mean['floor']:.3f} | {mean['distance'] / mean['floor']:.2f} | "
          f"{mean['sd_ratio']:.2f} | {mean['mode_error']:.3f} ({mean['mode_floor']:.3f}) | "
          f"{away:.4f} | {1e3 * seconds:.1f} |", flush=True)  # fmt: skip


def coils(side, draws, problems):
    """Print the components' weights against the known ones: complex mixtures under coils.

    The noise leaves weight on more than one component, 4 at 8 × 8 and as much more as there are
    more data; at 1 a single one has it all.
    """
    sd = side / 2
    for n in (2, 4):
        for seed in range(problems):
            p = random_mixture(seed, sd, 6, (2, side, side), coil_matrix(n, side, seed=seed))
            w = p.weights()
            start = time.process_time()
            x = drawn(p, draws)
            each = 1e3 * (time.process_time() - start) / draws
            own = p.prior._components(x.reshape(-1, *p.shape), 0.0)[0].argmax(1)
            away = float((w[own] < 1e-4).double().mean())
            one, two = p.exact(draws, 1), p.exact(draws, 2)
            distance, floor = sliced_wasserstein(x, one), sliced_wasserstein(two, one)
            print(f"| {side} × {side}, {n} coils, noise {sd:g} | {seed} "
                  f"| {' / '.join(f'{100 * v:.1f}' for v in w)} | {100 * p.mode_error(x):.2f} "
                  f"({100 * p.mode_error(one):.2f}, {100 * p.mode_error(two):.2f}) "
                  f"| {distance:.3f} | {floor:.3f} | {away:.4f} | {each:.1f} |",
                  flush=True)  # fmt: skip


def large():
    """Return ten mixtures of 25 in 64 dimensions, seen by projections 60° apart."""
    a = projections(8, np.array([0, 60]))
    return [random_mixture(s, 0.5, 25, (1, 8, 8), a) for s in range(10)]


def against_floor(name, problems, build=default, draws=2000, sets=5):
    """Print the mean ratio of distance and floor over some mixtures, with its standard error."""
    ratios = []
    for seed, problem in enumerate(problems):
        x = drawn(problem, draws, seed, build)
        exact = [problem.exact(draws, 100 + k) for k in range(sets)]
        pairs = [sliced_wasserstein(a, b) for a, b in itertools.combinations(exact, 2)]
        ratios.append(np.mean([sliced_wasserstein(x, e) for e in exact]) / np.mean(pairs))
    error = np.std(ratios, ddof=1) / len(ratios) ** 0.5
    print(f"{name}: distance ÷ floor {np.mean(ratios):.3f} ± {error:.3f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f}", flush=True)  # fmt: skip


def phase(draws, problems, population=20_000):
    """Print the components' weights in BIPSDA's phase retrieval, by all that can tell them.

    Importance sampling from the mixture of modes is exact up to an error that it knows, with any
    modes: `kernels.modes` keeps a share of the prior in it.
    """
    print("| problem | by | weights, % | effective draws |\n|---|---|---|---|")
    for seed in range(problems):
        prior, physics, y, _ = bipsda.problem("phase retrieval", seed)
        like = torch.zeros(1, *prior.shape, dtype=torch.float64)
        seen = Problem.of(y, physics, likelihoods.of(physics), like)
        given = prior.components(like, 1.0)
        q = modes.found(given, seen, like)
        x = q.draw(torch.zeros(population, 10).double(), 1e9, Streams.of_seed(seed, population))
        images = x.reshape(-1, *prior.shape)
        log_w = prior.log_density(images) - seen.nll(images) - q.log_density(x).logsumexp(1)
        w = torch.softmax(log_w, 0)

        def row(by, x, w, seed=seed, prior=prior):
            share = w @ prior._components(x.double().reshape(-1, *prior.shape), 0.0)[0]
            told = " / ".join(f"{100 * v:.1f}" for v in share)
            print(f"| {seed} | {by} | {told} | {1 / float(w.square().sum()):.0f} |", flush=True)

        row("importance sampling", x, w)
        even = torch.full((draws,), 1 / draws, dtype=torch.float64)
        for k, found in enumerate(bipsda.references("phase retrieval", seed, draws)):
            row(f"tempered reference, run {k + 1}", found, even)
        for name in ("modes", "auto"):
            post = DAPS(prior, kernel=name, levels=50, micro_batch=500).sample(
                y, physics, draws=draws, seed=seed
            )
            row(f'DAPS(prior, kernel="{name}")', torch.as_tensor(post["image"].values), even)


def parts_in(path):
    """Return the parts of the Lévy cells that a file has, by law and operator."""
    found = {(law, kind): [] for law in levy.LAWS for kind in levy.OPERATORS}
    for line in path.read_text().splitlines() if path.is_file() else []:
        row = json.loads(line)
        found[row["law"], row["operator"]].append(row)
    return found


def levy_parts(path, signals, laws=tuple(levy.LAWS)):
    """Compute what the file lacks, all cells to as many signals before any goes on."""

    def make(prior):
        return DAPS(prior, micro_batch=9)

    def keep(row):
        with path.open("a") as file:
            print(json.dumps(row, ensure_ascii=False), file=file)

    for first in range(0, signals, PART):
        for (law, kind), parts in parts_in(path).items():
            if law not in laws:
                continue
            if not any(p.get("first") == first for p in parts):
                part = range(first, min(first + PART, signals))
                keep(levy.levy_part(law, kind, make, part))
            if not any("distance" in p for p in parts):
                keep(levy.levy_distance(law, kind, make))


def levy_table(path):
    """Print a row for each Lévy cell of which the file has parts."""

    def shares(values):
        return " / ".join(f"{100 * v:.1f}" for v in values)

    print("| increments | operator | signals | truth inside 50 / 80 / 90 % highest density "
          "| the same, by sample | spread ÷ RMSE | distance | floor | ratio |\n"
          + "|---" * 9 + "|")  # fmt: skip
    for (law, kind), parts in parts_in(path).items():
        if any("ranks" in p for p in parts) and any("distance" in p for p in parts):
            r = levy.summary(parts)
            print(f"| {law} | {kind} | {r['signals']} | {shares(r['hpd'])} "
                  f"| {shares(r['coverage'])} | {r['spread_skill']:.2f} | {r['distance']:.3f} "
                  f"| {r['floor']:.3f} | {r['distance'] / r['floor']:.2f} |")  # fmt: skip


def main():
    """Print the rows as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "rows", choices=("mixtures", "large", "floor", "large-floor", "coils", "phase", "levy")
    )
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--problems", type=int, default=5)
    parser.add_argument("--signals", type=int, default=1000)
    parser.add_argument("--laws", nargs="+", choices=list(levy.LAWS), default=list(levy.LAWS))
    parser.add_argument("--out", type=Path, default=Path("levy.jsonl"))
    parser.add_argument("--show", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.rows == "mixtures":
        for sd in (0.05, 0.3):
            shown(f"6 in 8 dimensions, noise {sd}", [random_mixture(s, sd) for s in range(20)])
    elif asked.rows == "large":
        shown("25 in 64", large())
    elif asked.rows == "floor":
        for sd in (0.05, 0.3):
            against_floor(f"noise {sd}", [random_mixture(s, sd) for s in range(20)])
    elif asked.rows == "large-floor":
        against_floor("25 in 64, the default", large())
        groups = partial(Particles, group=1000)
        against_floor("25 in 64, particles", large(), groups)
    elif asked.rows == "coils":
        coils(asked.side, asked.draws, asked.problems)
    elif asked.rows == "phase":
        phase(asked.draws, asked.problems)
    else:
        if asked.show is None:
            levy_parts(asked.out, asked.signals, asked.laws)
        levy_table(asked.show or asked.out)


if __name__ == "__main__":
    main()
