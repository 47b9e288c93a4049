"""Looks at k-space: its centre, an image in its place, coils that are dead or copies, its noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.operators.parts import mri_coils

MOST_COILS = 128
MOST_LOST = 0.2  # beyond, what is left is no scan of these coils
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


def lost_samples(kspace: NDArray, path: Path) -> NDArray[np.bool_]:
    """Return samples of which a part is exactly 0 in some coil, but not in all, bool [ky, kx].

    Noise makes no coil read exactly 0, unless the data were rounded. Of a real image without noise
    the four samples that are their own mirror image are real, and are left alone.

    Raises:
        DataError: They are more than a fifth of what was measured.
    """
    zero = kspace == 0
    measured = ~zero.all(0)
    lost = ((kspace.real == 0) | (kspace.imag == 0)).any(0) & measured
    h, w = measured.shape
    own = np.ix_([0, h // 2], [0, w // 2])
    lost[own] = zero.any(0)[own] & measured[own]
    if not lost.any() or any(rounding_step(one[measured]) for one in kspace):
        return np.zeros(measured.shape, bool)
    share = float(lost.sum() / measured.sum())
    if share > MOST_LOST:
        raise DataError(
            "Samples are exactly 0 in some coils alone",
            where=path,
            expected="every coil to have measured the same samples",
            got=f"{share:.0%} of them",
            remedy="leave out the coils that were not read whole, with the option coils",
        )
    return lost


def spike_doubts(kspace: NDArray, path: Path) -> list[str]:
    """Return a doubt where single samples of the outer k-space stand out (spike noise)."""
    h, w = kspace.shape[1:]
    if min(h, w) < 16:
        return []
    from scipy.ndimage import maximum_filter, uniform_filter

    size = np.abs(kspace).astype(np.float64)
    measured = (size > 0).any(0)
    around = np.ones((1, 7, 7), bool)
    around[0, 3, 3] = False
    count = np.rint(49 * uniform_filter(measured.astype(float), 7, mode="constant")) - measured
    highest = maximum_filter(size, footprint=around, mode="constant")
    total = 49 * uniform_filter(size, (1, 7, 7), mode="constant") - size
    y, x = (np.abs(np.arange(n) - n // 2) > n // 8 for n in (h, w))
    # six neighbours of noise are so low beside a seventh sample once in 10⁷ or less
    outer = (y[:, None] | x[None]) & (count >= 6) & measured
    out = (size > 5 * highest) & (size * np.maximum(count, 1) > 8 * total) & outer
    if not out.any():
        return []
    coil, ky, kx = (int(i) for i in np.argwhere(out)[0])
    return [
        f"{int(out.sum())} samples stand out of the outer k-space by more than five times, the "
        f"first in coil {coil} at [{ky}, {kx}]: spikes, or damaged values."
    ]


def rounding_step(samples: NDArray) -> float:
    """Return the step that all of a coil's samples are whole multiples of; 0 where there is none.

    Rounded data have values of a step or two, so that the smallest is the step.
    """
    parts = np.abs(np.concatenate([samples.real, samples.imag]).astype(np.float64))
    step = float(parts[parts > 0].min(initial=np.inf))
    if not np.isfinite(step):
        return 0.0
    steps = parts[:4096] / step
    return step if (np.abs(steps - np.rint(steps)) < 1e-3 + 1e-6 * steps).all() else 0.0


def rounding_doubts(kspace: NDArray, measured: NDArray[np.bool_], sd: float) -> list[str]:
    """Return a doubt where the noise lies below the step that the samples were rounded to."""
    step = max(rounding_step(one[measured]) for one in kspace)
    if sd > step:
        return []
    return [
        f"The samples are whole multiples of {step:.4g}, more than their noise of {sd:.3g}: they "
        "were rounded, and the noise is that of rounding."
    ]


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
