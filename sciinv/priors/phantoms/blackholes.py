"""Radio sources at horizon scale: rings and crescents, and as many sources that are no rings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sciinv.priors.phantoms.family import Family, dihedral
from sciinv.priors.phantoms.marred import displaced

N = 64
PIXEL = 2.0  # µas
SCALE = 1 / 500  # Jy per pixel: a typical ring of total flux 1 Jy has values about 1 in u
PEAK = 8.0  # highest pixel in u; a more compact source is blurred until it fits
FINE = 2  # the textures are drawn on a grid this much finer

_axis = (np.arange(N * FINE) - (N * FINE - 1) / 2) * PIXEL / FINE
_Y, _X = np.meshgrid(_axis, _axis, indexing="ij")


def _polar(x0: float = 0.0, y0: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return np.hypot(_X - x0, _Y - y0), np.arctan2(_Y - y0, _X - x0)


def _gaussian(x0: float, y0: float, major: float, minor: float, angle: float) -> np.ndarray:
    """Elliptical Gaussian of unit flux; full widths at half maximum, µas."""
    c, s = np.cos(angle), np.sin(angle)
    u, v = c * (_X - x0) + s * (_Y - y0), -s * (_X - x0) + c * (_Y - y0)
    a, b = major / 2.3548, minor / 2.3548
    out = np.exp(-0.5 * ((u / a) ** 2 + (v / b) ** 2))
    return out / out.sum()


def _modes(rng: np.random.Generator, angle: np.ndarray, count: int) -> np.ndarray:
    """Positive azimuthal profile 1 + Σ β_m cos m(θ − θ_m)."""
    out = np.ones_like(angle)
    for m in range(1, count + 1):
        size = rng.uniform(0, 0.9 if m == 1 else 0.6 / m)
        out = out + size * np.cos(m * (angle - rng.uniform(0, 2 * np.pi)))
    return np.clip(out, 0.02, None)


def _ring(rng: np.random.Generator) -> np.ndarray:
    """m-ring: azimuthal modes on a ring of Gaussian section, sometimes slightly elliptical."""
    radius, width = rng.uniform(20, 80) / 2, rng.uniform(2, 14)
    stretch, tilt = rng.uniform(0.85, 1.0), rng.uniform(0, np.pi)
    c, s = np.cos(tilt), np.sin(tilt)
    u, v = c * _X + s * _Y, (-s * _X + c * _Y) / stretch
    r, angle = np.hypot(u, v), np.arctan2(_Y, _X)
    out = np.exp(-0.5 * ((r - radius) / (width / 2.3548)) ** 2)
    out *= _modes(rng, angle, int(rng.integers(0, 5)))
    if rng.random() < 0.3:  # a floor of faint light inside
        out += rng.uniform(0.02, 0.25) * (r < radius)
    return out


def _crescent(rng: np.random.Generator) -> np.ndarray:
    """Difference of two discs (Kamruddin & Dexter 2013), with a brightness gradient."""
    outer = rng.uniform(22, 80) / 2
    inner = outer * rng.uniform(0.35, 0.9)
    shift = (outer - inner) * rng.uniform(0, 1)
    turn = rng.uniform(0, 2 * np.pi)
    r_out, angle = _polar()
    r_in, _ = _polar(shift * np.cos(turn), shift * np.sin(turn))
    floor = rng.uniform(0, 0.2)
    out = (r_out < outer) * np.where(r_in < inner, floor, 1.0)
    grade = rng.uniform(0, 0.9)
    return out * (1 + grade * r_out / outer * np.cos(angle - rng.uniform(0, 2 * np.pi)))


def _disc(rng: np.random.Generator) -> np.ndarray:
    radius, turn = rng.uniform(20, 80) / 2, rng.uniform(0, np.pi)
    squash, c, s = rng.uniform(0.5, 1), np.cos(turn), np.sin(turn)
    r = np.hypot(c * _X + s * _Y, (-s * _X + c * _Y) / squash)
    limb = rng.uniform(-0.8, 0.6)
    out = (r < radius) * (1 + limb * (r / radius) ** 2)
    return out * _modes(rng, _polar()[1], 1)


def _blobs(rng: np.random.Generator, count: int = 0) -> np.ndarray:
    """One to four Gaussian components: single, double and clumpy sources."""
    out = np.zeros_like(_X)
    count = count or int(rng.choice([1, 2, 2, 3, 4]))
    for _ in range(count):
        major = rng.uniform(10, 45)
        reach = 0 if count == 1 else rng.uniform(5, 30)
        turn = rng.uniform(0, 2 * np.pi)
        out += rng.uniform(0.2, 1) * _gaussian(
            reach * np.cos(turn),
            reach * np.sin(turn),
            major,
            major * rng.uniform(0.35, 1),
            rng.uniform(0, np.pi),
        )
    return out


def _jet(rng: np.random.Generator) -> np.ndarray:
    """A bright core and knots that widen along a bent jet, sometimes with a counter-jet."""
    core = rng.uniform(10, 20)
    out = rng.uniform(0.4, 1.5) * _gaussian(0, 0, core, core * rng.uniform(0.5, 1), 0)
    turn, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.02, 0.02)
    for side in (1.0, rng.choice([0.0, 0.0, 0.4])):
        flux, step = side * rng.uniform(0.2, 0.8), 0.0
        x, y, heading = 0.0, 0.0, turn if side == 1.0 else turn + np.pi
        while np.hypot(x, y) < 46 and flux > 0.01:
            step = rng.uniform(5, 14)
            heading += bend * step
            x, y = x + step * np.cos(heading), y + step * np.sin(heading)
            width = 8 + 0.3 * np.hypot(x, y)
            out += flux * _gaussian(x, y, width * rng.uniform(1, 1.8), width, heading)
            flux *= rng.uniform(0.4, 0.95)
    return out


def _field(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Gaussian random field of unit variance with power spectrum ∝ (k² + k0²)^(−slope/2)."""
    k = np.fft.fftfreq(N * FINE)
    power = (k[:, None] ** 2 + k[None] ** 2 + 0.02**2) ** (-slope / 4)
    out = np.fft.ifft2(np.fft.fft2(rng.standard_normal(_X.shape)) * power).real
    return out / out.std()


