"""A prior of one's own images: inspect, split, train, fit widths, calibrate, write the card."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv.arithmetic import fixed_arithmetic
from sciinv.calibration import learned as calibration
from sciinv.errors import ConfigError
from sciinv.images.collect import ImageSet, Subjects, collect
from sciinv.images.formats.base import Options
from sciinv.images.inspect import Inspection, augmentation, inspect
from sciinv.images.split import Split, split
from sciinv.priors.learned import evaluation, files, own, training
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.learned.recipes import TrainConfig
from sciinv.priors.widths import fit as widths_fit
from sciinv.store.atomic import write_file

TRAINING, WIDTHS, CALIBRATION, EXPORT = 0.6, 0.18, 0.14, 0.08  # shares of the time
LEVELS, DRAWS = 30, 8
# least and most of what the time may buy
IMAGES, PAIRS, STEPS, TRUTHS, MATCHING = (24, 256), (128, 3072), (600, 2000), (6, 64), (4, 16)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Choices:
    """What a user may choose; None is decided by the images.

    Attributes:
        axis: Axis of volumes along which slices are cut.
        dataset: Array of an HDF5 or Zarr file.
        subject: Pattern whose first group in a file's path is the subject.
        subjects: CSV file with the columns file and subject.
        size: Cut or pad to size × size pixels.
        crop: Learn crops of crop × crop pixels.
        augment: Orientations to train with: "auto", "none", or names joined by commas.
        phase: "auto", "none", or "simulate" to give real images smooth phases.
        scale: "auto", "none", or "subject": divide by the 99th percentile of each subject.
        labels: Take masks and label maps too.
        units: Unit of a value, where no file says it.
        pixel: Side of a pixel, where no file says it.
        pixel_unit: Its unit.
        seed: Seed of everything.
    """

    axis: str | None = None
    dataset: str | None = None
    subject: str | None = None
    subjects: Path | None = None
    size: int | None = None
    crop: int | None = None
    augment: str = "auto"
    phase: str = "auto"
    scale: str = "auto"
    labels: bool = False
    units: str = ""
    pixel: float | None = None
    pixel_unit: str = "mm"
    seed: int = 0


@fixed_arithmetic()
def train_images(
    path: Path,
    output: Path,
    hours: float,
    choices: Choices | None = None,
    *,
    fresh: bool = False,
    say: Say = lambda line: None,
) -> Path:
    """Train a prior on the images of a folder and write OUTPUT, its card and pictures.

    Goes on where a run of the same images and choices was stopped; what it needs for that lies in
    OUTPUT's folder under the name STEM-training, and may be removed afterwards.

    Args:
        path: Folder or file of images.
        output: The .safetensors file to write.
        hours: Time for all of it.
        choices: What is not left to the images.
        fresh: Start anew.
        say: Takes a line of progress.

    Returns:
        The file.

    Raises:
        DataError: The images cannot be used.
        ConfigError: A choice does not fit, or another run's state lies there.
    """
    chosen = choices or Choices()
    if output.suffix != ".safetensors":
        raise ConfigError("The file of the prior needs the suffix of its format", where="--output",
                          expected="FILE.safetensors", got=output.name,
                          remedy=f"--output {output.with_suffix('.safetensors')}")  # fmt: skip
    found = looked_at(path, chosen, say)
    parts = split(found.images, chosen.seed)
    say(parts.line)
    kind, lines = _kind(found, parts, chosen)
    work = output.parent / f"{output.stem}-training"
    config, run, lines = _run(kind, found, work, output, path, hours, chosen, lines, fresh)
    for line in lines:
        say(line)
    stored = work / f"{output.stem}.safetensors"
    if "trained" not in run.done:
        _train(kind, config, hours, work, say)
        run.mark("trained")
    prior = files.load(stored)
    each = _seconds_per_call(prior)
    if "widths" not in run.done:
        budget = 3600 * hours * WIDTHS
        count = int(np.clip(0.6 * budget / (100 * each), *IMAGES))
        pairs = int(np.clip(0.3 * budget / (2 * each), *PAIRS))
        steps = STEPS[budget > 200]
        widths_fit.add_local(stored, count, pairs, steps, chosen.seed, say)
        run.mark("widths")
    if "calibrated" not in run.done:
        _calibrate(stored, 3600 * hours * CALIBRATION, each, work, chosen.seed, say)
        run.mark("calibrated")
    say("looking for copies of training images among the samples")
    copies = evaluation.memorised(files.load(stored), kind, len(kind.held), chosen.seed)
    return _publish(work, output, [*found.lines, parts.line, *lines], copies, say)


def looked_at(path: Path, chosen: Choices, say: Say) -> Inspection:
    """Return what the images are like, their unit and pixel as stated or chosen."""
    known = ("auto", "none", "subject")
    if chosen.scale not in known:
        raise ConfigError("There is no such scaling", where="--scale", expected=", ".join(known),
                          got=chosen.scale, remedy="name one of these")  # fmt: skip
    images = collect(
        path,
        Options(chosen.axis, chosen.dataset),
        Subjects(chosen.subject, chosen.subjects),
        chosen.size,
        say,
    )
    images = _scaled(images, chosen)
    if chosen.units:
        images = replace(images, units=chosen.units)
    if images.pixel is None and chosen.pixel is not None:
        images = replace(images, pixel=(chosen.pixel,) * 2, pixel_unit=chosen.pixel_unit)
    found = inspect(images, path, labels=chosen.labels)
    for line in found.lines:
        say(line)
    return found


def _scaled(images: ImageSet, chosen: Choices) -> ImageSet:
    """Divide by each subject's 99th percentile where asked, or where units are arbitrary."""
    if chosen.scale == "none" or (chosen.scale == "auto" and not images.arbitrary):
        return images
    whom = np.array(images.subjects)
    out = images.values.copy()
    for name in np.unique(whom):
        top = float(np.percentile(np.abs(out[whom == name]), 99))
        out[whom == name] /= max(top, 1e-30)
    note = "scaled: the unit of the files is arbitrary, 1 is each subject's 99th percentile"
    return replace(
        images,
        values=out,
        units="99th percentile of the subject's magnitude",
        notes=(*images.notes, note),
    )


