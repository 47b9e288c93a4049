"""Priors from a YAML or JSON file that names a network's class and its state dict; no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sciinv.errors import PriorError
from sciinv.priors.base import Prior
from sciinv.priors.learned import files
from sciinv.priors.widths import FittedWidths, measure
from sciinv.priors.wrapped import prior as wrappers
from sciinv.priors.wrapped.description import DESCRIPTIONS, Description, _described, _one_of
from sciinv.priors.wrapped.weights import beside, fill, network_of, state_of


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    run: bool | str = False,
) -> Prior:
    """Return the prior of a file: sciinv's own safetensors, or a description of another network.

    Args:
        path: A .safetensors file of `files.save`, or a .yaml, .yml or .json of `Description`.
        device: Where the network shall live.
        dtype: Its weights and arithmetic; images keep their own dtype.
        run: Whether the Python file that a description names may be run: True for yes (the
            description is then as trusted as the file), False for no, "FILE.py:CLASS" for this one
            only. The command line and configurations pass what the user named there.

    Raises:
        PriorError: The file or one that it names is missing, is a pickle, or does not fit.
    """
    path = Path(path)
    if path.suffix not in DESCRIPTIONS:
        return files.load(path, device=device, dtype=dtype)
    said = _described(path)
    network = network_of(said, path, run)
    tensors = state_of(said, path)
    shape = said.shape
    parametrisation, ends = _parametrisation(said, path, tensors)
    fill(network, tensors, said, path)
    prior = wrappers.WrappedPrior(
        network,
        parametrisation,
        channels=said.channels,
        sigma_min=ends[0],
        sigma_max=ends[1],
        shape=None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2])),
        per_channel=said.per_channel,
        learned_variance=said.learned_variance,
        units=said.units,
        offset=float(said.offset),
        scale=float(said.scale),
        name=said.name or path.stem,
        widths=None if said.widths is None else load_widths(beside(path, said.widths)),
        inflate=float(said.inflate),
        micro_batch=said.micro_batch,
    )
    return prior.to(device=device, dtype=dtype)


def fit_widths(prior: Prior, images: Tensor, levels: int = 24, **settings: Any) -> FittedWidths:
    """Return the widths of p(x0 | x_t) for "isotropic" and "spectral", measured on clean images.

    Args:
        prior: Any prior.
        images: Images that its network was not trained on, [N, C, H, W], physical units.
        levels: Noise levels, from the prior's least to its greatest.
        **settings: Of `widths.measure`.
    """
    ends = np.log(prior.sigma_min), np.log(prior.sigma_max)
    sigmas = torch.exp(torch.linspace(*ends, levels, dtype=torch.float64))
    return measure(prior, images, sigmas, **settings)


def save_widths(widths: FittedWidths, path: str | Path) -> None:
    """Write widths, in physical units, to a safetensors file that a description can name."""
    save_file({k: v.contiguous() for k, v in widths.tensors().items()}, str(path))


def load_widths(path: str | Path) -> FittedWidths:
    """Return the widths of a file of `save_widths`."""
    try:
        return FittedWidths.of_tensors(load_file(str(path)))
    except (KeyError, SafetensorError, OSError) as error:
        raise PriorError(
            "The file does not hold fitted widths",
            where=path,
            expected="widths.sigma, widths.isotropic, widths.spectral, widths.frequency",
            got=error,
            remedy="write it with sciinv.priors.wrapped.load.save_widths",
        ) from error


def _parametrisation(
    said: Description, path: Path, tensors: Mapping[str, Tensor]
) -> tuple[wrappers.Denoise, tuple[float, float]]:
    """Return how D follows from the network, and (sigma_min, sigma_max)."""
    low, high = said.sigma_min, said.sigma_max
    made: wrappers.Denoise = wrappers.Direct()
    if said.kind == "edm":
        _one_of(said.form, ("F", "D"), path, "form")
        low, high = low or 0.002, high or 80.0
        made = wrappers.EDM(said.sigma_data) if said.form == "F" else made
    elif said.kind == "ddpm":
        _one_of(said.prediction, ("epsilon", "v", "x0"), path, "prediction")
        _one_of(said.timestep, ("nearest", "interpolated"), path, "timestep")
        made = wrappers.DDPM(
            _alphas(said, path, tensors),
            said.prediction,  # type: ignore[arg-type]  # checked above
            said.timestep,  # type: ignore[arg-type]
            float(said.timestep_scale),
        )
        ends = float(made.sigmas[0]), float(made.sigmas[-1])
        low, high = low or ends[0], high or ends[1]
        if low < ends[0] * (1 - 1e-6) or high > ends[1] * (1 + 1e-6):
            raise PriorError(
                "The noise levels reach beyond the network's steps",
                where=path,
                expected=f"within σ = {ends[0]:.4g} … {ends[1]:.4g}",
                got=f"{low:.4g} … {high:.4g}",
                remedy="leave sigma_min and sigma_max out",
            )
    if low is None or high is None:
        raise PriorError(
            "Nothing says at which noise levels the denoiser was trained",
            where=path,
            expected="sigma_min and sigma_max, in the network's own units",
            got=f"sigma_min={low}, sigma_max={high}",
            remedy="add both; annealing starts at sigma_max, where an image is lost in the noise",
        )
    return made, (float(low), float(high))


def _alphas(said: Description, path: Path, tensors: Mapping[str, Tensor]) -> np.ndarray:
    if (said.alphas_cumprod is None) == (said.schedule is None):
        raise PriorError(
            "A DDPM needs its noise schedule, said once",
            where=path,
            expected="either alphas_cumprod or schedule",
            got="none" if said.schedule is None else "both",
            remedy="copy it from the code that trained the network",
        )
    if said.schedule is not None:
        try:
            table = wrappers.alphas_cumprod(**said.schedule)
        except TypeError as error:
            raise PriorError(
                "The schedule has an unknown entry or lacks one",
                where=path,
                expected="kind; may be: steps, first, last",
                got=error,
                remedy="correct the schedule",
            ) from error
    elif isinstance(said.alphas_cumprod, str):
        if said.alphas_cumprod not in tensors:
            raise PriorError(
                "There is no such tensor in the state dict",
                where=path,
                expected=said.alphas_cumprod,
                got=f"{', '.join(sorted(tensors)[:6])}, …",
                remedy="name the tensor, or give alphas_cumprod as a list",
            )
        table = tensors[said.alphas_cumprod].double().numpy()
    else:
        table = np.asarray(said.alphas_cumprod, dtype=float)
    falls = table.ndim == 1 and len(table) > 1 and bool(np.all(np.diff(table) < 0))
    if not falls or not 0 < table[-1] < table[0] < 1:
        raise PriorError(
            "The products ᾱ_t do not fall from near 1 to near 0",
            where=path,
            expected="1 > ᾱ_0 > ᾱ_1 > … > 0",
            got=np.array2string(table, threshold=4),
            remedy="give the cumulative products of 1 − β, in the order of the steps",
        )
    return table
