"""Simulated measurements for the tutorial: blood vessels heard by photoacoustic detectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

from sciinv import operators

OPERATOR = f"{Path(__file__).with_name('photoacoustic.py')}:Photoacoustic"


def vessels(size: int, seed: int = 0) -> np.ndarray:
    """Return branching vessels, kPa, [size, size]: random walks that get thinner."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size))
    row, column = np.mgrid[:size, :size]
    for angle in rng.uniform(0, 2 * np.pi, 5):
        place, width = rng.uniform(0.3, 0.7, 2) * size, size / 40
        for _ in range(size):
            image[np.hypot(row - place[0], column - place[1]) < width] = 1.0
            angle += rng.normal(0, 0.15)
            place += [np.sin(angle), np.cos(angle)]
            width *= 0.985
    taper = np.hypot(row - (size - 1) / 2, column - (size - 1) / 2) < 0.45 * size
    return gaussian_filter(image * taper, 0.5)


def read(size: int = 64, detectors: int = 32, noise_sd: float = 0.1, seed: int = 0) -> xr.Dataset:
    """Return one simulated measurement."""
    params = {"size": size, "detectors": detectors, "noise_sd": noise_sd}
    physics = operators.load(OPERATOR, **params)
    truth = vessels(size, seed)[None]
    noise = noise_sd * np.random.default_rng(seed + 1).normal(size=physics.measurement_spec.shape)
    y = physics.A(torch.from_numpy(truth)[None]).numpy() + noise
    return xr.Dataset(
        {
            "y": (("item", "detector", "circle"), y.astype(np.float32)),
            "truth": (("item", "row", "column"), truth.astype(np.float32)),
        },
        attrs={
            "operator": OPERATOR,
            "params": json.dumps(params),
            "units": "kPa mm",
            "source": "simulated",
            "title": "blood vessels",
        },
    )
