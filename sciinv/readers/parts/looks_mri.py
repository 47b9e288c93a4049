"""Looks at k-space: its centre, an image in its place, coils that are dead or copies, its noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.operators.parts import mri_coils

MOST_COILS = 128
DEAD = 1e-10  # energy of a coil, relative to the median one, below which it measured nothing


def check_kspace(kspace: NDArray, path: Path) -> list[str]:
    """Return doubts about k-space [coil, ky, kx]; refuse what nothing else can be meant by.

    Raises:
        DataError: One value everywhere; one part of the numbers alone; too many coils; the energy
            lies in the corner, not in the centre; two coils are copies of each other.
    """
    power = np.sum(np.abs(kspace.astype(np.complex128)) ** 2, axis=0)
    measured = power > 0
    values = np.abs(kspace[:, measured])
    if values.size > 1 and float(np.ptp(values)) <= 1e-6 * float(values.max()):
        raise DataError(
            "The k-space is constant",
            where=path,
            expected="samples that differ",
            got=f"|k| = {float(values.max()):.4g} everywhere",
            remedy="check which array of the file was read",
        )
    part = np.abs(kspace[:, measured].real).max(), np.abs(kspace[:, measured].imag).max()
    if min(part) <= 1e-6 * max(part) and values.size > 64:
        raise DataError(
            "The k-space has a real or an imaginary part alone",
            where=path,
            expected="complex samples, as receivers measure both parts",
            got=f"a largest real part of {part[0]:.4g} and imaginary part of {part[1]:.4g}",
            remedy="join both parts: real + 1j * imag",
        )
    if len(kspace) > MOST_COILS:
        raise DataError(
            "There are more coils than any scanner has",
            where=path,
            expected=f"at most {MOST_COILS}",
            got=len(kspace),
            remedy="check the order of the axes; or choose coils with the option coils",
        )
    _check_centre(power, path)
    _check_copies(kspace[:, measured], path)
    return _image_doubt(kspace, power, path)


def live_coils(kspace: NDArray) -> NDArray[np.bool_]:
    """Return the coils that measured anything, [coil]."""
    energy = np.sum(np.abs(kspace.astype(np.complex128)) ** 2, axis=(1, 2))
    return energy > DEAD * np.median(energy[energy > 0]) if energy.any() else energy > 0


def _window(n: int) -> slice:
    half = max(1, n // 16)
    return slice(n // 2 - half, n // 2 + half + 1)


def _check_centre(power: NDArray, path: Path) -> None:
    h, w = power.shape
    if min(h, w) < 16:
        return
    box = _window(h), _window(w)
    centre, total = float(power[box].sum()), float(power.sum())
    for name, moved in (
        ("the corner [0, 0]", np.fft.fftshift(power)),
        ("the first row", np.fft.fftshift(power, axes=0)),
        ("the first column", np.fft.fftshift(power, axes=1)),
    ):
        there = float(moved[box].sum())
        if there > 0.3 * total and there > 10 * centre:
            raise DataError(
                "The k-space is not centred",
                where=path,
                expected=f"the zero frequency at index N // 2, [{h // 2}, {w // 2}]",
                got=f"{there / total:.0%} of the energy around {name}, {centre / total:.1%} around "
                "the centre",
                remedy="shift it: numpy.fft.fftshift(kspace, axes=(-2, -1))",
            )


def _image_doubt(kspace: NDArray, power: NDArray, path: Path) -> list[str]:
    # k-space is concentrated, an image is not; of an image given for k-space it is the other way.
    h, w = power.shape
    if min(h, w) < 16 or not (power > 0).all():
        return []
    box = _window(h), _window(w)
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    image = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
    seen = np.sum(np.abs(image) ** 2, axis=0)
    own, other = (float(p[box].sum() / p.sum()) for p in (power, seen))
    if other > 0.5 and other > 1.5 * own:
        return [
            f"The array looks like images, not k-space: {other:.0%} of the energy of its Fourier "
            f"transform lies around the centre, and {own:.0%} of its own."
        ]
    return []


def _check_copies(samples: NDArray, path: Path) -> None:
    # Independent noise keeps the correlation of two coils below 1 by far more than rounding.
    coils = len(samples)
    if coils < 2 or samples.shape[1] < 64:
        return
    one = samples.astype(np.complex128)
    size = np.linalg.norm(one, axis=1, keepdims=True)
    one = one / np.where(size > 0, size, 1)
    alike = np.abs(one.conj() @ one.T)
    np.fill_diagonal(alike, 0)
    a, b = np.unravel_index(int(np.argmax(alike)), alike.shape)
    if alike[a, b] > 1 - 1e-9:
        raise DataError(
            "Two coils are copies of each other",
            where=path,
            expected="independent noise in every coil",
            got=f"coils {min(a, b)} and {max(a, b)} agree to {1 - alike[a, b]:.1e}",
            remedy=f"leave one out: coils={[c for c in range(coils) if c != max(a, b)]}",
        )


def check_noise(kspace: NDArray, measured: NDArray[np.bool_], sd: float, path: Path) -> list[str]:
    """Return a doubt where a given or scanned noise is not that under the outer k-space.

    Raises:
        DataError: It is a hundred times off: no bandwidth or filter does that.
    """
    try:
        floor = mri_coils.noise_floor(kspace, measured)
    except DataError:
        return []
    ratio = floor / sd
    if 1 / 3 < ratio < 3:
        return []
    told = f"{floor:.4g} under the outer k-space, {sd:.4g} from the noise scan or as given"
    if not 1e-2 < ratio < 1e2:
        raise DataError(
            "The noise does not fit the k-space",
            where=path,
            expected="a noise of the same unit as the k-space",
            got=told,
            remedy="check the units; or leave the noise scan out with noise_scan=False",
        )
    return [f"The noise is doubtful: {told}, a factor of {max(ratio, 1 / ratio):.2g}."]