def _kind(found: Inspection, parts: Split, chosen: Choices) -> tuple[own.OwnImages, list[str]]:
    """Return the family of the images, and what was chosen for it."""
    images = found.images
    h, w = images.values.shape[1:]
    crop = None
    if chosen.crop is not None or max(h, w) > own.WHOLE:
        side = chosen.crop or 96
        if side > min(h, w) or side < 16:
            raise ConfigError("The crops do not fit into the images", where="--crop",
                              expected=f"16 to {min(h, w)} pixels", got=side,
                              remedy="choose a smaller crop, or leave it out")  # fmt: skip
        crop = (side, side)
    if chosen.augment == "auto":
        turns = augmentation(found.symmetric)
    else:
        names = [n.strip() for n in chosen.augment.split(",") if n.strip() not in ("", "none")]
        if unknown := [n for n in names if n not in own.TURNS]:
            raise ConfigError("There is no such orientation", where="--augment",
                              expected=", ".join(own.TURNS), got=", ".join(unknown),
                              remedy="name some of these, auto or none")  # fmt: skip
        turns = tuple(names)
    square = h == w or crop is not None
    turns = tuple(t for t in turns if square or t not in ("transposed", "quarter turn"))
    if chosen.phase not in ("auto", "none", "simulate"):
        raise ConfigError("There is no such phase", where="--phase", got=chosen.phase,
                          expected="auto, none, simulate", remedy="name one of these")  # fmt: skip
    phase = "measured" if images.complex else "none"
    if chosen.phase == "simulate":
        if images.complex:
            raise ConfigError("The images have phases of their own", where="--phase",
                              expected="auto or none for complex images", got="simulate",
                              remedy="leave --phase out")  # fmt: skip
        phase = "simulated"
    offset = 0.0 if phase != "none" else found.offset
    scale = found.spread
    if phase == "simulated":
        scale = float(np.sqrt(np.mean(images.values.astype(np.float64) ** 2) / 2))
    pixel = images.pixel or (1.0, 1.0)
    held = images.values[parts.held]
    kind = own.family_of(
        images.values[parts.train], held, offset=offset, scale=scale, crop=crop, turns=turns,
        phase=phase, units=images.units, pixel=float(np.mean(pixel)),
        pixel_unit=images.pixel_unit or "pixel",
        summary=f"{len(images.values):,} images of {len(set(images.subjects))} subjects",
        limits=f"anything else than what these {len(parts.train):,} images show",
    )  # fmt: skip
    lines = [
        "augmentation: " + (", ".join(turns) or "none")
        + (" (the set looks the same so)" if turns and chosen.augment == "auto" else ""),
        {"none": "real images", "measured": "complex images; each is given a constant phase",
         "simulated": "real images, given smooth simulated phases"}[phase],
    ]  # fmt: skip
    return kind, lines


class _Run:
    """What is known of a run that may be stopped: its plan, and which parts are done."""

    def __init__(self, path: Path, plan: dict[str, Any]) -> None:
        self.path, self.plan = path, plan

    @property
    def done(self) -> list[str]:
        return list(self.plan["done"])

    def mark(self, part: str) -> None:
        self.plan["done"].append(part)
        write_file(self.path, json.dumps(self.plan, indent=1).encode())