def _flow(rng: np.random.Generator) -> np.ndarray:
    """A turbulent accretion flow: sheared texture, Doppler beaming, shadow and photon ring."""
    shadow = rng.uniform(20, 62) / 2
    inclination = np.radians(rng.uniform(0, 75))
    tilt = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(tilt), np.sin(tilt)
    u, v = c * _X + s * _Y, -s * _X + c * _Y
    # Light bending keeps the far side in sight, so the disc looks rounder than cos(inclination).
    flat = max(np.cos(inclination), 0.45) ** 0.7
    r, angle = np.hypot(u, v / flat), np.arctan2(v / flat, u)
    # Keplerian shear winds the texture into trailing arms: read it at a turned angle.
    wind = rng.uniform(0.3, 2.0) * (shadow / np.clip(r, 0.4 * shadow, None)) ** 1.5 * np.pi
    field = _field(rng, rng.uniform(2.2, 3.6))
    half, fine = N * FINE / 2, PIXEL / FINE
    spin = rng.choice([-1.0, 1.0])
    col = np.clip(r * np.cos(angle + spin * wind) / fine + half, 0, N * FINE - 1).astype(int)
    row = np.clip(r * np.sin(angle + spin * wind) / fine + half, 0, N * FINE - 1).astype(int)
    texture = np.exp(rng.uniform(0.2, 0.9) * field[row, col])
    inner, fall = shadow * rng.uniform(0.8, 1.1), rng.uniform(2.2, 5.5)
    radial = (np.clip(r, inner, None) / inner) ** -fall
    radial /= 1 + np.exp(-(r - inner) / (0.12 * inner))
    speed = rng.uniform(0.15, 0.6) * np.sqrt(inner / np.clip(r, inner, None))
    toward = speed * np.sin(inclination) * np.cos(angle) * spin
    doppler = (np.sqrt(1 - speed**2) / (1 - toward)) ** 3
    disc = texture * radial * doppler
    ring_r = np.hypot(u + rng.uniform(0, 0.15) * shadow * np.sin(inclination), v)
    width = rng.uniform(1.5, 5)
    photon = np.exp(-0.5 * ((ring_r - shadow) / (width / 2.3548)) ** 2) * doppler
    out = disc + rng.uniform(0, 1.5) * disc.max() * 0.5 * photon
    edge = 1 / (1 + np.exp((np.hypot(_X, _Y) - 52) / 3))  # nothing is cut off by the field of view
    return out * edge * (1 - rng.uniform(0.3, 0.95) * (ring_r < 0.85 * shadow))


