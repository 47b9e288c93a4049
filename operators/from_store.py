"""An operator from a measurement store: its arrays and parameters go to the constructor by name."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import declared
from sciinv.operators.named import REGISTRY, find, made


def from_measurement(
    dataset: xr.Dataset,
    item: int = 0,
    operator: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> tuple[Any, Tensor]:
    """Build the operator that a measurement store describes, and return it with one measurement.

    A dataset names operators of the registry only: a file of code is run where the caller names it.

    The constructor's parameters are taken by name, the first found counts: `overrides`, a variable
    or coordinate of the dataset (as a tensor; of the given item where it has a dimension `item`),
    an entry of the JSON attribute `params`.

    Args:
        dataset: What `sciinv.store.open_measurement` or a reader returned.
        item: Position along the dimension `item`.
        operator: Registry name or "FILE.py:CLASS"; by default the attribute `operator`, which
            must then be a registry name.
        dtype: Of y and of every floating-point array, but for the operator's
            `float64_parameters`.
        **overrides: Constructor parameters to set or replace.

    Returns:
        (physics, y): the operator, and y [1, …].

    Raises:
        OperatorError: The store and the constructor do not match, or the store names a file of
            code that the caller does not.
        ConfigError: There is no operator of this name.
    """
    if "y" not in dataset or "item" not in dataset["y"].dims:
        raise OperatorError(
            "The dataset is no measurement",
            expected="a variable y with a dimension item",
            got=list(dataset.data_vars),
            remedy="open it with sciinv.store.open_measurement, or convert it with a reader",
        )
    name = operator or dataset.attrs.get("operator")
    if not name:
        raise OperatorError(
            "The measurement does not name its operator",
            expected="an attribute operator",
            got=f"attributes {sorted(map(str, dataset.attrs))}",
            remedy="pass operator=…, or set the attribute",
        )
    if operator is None and name not in REGISTRY:
        raise OperatorError(
            "The measurement names a file of code, which is not run unasked",
            where=dataset.encoding.get("source"),
            expected=f"one of {', '.join(sorted(REGISTRY))}, or an operator that you name yourself",
            got=name,
            remedy="read the file, then name it: --operator FILE.py:CLASS on the command line, "
            "operator: {name: FILE.py:CLASS} in the configuration, operator=… in Python",
        )
    items = dataset.sizes["item"]
    if not 0 <= item < items:
        raise OperatorError(
            "The measurement has no such item",
            expected=f"0 … {items - 1}",
            got=item,
            remedy="choose an item that was measured",
        )
    cls = find(name)
    params = _gather(cls, name, dataset, item, dtype, overrides)
    physics = made(cls, name, params)
    y = _tensor(dataset["y"], item, dtype).unsqueeze(0)
    known = declared(physics, y)
    spec = known.measurement_spec
    if spec is not None and tuple(y.shape[1:]) != tuple(spec.shape):
        dims = [d for d in dataset["y"].dims if d != "item"]
        raise OperatorError(
            f"The stored measurement does not match the operator {name}",
            expected=dict(zip(spec.dims, spec.shape, strict=True)),
            got=dict(zip(dims, y.shape[1:], strict=True)),
            remedy="name the operator that the data were measured with, or correct its parameters",
        )
    known.check_data(y)
    return physics, y


def _gather(
    cls: type,
    name: str,
    dataset: xr.Dataset,
    item: int,
    dtype: torch.dtype,
    overrides: dict[str, Any],
) -> dict[str, Any]:
    """Collect the constructor's arguments; raise where a side has what the other does not."""
    known = inspect.signature(cls).parameters
    named = {k: p for k, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    stored = _params(dataset)
    # A stored parameter is the operator's own only under the operator's own name.
    foreign = name != dataset.attrs.get("operator")
    strays = [k for k in overrides if k not in named]
    strays += [] if foreign else [k for k in stored if k not in named]
    found = {k: v for k, v in stored.items() if k in named}
    for key in named:
        if key != "y" and key in dataset.variables:
            exact = key in getattr(cls, "float64_parameters", ())
            found[key] = _tensor(dataset[key], item, torch.float64 if exact else dtype)
    found.update({k: v for k, v in overrides.items() if k in named})
    missing = [k for k, p in named.items() if p.default is p.empty and k not in found]
    if strays or missing:
        held = sorted(map(str, {*dataset.variables, *stored, *overrides} - {"y", "item"}))
        raise OperatorError(
            f"The measurement store does not match the operator {name}",
            where=cls.__name__,
            expected=f"the parameters {', '.join(named)}",
            got=f"{', '.join(held) or 'nothing'} (missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(strays) or 'none'})",
            remedy="store the missing array or parameter under the constructor's name, or pass it",
        )
    return found


def _params(dataset: xr.Dataset) -> dict[str, Any]:
    raw = dataset.attrs.get("params", {})
    try:
        params = json.loads(raw) if isinstance(raw, str) else dict(raw)
        if not isinstance(params, dict):
            raise TypeError(f"a JSON {type(params).__name__}")
    except (ValueError, TypeError) as error:
        raise OperatorError(
            "The measurement's attribute params cannot be read",
            expected="a JSON object of constructor parameters",
            got=f"{raw!r} ({error})",
            remedy="write it with json.dumps({…})",
        ) from error
    return params


def _tensor(array: xr.DataArray, item: int, dtype: torch.dtype) -> Any:
    """Return the item's values as a tensor of `dtype` (integers, booleans as they are)."""
    values = array.isel(item=item).values if "item" in array.dims else array.values
    if values.dtype.kind not in "fiubc":
        return values.tolist()
    tensor = torch.from_numpy(np.array(values))
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
