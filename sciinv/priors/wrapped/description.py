"""How a foreign network is described: the YAML file beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from sciinv.errors import PriorError

DESCRIPTIONS = (".yaml", ".yml", ".json")


KINDS = ("denoiser", "edm", "ddpm")


@dataclass(frozen=True)
class Description:
    """What such a file says; σ in the network's own units u, paths relative to the file.

    Attributes:
        kind: "denoiser", "edm" or "ddpm".
        network: The class: "module:Class" (as deepinv.models:DRUNet) or "FILE.py:CLASS".
        weights: State dict, .safetensors, or a file for torch.load(weights_only=True).
        arguments: Arguments of the class.
        weights_key: Where the state dict is in a nested file, "a.b"; the whole file if None.
        prefix: Start of the names in the state dict to take and cut off ("module.").
        sha256: What the file of weights must hash to, or None.
        channels: Channels of an image.
        shape: (C, H, W) where the network serves one size only.
        per_channel: Apply a one-channel network to each channel.
        learned_variance: Take the first half of the channels that come out.
        units: Unit of a pixel value.
        offset: Physical value of u = 0.
        scale: Physical value of one unit of u.
        sigma_min: Smallest σ to use; needed for "denoiser", where nothing else says it.
        sigma_max: Largest σ.
        form: For "edm": "F" inside the preconditioning, or "D" already preconditioned.
        sigma_data: For "edm", form "F": root mean square of u.
        prediction: For "ddpm": "epsilon", "v" or "x0".
        alphas_cumprod: For "ddpm": the list of ᾱ_t, or the name of a tensor in the state dict.
        schedule: For "ddpm" instead: {kind, steps, first, last}, see `wrappers.alphas_cumprod`.
        timestep: For "ddpm": "nearest" or "interpolated".
        timestep_scale: For "ddpm": factor on the timestep.
        widths: File of `save_widths`, or None.
        inflate: Factor on the fitted variances.
        micro_batch: Draws computed together by default.
        name: Name for messages.
    """

    kind: str
    network: str
    weights: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights_key: str | None = None
    prefix: str = ""
    sha256: str | None = None
    channels: int = 1
    shape: tuple[int, int, int] | None = None
    per_channel: bool = False
    learned_variance: bool = False
    units: str = ""
    offset: float = 0.0
    scale: float = 1.0
    sigma_min: float | None = None
    sigma_max: float | None = None
    form: str = "F"
    sigma_data: float = 0.5
    prediction: str = "epsilon"
    alphas_cumprod: Any = None
    schedule: Mapping[str, Any] | None = None
    timestep: str = "nearest"
    timestep_scale: float = 1.0
    widths: str | None = None
    inflate: float = 1.0
    micro_batch: int = 4
    name: str = ""


OF_KIND = {
    "denoiser": (),
    "edm": ("form", "sigma_data"),
    "ddpm": ("prediction", "alphas_cumprod", "schedule", "timestep", "timestep_scale"),
}


def _described(path: Path) -> Description:
    if not path.is_file():
        raise PriorError("There is no such prior file", where=path, remedy="check the path")
    try:
        text = path.read_text()
        raw = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PriorError(
            "The description of the prior cannot be read", where=path, got=error
        ) from error
    known = [f.name for f in fields(Description)]
    needed = [f.name for f in fields(Description) if f.default is f.default_factory is MISSING]
    if not isinstance(raw, dict) or (wrong := set(raw) - set(known) or set(needed) - set(raw)):
        got = f"{sorted(map(str, wrong))}" if isinstance(raw, dict) else type(raw).__name__
        raise PriorError(
            "The description of the prior has an unknown entry or lacks one",
            where=path,
            expected=f"{', '.join(needed)}; may be: {', '.join(sorted(set(known) - set(needed)))}",
            got=got,
            remedy="see docs/guides/bring-a-prior.md",
        )
    _one_of(raw["kind"], KINDS, path, "kind")
    other = {k for kind, keys in OF_KIND.items() if kind != raw["kind"] for k in keys} & set(raw)
    if other:
        raise PriorError(
            f"A prior of kind '{raw['kind']}' has no such entry",
            where=path,
            expected=f"of its own: {', '.join(OF_KIND[raw['kind']]) or 'none'}",
            got=", ".join(sorted(other)),
            remedy="remove it, or choose the kind that has it",
        )
    return Description(**raw)


def _one_of(value: Any, allowed: tuple[str, ...], path: Path, key: str) -> None:
    if value not in allowed:
        raise PriorError(
            f"The description's {key} is not known",
            where=path,
            expected=", ".join(allowed),
            got=value,
            remedy="choose one of these",
        )
