"""A network that was trained elsewhere becomes a prior: description, weights, widths."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save as serialize

from sciinv.errors import ConfigError
from sciinv.images.collect import collect
from sciinv.images.formats.base import Options
from sciinv.priors.base import Prior
from sciinv.priors.draws import prior_draws
from sciinv.priors.wrapped import load
from sciinv.priors.wrapped.recognise import recognise
from sciinv.store.atomic import write_file

Say = Callable[[str], None]
# Entries that a user may state in place of what was recognised.
STATED = (
    "network", "prediction", "sigma_data", "sigma_min", "sigma_max", "units", "offset", "scale",
    "shape", "channels",
)  # fmt: skip


def import_prior(
    path: Path,
    output: Path,
    stated: Mapping[str, Any],
    *,
    images: Path | None = None,
    draws: int = 32,
    steps: int = 60,
    levels: int = 12,
    seed: int = 0,
    say: Say = lambda line: None,
) -> Path:
    """Write OUTPUT.yaml with its weights and widths, and return it.

    Args:
        path: File of weights, or a diffusers folder.
        output: The .yaml file to write; weights and widths go beside it.
        stated: Entries of `STATED` and `arguments`, which replace what was recognised.
        images: Clean images that the network has not seen; None: draws of the prior.
        draws: Draws of the prior where there are no images; 0: no widths.
        steps: Steps of the reverse SDE of such a draw.
        levels: Noise levels of the widths.
        seed: Seed of the draws and the noise.
        say: Takes a line of progress.

    Raises:
        PriorError: The file cannot be read or is of no known family.
        ConfigError: The output has another suffix, or nothing says the size of an image.
    """
    if output.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            "The description of a prior is a YAML file",
            where="--output",
            expected="FILE.yaml",
            got=output.name,
            remedy=f"--output {output.with_suffix('.yaml').name}",
        )
    given = {k: v for k, v in stated.items() if v is not None}
    found = recognise(path, given)
    say(f"family: {found.family}")
    for line in found.lines:
        say(line)
    said = {**found.said, "name": output.stem}
    said["arguments"] = {**found.said.get("arguments", {}), **given.get("arguments", {})}
    said |= {k: v for k, v in given.items() if k in STATED and k != "sigma_data"}
    if said["kind"] != "ddpm":
        said.pop("prediction", None)
    weights = output.with_name(f"{output.stem}-weights.safetensors")
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in found.tensors.items()}
    body = serialize(tensors)
    write_file(weights, body)
    said |= {"weights": weights.name, "sha256": hashlib.sha256(body).hexdigest()}
    if said["kind"] == "edm":
        said = {"sigma_min": 0.002, "sigma_max": 80.0, **said}
    _write(output, said)
    # Says what does not fit before any draw; a file of code is one that the user named just now.
    prior = load.load(output, run="network" in given)
    if images is None and draws == 0:
        say("no widths: conditional tweedie or score works, spectral and isotropic do not")
        return output
    clean = _images(images, prior) if images is not None else _drawn(prior, draws, steps, seed, say)
    say(f"widths from {len(clean)} images, {levels} levels")
    widths = load.fit_widths(prior, clean, levels, seed=seed, batch=4)
    place = output.with_name(f"{output.stem}-widths.safetensors")
    load.save_widths(widths, place)
    said |= {"widths": place.name}
    _write(output, said)
    return output


def _write(output: Path, said: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(said), sort_keys=False, allow_unicode=True, width=100)
    write_file(output, text.encode())


def _images(path: Path, prior: Prior) -> torch.Tensor:
    found = collect(path, Options())
    values = torch.from_numpy(found.values)
    if values.is_complex():
        return torch.stack([values.real, values.imag], 1)
    return values[:, None]


def _drawn(prior: Prior, draws: int, steps: int, seed: int, say: Say) -> torch.Tensor:
    if prior.shape is None:
        raise ConfigError(
            "Nothing says how large the prior's images are",
            where="sciinv import-prior",
            expected="--shape C,H,W, or --images FOLDER, or --draws 0",
            got="a network of any size",
            remedy="add --shape, e.g. --shape 1,64,64",
        )
    say(f"{draws} draws of the prior, {steps} steps each")
    return prior_draws(prior, draws, prior.shape, seed, steps)
