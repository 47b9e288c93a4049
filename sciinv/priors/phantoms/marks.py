"""Shapes, random fields and points of which generic images are made, in pixels of one canvas.

A shape is (rows, columns, cover): the part of the canvas that it can touch, and which share of each
pixel there it covers, 0 to 1.
"""

from __future__ import annotations

import numpy as np

Shape = tuple[slice, slice, np.ndarray]
FINEST, COARSEST = 0.5, 500.0  # radii: three decades; of the largest only the edge is seen


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def field(rng: np.random.Generator, size: int, exponent: float, longest: float) -> np.ndarray:
    """Return a Gaussian field [size, size] of unit variance, S(k) ∝ (k² + longest⁻²)^(−exponent/2).

    It is cut out of a larger periodic one, so its opposite edges are unlike.
    """
    wide = size + size // 2
    k2 = np.fft.fftfreq(wide)[:, None] ** 2 + np.fft.rfftfreq(wide)[None] ** 2
    gain = (k2 + longest**-2) ** (-exponent / 4)
    white = np.fft.rfft2(rng.standard_normal((wide, wide)))
    out = np.fft.irfft2(white * gain, s=(wide, wide))[:size, :size]
    return ((out - out.mean()) / (out.std() + 1e-12)).astype(np.float32)


def waves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return stripes or grains of about one wavelength, unit variance."""
    wavelength = log_uniform(rng, 2.5, size / 3)
    axis = np.fft.fftfreq(size)
    ky, kx = axis[:, None], axis[None]
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * kx + np.sin(angle) * ky
    across = np.cos(angle) * ky - np.sin(angle) * kx
    width = rng.uniform(0.05, 0.5) / wavelength
    if rng.random() < 0.5:  # one direction, else grains without any
        distance = np.minimum(np.hypot(along - 1 / wavelength, across),
                              np.hypot(along + 1 / wavelength, across))  # fmt: skip
    else:
        distance = np.abs(np.hypot(kx, ky) - 1 / wavelength)
    # not narrower than the canvas resolves, or no wave is left
    gain = np.exp(-0.5 * (distance / max(width, 0.7 / size)) ** 2)
    out = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * gain).real
    return (out / (out.std() + 1e-12)).astype(np.float32)


def leaf(rng: np.random.Generator, size: int, radius: float, inside: bool = False) -> Shape:
    """Return an ellipse, a polygon with straight edges, or a blob, somewhere on the canvas.

    Args:
        rng: Random stream.
        size: Side of the canvas.
        radius: Its largest half axis; below half a pixel it covers parts of pixels.
        inside: Whether its middle lies in the middle third; else anywhere it can be seen from.
    """
    low, high = (size / 3, 2 * size / 3) if inside else (-0.7 * radius, size + 0.7 * radius)
    y, x = rng.uniform(low, high, 2)
    reach = 1.35 * radius + 1
    rows, cols = (
        slice(int(np.clip(c - reach, 0, size)), int(np.clip(c + reach + 1, 0, size)))
        for c in (y, x)
    )
    v = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y)
    u = np.arange(cols.start, cols.stop, dtype=np.float32)[None] - np.float32(x)
    return rows, cols, np.clip(0.5 - _distance(rng, u, v, radius), 0, 1)


def _distance(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Return about how far outside of a random shape each pixel lies, negative within."""
    kind = rng.integers(3)
    if kind == 0:
        angle = rng.uniform(0, np.pi)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = c * u + s * v, c * v - s * u
        short = radius * rng.uniform(0.3, 1)
        f = np.sqrt((u / radius) ** 2 + (v / short) ** 2 + 1e-6)
        slope = np.sqrt((u / radius**2) ** 2 + (v / short**2) ** 2) / f + 1e-6 / radius
        return (f - 1) / slope
    if kind == 1:
        count = int(rng.integers(3, 8))
        turns = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
        turns += rng.uniform(0, 2 * np.pi)
        edges = radius * rng.uniform(0.4, 0.8, count)
        faces = [
            np.float32(np.cos(t)) * u + np.float32(np.sin(t)) * v - np.float32(d)
            for t, d in zip(turns, edges, strict=True)
        ]
        return np.maximum(np.maximum.reduce(faces), np.hypot(u, v) - np.float32(1.2 * radius))
    angle = np.arctan2(v, u)
    rim = np.full(angle.shape, 0.75, np.float32)
    for m in range(2, 6):
        rim += np.float32(rng.uniform(0, 0.3) / m) * np.cos(m * angle - rng.uniform(0, 2 * np.pi))
    return 0.85 * (np.hypot(u, v) - radius * rim)


def points(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return 1 to 200 spots, heights over three decades, sd 0.3 to 6 pixels, the highest 1."""
    out = np.zeros((size, size), np.float32)
    widest = log_uniform(rng, 0.3, 6)
    for _ in range(int(log_uniform(rng, 1, 200))):
        width = max(widest * rng.uniform(0.3, 1), 0.3)
        height = log_uniform(rng, 1e-3, 1)
        y, x = rng.uniform(0, size, 2)
        reach = 4 * width + 1
        rows, cols = (slice(int(max(c - reach, 0)), int(min(c + reach + 1, size))) for c in (y, x))
        v = np.exp(-0.5 * ((np.arange(rows.start, rows.stop) - y) / width) ** 2)
        u = np.exp(-0.5 * ((np.arange(cols.start, cols.stop) - x) / width) ** 2)
        out[rows, cols] += (height * v[:, None] * u[None]).astype(np.float32)
    return out / max(float(out.max()), 1e-6)


def lines(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return 1 to 30 straight or bent strokes of 0.5 to 4 pixels width, heights 0 to 1."""
    out = np.zeros((size, size), np.float32)
    axis = np.arange(size, dtype=np.float32)
    for _ in range(int(log_uniform(rng, 1, 30))):
        half = log_uniform(rng, 0.25, 2)
        a = rng.uniform(0, size, 2)
        direction = rng.uniform(0, 2 * np.pi)
        stroke = np.full((size, size), 1e3, np.float32)
        for _ in range(int(rng.integers(1, 5))):
            step = log_uniform(rng, size / 20, size / 2)
            b = a + step * np.array([np.sin(direction), np.cos(direction)])
            v, u = axis[:, None] - np.float32(a[0]), axis[None] - np.float32(a[1])
            d = (b - a).astype(np.float32)
            t = np.clip((v * d[0] + u * d[1]) / np.float32(step**2), 0, 1)
            stroke = np.minimum(stroke, np.hypot(v - t * d[0], u - t * d[1]))
            a, direction = b, direction + rng.normal(0, 0.5)
        out = np.maximum(out, np.float32(rng.uniform(0.1, 1)) * np.clip(half + 0.5 - stroke, 0, 1))
    return out
