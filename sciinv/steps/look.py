"""The step inspect: what a reader sees in raw files, and what it still has to be told."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciinv import plots, readers
from sciinv.config import Data, Operator
from sciinv.errors import DataError
from sciinv.operators.base import ImageSpec
from sciinv.readers.parts.angles_beside import known_options
from sciinv.readers.parts.looks import warnings_of
from sciinv.steps.build import build
from sciinv.steps.source import Source
from sciinv.store.atomic import write_file

# Shown by rows of their own.
OWN_ROWS = ("operator", "params", "units", "source", "title", "warnings", "sciinv_version")


@dataclass(frozen=True)
class Seen:
    """What a reader sees in raw data.

    Attributes:
        data: The reader, the path and the options that were used.
        guessed: Whether the reader was told by the content.
        items: Number of items of the file, where the reader can tell.
        dataset: The first item as a measurement; None where options are missing.
        image: The image that its operator makes; None where there is no dataset.
        missing: Options that the reader needs and nobody gave.
        from_file: Options that were found in the file itself.
    """

    data: Data
    guessed: bool
    items: int | None
    dataset: xr.Dataset | None
    image: ImageSpec | None
    missing: tuple[str, ...] = ()
    from_file: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """The reader's sentences of doubt."""
        return [] if self.dataset is None else warnings_of(self.dataset)


def look(
    paths: Sequence[str], reader: str | None = None, options: Mapping[str, Any] | None = None
) -> Seen:
    """Read the first item of raw files, and say what is in them.

    Args:
        paths: The files that make one measurement.
        reader: Name of a reader, or FILE.py:FUNCTION; told by the content if None.
        options: Options of the reader.

    Raises:
        SciinvError: No reader knows the file, it cannot be read, or an option is not the reader's.
    """
    chosen = reader or readers.guess(paths[0])
    found = known_options(chosen, Path(paths[0]), options or {})
    given = {**found, **(options or {})}
    path = paths[0] if len(paths) == 1 else tuple(paths)
    missing = _missing(chosen, given)
    data = Data(chosen, path, given)
    if missing:
        return Seen(data, reader is None, None, None, None, missing, found)
    source = Source.of(data)
    items = source.items()
    one = source if items is None else source.of_item(items[0])
    dataset = one.read()
    count = dataset.sizes.get("item") if items is None else len(items)
    image = build(dataset, Operator())[0].image_spec
    return Seen(data, reader is None, count, dataset, image, (), found)


def _missing(reader: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    if reader == "store":
        return ()
    _, *rest = inspect.signature(readers.find(reader)).parameters.values()
    return tuple(
        p.name
        for p in rest
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in options
    )


def rows(seen: Seen) -> list[tuple[str, str]]:
    """Return what is seen as rows of name and text."""
    paths = ", ".join(seen.data.paths)
    how = "by its content" if seen.guessed else "as asked"
    out = [("file", paths), ("reader", f"{seen.data.reader} ({how})")]
    out += [(f"found in the file: {k}", _short(v)) for k, v in seen.from_file.items()]
    if seen.dataset is None or seen.image is None:
        return [*out, *_raw_array(seen), ("missing", ", ".join(seen.missing))]
    attrs, y, image = seen.dataset.attrs, seen.dataset["y"], seen.image
    sizes = " × ".join(f"{n} {k}" for k, n in y.sizes.items() if k != "item")
    _, height, width = image.shape
    pixel = abs(float(image.x[1] - image.x[0]))
    out += [
        ("title", str(attrs.get("title", ""))),
        ("items", str(seen.items)),
        ("operator", str(attrs["operator"])),
        ("data", f"{sizes}, {attrs['units']}, {float(y.min()):.4g} to {float(y.max()):.4g}"),
        ("noise", _noise(seen.dataset)),
        (
            "image",
            f"{height} × {width} pixels of {pixel:.4g} {image.axis_units} "
            f"({width * pixel:.4g} {image.axis_units} wide), channels "
            f"{', '.join(image.channels)}, unit {image.units}",
        ),
    ]
    names = [k for k in seen.dataset.variables if k not in ("y", "noise_sd", *seen.dataset.dims)]
    out += [(f"array {k}", _array(seen.dataset[k])) for k in names]
    out += [(f"parameter {k}", _short(v)) for k, v in json.loads(attrs["params"]).items()]
    out += [(str(k), _short(v)) for k, v in attrs.items() if k not in OWN_ROWS]
    return out


def _noise(dataset: xr.Dataset) -> str:
    if "noise_sd" not in dataset:
        return "correlated: Cholesky factor" if "cholesky" in dataset else "the operator's own"
    sd = dataset["noise_sd"].values
    sd = sd[np.isfinite(sd)]
    if not sd.size:
        return "no sample carries data"
    low, middle, high = (float(q) for q in np.quantile(sd, (0, 0.5, 1)))
    size = float(np.sqrt(np.mean(np.square(dataset["y"].values)))) or 1.0
    return f"sd {middle:.3g} ({low:.3g} to {high:.3g}); root mean square of the data ÷ sd " \
        f"{size / middle:.3g}"  # fmt: skip


def _array(values: xr.DataArray) -> str:
    shape = " × ".join(f"{n} {k}" for k, n in values.sizes.items()) or "one value"
    unit = f", {values.attrs['units']}" if "units" in values.attrs else ""
    if values.dtype.kind == "b":
        return f"{shape}, {int(values.sum())} of {values.size} true"
    if values.dtype.kind in "fiu" and values.size:
        return f"{shape}{unit}, {float(values.min()):.4g} to {float(values.max()):.4g}"
    return f"{shape}{unit}"


def _raw_array(seen: Seen) -> list[tuple[str, str]]:
    """Return a row on the array of a file whose reader still lacks options."""
    from sciinv.readers.parts import frame_files, tiff_frames
    from sciinv.readers.parts.sinogram_files import opened_array

    if seen.data.reader == "projections":
        files = frame_files.projections(
            seen.data.paths[0] if len(seen.data.paths) == 1 else list(seen.data.paths)
        )
        scan = tiff_frames.headers(files, "projections")
        size = f"{scan.shape[0]} rows × {scan.shape[1]} columns"
        return [("projections", f"{scan.count} of {size}, {scan.dtype}")]
    if seen.data.reader != "sinogram":
        return []
    try:
        array = opened_array(Path(seen.data.paths[0]), seen.data.options.get("dataset"))
    except DataError as error:
        return [("array", f"{error.what}: {error.got}")]
    return [("array", f"{' × '.join(map(str, array.shape))} of {array.dtype}")]


def _short(value: Any, most: int = 70) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def picture(seen: Seen, path: str | Path) -> Path:
    """Write a picture (PNG) of the data: sinogram, k-space, or coverage and values.

    Raises:
        DataError: The reader still lacks options, or the data have no picture.
    """
    if seen.dataset is None:
        raise DataError(
            "There is no picture yet: the reader lacks options",
            where=", ".join(seen.data.paths),
            expected=", ".join(seen.missing),
            got="none",
            remedy="give them with --option KEY=VALUE",
        )
    write_file(path, plots.png(plots.measurement_figure(seen.dataset)))
    return Path(path)
