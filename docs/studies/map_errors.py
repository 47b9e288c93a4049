"""How far ESPIRiT's coil maps are off, and how much of it a smooth field would mend.

SIMULATED: an ellipse with texture and a smooth phase, wires as coils, every second line and a fully
sampled centre. Each pixel's map is compared up to a phase common to all coils.

    python docs/studies/map_errors.py
"""

from __future__ import annotations

import numpy as np

from sciinv.operators.parts.mri_coils import espirit, simulate_maps
from sciinv.operators.parts.mri_unknowns import smooth_fields

CASES = ((64, 4), (64, 8), (128, 8))
LINES, SNRS, SEEDS, ORDER = (16, 24, 32), (50, 10), 2, 4


def scan(n: int, coils: int, snr: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return k-space [coil, ky, kx], the maps, and where the object is."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n] / n - 0.5
    inside = (x / 0.38) ** 2 + (y / 0.44) ** 2 < 1
    texture = 1 + 0.3 * np.sin(9 * x + g.uniform(0, 6)) * np.cos(7 * y + g.uniform(0, 6))
    image = inside * texture * np.exp(1j * (0.6 * np.sin(3 * x) + y))
    maps = simulate_maps(coils, (n, n))
    moved = np.fft.ifftshift(maps * image, axes=(-2, -1))
    k = np.fft.fftshift(np.fft.fft2(moved, norm="ortho"), axes=(-2, -1))
    return k + (g.normal(size=k.shape) + 1j * g.normal(size=k.shape)) / snr, maps, inside


def errors(n: int, coils: int, lines: int, snr: float, seed: int) -> tuple[float, float]:
    """Return the rms error of a map's real component, and what the best smooth field leaves."""
    k, maps, inside = scan(n, coils, snr, seed)
    mask = np.zeros((n, n), dtype=bool)
    mask[::2] = True
    mask[n // 2 - lines // 2 : n // 2 + lines // 2] = True
    found, _ = espirit(k * mask, mask, limit=lines)
    off = maps - found * np.exp(1j * np.angle((found.conj() * maps).sum(0)))
    off = off[:, inside].T
    fields = smooth_fields(n, n, ORDER).numpy()[:, inside].T
    left = off - fields @ np.linalg.lstsq(fields, off, rcond=None)[0]
    whole, rest = (float(np.sqrt((np.abs(d) ** 2).mean() / 2)) for d in (off, left))
    return whole, rest


def main() -> None:
    """Print a row for each case."""
    print("| pixels, coils | calibration lines |", " | ".join(f"SNR {snr}" for snr in SNRS), "|")
    for n, coils in CASES:
        for lines in LINES:
            cells = []
            for snr in SNRS:
                each = [errors(n, coils, lines, snr, seed) for seed in range(SEEDS)]
                whole, rest = np.mean(each, 0)
                cells.append(f"{whole:.4f} ({rest:.4f})")
            print(f"| {n}², {coils} | {lines} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
