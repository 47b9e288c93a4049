"""What is refused at the door of every sampler, and what a chain must not leave."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciinv.errors import ConfigError, DivergenceError, OperatorError
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.operators.base import Operator

HIDDEN = 0.5  # first noise ÷ root mean square of the class, below which its images show through


def kind(y: Any, physics: Operator) -> None:
    """Raise `OperatorError` unless y is a real tensor of single or double precision with values."""
    got, remedy = None, "convert it with torch.as_tensor(y).float()"
    if not isinstance(y, Tensor):
        got = f"{type(y).__module__}.{type(y).__name__}"
    elif y.is_complex():
        got, remedy = str(y.dtype), "give real and imaginary parts as two real components"
    elif y.dtype not in (torch.float32, torch.float64):
        got = str(y.dtype)
    elif y.ndim < 1 or y.numel() == 0:
        got, remedy = f"shape {list(y.shape)}", "give at least one item with at least one value"
    if got is not None:
        raise OperatorError(
            "The measurement is not of the kind that a sampler takes",
            where=f"y for {type(physics).__name__}",
            expected="a torch tensor [B, …] with values, float32 or float64 (complex values as two "
            "real components)",
            got=got,
            remedy=remedy,
        )


def finite(y: Tensor, physics: Operator) -> None:
    """Raise `OperatorError` unless y fits the operator and is finite."""
    physics.check_measurement(y)
    if not bool(torch.isfinite(y).all()):
        raise OperatorError(
            "The measurement holds values that are not finite",
            where=type(physics).__name__,
            expected="finite numbers",
            got=f"{int((~torch.isfinite(y)).sum())} of {y.numel()} are NaN or infinite",
            remedy="mask them (infinite noise standard deviation, value 0)",
        )


def carries_data(likelihood: Likelihood, physics: Operator) -> None:
    """Raise `OperatorError` where every sample has infinite noise: χ² would be 0/0."""
    sd = likelihood.sd if isinstance(likelihood, Gaussian) else None
    if sd is not None and not bool(torch.isfinite(sd).any()):
        raise OperatorError(
            "The measurement carries no data: its noise is infinite everywhere",
            where=type(physics).__name__,
            expected="a finite standard deviation of at least one sample",
            got=f"{sd.numel()} of {sd.numel()} infinite",
            remedy="check the units and the weights of the data; draws of the prior alone are what "
            "`prior.sample` gives",
        )


def first_noise(sampler: Any) -> None:
    """Raise `ConfigError` where an annealing's first noise hides nothing of the prior's images.

    x_T ~ N(0, σ_T²) stands for a noised image only where σ_T is far above the image.
    """
    sigmas, prior = getattr(sampler, "sigmas", None), sampler.prior
    if sigmas is None:
        return
    known = prior.typical
    least = HIDDEN * known[1] if known is not None else 0.01 * float(prior.sigma_max)
    if float(sigmas[0]) < least:
        raise ConfigError(
            "The annealing starts at a noise far below the size of the prior's images",
            where=f"sigma_max of {sampler.name}",
            expected=f"well above {least:.3g} {prior.units}".rstrip()
            + f"; the prior's own is {float(prior.sigma_max):.4g}",
            got=f"{float(sigmas[0]):.4g}",
            remedy="leave sigma_max out, or give it in the units of the image",
        )


def drawn(x0: Tensor, sampler: Any, physics: Operator) -> None:
    """Raise `DivergenceError` for draws of a size that no image of the prior's class has."""
    prior = sampler.prior
    if prior.typical is None:
        return
    offset, rms = prior.typical
    ratio = float((x0 - offset).square().mean((1, 2, 3)).sqrt().max()) / rms
    if ratio > prior.largest:
        raise DivergenceError(
            "A chain has exploded",
            where=f"operator {type(physics).__name__}, sampler {sampler.name}, "
            f"after {sampler.steps} levels",
            expected=f"an image of root mean square {rms:.3g} {prior.units} as the prior "
            f"knows them, up to a factor of {prior.largest:g}",
            got=f"{ratio:.3g} times as much",
            remedy="check the units and the noise of the measurement; where data leave large "
            "structures open (a missing wedge), name a prior of such images (`sciinv train`); "
            "with the conditional 'tweedie' under a network, take 'local' or 'spectral'",
        )


def all_known(physics: Operator, sampler: str) -> None:
    """Raise `ConfigError` where the operator declares what this sampler would take as known."""
    names = [unknown.name for unknown in physics.unknowns]
    names += [] if physics.model_error is None else ["model_error"]
    if names:
        raise ConfigError(
            "This sampler does not draw what the operator declares unknown",
            where=f"{sampler} with {type(physics).__name__}",
            expected="an operator without unknowns",
            got=", ".join(names),
            remedy="take the sampler daps, or leave the operator's unknowns out: they are then "
            "taken as known",
        )