_KINDS = (_ring, _crescent, _flow, _disc, _blobs, _jet)
_PERFECT = (_ring, _crescent, _disc)
_SHARES = (0.22, 0.12, 0.24, 0.10, 0.18, 0.14)
KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "ring": _ring,
    "crescent": _crescent,
    "flow": _flow,
    "disc": _disc,
    "double": partial(_blobs, count=2),
    "jet": _jet,
}


def generate(rng: np.random.Generator, source: object = None) -> np.ndarray:
    """Return one source u [1, 64, 64]; its sum is 500, that is a total flux of 1 Jy."""
    return _finished(_KINDS[rng.choice(len(_KINDS), p=_SHARES)](rng), rng)


def generate_marred(rng: np.random.Generator, source: object = None) -> np.ndarray:
    """Return the source of `generate`, and it with its edges displaced where they are perfect.

    Rings, crescents and discs are ellipses to the last digit; the outlines of flows, components and
    jets are free, and theirs stay. [2, 64, 64].
    """
    kind = rng.choice(len(_KINDS), p=_SHARES)
    clean = _finished(_KINDS[kind](rng), rng)[0]
    held = clean
    if _KINDS[kind] in _PERFECT:
        held = displaced(clean, rng, depth=(0.3, 4), reach=(2.5, 10))
        held = held * (clean.sum() / held.sum())
    return np.stack([clean, held]).astype(np.float32)


def generate_kind(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return one source u [1, 64, 64] of a kind of `KINDS`, made as `generate` makes it."""
    return _finished(KINDS[kind](rng), rng)


def _finished(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a halo now and then, blur, bin to 64 × 64 and centre."""
    if rng.random() < 0.15:  # faint extended light around the source
        size = rng.uniform(35, 70)
        x, y = rng.uniform(-8, 8, 2)
        halo = _gaussian(x, y, size, size * rng.uniform(0.6, 1), 0)
        image = image / image.sum() + rng.uniform(0.05, 0.3) * halo
    width = rng.uniform(3, 20)
    for _ in range(8):
        image = gaussian_filter(image, width / 2.3548 / (PIXEL / FINE), mode="constant", truncate=3)
        u = image.reshape(N, FINE, N, FINE).sum(axis=(1, 3))
        u = u / u.sum() / SCALE
        if u.max() <= PEAK:
            break
        width = 8.0
    return _centred(u, rng)[None].astype(np.float32)


def _centred(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift by whole pixels so that the centroid is within a few µas of the middle."""
    grid = np.arange(N) - (N - 1) / 2
    total = u.sum()
    jitter = rng.normal(0, 1.0, 2)
    dy = round(float(jitter[0] - (u.sum(1) * grid).sum() / total))
    dx = round(float(jitter[1] - (u.sum(0) * grid).sum() / total))
    moved = np.zeros_like(u)
    ys, xs = slice(max(dy, 0), N + min(dy, 0)), slice(max(dx, 0), N + min(dx, 0))
    yo, xo = slice(max(-dy, 0), N + min(-dy, 0)), slice(max(-dx, 0), N + min(-dx, 0))
    moved[ys, xs] = u[yo, xo]
    return moved * (total / moved.sum())


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror; the flux stays exact."""
    return dihedral(batch, generator)


FAMILY = Family(
    name="blackholes",
    shape=(1, N, N),
    fixed_size=True,
    offset=0.0,
    scale=SCALE,
    units="Jy/pixel (total flux 1 Jy)",
    pixel=PIXEL,
    pixel_unit="µas",
    generate=generate,
    marred=generate_marred,
    augment=augment,
    source=lambda path: None,
    licence="synthetic; BSD-3-Clause with this repository",
    summary=(
        "compact radio sources of total flux 1 Jy in a field of 128 µas: m-rings, crescents, "
        "turbulent accretion flows, discs, Gaussian components and core-jets"
    ),
    limits=(
        "sources wider than the field or of other total flux (rescale the image first); "
        "polarisation; structure finer than about 3 µas. The share of rings (four in ten "
        "sources are darker in the middle) is a choice, not astrophysics: whether a source is a "
        "ring is for the data to say"
    ),
)
