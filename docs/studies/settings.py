"""The tables of docs/evidence/settings.md that no configuration prints.

    python docs/studies/settings.py levels    errors on simulated discs by number of levels (10 min)
    python docs/studies/settings.py brain     noise fixed and drawn on the brain (3 min)
    python docs/studies/settings.py device    waits on the stand-in for an accelerator (2 min)
    python docs/studies/settings.py items     few draws of many small items, together (3 min)

One core, from the repository's root.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from sciinv import likelihoods, operators, priors, readers, samplers
from sciinv.calibration.learned import operator
from sciinv.calibration.simulate import simulate
from sciinv.operators.base import declared
from sciinv.priors.draws import prior_draws
from sciinv.priors.phantoms import family
from sciinv.problem import Problem
from sciinv.seeds import Streams

SHIPPED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "blackhole": (
        "uvfits",
        "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits",
        {"kind": "amplitudes", "gain_sd": {"*": 0.1, "LM": 0.35}},
    ),
    "ct": ("htc2022", "data/ct/htc2022_ta_full.mat", {"angles": (0, 60), "image_size": 128}),
    "mri": ("kspace", "data/mri/cartesian_ksp.npy", {}),
}


def shipped(name: str) -> tuple[Any, Any, torch.Tensor]:
    """Return prior, operator and data of a shipped problem."""
    reader, path, options = SHIPPED[name]
    physics, y = operators.from_measurement(readers.find(reader)(path, **options))
    return priors.load(f"data/priors/{name}.safetensors"), declared(physics, y), y


def levels() -> None:
    """Root mean square errors of two draws of each of four simulated discs, units of u."""
    prior, physics, _ = shipped("ct")
    kind = family("discs")
    u = kind.augment(kind.pool(77, 0, 4, None).float(), torch.Generator().manual_seed(0))
    truths = kind.offset + kind.scale * u
    y = simulate(physics, truths, 5).repeat_interleave(2, 0)
    like = torch.zeros(8, *truths.shape[1:])
    problem = Problem.of(y[:1], physics, likelihoods.of(physics), like).with_data(y)
    for setting in ({"levels": 50}, {"levels": 50, "sigma_max": 0.19}, {"levels": 50, "rho": 15.0},
                    {"levels": 80}):  # fmt: skip
        sampler = samplers.DAPS(prior, micro_batch=2, noise="drawn", **setting)  # type: ignore[arg-type]
        streams = Streams([(1, "pair", lane) for lane in range(8)], stock=True)
        began = time.process_time()
        with torch.no_grad():
            x, _ = sampler.chain(problem, streams, like, lambda level: None)
        error = (x - truths.repeat_interleave(2, 0)).square().mean((1, 2, 3)).sqrt() / kind.scale
        rms = float(error.square().mean().sqrt())
        each = (time.process_time() - began) / 8
        print(setting, f"rms {rms:.4f}, draws", [round(e, 3) for e in error.tolist()],
              f"{each:.1f} s a draw", flush=True)  # fmt: skip


def brain() -> None:
    """χ² and noise scale of two draws, and iterations a level."""
    prior, physics, y = shipped("mri")
    for setting in ({"levels": 40, "sigma_max": 1.0}, {"levels": 50, "noise": "drawn"}):
        sampler = samplers.DAPS(prior, micro_batch=2, **setting)  # type: ignore[arg-type]
        post = sampler.sample(y, physics, draws=2, seed=2026)
        told = {k: post[k].values.ravel().round(4).tolist()
                for k in ("chi2", "noise_scale", "iterations") if k in post}  # fmt: skip
        print(setting, told, flush=True)


def device(count: int = 3) -> None:
    """Waits of the stand-in and copies to it, a level, of the shipped problems."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    from support.device import Device

    for name in SHIPPED:
        prior, physics, y = shipped(name)
        stand_in = Device()
        with stand_in:
            stand_in.put(prior)
            stand_in.put(physics)
            sampler = samplers.DAPS(prior, levels=count, micro_batch=2)
            sampler.sample(stand_in.put(y), physics, draws=2)
        counts = stand_in.counts
        print(name, f"{counts['read'] / count:.1f} waits, {counts['to device'] / count:.1f} copies",
              flush=True)  # fmt: skip


def items(count: int = 8, number: int = 4) -> None:
    """CPU seconds a draw of one draw of each of 8 items, and waits of the stand-in a level."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    from support.device import Device

    prior = priors.load("data/priors/blackhole.safetensors")
    physics = operator("fourier", prior, 0.05, 1)
    y = simulate(physics, prior_draws(prior, count, prior.train_shape, 2000, steps=20), 5)
    before: torch.Tensor | None = None
    for together in (1, count):
        sampler = samplers.DAPS(prior, levels=number, micro_batch=1, item_batch=together)
        began = time.process_time()
        x = torch.from_numpy(sampler.sample(y, physics, draws=1, seed=3)["image"].values)
        each = (time.process_time() - began) / count / number
        before = x if before is None else before
        rms = float((x - before).square().mean().sqrt() / before.square().mean().sqrt())
        print(f"{together} items: {each:.4f} s a level and draw, difference {rms:.1e}", flush=True)
    for together in (1, count):
        prior = priors.load("data/priors/blackhole.safetensors")
        physics = operator("fourier", prior, 0.05, 1)
        stand_in = Device()
        with stand_in:
            stand_in.put(prior)
            stand_in.put(physics)
            sampler = samplers.DAPS(prior, levels=number, micro_batch=1, item_batch=together)
            sampler.sample(stand_in.put(y), physics, draws=1, seed=3)
        waits = stand_in.counts["read"] / number / count
        print(f"{together} items: {waits:.1f} waits a level and item", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"levels": levels, "brain": brain, "device": device, "items": items}[sys.argv[1]]()
