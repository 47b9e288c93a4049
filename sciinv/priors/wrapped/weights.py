"""The network that a description names, and its weights; nothing in a file of weights is run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sciinv.errors import PriorError

if TYPE_CHECKING:
    from sciinv.priors.wrapped.load import Description


def network_of(said: Description, path: Path) -> nn.Module:
    """Return the network of the class that is named, with fresh weights."""
    file, _, name = said.network.rpartition(":")
    try:
        if file.endswith(".py"):
            source = beside(path, file)
            digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
            spec = importlib.util.spec_from_file_location(f"sciinv_network_{digest}", source)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        elif re.fullmatch(r"\w+(\.\w+)*", file):
            module = importlib.import_module(file)
        else:
            raise ImportError("no name of a class")
        cls = getattr(module, name)
        arguments = dict(said.arguments)
        if "pretrained" in inspect.signature(cls).parameters:
            arguments.setdefault("pretrained", None)  # deepinv's would download
        network = cls(**arguments)
    except PriorError:
        raise
    except Exception as error:
        raise PriorError(
            "The network cannot be made",
            where=f"{path}: {said.network}",
            expected="module:CLASS or FILE.py:CLASS, and the arguments that it takes",
            got=f"{type(error).__name__}: {error}",
            remedy="correct network and arguments",
        ) from error
    if not isinstance(network, nn.Module):
        raise PriorError(
            "The class is not a network",
            where=f"{path}: {said.network}",
            expected="a torch.nn.Module",
            got=type(network).__name__,
            remedy="name a subclass of torch.nn.Module",
        )
    return network


def state_of(said: Description, path: Path) -> dict[str, Tensor]:
    """Return the state dict by name; never unpickles an object."""
    file = beside(path, said.weights)
    if said.sha256 is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != said.sha256.lower():
            raise PriorError("The weights are not those that the description was written for",
                             where=file, expected=said.sha256, got=digest,
                             remedy="fetch the file again, or correct sha256")  # fmt: skip
    try:
        found: Any = (
            load_file(str(file))
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise PriorError(
            "The file of weights cannot be read without running code from it",
            where=file,
            expected="safetensors, or what torch.load(weights_only=True) reads: tensors by name",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="save network.state_dict() instead of the network, best as safetensors",
        ) from error
    for key in said.weights_key.split(".") if said.weights_key else ():
        if not isinstance(found, Mapping) or key not in found:
            got = sorted(map(str, found))[:6] if isinstance(found, Mapping) else type(found)
            raise PriorError("There is no such entry in the file of weights", where=file,
                             expected=key, got=got, remedy="correct weights_key")  # fmt: skip
        found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        keys = sorted(map(str, found))[:6] if isinstance(found, Mapping) else type(found).__name__
        raise PriorError(
            "The file of weights does not hold tensors by name",
            where=file,
            expected="a state dict",
            got=keys,
            remedy="say under which of its entries the state dict is (weights_key)",
        )
    cut = said.prefix
    return {str(k)[len(cut) :]: v for k, v in found.items() if str(k).startswith(cut)}


def fill(network: nn.Module, tensors: dict[str, Tensor], said: Description, path: Path) -> None:
    """Load the tensors; every one of the network, none left over, shapes alike, all finite."""
    wanted = network.state_dict()
    spare = {said.alphas_cumprod} if isinstance(said.alphas_cumprod, str) else set()
    found = {k: v for k, v in tensors.items() if k in wanted or k not in spare}
    lacking, stray = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    where = f"{path}: {said.weights}"
    if lacking or stray:
        raise PriorError(
            "The state dict is not that of the network",
            where=where,
            expected=f"{len(wanted)} tensors of {said.network}",
            got=f"missing: {', '.join(lacking[:4]) or 'none'}; "
            f"unexpected: {', '.join(stray[:4]) or 'none'}",
            remedy="check arguments, weights_key and prefix",
        )
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise PriorError(
                "A tensor of the network has the wrong shape",
                where=f"{where}: {name}",
                expected=list(wanted[name].shape),
                got=list(value.shape),
                remedy="check arguments",
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise PriorError("A tensor of the network is not finite", where=f"{where}: {name}",
                             remedy="fetch the file again")  # fmt: skip
    network.load_state_dict(found)


def beside(path: Path, name: str) -> Path:
    """Return a file that a description names, relative to its own folder."""
    found = path.parent / Path(name).expanduser()
    if not found.is_file():
        raise PriorError(
            "A file that the description of the prior names is not there",
            where=path,
            expected=name,
            got="no such file",
            remedy="check the path; it is taken from the folder of the description",
        )
    return found
