"""The MRI problems of `unknowns.py`: coil maps, and a phase of each line, drawn with the image.

SIMULATED. 12² pixels, 3 coils (wires around the field of view), 8 of 12 lines, noise of 2 % of the
object. Complex images from a Gaussian prior around a smooth object; the unknowns from their prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import priors
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts.mri_coils import simulate_maps
from sciinv.seeds import Streams

SIZE, COILS, SD, ORDER = 12, 3, 0.02, 3
LINES = [0, 2, 4, 5, 6, 7, 8, 10]
SDS = {"coil_maps": 0.05, "line_phase": 0.3}


def prior() -> priors.Gaussian:
    """Return complex images: a smooth object of about 1, with fluctuations of 0.2."""
    f = torch.fft.fftfreq(SIZE)
    power = 1 / (1 + (f[:, None] ** 2 + f[None] ** 2) / 0.08**2) ** 2
    window = torch.hann_window(SIZE, periodic=False)
    blob = (window[:, None] * window[None]).sqrt()
    mean = torch.stack([blob, 0.3 * blob])
    return priors.Gaussian(mean, power_spectrum=0.04 * power / power.mean())


def scan(**more: Any) -> MultiCoilMRI:
    """Return the scan."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[LINES] = True
    return MultiCoilMRI(mask, simulate_maps(COILS, (SIZE, SIZE)), SD, map_order=ORDER, **more)


def problem(name: str, seed: int) -> dict[str, Any]:
    """Return a simulated problem, as `unknowns.problem` does."""
    g = torch.Generator().manual_seed(seed)
    x0 = prior().sample(Streams.of_seed(seed, 1), torch.zeros(1))
    physics = scan(unknowns={name: SDS[name]})
    theta: Tensor = SDS[name] * torch.randn(1, physics.unknowns[0].size or 1, generator=g)
    known = physics.at(theta)
    u = known.A(x0)
    y = u + SD * torch.randn(u.shape, generator=g)
    return {
        "physics": physics, "y": y, "image": x0.numpy(), "truth": theta.numpy().flatten(),
        "name": name, "known": (known, y),
    }  # fmt: skip
