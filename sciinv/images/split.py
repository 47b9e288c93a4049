"""Images to train on and images to hold out, split by subject."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from sciinv.images.collect import ImageSet

SHARE, MOST, GAP = 0.1, 128, 2


@dataclass(frozen=True)
class Split:
    """Indices of both sides, and how they were chosen."""

    train: np.ndarray
    held: np.ndarray
    line: str


def split(images: ImageSet, seed: int = 0) -> Split:
    """Hold out a tenth of the subjects, drawn by the hash of their names.

    Of a single subject the last tenth of the slices is held out, apart from the others by a gap.
    """
    names = sorted(set(images.subjects))
    count = len(images.values)
    whom = np.array(images.subjects)
    if len(names) == 1:
        first = int(count * (1 - SHARE))
        return Split(
            np.arange(first - GAP),
            np.arange(first, count)[:MOST],
            f"split: one subject only; its last {count - first} slices are held out, which says "
            "little about other subjects",
        )
    order = sorted(names, key=lambda n: hashlib.sha256(f"{seed} {n}".encode()).digest())
    held: list[str] = []
    while order[len(held) :] and int(np.isin(whom, held).sum()) < max(SHARE * count, 16):
        if len(held) >= len(names) - 1:
            break
        held.append(order[len(held)])
    out = np.isin(whom, held)
    index = np.flatnonzero(out)
    if len(index) > MOST:
        index = index[np.linspace(0, len(index) - 1, MOST).astype(int)]
    return Split(
        np.flatnonzero(~out),
        index,
        f"split: {len(names) - len(held)} subjects to train on ({int((~out).sum())} images), "
        f"{len(held)} held out ({len(index)} images): {', '.join(held[:4])}"
        + (", …" if len(held) > 4 else ""),
    )
