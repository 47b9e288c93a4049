"""The network that a description names, and its weights; nothing in a file of weights is run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sciinv.errors import PriorError

if TYPE_CHECKING:
    from sciinv.priors.wrapped.load import Description


# Packages whose classes a description may name: what it says is then a network and nothing else.
PACKAGES = (
    "torch.nn",
    "torchvision.models",
    "deepinv.models",
    "diffusers",
    "denoising_diffusion_pytorch",
    "sciinv.priors.wrapped.networks",
    "timm",
    "monai.networks",
    "segmentation_models_pytorch",
    "transformers",
)


def network_of(said: Description, path: Path, run: bool | str = False) -> nn.Module:
    """Return the network of the class that is named, with fresh weights.

    The class is looked at before anything is called: it is a subclass of `torch.nn.Module`, from a
    package of `PACKAGES` or from a file that may be run.

    Args:
        said: The description.
        path: Its file.
        run: Whether a class in a file of one's own may be used, see `load`.

    Raises:
        PriorError: The class is not a network, may not be used, or refuses its arguments.
    """
    file, _, name = said.network.rpartition(":")
    if file.endswith(".py"):
        source = beside(path, file)
        _check_named(source, name, path, run)
        cls = _attribute(lambda: _module_of(source), name, said, path)
    elif any(file == p or file.startswith(f"{p}.") for p in PACKAGES) and _DOTTED.fullmatch(file):
        cls = _attribute(lambda: importlib.import_module(file), name, said, path)
    else:
        raise PriorError(
            "The network cannot be made: its module is none that a description may name",
            where=f"{path}: {said.network}",
            expected=f"a class of {', '.join(PACKAGES)}, or FILE.py:CLASS",
            got=said.network,
            remedy="for another package write a FILE.py beside the description that imports the "
            "class, and name FILE.py:CLASS",
        )
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise PriorError(
            "The class is not a network",
            where=f"{path}: {said.network}",
            expected="a subclass of torch.nn.Module; nothing else is called",
            got=f"the class {cls.__name__}" if isinstance(cls, type) else type(cls).__name__,
            remedy="name a subclass of torch.nn.Module",
        )
    try:
        arguments = dict(said.arguments)
        if "pretrained" in inspect.signature(cls).parameters:
            arguments.setdefault("pretrained", None)  # deepinv's would download
        with torch.random.fork_rng(devices=[]):  # weights at random, before the file's
            return cls(**arguments)
    except Exception as error:
        raise _cannot(said, path, error) from error


_DOTTED = re.compile(r"\w+(\.\w+)*")


def _check_named(source: Path, name: str, path: Path, run: bool | str) -> None:
    """Raise unless the user lets this class of this file be run."""
    if run is True:
        return
    if isinstance(run, str):
        file, _, cls = run.rpartition(":")
        given = Path(file).expanduser()
        if cls == name and given.is_file() and given.samefile(source):
            return
    raise PriorError(
        "The description of the prior names a Python file, which is not run unasked",
        where=path,
        expected=f"that you name it: {source}:{name}",
        got=run or "no such name",
        remedy=f"read the file; then add --network {source}:{name} to the command, or "
        f"prior: {{kind: file, path: {path}, network: {source}:{name}}} to the configuration, "
        "or run=True to priors.load",
    )


def _module_of(source: Path) -> ModuleType:
    """Run a Python file and return it as a module."""
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"sciinv_network_{digest}", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: Callable[[], ModuleType], name: str, said: Description, path: Path) -> Any:
    try:
        return getattr(module(), name)
    except Exception as error:
        raise _cannot(said, path, error) from error


def _cannot(said: Description, path: Path, error: Exception) -> PriorError:
    return PriorError(
        "The network cannot be made",
        where=f"{path}: {said.network}",
        expected="module:CLASS or FILE.py:CLASS, and the arguments that it takes",
        got=f"{type(error).__name__}: {error}",
        remedy="correct network and arguments",
    )


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
