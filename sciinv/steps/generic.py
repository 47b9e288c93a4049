"""The scale of an object that no prior was named for, from its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.config import Operator, Prior
from sciinv.errors import DataError, OperatorError
from sciinv.likelihoods import Gaussian
from sciinv.operators.base import image_shape
from sciinv.priors.phantoms import generic
from sciinv.seeds import stream_seed
from sciinv.steps.build import build

IMAGES = 24
LARGEST = 192  # images are drawn on so many pixels a side, and magnified: they have no scale


def scale_for(
    prior: Prior,
    dataset: xr.Dataset,
    operator: Operator,
    found: Mapping[str, Any] | None = None,
) -> tuple[float, ...]:
    """Return (scale,) of the generic prior for a measurement; () for every other prior.

    Taken from the first item whichever is sampled, so that all jobs of a run have the same prior.

    Args:
        prior: The prior.
        dataset: The measurement.
        operator: The operator and its parameters.
        found: What the check before the first draw found; its "scale" is taken, so that jobs need
            not compute it again.

    Raises:
        SciinvError: See `object_scale`.
    """
    if prior.kind != "generic" or prior.scale is not None:
        return ()
    if found and "scale" in found:
        return (float(found["scale"]),)
    physics, y = build(dataset, operator)
    return (object_scale(physics, y),)


def object_scale(physics: Physics, y: Tensor, seed: int = 0) -> float:
    """Return s for which images s u of the generic family have data as strong as these.

        s² = median over u of (‖W y‖² − M) / ‖W A u‖²

    W whitens the noise, and M is the number of data. Weak data give no less than the noise.

    Args:
        physics: A linear operator with Gaussian noise.
        y: The measurement of one item, [1, …].
        seed: Seed of the images.

    Raises:
        OperatorError: The operator is not linear, or its noise not Gaussian.
        DataError: No image of the family has any data.
    """
    noise = likelihoods.of(physics)
    if not isinstance(physics, LinearPhysics) or not isinstance(noise, Gaussian):
        raise OperatorError(
            "The scale of an object is taken from data that are linear in it",
            where=type(physics).__name__,
            expected="a linear operator and Gaussian noise",
            got=f"{type(noise).__name__} noise"
            + ("" if isinstance(physics, LinearPhysics) else ", not linear"),
            remedy="name a prior of such objects, or give the size of a typical value: "
            "prior: {kind: generic, scale: NUMBER}",
        )
    shape = image_shape(physics)
    zero = torch.zeros_like(y)
    # white noise has a mean square of 1 in each value that carries data
    white = noise.whiten(y, zero)
    count = int((noise.whiten(torch.ones_like(y), zero) != 0).sum())
    power = float(white.double().square().sum())
    own = []
    with torch.no_grad():
        for k in range(IMAGES):
            rng = np.random.default_rng(stream_seed(seed, "scale", k))
            u = _image(rng, shape).to(y)
            own.append(float(noise.whiten(physics.A(u), zero).double().square().sum()))
    usual = float(np.median(own))
    if not usual > 0 or not np.isfinite(usual):
        raise DataError(
            "The data do not tell the scale of the object",
            where=type(physics).__name__,
            expected="data that images of unit size change",
            got=f"‖W A u‖² = {usual:.3g}",
            remedy="give the size of a typical value: prior: {kind: generic, scale: NUMBER}",
        )
    # noise alone differs from its mean by √(2M)
    return float(np.sqrt(max(power - count, np.sqrt(2 * count)) / usual))


def _image(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """Return an image u [1, C, H, W] of the family; of complex ones the phase is constant."""
    c, h, w = shape
    side = max(h, w)
    square = torch.from_numpy(generic.image(rng, min(side, LARGEST)))[None, None]
    if side > LARGEST:
        square = torch.nn.functional.interpolate(square, size=(side, side), mode="nearest")
    real = square[..., :h, :w]
    if c == 1:
        return real
    angle = rng.uniform(0, 2 * np.pi)
    return torch.cat([np.cos(angle) * real, np.sin(angle) * real], 1)
