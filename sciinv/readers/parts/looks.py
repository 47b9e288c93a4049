"""Looks at what was read: sentences of doubt that travel with the measurement.

A reader collects sentences and hands them to `with_warnings`; they are kept as a JSON list in the
attribute `warnings` of the dataset, so that the store and the report can show them. Where nothing
else can be meant, a look raises `DataError` instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import xarray as xr


def with_warnings(dataset: xr.Dataset, sentences: Iterable[str]) -> xr.Dataset:
    """Return the dataset with these sentences beside those that it has; none twice."""
    told = list(dict.fromkeys([*warnings_of(dataset), *sentences]))
    return dataset.assign_attrs(warnings=json.dumps(told, ensure_ascii=False)) if told else dataset


def warnings_of(dataset: xr.Dataset) -> list[str]:
    """Return the sentences of doubt that a dataset carries."""
    try:
        found = json.loads(dataset.attrs.get("warnings", "[]"))
    except (TypeError, ValueError):
        return []
    return [str(s) for s in found] if isinstance(found, list) else []
