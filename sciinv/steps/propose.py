"""The step init: a configuration proposed for raw files, with the reason of each choice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv import units
from sciinv.config import Operator
from sciinv.config import Prior as PriorOf
from sciinv.config.paths import checkout, locate
from sciinv.config.spec import GENERIC
from sciinv.errors import ConfigError, SciinvError
from sciinv.steps.build import build, generic_file, load_prior
from sciinv.steps.generic import scale_for
from sciinv.steps.look import Seen, look

PRIORS = "data/priors"
# Reader options and display of the shipped examples, by reader and by operator.
OPTIONS: dict[str, dict[str, Any]] = {
    "uvfits": {"kind": "amplitudes", "gain_sd": {"*": 0.1}},
    "htc2022": {"image_size": 128},
}
# Draws of a job and of a micro-batch: ten lanes cost less each than four, the projector of CT reads
# its matrix once for all, and ten are half of the draws that are proposed. A job that is no whole
# number of micro-batches computes draws that belong to its neighbour.
LANES = 10
BINNED = ("sinogram", "dxchange", "projections")  # readers with the option detector_binning
# a side: with 252 a draw under the generic prior took 20 minutes of a core shared by four
MOST_PIXELS = 160


@dataclass(frozen=True)
class Proposal:
    """One problem of the configuration, and why it is so.

    Attributes:
        name: Name of the problem.
        title: Heading of its report.
        seen: What the reader sees with the proposed options.
        prior: A path, or the mapping of a Gaussian prior.
        why: Why this prior.
        others: Priors that do not fit, with the reason.
        draws: Posterior draws.
        notes: Sentences on what was assumed.
    """

    name: str
    title: str
    seen: Seen
    prior: str | dict[str, Any]
    why: str
    others: tuple[str, ...] = ()
    draws: int = 20
    notes: tuple[str, ...] = field(default=())

    @property
    def learned(self) -> bool:
        """Whether the prior is a network: a file, or the generic one."""
        return isinstance(self.prior, str) or self.prior["kind"] == "generic"

    def problem(self) -> dict[str, Any]:
        """Return the problem as the configuration says it, without the name."""
        data = {"reader": self.seen.data.reader, "path": self.seen.data.path}
        if self.seen.data.options:
            data["options"] = _plain(self.seen.data.options)
        operator = str(self.seen.dataset.attrs["operator"]) if self.seen.dataset is not None else ""
        sampler: dict[str, Any] = {"kind": "daps", "conditional": "tweedie", "levels": 50}
        job = min(8, self.draws)  # a closed prior's micro-batch
        if self.learned:
            job = min(LANES, self.draws)
            sampler = {"micro_batch": job}
        out = {"title": self.title, "data": data, "prior": self.prior, "sampler": sampler,
               "items": 1, "draws": self.draws,
               "shards": {"draws": job}}  # fmt: skip
        if self.seen.items == 1:
            del out["items"]
        if operator == "closures":
            out |= {"display": {"align": True}, "domain": ["ring"]}
        if self.seen.data.reader == "htc2022":
            out |= {"display": {"thresholds": [0.019]}, "domain": ["holes"]}
        return out


def propose(
    path: str,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
    prior: str | None = None,
    draws: int = 20,
) -> Proposal:
    """Return a proposal for one raw file.

    Args:
        path: The file.
        reader: Its reader; told by the content if None.
        options: Options of the reader.
        prior: A prior's file, "generic" or "gaussian"; None looks among the shipped ones.
        draws: Posterior draws.

    Raises:
        SciinvError: The file cannot be read, its reader lacks options, or the prior does not fit.
    """
    seen = look([path], reader, options)
    known = {k: v for k, v in OPTIONS.get(seen.data.reader, {}).items() if k not in (options or {})}
    notes: list[str] = []
    if known:
        seen = look([path], seen.data.reader, {**known, **(options or {})})
    if seen.missing or seen.dataset is None or seen.image is None:
        raise ConfigError(
            "The reader needs to be told more than the file says",
            where=f"{path}, reader {seen.data.reader}",
            expected=", ".join(seen.missing),
            got="no such option",
            remedy="add "
            + " ".join(f"--option {k}=VALUE" for k in seen.missing)
            + (", e.g. --option angles=0:180" if "angles" in seen.missing else ""),
        )
    stations = str(seen.dataset.attrs.get("stations", ""))
    if known.get("gain_sd") and "LM" in stations:
        # The Large Millimeter Telescope's gains were known to about 35 % in 2017.
        known = {**known, "gain_sd": {"*": 0.1, "LM": 0.35}}
        seen = look([path], seen.data.reader, {**known, **(options or {})})
    assert seen.image is not None
    side = max(seen.image.shape[1:])
    size_options = {"detector_binning", "image_size"} & set(seen.data.options)
    binnings = (b for b in range(2, 17) if side % b == 0 and side // b <= MOST_PIXELS)
    binning = next(binnings, 1) if side > MOST_PIXELS else 1
    if binning > 1 and seen.data.reader in BINNED and not size_options:
        more = {**seen.data.options, "detector_binning": binning}
        seen = look([path], seen.data.reader, more)
        notes.append(
            f"{side} pixels a side take long on a CPU: {binning} elements are averaged "
            "(detector_binning: 1 keeps all)"
        )
    chosen, why, others = _prior(seen, prior)
    assert seen.dataset is not None
    title = str(seen.dataset.attrs.get("title") or Path(path).stem)
    return Proposal(name_of(path), title, seen, chosen, why, others, draws, tuple(notes))


def name_of(path: str) -> str:
    """Return a name for the run or problem of a file: letters, digits, - and _."""
    stem = Path(path).name.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40].strip("-_") or "data"
    return f"{name}-1" if name in ("logs", "benchmarks") else name


def shipped_priors() -> list[str]:
    """Return the priors of some object that ship or lie under the working directory."""
    roots = [Path(), *([root] if (root := checkout()) else [])]
    names = {p.name for r in roots for p in (r / PRIORS).glob("*.safetensors")}
    found = [f"{PRIORS}/{name}" for name in sorted(names)]
    return [path for path in found if path not in GENERIC.values()]


def _prior(seen: Seen, asked: str | None) -> tuple[str | dict[str, Any], str, tuple[str, ...]]:
    if asked not in (None, "gaussian", "generic"):
        assert asked is not None
        if (reason := _misfit(asked, seen)) is not None:
            raise ConfigError(
                "The prior does not fit these data",
                where=asked,
                expected=f"images {list(seen.image.shape)} in {seen.image.units}"
                if seen.image
                else None,
                got=reason,
                remedy="choose another prior, or --prior gaussian; `sciinv train` makes one from "
                "your own images",
            )
        return asked, f"as asked; it fits the image's shape and unit{_beside(asked, seen)}", ()
    others: list[str] = []
    for path in shipped_priors() if asked is None else ():
        reason = _misfit(path, seen)
        if reason is None:
            return path, f"its unit and channels fit the image{_beside(path, seen)}", tuple(others)
        others.append(f"{path}: {reason}")
    why = "as asked" if asked else "no shipped prior fits"
    if asked != "gaussian":
        try:
            return (
                _generic(seen),
                f"{why}: the generic one, which knows edges, textures and smooth parts, and "
                "nothing of this object. `sciinv train` makes a prior of your own images",
                tuple(others),
            )
        except SciinvError as error:
            if asked:
                raise
            why = f"{why}, nor the generic one ({error.what.lower()})"
    return (
        _gaussian(seen),
        f"{why}: a smooth Gaussian, its size taken from the data. It knows no shapes: "
        "`sciinv train` makes a prior of your own images",
        tuple(others),
    )


def _generic(seen: Seen) -> dict[str, Any]:
    """Return the generic prior, where it has a file and the data tell its scale.

    Raises:
        SciinvError: It knows no such images, is not there, or the data do not tell its scale.
    """
    assert seen.image is not None
    assert seen.dataset is not None
    locate(generic_file(seen.image.shape[0]))
    scale_for(PriorOf(kind="generic"), seen.dataset, Operator())
    return {"kind": "generic"}


def _misfit(path: str, seen: Seen) -> str | None:
    """Return why a prior does not fit, or None where it does."""
    image = seen.image
    assert image is not None
    try:
        model = load_prior(PriorOf(path), image.shape, image.units)
        units.check(model.units, image.units)
        model.check(image.shape)
    except SciinvError as error:
        return f"{error.what.lower()} ({error.got})"
    pixel = getattr(model, "about", {}).get("pixel") or _pixel_of(path)
    side = abs(float(image.x[1] - image.x[0]))
    if pixel and pixel.get("unit") == image.axis_units:
        ratio = side / float(pixel["side"])
        if not 0.67 < ratio < 1.5:
            return f"its pixel is {pixel['side']} {pixel['unit']}, the image's {side:.3g}"
    return None


def _beside(path: str, seen: Seen) -> str:
    """Return what is to be said of the pixel of a prior that fits."""
    assert seen.image is not None
    pixel = _pixel_of(path)
    if pixel and pixel.get("unit") == seen.image.axis_units:
        return ", and so does its pixel"
    return ". Whether its pixel does is not known: one of them is not told in a unit of length"


def _pixel_of(path: str) -> dict[str, Any] | None:
    from safetensors import safe_open

    try:
        with safe_open(locate(path), "pt") as file:
            return json.loads((file.metadata() or {})["sciinv"]).get("pixel")
    except (KeyError, ValueError, OSError):
        return None


def _gaussian(seen: Seen) -> dict[str, Any]:
    """Return a Gaussian prior as large as a uniform image that fits the data best."""
    image = seen.image
    assert image is not None
    assert seen.dataset is not None
    mean, sd = 0.0, 1.0
    if len(image.channels) == 1 and seen.dataset.attrs["operator"] == "ct":
        physics, y = build(seen.dataset, Operator())
        with torch.no_grad():
            seen_by = physics.A(torch.ones(1, *image.shape))
            level = float((seen_by * y).sum() / (seen_by**2).sum())
        mean, sd = level, 2 * abs(level) or 1.0
    elif seen.dataset.attrs["operator"] == "closures":
        mean = 1 / float(np.prod(image.shape))
        sd = 3 * mean
    elif len(image.channels) == 2:
        sd = 0.5
    return {"kind": "gaussian", "mean": _round(mean), "sd": _round(sd), "length": 2}


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _plain(value: Any) -> Any:
    """Return tuples as lists and arrays' numbers as Python's, for YAML."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