def _run(
    kind: own.OwnImages, found: Inspection, work: Path, output: Path, path: Path, hours: float,
    chosen: Choices, lines: list[str], fresh: bool,
) -> tuple[TrainConfig, _Run, list[str]]:  # fmt: skip
    """Return the plan of a run, new or as it was begun."""
    digest = hashlib.sha256(np.ascontiguousarray(found.images.values).data)
    said = {k: str(v) for k, v in asdict(chosen).items()} | {"hours": hours}
    digest.update(json.dumps(said, sort_keys=True).encode())
    place = work / "plan.json"
    if fresh and work.is_dir():
        shutil.rmtree(work)
    if place.is_file():
        plan = json.loads(place.read_text())
        if plan["fingerprint"] != digest.hexdigest():
            raise ConfigError(
                "A run of other images or other choices was begun here",
                where=work,
                expected=f"the images and choices of {plan['command']}",
                got=f"other ones ({output.name}, --hours {hours:g})",
                remedy="--fresh to start anew, or another --output",
            )
        config = TrainConfig.of_mapping(plan["config"], place)
        return config, _Run(place, plan), [*plan["lines"], "resumed: " + ", ".join(plan["done"])]
    command = f"sciinv train {path} --hours {hours:g} --output {output.name}"
    config, more = own.plan(
        kind, 60 * hours * TRAINING, name=output.stem, strongest=found.strongest,
        noise=found.noise, seed=chosen.seed, folder=str(work), command=command,
    )  # fmt: skip
    lines = [*lines, *more]
    set_values = {k: v for k, v in asdict(config).items() if v is not None}
    plan = {"fingerprint": digest.hexdigest(), "command": command, "config": set_values,
            "lines": lines, "done": []}  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    write_file(place, json.dumps(plan, indent=1).encode())
    return config, _Run(place, plan), lines


def _train(kind: own.OwnImages, config: TrainConfig, hours: float, work: Path, say: Say) -> None:
    checkpoints = replace(config, checkpoints=str(work / "checkpoints"))
    training.train(checkpoints, kind=kind, log=say, budget=3600 * hours * EXPORT)


def _seconds_per_call(prior: LearnedPrior) -> float:
    x = torch.zeros(4, *prior.train_shape)
    prior(x, prior.sigma_max)
    begin = time.monotonic()
    with torch.no_grad():
        prior(x, prior.sigma_max)
    return max((time.monotonic() - begin) / len(x), 1e-5)


def _calibrate(stored: Path, budget: float, each: float, work: Path, seed: int, say: Say) -> None:
    """Match κ on some truths, show the calibration on others, and write both."""
    per_truth = 1.6 * each * (100 + DRAWS * LEVELS)
    truths = int(np.clip(0.6 * budget / per_truth, *TRUTHS))
    say(f"calibration under the prior itself: {truths} truths, {DRAWS} draws each")
    settings = {"conditional": "local", "levels": LEVELS, "inflate": 2.0}
    matching = int(np.clip(truths // 4, *MATCHING))
    place, rows = calibration.run(
        stored, work, "fourier", 0.05, truths, DRAWS, settings, matching, 0, seed, None, say
    )
    for what, value in rows[0][1]:
        say(f"  {what}: {value}")
    kappa = json.loads(place.read_text())["samplers"]["sciinv"]["settings"]["inflate"]
    prior = files.load(stored)
    prior.local_inflate, prior.levels = float(kappa), LEVELS
    prior.metadata["calibration"] = dict(rows[0][1])
    files.save(prior, stored, storage=torch.float16)


def _publish(work: Path, output: Path, lines: list[str], copies: str, say: Say) -> Path:
    """Write card and pictures beside the prior, and the prior last."""
    stem = output.stem
    prior = files.load(work / f"{stem}.safetensors")
    card = (work / f"{stem}.md").read_text()
    shown = [f"| {k} | {v} |" for k, v in prior.metadata["calibration"].items()]
    more = [
        "", "## What was found in the images and chosen", "", *(f"- {line}" for line in lines), "",
        "## Calibration under the prior itself", "",
        "Truths are draws of the prior, data a random 26 % of their Fourier modes with noise.", "",
        "| what | found |", "|---|---|", *shown, "", f"![Ranks]({stem}-calibration.png)", "",
        "## Memorisation", "", copies, "",
    ]  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    write_file(output.with_suffix(".md"), (card.rstrip() + "\n" + "\n".join(more)).encode())
    for name, copy in (
        (f"{stem}-samples.png", f"{stem}-samples.png"),
        (f"{stem}-training.png", f"{stem}-training.png"),
        (f"{stem}-fourier.png", f"{stem}-calibration.png"),
        (f"{stem}-fourier.json", f"{stem}-calibration.json"),
        (f"{stem}.safetensors", output.name),
    ):
        write_file(output.parent / copy, (work / name).read_bytes())
    say(copies)
    return output
