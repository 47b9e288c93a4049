"""The alarm on simulated objects: priors × kinds of objects under sampled Fourier data.

    python docs/studies/alarm.py closed --objects 20 --out docs/evidence/alarm-closed.json
    python docs/studies/alarm.py closed --data ct --objects 4 --out results/alarm-ct.json
    python docs/studies/alarm.py network --objects 2 --out docs/evidence/alarm-network.json
    python docs/studies/alarm.py own --objects 20 --out docs/evidence/alarm-own.json

closed: five priors in closed form, 12 × 12 pixels, each of them the law of its own kind of object:
        smooth and rough Gaussian fields, and mixtures around images of black holes, discs and
        points. Each object is judged under all five.
network: the shipped black-hole prior, 64 × 64 pixels, on fresh objects of its own generator and on
        discs, rough fields and points in its unit.
own:    left-out data alone, under the black-hole prior, on truths that the prior draws itself and
        on fresh ones of its generator, 19 draws at the prior's own levels: were the draws right,
        each of the 20 values of p would be as frequent.

Each object is measured (26 % of the Fourier modes, all of the lowest; or, `--data ct`, line sums
of 12 views over 180°; white noise) and judged: log evidence, the check on left-out data,
typicality, verdict at 5 % false alarms. The file is written after each object; run again, the study
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from sciinv import calibration, priors, samplers
from sciinv.calibration import evidence, predictive, typicality, verdict
from sciinv.calibration.operators import SampledFourier
from sciinv.operators.ct import CT
from sciinv.priors.phantoms import family
from sciinv.steps.build import gaussian_power

REPO = Path(__file__).resolve().parents[2]
NOISE = 0.05


def images(kind: str, count: int, size: int, block: int) -> Tensor:
    """Return images of a kind, root mean square near 0.3, [N, 1, size, size]."""
    g = torch.Generator().manual_seed(block)
    if kind == "points":
        x = torch.zeros(count, 1, size, size)
        for image in x:
            for _ in range(5):
                row, column = torch.randint(1, size - 1, (2,), generator=g).tolist()
                image[0, row, column] += float(1 + torch.rand((), generator=g))
    elif kind == "rough":
        x = torch.randn(count, 1, size, size, generator=g)
        f = torch.fft.fftfreq(size)
        k = (f[:, None] ** 2 + f[None] ** 2).sqrt()
        x = torch.fft.ifft2(torch.fft.fft2(x) / (k + 0.5 / size)).real
    else:
        x = family(kind).pool(7, block, count, None).float()
        x = F.interpolate(x, (size, size), mode="area")
    return 0.3 * x / x.square().mean((1, 2, 3), keepdim=True).sqrt()


def closed_priors(size: int = 12) -> dict[str, Any]:
    """Return the five priors in closed form."""
    shape = (1, size, size)
    d = size * size
    out: dict[str, Any] = {}
    for name, length in (("smooth", 1.5), ("rough", 0.3)):
        power = gaussian_power((size, size), 0.3, length).double()
        out[name] = priors.Gaussian(torch.zeros(shape).double(), power_spectrum=power)
    axis = torch.arange(size).double()
    row, column = (a.flatten() for a in torch.meshgrid(axis, axis, indexing="ij"))
    apart = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
    c = 0.1**2 * torch.exp(-apart / 2) + 0.03**2 * torch.eye(d).double()
    for kind in ("blackholes", "discs", "points"):
        means = images(kind, 6, size, 1).double()
        out[kind] = priors.GaussianMixture(means, c.expand(6, d, d), torch.ones(6).double())
    return out


def operator(data: str, size: int = 12) -> Any:
    """Return the operator of small images: sampled Fourier modes, or parallel-beam views."""
    if data == "fourier":
        return SampledFourier((1, size, size), NOISE, seed=0)
    side = 1 / size  # line sums of `size` pixels in `size` views then have a norm near 1
    across = math.ceil(2**0.5 * size)
    return CT(np.arange(size) * 180.0 / size, size, side, across, side, noise_sd=NOISE)


def judged(prior: Any, physics: Any, y: Tensor, sampler: Any, own: Any, few: int, item: int) -> Any:
    """Return what the alarm says of one measurement under one prior."""
    start = time.perf_counter()
    post = sampler.sample(y, physics, draws=39, items=[item])
    x = torch.as_tensor(post["image"].values[:, 0])
    left_out = predictive.predictive_check(sampler, physics, y, 39, item=item)
    t = typicality.statistics(prior, x[:few], own.sigmas, f"draws {item}")
    typical = typicality.typicality(t, own)
    levels = 48 if few == 39 else 24
    found = evidence.log_evidence(x[:few], prior, physics, y, sampler.conditional, levels)
    answer = verdict.judge(left_out, typical)
    return x, {
        "log_evidence": found.log_evidence, "error": found.error, "p": answer.p,
        "p_predictive": left_out.p, "chi2_left_out": left_out.chi2, "p_typical": typical.p,
        "answer": answer.answer, "sentence": answer.sentence, "chi2": float(post["chi2"].mean()),
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def error_in_sd(x: Tensor, truth: Tensor) -> float:
    """Return the root mean square of (mean − truth) ÷ the draws' root mean square sd."""
    error = (x.mean(0) - truth).square().mean().sqrt()
    return float(error / x.var(0).mean().sqrt())


