"""Acrylic discs with holes of many shapes, as in a laboratory X-ray scanner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from sciinv.priors.phantoms.family import Family, dihedral
from sciinv.priors.phantoms.marred import displaced, shaded

N = 128
FIELD = 75.94  # mm
PIXEL = FIELD / N  # mm
ATTENUATION = 0.038  # 1/mm, acrylic at the energies of a laboratory tube
FINE = 3  # edges are drawn on a grid this much finer, each already smooth over one fine pixel
STEP = PIXEL / FINE

_axis = ((np.arange(N * FINE) - (N * FINE - 1) / 2) * STEP).astype(np.float32)
Shape = tuple[slice, slice, np.ndarray]  # rows, columns, signed distance (negative inside), mm


def _window(x: float, y: float, reach: float) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return the rows and columns around (x, y), and the coordinates there relative to it."""
    edge = N * FINE
    lo = [int(np.clip((c - reach) / STEP + edge / 2, 0, edge)) for c in (y, x)]
    hi = [int(np.clip((c + reach) / STEP + edge / 2 + 1, 0, edge)) for c in (y, x)]
    rows, cols = slice(lo[0], hi[0]), slice(lo[1], hi[1])
    return rows, cols, _axis[cols][None] - np.float32(x), _axis[rows][:, None] - np.float32(y)


