"""The price of a level at 256² CT and 320² MRI with 15 coils, by parts, beside the roofline.

    python docs/studies/large_problems.py [LEVELS]

The generic prior, a disc of its own making as the object, two lanes, 12 of the 50 levels' number (a
shorter chain, so that a level is a little dearer than in a whole one), CPU seconds of one thread.
Beside it the normal product Aᵀ A of one image, and the time that its arithmetic and its traffic
would take at what this core reaches in a matrix product and in a copy: the roofline, of which the
larger counts. From the repository's root.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sciinv import priors, samplers
from sciinv.calibration.benchmark.speed import shares
from sciinv.operators.ct import CT
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.priors.learned import generic

VIEWS, COILS = 180, 15


def disc(side: int) -> Tensor:
    """Return a disc with a smaller one in it, [side, side]."""
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, side)], indexing="ij")
    return (torch.hypot(y, x) < 0.7).float() - 0.5 * (torch.hypot(y - 0.2, x) < 0.2).float()


def seconds(f: Callable[[], object], times: int = 5) -> float:
    """Return the CPU seconds of a call."""
    f()
    began = time.process_time()
    for _ in range(times):
        f()
    return (time.process_time() - began) / times


def core() -> tuple[float, float]:
    """Return multiply-adds and bytes a second, of a matrix product and of a copy."""
    a = torch.randn(1500, 1500)
    source, target = torch.ones(40_000_000), torch.ones(40_000_000)  # far beyond any cache
    copy = seconds(lambda: target.copy_(source))
    return 1500**3 / seconds(lambda: a @ a), 2 * 4 * len(source) / copy


def main(levels: int) -> None:
    """Print a row per problem."""
    speed, traffic = core()
    print(f"core: {speed / 1e9:.0f} GMAC/s, {traffic / 1e9:.1f} GB/s")
    print("| problem | s a level | network | width | solve | rest | Aᵀ A, ms | roofline, ms |")
    print("|---|---|---|---|---|---|---|---|")
    torch.manual_seed(0)
    with torch.no_grad():
        image = 0.02 * disc(256)[None, None]
        ct = CT(torch.arange(VIEWS) * 180.0 / VIEWS, 256, 1.0, 362, 1.0, noise_sd=0.02)
        weights = 256 * 256 * VIEWS * 2 * 1.27  # two elements a pixel and view, at unit pitch
        row("CT 256², 180 views", "generic", 0.02, ct, image, levels,
            2 * weights / speed, 2 * 8 * weights / traffic)  # fmt: skip
        maps = mri_coils.simulate_maps(COILS, (320, 320))
        mask = mri_masks.random_lines((320, 320), 4, 0.08, seed=0)
        mri = MultiCoilMRI(mask, maps, 0.02)
        image = torch.stack([disc(320), torch.zeros(320, 320)])[None]
        work = 2 * COILS * 2.5 * 320**2 * math.log2(320**2)
        row("MRI 320², 15 coils", "generic-complex", 1.0, mri, image, levels,
            work / speed, 4 * COILS * 8 * 320**2 / traffic)  # fmt: skip


def row(
    name: str, prior_name: str, scale: float, physics: torch.nn.Module, image: Tensor, levels: int,
    arithmetic: float, copies: float,
) -> None:  # fmt: skip
    """Print the price of a level and of a normal product."""
    prior = priors.load(f"data/priors/{prior_name}.safetensors")
    if scale != 1.0:
        prior = generic.scaled(prior, scale)
    y = physics(image)
    sampler = samplers.DAPS(prior, levels=levels, micro_batch=2, noise="auto", retries=0)
    parts = shares(sampler, y, physics, 2)
    normal = seconds(lambda: physics.A_adjoint(physics.A(image)))
    cells = [
        f"{parts.get(k, 0.0) / parts['all']:.0%}" for k in ("network", "width", "solve", "rest")
    ]
    print(f"| {name} | {parts['all'] / levels:.2f} | {' | '.join(cells)} | {1e3 * normal:.0f} | "
          f"{1e3 * max(arithmetic, copies):.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
