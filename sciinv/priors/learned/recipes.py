"""What a training run is made of: its configuration, and the images of each step."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sciinv.errors import ConfigError
from sciinv.priors.phantoms import Family
from sciinv.seeds import stream_seed

_WANTED = {"nc": "four positive integers", "marred": "a share of the images, 0 … 1"}


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: Name of the prior and of its files.
        family: Family of images (see `sciinv.priors.phantoms`).
        source: Path of the data that the family is made from, where it needs any.
        high: Prior file of a network for high σ, which joins this one when it is exported: its
            own run has a `sigma_min` from which it may serve, and the same family.
        high_above: σ from which it serves, units of u; 0: its `sigma_min`.
        init: Prior file from whose weights a fresh run starts; None: drawn from the seed.
        init_network: Which of its networks: "network" (the one for low σ), "high", "middle" or
            "coarse".
        nc: Feature channels of the network at its four scales.
        nb: Residual blocks per scale.
        patch: Side of the pixel blocks that are folded into channels.
        highpass: Whether the network also gets the image's fine structure in units of σ.
        mean: Whether it also gets the mean image of the class (families of one fixed size).
        phase: Whether the slow phase of complex images is taken off before the network.
        turn: Whether one constant phase is taken off instead.
        linear: Whether the network adds to the class's Wiener filter (for high σ).
        coarse: Side of the blocks whose means are all that the network sees (for high σ).
        gains: Octave bands of the filtered image that the network scales by place; 0: it adds, as
            it also does beside the bands with `phase`.
        sigma_data: Root mean square of the images, units of u.
        sigma_min: Smallest σ that the prior shall serve, units of u.
        sigma_max: Largest, units of u.
        marred: Share of the training images that the network sees as a chain may hold them, dented
            or wobbling, and shall mend (families that have such images).
        p_mean: Mean of ln σ in training.
        p_std: Its standard deviation.
        batch: Images per step.
        steps: Steps at which the decay begins when `finish` does not begin it earlier.
        minutes: Minutes after which the run ends, its decay included; 0: by steps alone.
        decay: Steps of the final decay of the learning rate to zero, where no clock ends the run.
        warmup: Steps of its rise.
        rate: Learning rate of Adam.
        clip: Largest norm of the gradient.
        ema: Images over which the averaged weights forget half of themselves.
        pool: Images in the pool.
        block: Images that are replaced at a time.
        refresh: Steps between two replacements.
        validation: Held-out images.
        seed: Seed of everything.
        threads: CPU threads.
        device: Where the network is trained: "auto" (a GPU where there is one), "cpu", "cuda".
        checkpoint_every: Steps between checkpoints.
        command: What the card says made the prior; empty: `sciinv train` with this file.
        output: Folder of the prior and its card.
        checkpoints: Folder of the checkpoints.
    """

    name: str
    family: str
    source: str | None = None
    high: str | None = None
    high_above: float = 0.0
    init: str | None = None
    init_network: str = "network"
    nc: tuple[int, int, int, int] = (32, 64, 128, 128)
    nb: int = 2
    patch: int = 2
    highpass: bool = False
    mean: bool = False
    phase: bool = False
    turn: bool = False
    linear: bool = False
    coarse: int = 1
    gains: int = 0
    sigma_data: float = 0.5
    sigma_min: float = 0.01
    sigma_max: float = 30.0
    marred: float = 0.0
    p_mean: float = -0.5
    p_std: float = 1.7
    batch: int = 16
    steps: int = 1_000_000
    minutes: float = 0.0
    decay: int = 2000
    warmup: int = 300
    rate: float = 1.5e-3
    clip: float = 1.0
    ema: int = 20_000
    pool: int = 4096
    block: int = 256
    refresh: int = 200
    validation: int = 128
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    checkpoint_every: int = 500
    command: str = ""
    output: str = "data/priors"
    checkpoints: str = "results/checkpoints"

    @classmethod
    def of_mapping(cls, values: dict[str, Any], where: object = None) -> TrainConfig:
        """Return the configuration; `ConfigError` names keys that are unknown or missing."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        lacking = sorted({"name", "family"} - set(values))
        if unknown or lacking:
            raise ConfigError(
                "The training configuration has unknown or missing keys",
                where=where,
                expected=", ".join(known),
                got="; ".join(
                    f"{what}: {', '.join(names)}"
                    for what, names in (("unknown", unknown), ("missing", lacking))
                    if names
                ),
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for key, value in values.items():
            default = known[key].default
            kind = type(default) if isinstance(default, int | float | tuple) else str
            if kind is float and isinstance(value, str):  # YAML takes 8e-4 for a word
                with contextlib.suppress(ValueError):
                    values[key] = value = float(value)
            fits = isinstance(value, int | float if kind is float else kind)
            positive = value > 0 if kind in (int, float) and fits else True
            if key in ("p_mean", "seed", "high_above", "minutes", "gains", "marred"):
                positive = True
            if key == "marred":
                fits = fits and 0 <= value <= 1
            if key == "nc":
                fits = fits and len(value) == 4 and all(isinstance(n, int) and n > 0 for n in value)
            if not (fits and positive):
                raise ConfigError(
                    "The training configuration has a value that cannot be used",
                    where=f"{where}: {key}" if where else key,
                    expected=_WANTED.get(key, f"a {kind.__name__}, > 0"),
                    got=repr(value),
                    remedy="give it such a value, or leave it out for the default",
                )
        return cls(**values)

    @classmethod
    def of_file(cls, path: str | Path) -> TrainConfig:
        """Return the configuration in a YAML file."""
        path = Path(path)
        if not path.is_file():
            raise ConfigError("There is no such training configuration", where=path)
        try:
            values = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ConfigError(
                "The training configuration is not YAML", where=path, got=error
            ) from error
        if not isinstance(values, dict):
            raise ConfigError("The training configuration is no mapping", where=path, got=values)
        return cls.of_mapping(values, path)


class Pool:
    """Pre-generated images, of which a block is replaced every `refresh` steps.

    The content at a step depends on the seed and the step alone.
    """

    def __init__(self, config: TrainConfig, kind: Family, source: object) -> None:
        self.config, self.kind, self.source = config, kind, source
        self.slots = max(config.pool // config.block, 1)
        self.held: list[int] = [-1] * self.slots
        self.blocks: list[Tensor] = [torch.empty(0)] * self.slots

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's clean images, and what noise is added to, u [B, C, H, W] float32 each."""
        c = self.config
        turn = step // c.refresh
        make = self.kind.pairs if c.marred else self.kind.pool
        for slot in range(self.slots):
            wanted = slot + self.slots * max(math.ceil((turn - slot) / self.slots), 0)
            if self.held[slot] != wanted:
                self.blocks[slot] = make(c.seed, wanted + 1, c.block, self.source)
                self.held[slot] = wanted
        stream = torch.Generator().manual_seed(stream_seed(c.seed, "batch", step))
        picks = torch.randint(0, self.slots * c.block, (c.batch,), generator=stream).tolist()
        images = torch.stack([self.blocks[p // c.block][p % c.block] for p in picks]).float()
        images = self.kind.augment(images, stream)
        if self.kind.vary is not None:
            images = self.kind.vary(images, stream)
        if not c.marred:
            return images, images
        clean, held = images.chunk(2, dim=1)
        some = torch.rand(len(clean), 1, 1, 1, generator=stream) < c.marred
        return clean, torch.where(some, held, clean)


def images_of(
    config: TrainConfig, kind: Family, source: object, *, block: int, count: int
) -> Tensor:
    """Return clean images u [N, C, H, W] of a block of the seed (0: never trained on)."""
    images = kind.pool(config.seed, block, count, source).float()
    stream = torch.Generator().manual_seed(stream_seed(config.seed, "still", block))
    return kind.augment(images, stream)
