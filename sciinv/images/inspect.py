"""What a set of images is like: range, spread, spectrum, borders, duplicates, symmetry."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciinv.errors import DataError
from sciinv.images.collect import ImageSet

FEWEST = 48
FEW = 300
SEEN = 400  # images that spectrum and symmetry are taken from
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left-right": lambda a: a[..., ::-1],
    "up-down": lambda a: a[..., ::-1, :],
    "half turn": lambda a: a[..., ::-1, ::-1],
    "transposed": lambda a: np.swapaxes(a, -1, -2),
    "quarter turn": lambda a: np.rot90(a, 1, (-2, -1)),
}


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        images: The usable images.
        offset: Mean of all values (0 for complex images).
        spread: Root mean square of what is left.
        strongest: Standard deviation of the strongest pattern of the set, as the length of a
            vector of all pixels: noise of this sd per pixel hides every pattern.
        noise: sd of white noise that the finest waves look like.
        border: Rows and columns (top, bottom, left, right) that are the same in every image.
        symmetric: Names in `TURNS` under which the set looks the same.
        lines: All of it in sentences.
    """

    images: ImageSet
    offset: float
    spread: float
    strongest: float
    noise: float
    border: tuple[int, int, int, int]
    symmetric: tuple[str, ...]
    lines: tuple[str, ...]


def inspect(images: ImageSet, where: Path, *, labels: bool = False) -> Inspection:
    """Return what the images are like, without those that are constant or there twice.

    Args:
        images: The set.
        where: Where it came from, for messages.
        labels: Take images of a few values (masks, label maps) too.

    Raises:
        DataError: The set cannot teach a prior: too few, constant, masks, or not finite.
    """
    images = _usable(images, where, labels)
    v = images.values
    offset = 0.0 if images.complex else float(v.mean(dtype=np.float64))
    spread = float(np.sqrt(np.mean(np.abs(v - offset) ** 2, dtype=np.float64)))
    if images.complex:
        spread /= np.sqrt(2)  # of the real and the imaginary part
    some = v[np.random.default_rng(0).permutation(len(v))[:SEEN]]
    strongest, noise = _strongest(some), _noise(some)
    border = _border(v)
    symmetric = _symmetric(np.abs(some) if images.complex else some)
    low, high = np.percentile(np.abs(some) if images.complex else some, (0.5, 99.5))
    pixel = "unknown" if images.pixel is None else (
        f"{images.pixel[0]:.4g} × {images.pixel[1]:.4g} {images.pixel_unit}")  # fmt: skip
    kind = "complex" if images.complex else "real"
    lines = [
        f"{len(v)} {kind} images of {v.shape[1]} × {v.shape[2]} pixels, "
        f"{len(set(images.subjects))} subjects; pixel {pixel}; unit {images.units or 'unknown'}",
        f"values: {low:.4g} to {high:.4g} (99 % of them), mean {offset:.4g}, spread {spread:.4g}",
        f"spectrum: the strongest pattern hides in noise of sd {strongest:.4g} a pixel; the finest "
        f"waves are like noise of sd {noise:.3g} ({100 * noise / spread:.2g} % of the spread)",
        "symmetry: the set looks the same " + (", ".join(symmetric) or "in no other orientation"),
        *images.notes,
    ]
    if any(border):
        lines.append(f"constant border in every image: {border} rows and columns "
                     "(top, bottom, left, right); --size cuts it off")  # fmt: skip
    if len(v) < FEW:
        lines.append(f"fewer than {FEW} images: expect a weak prior, and look at its samples")
    return Inspection(images, offset, spread, strongest, noise, border, symmetric, tuple(lines))


