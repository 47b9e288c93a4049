"""What a step builds from the configuration: operator, prior, sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.physics import Physics
from torch import Tensor

from sciinv import operators, priors, samplers, units
from sciinv.config import Operator, Prior, Sampler
from sciinv.config.paths import locate, located_name
from sciinv.config.spec import GENERIC
from sciinv.errors import ConfigError, PriorError
from sciinv.operators.base import ImageSpec, declared, image_shape
from sciinv.priors.base import Prior as DiffusionPrior


def load_prior(
    prior: Prior, shape: tuple[int, int, int], units: str = "", scale: float | None = None
) -> DiffusionPrior:
    """Return the prior of a configuration for images of this (C, H, W).

    Args:
        prior: The configuration's.
        shape: (C, H, W) of the operator's image.
        units: Its unit.
        scale: Size of the object's values, for the generic prior (`steps.generic.scale_for`).

    Raises:
        PriorError: It cannot be read; the generic one knows no such channels or no scale.
    """
    if prior.kind == "generic":
        return _generic(shape[0], units, prior.scale or scale)
    if prior.path is not None:
        path = locate(prior.path)
        if path.suffix == ".safetensors":  # weights and numbers: nothing in it can be run
            return priors.load(path)
        return priors.load(path, run=located_name(prior.network) if prior.network else False)
    power = gaussian_power(shape[1:], prior.sd, prior.length)
    return priors.Gaussian(torch.full(shape, prior.mean), power_spectrum=power, units=units)


# The scale of the generic prior is that of the data. With it, draws that fit have 0.5 of the class
# in root mean square (a tooth, 60 views). Chains with a preconditioner that did not fit grew to
# 1.8–2.6 of it with χ² of 1.3 to 1.6 (`kernels.exact`). That is mended; the bound stays for what
# is not known.
GENERIC_LARGEST = 1.5


def generic_file(channels: int) -> str:
    """Return the file of the generic prior for images of so many channels.

    Raises:
        PriorError: There is none.
    """
    if channels not in GENERIC:
        raise PriorError(
            "The generic prior knows no images of this many channels",
            where="prior",
            expected="1 (real) or 2 (real and imaginary part)",
            got=channels,
            remedy="name a prior of such images; `sciinv train` makes one",
        )
    return GENERIC[channels]


def _generic(channels: int, units: str, scale: float | None) -> DiffusionPrior:
    from sciinv.priors.learned import generic

    path = locate(generic_file(channels), "prior")
    if scale is None:
        raise PriorError(
            "The generic prior is for values of any size, and nothing says theirs",
            where="prior.scale",
            expected="the size of a typical value of the object",
            got="none",
            remedy="give it as scale: NUMBER, in the unit of the image",
        )
    model = generic.load(path, scale, units)
    model.largest = GENERIC_LARGEST
    return model


def gaussian_power(shape: tuple[int, int], sd: float, length: float) -> Tensor:
    """Return the power spectrum [H, W] of a Gaussian-shaped correlation exp(−r²/2ℓ²).

    P(k) ∝ exp(−2π² ℓ² |k|²), k in cycles per pixel, scaled to a mean of sd²; at least 1e−6 of
    its mean, so that no direction has the variance 0.
    """
    ky, kx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    k2 = ky[:, None] ** 2 + kx[None, :] ** 2
    power = torch.exp(-2 * torch.pi**2 * length**2 * k2)
    power = (power / power.mean()).clamp_min(1e-6)
    return (sd**2 * power / power.mean()).float()


def build(
    measurement: xr.Dataset, operator: Operator, item: int = 0, device: str = "cpu"
) -> tuple[Physics, Tensor]:
    """Return the operator, `Declared`, and the measurement [1, …] of one item, on a device.

    An operator that says nothing of its image gets pixels without a unit, numbered from the centre.
    """
    name = located_name(operator.name) if operator.name else None
    physics, y = operators.from_measurement(measurement, item, name, **dict(operator.params))
    physics = declared(physics, y)
    if physics.image_spec is None:
        c, h, w = image_shape(physics)
        rows, columns = (np.arange(n) - (n - 1) / 2 for n in (h, w))
        names = ("intensity",) if c == 1 else tuple(f"channel {i}" for i in range(c))
        physics.image_spec = ImageSpec((c, h, w), "", rows, columns, "px", names)
    return physics.to(device), y.to(device)


def doubts(model: DiffusionPrior, spec: ImageSpec) -> list[str]:
    """Return sentences of doubt whether a prior serves an operator's image.

    The size of a pixel, and a prior that was not made for such objects.
    """
    about = getattr(model, "metadata", None) or {}
    if "warning" in about:
        return [str(about["warning"])]
    if (about.get("data") or {}).get("family") == "generic":
        return [
            "The generic prior was named by its file, so images of about unit size are expected; "
            "prior: {kind: generic} takes their scale from the data."
        ]
    pixel = about.get("pixel")
    axis = next((a for a in (spec.x, spec.y) if len(a) > 1), None)
    if (
        not isinstance(pixel, Mapping)
        or axis is None
        or not units.is_length(str(pixel.get("unit")))
    ):
        return []  # a closed form, a foreign network, or images of pixels without a size
    told = units.pixel_doubt(
        float(pixel["side"]), str(pixel["unit"]), abs(float(axis[1] - axis[0])), spec.axis_units
    )
    return [told] if told else []


def method(sampler: Sampler, model: DiffusionPrior, micro_batch: int | None = None) -> Any:
    """Return the sampler of a configuration; "daps-published" is the released code's setting.

    Args:
        sampler: Its kind and settings.
        model: The prior.
        micro_batch: Replaces the configuration's.
    """
    settings = {k: v for k, v in sampler.settings.items() if (k, v) != ("micro_batch", "auto")}
    if micro_batch is not None and sampler.kind != "particles":  # its group is its batch
        settings["micro_batch"] = micro_batch
    if sampler.kind == "daps":  # of a user's data nobody knows the noise exactly
        settings = {"noise": "auto", **settings}
    if sampler.kind == "daps-published":
        return samplers.DAPS.published(model, **settings)
    return samplers.build(sampler.kind, model, **settings)


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            "There is no device of this name",
            where="run.device",
            expected="cpu, or cuda (one GPU; CUDA_VISIBLE_DEVICES chooses which)",
            got=device,
            remedy="take cuda"
            if device.lower().startswith(("cuda", "gpu", "nvidia"))
            else "take cpu or cuda",
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "There is no GPU that torch can use",
            where="run.device",
            expected="a CUDA device",
            got="none",
            remedy="set device: cpu, or ask the cluster for a GPU (resource gpu)",
        )
