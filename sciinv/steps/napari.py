"""The reader of napari: a posterior store as a stack of draws, a summary store as two maps.

napari calls it by the manifest `sciinv/napari.yaml`; nothing here imports napari.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciinv.errors import SciinvError
from sciinv.steps.export import images
from sciinv.steps.export_places import step_of

Layer = tuple[Any, dict[str, Any], str]
Path_ = str | Sequence[str]


def get_reader(path: Path_) -> Callable[[Path_], list[Layer]] | None:
    """Return the function that reads a store, or None where it is none of ours.

    Args:
        path: A folder, or several of which the first is looked at.
    """
    first = Path(path if isinstance(path, str) else path[0])
    try:
        found = (first / "zarr.json").read_text(encoding="utf-8")
    except OSError:
        return None
    ours = '"posterior"' in found or '"mean"' in found or '"sciinv_version"' in found
    return layers if ours else None


def layers(path: Path_) -> list[Layer]:
    """Return the layers of stores: (array, what napari is told, "image").

    Draws are one layer [draw, item, y, x]; of a summary mean and standard deviation are two, each
    [item, y, x]. Lengths and their unit are those of the store.

    Raises:
        SciinvError: A store is not whole.
    """
    out: list[Layer] = []
    for one in [path] if isinstance(path, str) else path:
        try:
            image = images(one)
        except SciinvError as error:
            raise type(error)(
                error.what, where=one, expected="a posterior or summary store", got=error.got,
                remedy="open posterior.zarr or summary.zarr of a run",
            ) from error  # fmt: skip
        sides = [step_of(image, axis) for axis in ("y", "x")]
        scale = [abs(step) for step, _ in sides]
        first = [float(image[a].values.min()) if a in image.coords else 0.0 for a in ("y", "x")]
        unit = sides[0][1]
        about = {"units": image.attrs["units"], "pixel": unit, "store": str(one)}
        names = [str(v) for v in image["layer"].values]
        stem = f"{Path(one).parent.name} {Path(one).stem}"
        parts = [(stem, image.values)]
        if names == ["mean", "sd"]:
            parts = [(f"{stem} {n}", image.values[k]) for k, n in enumerate(names)]
        for name, values in parts:
            more = values.ndim - 2
            told = {
                "name": name,
                "scale": [*np.ones(more).tolist(), *scale],
                "translate": [*np.zeros(more).tolist(), *first],
                "colormap": "magma" if name.endswith(" sd") else "gray",
                "metadata": about,
            }
            out.append((values, told, "image"))
    return out