def _usable(images: ImageSet, where: Path, labels: bool) -> ImageSet:
    v = images.values
    finite = np.isfinite(v).all((1, 2))
    if not finite.all():
        bad = [images.names[i] for i in np.flatnonzero(~finite)]
        raise DataError(
            "Some images hold values that are not finite",
            where=where,
            expected="finite numbers",
            got=f"{len(bad)} of {len(v)}: {', '.join(bad[:4])}",
            remedy="replace NaN by the value of what is outside, or leave these files out",
        )
    flat = np.array([bool((a == a[0, 0]).all()) for a in v])
    if flat.mean() > 0.5:
        raise DataError(
            "The images are constant",
            where=where,
            expected="images that vary over the field",
            got=f"{int(flat.sum())} of {len(v)}, as {images.names[int(flat.argmax())]}",
            remedy="check the array (--dataset) and the axis (--axis)",
        )
    if flat.any():
        images = images.take(~flat, f"{int(flat.sum())} constant images are left out")
    prints = [hashlib.sha256(np.ascontiguousarray(a).data).digest() for a in images.values]
    first = {p: i for i, p in reversed(list(enumerate(prints)))}
    once = np.array([first[p] == i for i, p in enumerate(prints)])
    if not once.all():
        images = images.take(
            once, f"{int((~once).sum())} images are there twice: one of each is kept"
        )
    if len(images.values) < FEWEST:
        raise DataError(
            "These are too few images",
            where=where,
            expected=f"at least {FEWEST} that differ, better {FEW} and more",
            got=len(images.values),
            remedy="add images; for volumes take all slices (--axis); see "
            "docs/guides/bring-a-prior.md",
        )
    values = np.unique(images.values[:: max(1, len(images.values) // 32)])
    if len(values) <= 8 and not labels:
        raise DataError(
            "The images are masks or labels, not intensities",
            where=where,
            expected="many grey values",
            got=f"{len(values)} values: {', '.join(f'{a:g}' for a in values.real)}",
            remedy="name the folder of the images; --labels takes them all the same",
        )
    if min(images.values.shape[1:]) < 16:
        raise DataError("The images are too small", where=where, expected="16 × 16 pixels or more",
                        got=list(images.values.shape[1:]),
                        remedy="check which axis is the slice (--axis)")  # fmt: skip
    return images


def _strongest(v: np.ndarray) -> float:
    """Return √λ₁ of the covariance of the images about their mean."""
    x = v.reshape(len(v), -1)
    x = x if x.dtype.kind == "c" else x - x.mean(0)
    gram = (x @ x.conj().T) / len(x)
    return float(np.sqrt(max(np.linalg.eigvalsh(gram.astype(np.complex128))[-1], 0.0)))


def _noise(v: np.ndarray) -> float:
    """Return the sd a pixel of noise as strong as the waves beyond 0.9 of the Nyquist frequency."""
    power = np.abs(np.fft.fft2(v, norm="ortho")) ** 2
    ky, kx = (np.abs(np.fft.fftfreq(n)) for n in v.shape[1:])
    fine = (ky[:, None] > 0.45) & (kx[None] > 0.45)
    return float(np.sqrt(np.median(power[:, fine]) / np.log(2)))


def _border(v: np.ndarray) -> tuple[int, int, int, int]:
    """Return how many outer rows and columns are one and the same value in all images."""
    fixed = (v == v[0, 0, 0]).all(0)
    out = []
    for lines in (fixed, fixed[::-1], fixed.T, fixed.T[::-1]):
        whole = lines.all(1)
        out.append(int(len(whole) if whole.all() else np.argmin(whole)))
    return out[0], out[1], out[2], out[3]


def _symmetric(v: np.ndarray, trials: int = 8) -> tuple[str, ...]:
    """Return the turns T for which halves A, T(B) of the set differ no more than A and B.

    Compared are mean images and mean spectra, as distances relative to their size, at 64 pixels.
    """
    rng, square = np.random.default_rng(1), v.shape[1] == v.shape[2]
    names = [n for n in TURNS if square or n not in ("transposed", "quarter turn")]
    step = max(1, max(v.shape[1:]) // 64)
    h, w = (n // step * step for n in v.shape[1:])
    coarse = v[:, :h, :w].reshape(len(v), h // step, step, w // step, step).mean((2, 4))
    maps = coarse, _spectra(coarse)
    plain, turned = [], {n: [] for n in names}  # type: ignore[var-annotated]
    for _ in range(trials):
        order = rng.permutation(len(v))
        halves = order[: len(v) // 2], order[len(v) // 2 :]
        a, b = ([_centred(m[half].mean(0), k) for k, m in enumerate(maps)] for half in halves)
        plain.append([_apart(x, y) for x, y in zip(a, b, strict=True)])
        for n in names:
            turned[n].append([_apart(x, TURNS[n](y)) for x, y in zip(a, b, strict=True)])
    limit = 1.15 * np.max(plain, axis=0)
    return tuple(n for n in names if bool((np.mean(turned[n], axis=0) <= limit).all()))


def _spectra(v: np.ndarray) -> np.ndarray:
    """Return |F| of each image, cut so that it is symmetric about its middle."""
    size = np.abs(np.fft.fftshift(np.fft.fft2(v - v.mean((1, 2), keepdims=True)), axes=(1, 2)))
    return size[:, (v.shape[1] + 1) % 2 :, (v.shape[2] + 1) % 2 :]


def _centred(mean: np.ndarray, spectrum: int) -> np.ndarray:
    mean = np.log(mean + 1e-12) if spectrum else mean
    return mean - mean.mean()


def _apart(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x - y) / (np.linalg.norm(x) + np.linalg.norm(y) + 1e-30))


def augmentation(symmetric: tuple[str, ...]) -> tuple[str, ...]:
    """Return the turns to train with: a set that is closed under repetition."""
    chosen = set(symmetric)
    for a, b, c in itertools.permutations(("left-right", "up-down", "half turn")):
        if {a, b} <= chosen:
            chosen.add(c)
    if "quarter turn" in chosen:
        chosen.add("half turn")
    return tuple(n for n in TURNS if n in chosen)
