"""Which family a file of weights is of, and the description that serves it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sciinv.errors import PriorError
from sciinv.priors.wrapped import pickles

KNOWN = (
    "EDM and InverseBench (.pkl, .pt), guided-diffusion (.pt), diffusers (a folder), "
    "denoising_diffusion_pytorch (.pt), Lightning (.ckpt), deepinv"
)
EDM_ARGUMENTS = (
    "model_channels", "channel_mult", "channel_mult_emb", "num_blocks", "attn_resolutions",
)  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """A family, what its description says, and its tensors.

    Attributes:
        family: Its name.
        said: Entries of the description, without `weights`.
        tensors: State dict of the network.
        lines: What was inferred or assumed, in sentences.
    """

    family: str
    said: dict[str, Any]
    tensors: dict[str, Tensor]
    lines: list[str] = field(default_factory=list)


def recognise(path: Path, given: Mapping[str, Any]) -> Recognised:
    """Return the description of a file of weights.

    Args:
        path: The file, or the folder of a diffusers pipeline.
        given: Entries that the user states: `network`, `arguments`, `prediction`, …

    Raises:
        PriorError: The file cannot be read, or nothing says what network it is of.
    """
    if path.is_dir():
        return _diffusers(path)
    if not path.is_file():
        raise PriorError("There is no such file of weights", where=path, remedy="check the path")
    if path.suffix == ".pkl":
        return _edm_pickle(path, given)
    held = _opened(path)
    if given.get("network"):
        tensors, line = _state_dict(held, path)
        said = {"kind": "denoiser", "network": given["network"]}
        return Recognised("a network that was named", said, tensors, [line])
    tensors, line = _state_dict(held, path)
    for known in (_lucidrains, _guided, _edm_state):
        found = known(tensors, held, given)
        if found is not None:
            found.lines.insert(0, line)
            return found
    raise PriorError(
        "Nothing says what network the weights are of",
        where=path,
        expected=KNOWN,
        got=f"{len(tensors)} tensors: {', '.join(sorted(tensors)[:5])}, …",
        remedy="name the class: --network deepinv.models:DRUNet --arguments '{…}', see "
        "docs/priors.md",
    )


def _opened(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise PriorError(
            "The file of weights cannot be read without running code from it",
            where=path,
            expected="safetensors, or what torch.load(weights_only=True) reads",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="save network.state_dict() with the code that wrote it; a plain pickle of "
            "NVlabs' EDM is read when its name ends in .pkl",
        ) from error


def _state_dict(held: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors: averaged weights where there are some."""
    if not isinstance(held, Mapping):
        raise PriorError("The file does not hold tensors by name", where=path,
                         expected="a state dict", got=type(held).__name__,
                         remedy="save network.state_dict()")  # fmt: skip
    for key in ("ema", "ema_state_dict", "model_ema", "net", "model", "state_dict", ""):
        inner = held.get(key) if key else held
        if isinstance(inner, Mapping):
            tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
            if len(tensors) > 1:
                own = {k[10:]: v for k, v in tensors.items() if k.startswith("ema_model.")}
                return own or tensors, f"weights: {key or 'the whole file'}"
    raise PriorError("The file does not hold tensors by name", where=path,
                     expected="a state dict, also under ema, net, model or state_dict",
                     got=", ".join(map(str, list(held)[:6])),
                     remedy="save network.state_dict()")  # fmt: skip