def closed(objects: int, out: Path, data: str) -> None:
    """Judge each object of each kind under all five priors."""
    known = json.loads(out.read_text()) if out.exists() else []
    models = closed_priors()
    physics = operator(data)
    own = {k: typicality.own(m, (1, 12, 12)) for k, m in models.items()}
    for index in range(objects):
        for number, kind in enumerate(models):
            if any(r["kind"] == kind and r["object"] == index for r in known):
                continue
            truth = calibration.prior_draws(models[kind], 1, (1, 12, 12), 1000 * number + index)
            y = calibration.simulate(physics, truth, 1000 * number + index)
            for name, model in models.items():
                how = "mixture" if hasattr(model, "components") else "tweedie"
                levels = 20 if how == "mixture" else 4
                sampler = samplers.DAPS(model, conditional=how, levels=levels, micro_batch=39)
                x, row = judged(model, physics, y, sampler, own[name], 39, index)
                row |= {"kind": kind, "object": index, "prior": name,
                        "error_in_sd": error_in_sd(x, truth[0])}  # fmt: skip
                known.append(row)
            out.write_text(json.dumps(known, indent=1))


def network(objects: int, out: Path, data: str) -> None:
    """Judge objects of the network's own generator and of others."""
    known = json.loads(out.read_text()) if out.exists() else []
    prior = priors.load(REPO / "data/priors/blackhole.safetensors")
    shape, unit = prior.train_shape, prior.scale
    physics = SampledFourier(shape, NOISE * unit, seed=0)
    prior.micro_batch = 13
    own = typicality.own(prior, shape, 39, steps=50)
    sampler = samplers.DAPS(prior, conditional="local", levels=15, renoise="bridge")
    fresh = family("blackholes")
    for index in range(objects):
        for kind in ("blackholes", "discs", "rough", "points"):
            if any(r["kind"] == kind and r["object"] == index for r in known):
                continue
            if kind == "blackholes":
                pool = fresh.pool(11, 3 + index, 1, None).float()
                g = torch.Generator().manual_seed(index)
                truth = fresh.offset + fresh.scale * fresh.augment(pool, g)
            else:
                truth = unit * images(kind, 1, 64, 50 + index)
            y = calibration.simulate(physics, truth, index)
            x, row = judged(prior, physics, y, sampler, own, 13, index)
            row |= {"kind": kind, "object": index, "prior": "blackhole",
                    "error_in_sd": error_in_sd(x, truth[0])}  # fmt: skip
            known.append(row)
            out.write_text(json.dumps(known, indent=1))


def own_objects(objects: int, out: Path, data: str) -> None:
    """Rank the left-out data of right pairs: truths of the network itself and of its generator."""
    known = json.loads(out.read_text()) if out.exists() else []
    prior = priors.load(REPO / "data/priors/blackhole.safetensors")
    physics = SampledFourier(prior.train_shape, NOISE * prior.scale, seed=0)
    sampler = samplers.DAPS(prior, micro_batch=19)
    fresh = family("blackholes")
    for index in range(objects):
        for kind in ("prior", "generator"):
            if any(r["kind"] == kind and r["object"] == index for r in known):
                continue
            if kind == "prior":
                truth = calibration.prior_draws(prior, 1, prior.train_shape, 4000 + index)
            else:
                g = torch.Generator().manual_seed(5000 + index)
                pool = fresh.pool(12, 3 + index, 1, None).float()
                truth = fresh.offset + fresh.scale * fresh.augment(pool, g)
            y = calibration.simulate(physics, truth, 4000 + index)
            found = predictive.predictive_check(sampler, physics, y, 19, seed=index, item=index)
            known.append({"kind": kind, "object": index, "p": found.p, "chi2": found.chi2})
            out.write_text(json.dumps(known, indent=1))


def ranks(rows: list[dict[str, Any]]) -> str:
    """Return how often p is small, and its distance from a uniform law."""
    lines = []
    for kind in ("prior", "generator"):
        p = np.sort([r["p"] for r in rows if r["kind"] == kind])
        chi2 = np.array([r["chi2"] for r in rows if r["kind"] == kind])
        # p is on 1/20, …, 1: half a step is taken off before it is held against U(0, 1)
        test = stats.kstest(p - 0.025, "uniform")
        lines.append(
            f"{kind}: {len(p)} objects, p ≤ 0.05: {(p <= 0.05).sum()}, ≤ 0.1: {(p <= 0.1).sum()}, "
            f"≤ 0.5: {(p <= 0.5).sum()}, mean p {p.mean():.2f} ± {p.std() / len(p) ** 0.5:.2f}, "
            f"Kolmogorov–Smirnov p {test.pvalue:.2f}; χ² {chi2.mean():.3f} "
            f"± {chi2.std() / len(p) ** 0.5:.3f}, largest {chi2.max():.2f}"
        )
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Return counts as lines of text."""
    own = [r for r in rows if r["kind"] == r["prior"] or (r["kind"], r["prior"]) == _OWN]
    crossed = [r for r in rows if r not in own]
    far = [r for r in crossed if r["error_in_sd"] > 2]
    no = verdict.DOES_NOT
    lines = [
        f"right pairs: {len(own)}, false alarms {sum(r['answer'] == no for r in own)}",
        f"crossed pairs: {len(crossed)}, told {sum(r['answer'] == no for r in crossed)}",
        f"of them with an error above 2 sd: {len(far)}, told {sum(r['answer'] == no for r in far)}",
    ]
    best = {}
    for r in rows:
        key = r["kind"], r["object"]
        if key not in best or r["log_evidence"] > best[key]["log_evidence"]:
            best[key] = r
    wins = sum(r in own for r in best.values())
    if len({r["prior"] for r in rows}) > 1:
        lines.append(f"right prior of the highest evidence: {wins} of {len(best)}")
    return "\n".join(lines)


_OWN = ("blackholes", "blackhole")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=["closed", "network", "own"])
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--data", choices=["fourier", "ct"], default="fourier")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    studies = {"closed": closed, "network": network, "own": own_objects}
    studies[chosen.study](chosen.objects, chosen.out, chosen.data)
    print((ranks if chosen.study == "own" else table)(json.loads(chosen.out.read_text())))
