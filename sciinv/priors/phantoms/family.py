"""What a family of images is that a prior is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciinv.errors import ConfigError


@dataclass(frozen=True)
class Family:
    """A class of images, drawn one by one, in the units u of training: x = offset + scale·u.

    Attributes:
        name: Name in a training configuration.
        shape: (C, H, W) of a training image.
        fixed_size: True where the prior holds only at this size (pixel grid and field of view).
        offset: Physical value of u = 0.
        scale: Physical value of one unit of u.
        units: Unit of the physical pixel value.
        pixel: Side of a pixel.
        pixel_unit: Its unit.
        generate: (rng, source) → one pool image u [C, H', W'] float32; H' ≥ H, W' ≥ W.
        augment: (pool images [B, C, H', W'], torch generator) → training images [B, C, H, W].
        source: What `generate` needs beside a random stream: None, or the path of a file.
        licence: Licence of the source data, for the model card.
        summary: One sentence on the class, for the model card.
        limits: What the class lacks, so what a prior of it is not good for.
        split: (source, held out?) → what the images of one side are made from, where people or
            objects are either trained on or held out; block 0 of a seed is held out.
        marred: (rng, source) → what `generate` returns and, in as many channels behind it, the same
            image as a chain may hold it (see `marred`) [2C, H', W'] float32; or None.
        vary: Changes a training batch as a whole (its size, its orientation), or None.
    """

    name: str
    shape: tuple[int, int, int]
    fixed_size: bool
    offset: float
    scale: float
    units: str
    pixel: float
    pixel_unit: str
    generate: Callable[[np.random.Generator, object], np.ndarray]
    augment: Callable[[Tensor, torch.Generator], Tensor]
    source: Callable[[str | None], object]
    licence: str
    summary: str
    limits: str
    split: Callable[[object, bool], object] | None = None
    vary: Callable[[Tensor, torch.Generator], Tensor] | None = None
    marred: Callable[[np.random.Generator, object], np.ndarray] | None = None

    def pool(self, seed: int, block: int, count: int, source: object) -> Tensor:
        """Return `count` pool images as float16 [N, C, H', W']; equal keys, equal images."""
        return self._made(self.generate, seed, block, count, source)

    def pairs(self, seed: int, block: int, count: int, source: object) -> Tensor:
        """Return the images of `pool`, each with its marred copy behind it, [N, 2C, H', W'].

        Raises:
            ConfigError: The family has no marred images.
        """
        if self.marred is None:
            raise ConfigError(
                "The family has no marred images",
                where=f"family {self.name}",
                expected="a family that says what a chain may do to its images",
                got="one that does not",
                remedy="leave `marred` out of the training configuration",
            )
        return self._made(self.marred, seed, block, count, source)

    def _made(
        self, make: Callable[[np.random.Generator, object], np.ndarray], seed: int, block: int,
        count: int, source: object,
    ) -> Tensor:  # fmt: skip
        if self.split is not None:
            source = self.split(source, block == 0)
        images = [make(np.random.default_rng([seed, block, i]), source) for i in range(count)]
        return torch.from_numpy(np.stack(images).astype(np.float16))


def dihedral(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Return each square image of the batch [B, C, N, N] turned and mirrored at random."""
    out = batch.clone()
    picks = torch.randint(0, 8, (batch.shape[0],), generator=generator).tolist()
    for i, pick in enumerate(picks):
        image = torch.rot90(batch[i], pick % 4, (-2, -1))
        out[i] = image.flip(-1) if pick >= 4 else image
    return out