def _turned(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * u + s * v, c * v - s * u


def _circle(rng: np.random.Generator, x: float, y: float, size: float) -> Shape:
    rows, cols, u, v = _window(x, y, size + 1)
    return rows, cols, np.hypot(u, v) - size


def _ellipse(rng: np.random.Generator, x: float, y: float, size: float) -> Shape:
    rows, cols, u, v = _window(x, y, size + 1)
    u, v = _turned(u, v, rng.uniform(0, np.pi))
    b = size * rng.uniform(0.35, 1)
    # First-order distance to the level set of a superellipse.
    power = rng.uniform(1.8, 3.0)
    f = (np.abs(u / size) ** power + np.abs(v / b) ** power + 1e-6) ** (1 / power)
    return rows, cols, (f - 1) * (np.hypot(u, v) / f + 0.2 * b)


def _blob(rng: np.random.Generator, x: float, y: float, size: float) -> Shape:
    """A radius that varies with the angle: ovals, beans, stars and flowers."""
    rows, cols, u, v = _window(x, y, size * 1.3 + 1)
    angle, radius = np.arctan2(v, u), np.full(np.broadcast(u, v).shape, 0.75, np.float32)
    if rng.random() < 0.3:
        m = int(rng.integers(3, 8))
        radius += rng.uniform(0.1, 0.3) * np.cos(m * (angle - rng.uniform(0, 2 * np.pi)))
    else:
        for m in range(2, 5):
            radius += rng.uniform(0, 0.3) / m * np.cos(m * (angle - rng.uniform(0, 2 * np.pi)))
    return rows, cols, (np.hypot(u, v) - size * radius) * 0.85


def _polygon(rng: np.random.Generator, x: float, y: float, size: float) -> Shape:
    """A convex polygon with rounded corners: the greatest of its edges' distances, smoothed."""
    rows, cols, u, v = _window(x, y, size * 1.2 + 1)
    count = int(rng.integers(3, 8))
    turns = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
    turns += rng.uniform(0, 2 * np.pi)
    reach = size * rng.uniform(0.45, 0.8, count)
    faces = [np.cos(t) * u + np.sin(t) * v - d for t, d in zip(turns, reach, strict=True)]
    faces.append(np.hypot(u, v) - size * 1.1)
    return rows, cols, _smooth_max(faces, rng.uniform(0.05, 0.25) * size)


def _smooth_max(faces: list[np.ndarray], width: float) -> np.ndarray:
    top = np.maximum.reduce(faces)
    return top + width * np.log(sum(np.exp((f - top) / width) for f in faces))


def _stroke(rng: np.random.Generator, x: float, y: float, size: float) -> Shape:
    """A slot, or a few joined ones, like a cut letter."""
    rows, cols, u, v = _window(x, y, size * 1.6 + 2)
    half = max(size * rng.uniform(0.1, 0.3), 0.6)
    points = [rng.uniform(-size, size, 2)]
    out = np.full(np.broadcast(u, v).shape, 1e3, np.float32)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        a, b = points[-1], rng.uniform(-size, size, 2)
        ab = b - a
        t = ((u - a[0]) * ab[0] + (v - a[1]) * ab[1]) / max(float(ab @ ab), 1e-3)
        t = np.clip(t, 0, 1)
        out = np.minimum(out, np.hypot(u - a[0] - t * ab[0], v - a[1] - t * ab[1]) - half)
        points.append(b)
    return rows, cols, out


_HOLES: tuple[Callable[..., Shape], ...] = (_circle, _ellipse, _blob, _polygon, _stroke)


def _scattered(rng: np.random.Generator, radius: float) -> list[Shape]:
    """Up to 15 holes that keep apart; either all of one kind or mixed."""
    count = int(rng.integers(1, 16)) if rng.random() < 0.94 else 0
    kinds = [_HOLES[rng.integers(len(_HOLES))]] if rng.random() < 0.6 else list(_HOLES)
    typical = rng.uniform(1.2, 0.8 * radius / np.sqrt(count + 2.0) + 1.3)
    spread, gap = rng.uniform(0, 0.5), rng.uniform(0.4, 3)
    placed: list[tuple[float, float, float]] = []
    out: list[Shape] = []
    for _ in range(12 * count):
        size = typical * np.exp(spread * rng.standard_normal())
        room = radius - size - 1.0
        if room <= 0:
            continue
        r, t = room * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        x, y = r * np.cos(t), r * np.sin(t)
        if all(np.hypot(x - a, y - b) > size + c + gap for a, b, c in placed):
            placed.append((x, y, size))
            out.append(kinds[rng.integers(len(kinds))](rng, x, y, size))
        if len(placed) == count:
            break
    return out


def _cells(rng: np.random.Generator, radius: float) -> list[Shape]:
    """Voronoi cells inside the disc, shrunk and rounded, with thin webs between them."""
    count = int(rng.integers(4, 20))
    inner = radius * rng.uniform(0.7, 0.97)
    sites: list[np.ndarray] = []
    apart = 1.3 * inner / np.sqrt(count)
    for _ in range(40 * count):
        r, t = inner * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        p = np.array([r * np.cos(t), r * np.sin(t)])
        if all(np.hypot(*(p - q)) > apart for q in sites):
            sites.append(p)
        if len(sites) == count:
            break
    web, rim = rng.uniform(1.0, 6.0) / 2, inner - 0.5
    skipped = rng.uniform(0, 0.3)
    out = []
    for i, p in enumerate(sites):
        if rng.random() < skipped:
            continue
        reach = 1.4 * apart + 2
        rows, cols, u, v = _window(p[0], p[1], reach)
        faces = [np.hypot(u + p[0], v + p[1]) - rim, np.hypot(u, v) - reach + 1]
        for j, q in enumerate(sites):
            if j != i and np.hypot(*(q - p)) < 2 * reach:
                d = q - p
                length = float(np.hypot(*d))
                faces.append((u * d[0] + v * d[1]) / length - length / 2 + web)
        width = rng.uniform(0.2, 1.2)
        out.append((rows, cols, _smooth_max(faces, width) + 0.3 * width))
    return out


def _slots(rng: np.random.Generator, radius: float) -> list[Shape]:
    """Parallel slots, straight or as arcs around the middle."""
    pitch = rng.uniform(3.0, 12.0)
    half, inner = pitch * rng.uniform(0.15, 0.4), radius * rng.uniform(0.5, 0.92)
    x, y = rng.uniform(-3, 3, 2)
    rows, cols, u, v = _window(x, y, inner + 1)
    r = np.hypot(u, v)
    if rng.random() < 0.6:
        across, _ = _turned(u, v, rng.uniform(0, np.pi))
        shape = np.maximum(np.abs((across / pitch) % 1 - 0.5) * pitch - half, r - inner)
    else:
        arms = int(rng.integers(1, 5))
        shape = np.maximum(np.abs((r / pitch) % 1 - 0.5) * pitch - half, r - inner)
        angle = np.arctan2(v, u) + rng.uniform(0, 2 * np.pi)
        bridge = r * np.abs(np.sin(angle * arms / 2)) * 2 / arms
        shape = np.maximum(shape, rng.uniform(1, 4) - bridge)
    return [(rows, cols, shape.astype(np.float32))]


def generate(rng: np.random.Generator, source: object = None) -> np.ndarray:
    """Return one disc u [1, 128, 128]: −1 in air, about +1 in acrylic."""
    return _disc(rng)[0]


def generate_marred(rng: np.random.Generator, source: object = None) -> np.ndarray:
    """Return the disc of `generate`, and it with its rim dented or its acrylic shaded [2, N, N]."""
    clean, rim = _disc(rng)
    held = displaced(clean[0], rng, depth=(0.7, 10), reach=(2.5, 16), where=rim)
    if rng.random() < 0.3:
        held = shaded(held + 1, rng) - 1
    return np.stack([clean[0], held]).astype(np.float32)


def _disc(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a disc u [1, N, N], and a weight [N, N] that is 1 at its rim and falls inwards."""
    radius = 35.0 * rng.uniform(0.96, 1.03)
    x, y = rng.normal(0, 1.2, 2)
    make = (_scattered, _cells, _slots)[rng.choice(3, p=(0.6, 0.3, 0.1))]
    size = (N * FINE, N * FINE)
    distance = np.broadcast_to(np.hypot(_axis[None], _axis[:, None]) - radius, size)
    cover = np.clip(0.5 - distance / STEP, 0, 1)
    for rows, cols, shape in make(rng, radius):
        cover[rows, cols] *= np.clip(0.5 + shape / STEP, 0, 1)
    fine = gaussian_filter(cover, rng.uniform(0, 0.45) * FINE) if rng.random() < 0.8 else cover
    image = fine.reshape(N, FINE, N, FINE).mean(axis=(1, 3))
    image = shift(image, (y / PIXEL, x / PIXEL), order=1, mode="constant")
    grid = (np.arange(N) - (N - 1) / 2) * PIXEL
    r2 = ((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / radius**2
    cupping = rng.uniform(0, 0.05) if rng.random() < 0.7 else 0.0
    # The Helsinki scans span 0.0373 to 0.0400 /mm, 0.98 to 1.05 of the nominal value.
    level = rng.uniform(0.93, 1.09) * (1 + cupping * (np.clip(r2, 0, 1) - 0.5))
    depth = (radius - np.sqrt(r2) * radius) / PIXEL  # of a place below the rim, pixels
    # outwards the weight stays, so that a dent is filled with the air behind it; holes keep theirs
    rim = np.exp(-0.5 * (np.clip(depth, 0, None) / 4) ** 2)
    return (2 * level * image - 1)[None].astype(np.float32), rim


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror."""
    return dihedral(batch, generator)


FAMILY = Family(
    name="discs",
    shape=(1, N, N),
    fixed_size=True,
    offset=ATTENUATION / 2,
    scale=ATTENUATION / 2,
    units="1/mm",
    pixel=PIXEL,
    pixel_unit="mm",
    generate=generate,
    marred=generate_marred,
    augment=augment,
    source=lambda path: None,
    licence="synthetic; BSD-3-Clause with this repository",
    summary=(
        "acrylic discs of 70 mm with 0 to about 20 holes (circles, ovals, blobs, stars, polygons, "
        "slots, cells between thin webs), slight blur and cupping, in a field of 75.94 mm"
    ),
    limits=(
        "other materials, more than one material, other diameters or pixel sizes, holes finer than "
        "about 1 mm, metal and strong beam hardening"
    ),
)
