"""Raw data with the reader that reads them: reader, paths and options resolved once."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from sciinv import readers, store
from sciinv.config import Data
from sciinv.config.paths import is_remote, locate, located_name
from sciinv.errors import ConfigError
from sciinv.registry import close_to
from sciinv.store.atomic import sha256

_HASHED = 2**33  # bytes of raw files that are hashed, at most
ITEM_OPTIONS = ("item", "rows")  # what readers call the argument that selects items


@dataclass(frozen=True)
class Source:
    """Raw data that one call of a reader turns into a measurement dataset.

    Attributes:
        name: The reader's name, for messages.
        function: The reader.
        arguments: What it is called with first: the path, a list of paths, or nothing.
        options: Its keyword arguments.
    """

    name: str
    function: Callable[..., xr.Dataset]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Data) -> Source:
        """Return the source that a configuration's `data` names.

        Raises:
            ConfigError: There is no such reader, or it does not take these options.
            DataError: A file is not there.
        """
        if data.reader == "store":
            if data.options:  # a store is read as it is: an option would change nothing
                raise ConfigError(
                    "A measurement store takes no reader options",
                    where=data.paths[0],
                    expected="no options",
                    got=", ".join(data.options),
                    remedy="give the options where the raw data are read, and make the store anew",
                )
            path = data.paths[0]
            return cls(
                "store", store.open_measurement, (path if is_remote(path) else locate(path),)
            )
        paths = [locate(p) for p in data.paths]
        arguments = () if not paths else (paths[0] if isinstance(data.path, str) else paths,)
        function = readers.find(located_name(data.reader))
        source = cls(data.reader, function, arguments, dict(data.options))
        source._check_options()
        return source

    def read(self) -> xr.Dataset:
        """Return the measurement dataset."""
        return self.function(*self.arguments, **self.options)

    def recorded(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return a dataset whose attributes name its raw files by SHA-256, the reader and options.

        Files above 8 GiB in all are named by their size alone: a hash reads them once more.
        """
        if self.name == "store" or not self.arguments:
            return dataset
        first = self.arguments[0]
        files = [Path(p) for p in (first if isinstance(first, list) else [first])]
        files = [p for p in files if p.is_file()]
        small = sum(p.stat().st_size for p in files) <= _HASHED
        found = [
            {"name": p.name, "bytes": p.stat().st_size, "sha256": sha256(p) if small else None}
            for p in files
        ]
        return dataset.assign_attrs(
            raw_files=json.dumps(found),
            reader=self.name,
            reader_options=json.dumps(dict(self.options), default=str, ensure_ascii=False),
        )

    def of_item(self, item: int) -> Source:
        """Return the source of one item; see `item_option`."""
        assert self.item_option is not None
        return replace(self, options={**self.options, self.item_option: [item]})

    @property
    def item_option(self) -> str | None:
        """The reader's argument that selects items; None where it has none or it is set."""
        known = inspect.signature(self.function).parameters
        free = (k for k in ITEM_OPTIONS if k in known and k not in self.options)
        return None if self.name == "store" else next(free, None)

    def items(self) -> list[int] | None:
        """Return the numbers of all items; None where the reader cannot tell, or not select them.

        A reader tells by a function `items` beside it: of the path (where there is one) and of
        those of the reader's options that it takes.
        """
        several = bool(self.arguments) and isinstance(self.arguments[0], list)
        if self.item_option is None or several:
            return None
        count = self.function.__globals__.get("items")  # type: ignore[attr-defined]
        if count is None:
            return None
        known = inspect.signature(count).parameters
        options = {k: v for k, v in self.options.items() if k in known}
        return list(range(count(*(str(p) for p in self.arguments), **options)))

    def _check_options(self) -> None:
        signature = inspect.signature(self.function)
        try:
            signature.bind(*self.arguments, **self.options)
        except TypeError as error:
            known = list(signature.parameters)[len(self.arguments) :]
            near = [close_to(k, known) for k in self.options if k not in known]
            raise ConfigError(
                "The reader does not take these options",
                where=f"reader {self.name}",
                expected=", ".join(known) or "none",
                got=", ".join(self.options) or "none",
                remedy="; ".join(n for n in near if n) or str(error),
            ) from error