def _under(tensors: Mapping[str, Tensor], first: str) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of the network that has one of the name `first`, its prefix cut off."""
    for name in tensors:
        if name == first or name.endswith("." + first):
            cut = len(name) - len(first)
            return {k[cut:]: v for k, v in tensors.items() if k.startswith(name[:cut])}, True
    return {}, False


def _diffusers(path: Path) -> Recognised:
    unet = path / "unet" if (path / "unet").is_dir() else path
    plan = path / "scheduler/scheduler_config.json"
    try:
        config = json.loads((unet / "config.json").read_text())
        scheduler = json.loads(plan.read_text()) if plan.is_file() else {}
    except (OSError, json.JSONDecodeError) as error:
        raise PriorError(
            "The folder is no diffusers model",
            where=path,
            expected="unet/config.json beside its weights",
            got=error,
            remedy="save it with pipeline.save_pretrained(FOLDER)",
        ) from error
    name = config.get("_class_name", "UNet2DModel")
    weights = [unet / f"diffusion_pytorch_model.{s}" for s in ("safetensors", "bin")]
    there = next((w for w in weights if w.is_file()), None)
    if name != "UNet2DModel" or there is None:
        raise PriorError(
            "The diffusers model is of a kind that is no denoiser of images",
            where=unet,
            expected="an unconditional UNet2DModel with its weights",
            got=f"{name}, {there.name if there else 'no weights'}",
            remedy="wrap it by a FILE.py of your own, see docs/priors.md",
        )
    arguments = {k: v for k, v in config.items() if not k.startswith("_")}
    size = config.get("sample_size") or 64
    size = [size, size] if isinstance(size, int) else list(size)
    channels = int(config.get("in_channels", 3))
    kinds = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
    beta = scheduler.get("beta_schedule", "linear")
    predictions = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
    said = {
        "kind": "ddpm",
        "network": "diffusers:UNet2DModel",
        "arguments": arguments,
        "channels": channels,
        "shape": [channels, *size],
        "prediction": predictions.get(scheduler.get("prediction_type", "epsilon"), "epsilon"),
        "learned_variance": int(config.get("out_channels", channels)) == 2 * channels,
        "offset": 0.5, "scale": 0.5,
    }  # fmt: skip
    lines = [f"scheduler: {beta}, {said['prediction']}; images from 0 to 1 (u = 2x − 1) assumed"]
    if scheduler.get("trained_betas"):
        alphas = torch.cumprod(1 - torch.tensor(scheduler["trained_betas"]).double(), 0)
        said["alphas_cumprod"] = alphas.tolist()
    elif beta in kinds:
        said["schedule"] = {
            "kind": kinds[beta], "steps": int(scheduler.get("num_train_timesteps", 1000)),
            "first": float(scheduler.get("beta_start", 1e-4)),
            "last": float(scheduler.get("beta_end", 0.02)),
        }  # fmt: skip
    else:
        raise PriorError("The scheduler's noise levels are not known", where=plan,
                         expected=", ".join(kinds), got=beta,
                         remedy="write alphas_cumprod into the description by hand")  # fmt: skip
    return Recognised("diffusers", said, _state_dict(_opened(there), there)[0], lines)


def _lucidrains(
    tensors: Mapping[str, Tensor], held: Any, given: Mapping[str, Any]
) -> Recognised | None:
    if not any(k.endswith("init_conv.weight") for k in tensors):
        return None
    net, found = _under(tensors, "init_conv.weight")
    if not found or "final_conv.weight" not in net:
        return None
    dim, channels = net["init_conv.weight"].shape[:2]
    levels = 1 + max(int(m[1]) for k in net if (m := re.match(r"downs\.(\d+)\.", k)))
    widths = [net[f"downs.{i}.3.weight" if f"downs.{i}.3.weight" in net else
                  f"downs.{i}.3.1.weight"].shape[0] for i in range(levels)]  # fmt: skip
    out = net["final_conv.weight"].shape[0]
    alphas = next((v for k, v in tensors.items() if k.split(".")[-1] == "alphas_cumprod"), None)
    said: dict[str, Any] = {
        "kind": "ddpm",
        "network": "denoising_diffusion_pytorch:Unet",
        "arguments": {
            "dim": int(dim), "dim_mults": [int(w) // int(dim) for w in widths],
            "channels": int(channels), "learned_variance": bool(out == 2 * channels),
        },
        "channels": int(channels),
        "prediction": given.get("prediction") or "v",
        "learned_variance": bool(out == 2 * channels),
        "offset": 0.5, "scale": 0.5,
    }  # fmt: skip
    if alphas is not None:
        said["alphas_cumprod"] = alphas.double().tolist()
    else:
        said["schedule"] = {"kind": "cosine", "steps": 1000}
    lines = [
        f"prediction: {said['prediction']}"
        + ("" if given.get("prediction") else " (the package's default; the file does not say it: "
           "--prediction epsilon or x0 if it was trained otherwise)"),
        "images from 0 to 1 (u = 2x − 1), as with auto_normalize",
    ]  # fmt: skip
    return Recognised("denoising_diffusion_pytorch", said, net, lines)


def _guided(
    tensors: Mapping[str, Tensor], held: Any, given: Mapping[str, Any]
) -> Recognised | None:
    net, found = _under(tensors, "input_blocks.0.0.weight")
    if not found or "time_embed.0.weight" not in net or "out.2.weight" not in net:
        return None
    blocks = {part: 1 + max(int(k.split(".")[1]) for k in net if k.startswith(part))
              for part in ("input_blocks", "output_blocks")}  # fmt: skip

    def kinds(block: int) -> list[str]:
        own = [k.split(".") for k in net if k.startswith(f"output_blocks.{block}.")]
        each: dict[int, str] = {}
        for parts in own:
            sort = {"in_layers": "res", "qkv": "attention", "conv": "up"}.get(parts[3])
            if sort:
                each[int(parts[2])] = sort
        return [each[i] for i in sorted(each)]

    sequence = [kinds(b) for b in range(blocks["output_blocks"])]
    raised = [k.count("res") == 2 or "up" in k for k in sequence]
    levels = 1 + sum(raised)
    per = blocks["output_blocks"] // levels
    base = int(net["time_embed.0.weight"].shape[1])
    wide = [int(net[f"output_blocks.{(levels - 1 - i) * per}.0.out_layers.3.weight"].shape[0])
            for i in range(levels)]  # fmt: skip
    attention = [i for i in range(levels) if "attention" in sequence[(levels - 1 - i) * per]]
    first = net["input_blocks.1.0.emb_layers.1.weight"].shape[0]
    channels, out = (
        int(net["input_blocks.0.0.weight"].shape[1]),
        int(net["out.2.weight"].shape[0]),
    )
    said = {
        "kind": "ddpm",
        "network": "sciinv.priors.wrapped.networks:GuidedUNet",
        "arguments": {
            "in_channels": channels, "out_channels": out, "model_channels": base,
            "num_res_blocks": per - 1, "channel_mult": [w / base for w in wide],
            "attention": attention,
            "use_scale_shift_norm": bool(first == 2 * wide[0]),
            "resblock_updown": not any("up" in k for k in sequence),
        },
        "channels": channels,
        "learned_variance": out == 2 * channels,
        "prediction": given.get("prediction") or "epsilon",
        "schedule": {"kind": "linear", "steps": 1000},
        "offset": 0.5, "scale": 0.5,
    }  # fmt: skip
    lines = [
        "heads of 64 channels, linear schedule of 1,000 steps, images from 0 to 1 (u = 2x − 1): "
        'assumed, since the file does not say; --arguments \'{"num_head_channels": -1, '
        '"num_heads": 4}\' and the like change it'
    ]
    return Recognised("guided-diffusion", said, net, lines)


def _edm_pickle(path: Path, given: Mapping[str, Any]) -> Recognised:
    found = pickles.networks(pickles.read(path))
    for key in ("ema", "net", *found):
        if key in found:
            arguments, tensors = found[key]
            out = _edm_state(tensors, {"arguments": arguments}, given)
            if out is not None:
                out.lines.insert(
                    0, f"converted: the weights of '{key}'; nothing in the pickle was run"
                )
                return out
    raise PriorError("The pickle holds no network of EDM's", where=path,
                     expected="ema or net, a SongUNet or DhariwalUNet in EDMPrecond",
                     got=", ".join(found) or "no network",
                     remedy="save its state dict and name the class with --network")  # fmt: skip


def _edm_state(
    tensors: Mapping[str, Tensor], held: Any, given: Mapping[str, Any]
) -> Recognised | None:
    first = next((k for k in tensors if re.search(r"enc\.(\d+)x\1_conv\.weight$", k)), None)
    if first is None:
        return None
    net, _ = _under(tensors, first[first.index("enc.") :])
    side = int(first.split("enc.")[1].split("x")[0])
    sizes = sorted({int(m[1]) for k in net if (m := re.match(r"enc\.(\d+)x", k))}, reverse=True)
    song = "map_layer0.weight" in net and "out_conv.weight" not in net
    base = int(net[f"enc.{side}x{side}_conv.weight"].shape[0])
    channels = int(net[f"enc.{side}x{side}_conv.weight"].shape[1])
    wide = [int(net[f"enc.{s}x{s}_block0.conv1.weight"].shape[0]) for s in sizes]
    base = base if song else int(net["map_layer0.weight"].shape[1])
    blocks = 1 + max(
        int(m[1]) for k in net if (m := re.match(rf"enc\.{side}x{side}_block(\d+)\.", k))
    )
    augment = net["map_augment.weight"].shape[1] if "map_augment.weight" in net else 0
    attention = [s for s in sizes if f"enc.{s}x{s}_block0.qkv.weight" in net]
    arguments: dict[str, Any] = {
        "img_resolution": side, "in_channels": channels, "out_channels": channels,
        "augment_dim": int(augment),
        "model_channels": base, "channel_mult": [w // base for w in wide],
        "channel_mult_emb": int(net["map_layer1.weight"].shape[0]) // base,
        "num_blocks": blocks, "attn_resolutions": attention,
        "pixel_std": float(given.get("sigma_data") or 0.5),
    }  # fmt: skip
    if "map_label.weight" in net:
        raise PriorError("The network wants a class for each image", where="map_label",
                         expected="an unconditional network", got="class labels",
                         remedy="train or fetch one without classes")  # fmt: skip
    if song:
        arguments["model_type"] = "ncsn" if "map_noise.freqs" in net else "ddpm"
    said = {
        "kind": "edm", "form": "D",
        "network": f"deepinv.models:{'NCSNpp' if song else 'ADMUNet'}",
        "arguments": arguments, "channels": channels, "shape": [channels, side, side],
    }  # fmt: skip
    default = "" if given.get("sigma_data") else " (its default; --sigma-data changes it)"
    lines = [f"preconditioning: EDM's with sigma_data {arguments['pixel_std']:g}{default}"]
    return Recognised("EDM", said, net, lines)
