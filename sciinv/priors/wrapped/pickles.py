"""Weights out of pickles without running anything that is in them.

A pickle is a program. This reader follows it with a list of what may be called: what builds tensors
and ordered dictionaries. Every other name becomes an inert stand-in that keeps its arguments, so
that a network's parameters can be found in what it would have been.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciinv.errors import PriorError

DEEPEST = 200  # levels of nested objects


class Inert:
    """What a name in a pickle becomes that may not be called; keeps what it is given."""

    name = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.named = arguments, named
        self.state: Any = None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Keep an item."""
        self.items.append(item)

    def extend(self, items: Any) -> None:
        """Keep items."""
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key if isinstance(key, str | int) else repr(type(key))] = value


def _stand_in(module: str, name: str) -> type[Inert]:
    return type("Inert", (Inert,), {"name": f"{module}.{name}"})


def _storage(raw: bytes) -> Any:
    return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)


def _parameter(data: Tensor, requires_grad: bool = False, hooks: Any = None) -> Tensor:
    return data


def _ordered(*arguments: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*arguments)


CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return CALLED.get((module, name)) or _stand_in(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to storage outside of itself")


def read(path: Path) -> Any:
    """Return what a pickle holds, its objects as `Inert`.

    Raises:
        PriorError: It is no pickle, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise PriorError(
            "The pickle cannot be read without running code from it",
            where=path,
            expected="a plain pickle of networks, as NVlabs' EDM writes",
            got=f"{type(error).__name__}: {error}",
            remedy="save network.state_dict() as safetensors with the code that wrote it",
        ) from error


def networks(held: Any) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Return (arguments of the constructor, state dict) of each network found, by its key."""
    entries: dict[Any, Any] = {}
    if isinstance(held, dict):
        entries = held
    elif isinstance(held, Inert):
        entries = held.entries or {"": held}
    found = {}
    for key, value in entries.items():
        state = _state(value)
        if state is not None and (tensors := dict(_tensors(state, ""))):
            found[str(key)] = (_arguments(state), tensors)
    return found


def _state(value: Any) -> dict[str, Any] | None:
    """Return the attributes of what would have been a module."""
    if not isinstance(value, Inert):
        return None
    for meta in (value.state, *value.arguments, *value.named.values()):
        if isinstance(meta, Inert):
            meta = meta.entries
        inner = meta.get("state") if isinstance(meta, dict) else None
        if isinstance(inner, dict):
            return _plain(inner)
        if isinstance(meta, dict) and "_parameters" in meta:
            return _plain(meta)
    return None


def _plain(state: Any) -> dict[str, Any]:
    return state.entries if isinstance(state, Inert) else state


def _tensors(state: dict[str, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if depth > DEEPEST:
        return
    for kind in ("_parameters", "_buffers"):
        for name, value in _plain(state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, module in _plain(state.get("_modules") or {}).items():
        inner = _state(module)
        if inner is not None:
            yield from _tensors(inner, f"{prefix}{name}.", depth + 1)


def _arguments(state: dict[str, Any]) -> dict[str, Any]:
    """Return plain values of the constructor's arguments, where the object kept them."""
    kept = _plain(state.get("_init_kwargs") or {})
    return {str(k): v for k, v in kept.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
