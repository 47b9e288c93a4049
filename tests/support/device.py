"""A stand-in for an accelerator: tensors that live "elsewhere" and count what crosses over.

A `Remote` tensor says that it is on another device and holds its values on the CPU. Under `Device`
every operation on such tensors is carried out on the values; operations that mix them with host
tensors are refused as CUDA refuses them, copies between host and device are counted, and so are
reads of a value by Python (`.item()`, `bool`, `.tolist()`), which stop a device until it is done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

HERE = torch.device("cpu")
# torch looks for a driver as soon as it hears of "cuda"; "meta" is a device that needs none.
THERE = torch.device("meta")
_aten = torch.ops.aten
READS = (_aten._local_scalar_dense.default, _aten.equal.default, _aten.is_nonzero.default)
# Their result has a size that depends on values, so a device must be done before it is known.
SIZED = (_aten.nonzero.default, _aten.masked_select.default, _aten._unique2.default)
COPIES = (_aten._to_copy.default, _aten.copy_.default)


class Remote(torch.Tensor):
    """A tensor of the stand-in."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Remote:
        dense = values.layout == torch.strided
        out = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride() if dense else None, dtype=values.dtype,
            storage_offset=values.storage_offset() if dense else None, device=THERE,
        )  # fmt: skip
        out.values = values
        return out

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Remote({self.values!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the stand-in's mode")


class _Numbers(TorchFunctionMode):
    """Numbers that become tensors of the device: torch makes them before it asks a mode."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        where = kwargs.get("device")
        number = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor)
        if number and where is not None and torch.device(where).type == THERE.type:
            self.device.count("to device")
            return Remote(func(*args, **{**kwargs, "device": HERE}))
        if func is torch.Tensor.new_tensor and isinstance(args[0], Remote):
            self.device.count("to device")
            return Remote(torch.tensor(args[1], **{"dtype": args[0].dtype, **kwargs}))
        return func(*args, **kwargs)


class Device(TorchDispatchMode):
    """The mode under which `Remote` tensors work.

    Attributes:
        counts: "to device", "to host" and "read": how often.
        functions: The functions of the package that did so, innermost first, and how often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.functions: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Any:
        self._numbers = _Numbers(self)
        self._numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def count(self, what: str) -> None:
        self.counts[what] += 1
        self.functions[what, _caller()] += 1

    def put(self, tree: Any) -> Any:
        """Return a tensor, or a module, on the device."""
        if isinstance(tree, torch.nn.Module):
            for module in tree.modules():
                for name, p in list(module._parameters.items()):
                    if p is not None and not isinstance(p, Remote):
                        module._parameters[name] = Remote(p.detach())  # type: ignore[assignment]
                for name, b in list(module._buffers.items()):
                    if b is not None and not isinstance(b, Remote):
                        module._buffers[name] = Remote(b.detach())
            return tree
        return Remote(tree)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        tensors = [t for t in flat if isinstance(t, torch.Tensor)]
        remote = [t for t in tensors if isinstance(t, Remote)]
        target = kwargs.get("device")
        target = None if target is None else torch.device(target)
        if func in COPIES and tensors:
            return self._copy(func, args, kwargs, remote, target)
        if remote:
            host = [t for t in tensors if not isinstance(t, Remote) and t.ndim > 0]
            assert not host, f"{func} mixes host {tuple(host[0].shape)} and device in {_caller()}"
        if func in READS and remote:
            self.count("read")
            return func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if func in SIZED and remote:
            self.count("read")
        there = bool(remote) if target is None else target.type == THERE.type
        if target is not None:
            kwargs["device"] = HERE
        out = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if not there:
            return out
        # an operation in place returns the tensor that it was given
        same = {id(t.values): t for t in remote}
        return tree_map(lambda t: same.get(id(t), Remote(t)) if _plain(t) else t, out)

    def _copy(self, func: Any, args: Any, kwargs: Any, remote: list[Remote], target: Any) -> Any:
        if func is _aten.copy_.default:
            into, source = args[0], args[1]
            if isinstance(into, Remote) != isinstance(source, Remote) and source.ndim > 0:
                self.count("to device" if isinstance(into, Remote) else "to host")
            func(_values(into), _values(source), *args[2:], **kwargs)
            return into
        was = bool(remote)
        there = was if target is None else target.type == THERE.type
        if was != there:
            self.count("to device" if there else "to host")
        if target is not None:
            kwargs["device"] = HERE
        out = func(*tree_map(_values, args), **kwargs)
        return Remote(out) if there else out


def _values(t: Any) -> Any:
    return t.values if isinstance(t, Remote) else t


def _plain(t: Any) -> bool:
    return isinstance(t, torch.Tensor) and not isinstance(t, Remote)


def _caller() -> str:
    """Return the innermost function of the package that is running."""
    import sys

    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("sciinv"):
            return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
