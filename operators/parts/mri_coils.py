"""Coil sensitivities (ESPIRiT), noise, and prewhitening from k-space; NumPy only."""

from __future__ import annotations

import numpy as np

from sciinv.errors import DataError

POWER_ITERATIONS = 20
FLOOR_SHARE = 0.3  # of the power at the edge of k-space: below, a floor is an artefact of the fit
FURTHER_CROP = 0.8  # eigenvalue below which a pixel has no second map, as in BART
CHUNK_ELEMENTS = 1 << 24  # complex numbers of the pixel-wise matrices held at once (128 MB)


def calibration_region(mask: np.ndarray, limit: int = 32) -> tuple[slice, slice]:
    """Return the largest centred rectangle of fully sampled k-space, (ky, kx).

    It grows from the centre, index N // 2, by one line at a time on the side that is shortest.

    Args:
        mask: Measured samples, [ky, kx], bool.
        limit: Longest side.

    Raises:
        DataError: The centre of k-space was not measured.
    """
    mask = np.asarray(mask, dtype=bool)
    h, w = mask.shape
    box = [h // 2, h // 2 + 1, w // 2, w // 2 + 1]  # top, bottom, left, right
    if not mask[h // 2, w // 2]:
        raise DataError(
            "The k-space has no calibration region",
            where=f"centre sample [{h // 2}, {w // 2}]",
            expected="a fully sampled block around the centre",
            got="the centre was not measured",
            remedy="check the order of the axes and the centre, or give coil maps",
        )
    open_sides = {0, 1, 2, 3}
    while open_sides:
        lengths = {s: box[1] - box[0] if s < 2 else box[3] - box[2] for s in open_sides}
        # Alternate the two ends of an axis: the end nearer to the centre goes first.
        centre = (h // 2, h // 2 + 1, w // 2, w // 2 + 1)
        side = min(open_sides, key=lambda s: (lengths[s], abs(box[s] - centre[s]), s))
        grown = box.copy()
        grown[side] += 1 if side % 2 else -1
        inside = grown[0] >= 0 and grown[1] <= h and grown[2] >= 0 and grown[3] <= w
        block = mask[grown[0] : grown[1], grown[2] : grown[3]]
        if inside and lengths[side] < limit and block.all():
            box = grown
        else:
            open_sides.remove(side)
    return slice(box[0], box[1]), slice(box[2], box[3])


def espirit(
    kspace: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.0,
    limit: int = 32,
    sets: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ESPIRiT coil sensitivities and their eigenvalue map.

    Patches p of the calibration region lie in a subspace with projector U Uᴴ. At pixel r,
        M(r) = E_rᴴ U Uᴴ E_r,  (E_r s)[c, j] = s_c exp(−2πi j·(r − r0)/N) / k,
    has eigenvalue 1 where the subspace explains the coils' data, with eigenvector S(r).
    Maps have Σ_c |S_c|² = 1 at every pixel, also outside of the object (there the data say that
    the image is 0), unless `crop` removes them. Their phase is that in which the calibration
    data's strongest combination of coils is real.

    A further set is the next eigenvector: where the field of view is smaller than the object, two
    places share a pixel and two eigenvalues are 1. It is kept only where its eigenvalue says that
    the data need it, since elsewhere it would let noise into the image.

    Args:
        kspace: Centred k-space, complex [coil, ky, kx]; prewhitened where the noise is known.
        mask: Measured samples, [ky, kx]; default: where any coil is not 0.
        kernel: Side k of the patches, in samples.
        threshold: Singular values of the patches below this share of the largest are noise.
        crop: Maps are 0 where the eigenvalue is below this.
        limit: Longest side of the calibration region used.
        sets: Number of sets of maps. Those after the first are 0 where their eigenvalue is below
            0.8, or `crop` if that is more.

    Returns:
        Maps, complex64 [coil, ky, kx] (as image axes), and eigenvalues, float32 [ky, kx]; with
        several sets [set, coil, ky, kx] and [set, ky, kx].

    Raises:
        DataError: No calibration region of at least kernel + 2 samples a side, no signal, or more
            sets than coils.

    Source: Uecker et al., "ESPIRiT", Magnetic Resonance in Medicine 71:990, 2014.
    """
    coils, h, w = kspace.shape
    mask = np.abs(kspace).any(0) if mask is None else np.asarray(mask, dtype=bool)
    region = calibration_region(mask, limit)
    block = kspace[:, *region].astype(np.complex128)
    if min(block.shape[1:]) < kernel + 2:
        raise DataError(
            "The k-space has no calibration region that is large enough",
            where="the fully sampled centre",
            expected=f"at least {kernel + 2} × {kernel + 2} samples",
            got=f"{block.shape[1]} × {block.shape[2]}",
            remedy="give coil maps from another scan, or a smaller kernel",
        )
    if not np.any(block):
        raise DataError(
            "The calibration region holds no signal",
            where="the fully sampled centre",
            expected="values other than 0",
            got="zeros",
            remedy="check which array of the file holds the k-space",
        )
    if not 1 <= sets <= coils:
        raise DataError(
            "There cannot be so many sets of coil maps",
            expected=f"1 … {coils}, the number of coils",
            got=sets,
            remedy="take 1, or 2 where the object is larger than the field of view",
        )
    if coils == 1:
        return np.ones((1, h, w), np.complex64), np.ones((h, w), np.float32)
    covariance = _kernel_covariance(block, kernel, threshold)
    reference = np.linalg.eigh(np.einsum("cyx,dyx->cd", block, block.conj()))[1][:, -1]
    maps = np.empty((sets, coils, h, w), np.complex64)
    values = np.empty((sets, h, w), np.float32)
    offsets = np.arange(1 - kernel, kernel)
    wave_y, wave_x = (
        np.exp(2j * np.pi * np.outer(np.arange(n) - n // 2, offsets) / n).astype(np.complex64)
        for n in (h, w)
    )
    along_x = np.einsum("xe,decb->dxcb", wave_x, covariance.astype(np.complex64))
    rows = max(1, CHUNK_ELEMENTS // (w * coils**2))
    for top in range(0, h, rows):
        part = slice(top, top + rows)
        matrices = np.tensordot(wave_y[part], along_x, axes=1)
        for s in range(sets):
            vectors, values[s, part] = _leading(matrices, reference.astype(np.complex64))
            maps[s, :, part] = np.moveaxis(vectors, -1, 0)
            if s + 1 < sets:  # deflate: the next eigenvector becomes the leading one
                outer = vectors[..., :, None] * vectors[..., None, :].conj()
                matrices = matrices - values[s, part, :, None, None] * outer
    if crop > 0:
        maps *= (values >= crop)[:, None]
    maps[1:] *= (values[1:] >= max(crop, FURTHER_CROP))[:, None]
    return (maps[0], values[0]) if sets == 1 else (maps, values)


def _kernel_covariance(block: np.ndarray, kernel: int, threshold: float) -> np.ndarray:
    # Σ_{j − j' = d} (U Uᴴ)[c j, c' j'] / k² for the offsets d: [dy, dx, coil, coil].
    coils = len(block)
    patches = np.lib.stride_tricks.sliding_window_view(block, (kernel, kernel), axis=(1, 2))
    columns = patches.transpose(0, 3, 4, 1, 2).reshape(coils * kernel**2, -1)
    power, vectors = np.linalg.eigh(columns @ columns.conj().T)
    u = vectors[:, power > threshold**2 * power[-1]]
    projector = (u @ u.conj().T).reshape(coils, kernel, kernel, coils, kernel, kernel)
    out = np.zeros((2 * kernel - 1, 2 * kernel - 1, coils, coils), np.complex128)
    for a in range(kernel):
        for b in range(kernel):
            # offsets (j − j') of this j' = (a, b) fill a k × k window
            window = projector[:, :, :, :, a, b].transpose(1, 2, 0, 3)
            y, x = kernel - 1 - a, kernel - 1 - b
            out[y : y + kernel, x : x + kernel] += window
    return out / kernel**2


def _leading(matrices: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Largest eigenvalue and its unit eigenvector of Hermitian matrices [..., C, C], by power
    # iteration from all coils' sum in the reference phase; phase: ⟨reference, v⟩ real.
    v = matrices @ reference
    for _ in range(POWER_ITERATIONS):
        v /= np.linalg.norm(v, axis=-1, keepdims=True) + np.float32(1e-30)
        v = (matrices @ v[..., None])[..., 0]
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    v = v / np.maximum(norm, 1e-30)
    phase = v @ reference.conj()
    v *= np.exp(-1j * np.angle(phase))[..., None]
    return v, norm[..., 0]


def noise_floor(kspace: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the noise under the outer k-space: sd per real component, all coils together.

    For normalised radii r ≥ 1/2 (r = 1 at the edge of an axis) the mean ½|k|² over the coils is
    fitted as s² + a r^−3.5 with s², a ≥ 0, by weighted least squares whose weights follow the
    fit. In two dimensions the power of sharp edges falls as r⁻³, of blurred ones faster. On
    simulated objects at an SNR of 30 the result is within 10 % of the truth.

    Args:
        kspace: Centred k-space, complex [coil, ky, kx].
        mask: Measured samples, [ky, kx]; default: where any coil is not 0.

    Raises:
        DataError: Fewer than 30 samples lie beyond r = 0.9, or the floor is too far below the
            signal to be told.
    """
    from scipy.optimize import nnls

    _, h, w = kspace.shape
    mask = np.abs(kspace).any(0) if mask is None else np.asarray(mask, dtype=bool)
    ry, rx = ((np.arange(n) - n // 2) / max(n // 2, 1) for n in (h, w))
    radius = np.hypot(ry[:, None], rx[None])
    outer = mask & (radius >= 0.5)
    edge = radius[outer] >= 0.9
    if edge.sum() < 30:
        raise DataError(
            "The k-space has too few outer samples to tell the noise",
            where="samples beyond 0.9 of the largest frequency",
            expected="30 or more",
            got=int(edge.sum()),
            remedy="give the noise's standard deviation, from a noise scan",
        )
    energy = 0.5 * np.mean(np.abs(kspace[:, outer].astype(np.complex128)) ** 2, axis=0)
    design = np.stack([np.ones_like(energy), radius[outer] ** -3.5], axis=1)
    fit = np.full_like(energy, energy.mean())
    for _ in range(30):
        theta, _ = nnls(design / fit[:, None], energy / fit)
        fit = np.maximum(design @ theta, 1e-6 * fit.max())
    bound = float(energy[edge].mean())
    if not theta[0] >= FLOOR_SHARE * bound:
        raise DataError(
            "The noise cannot be told from the outer k-space",
            where="samples beyond half of the largest frequency",
            expected=f"noise that is at least {FLOOR_SHARE:.0%} of the power at the edge",
            got=f"{theta[0] / max(bound, 1e-300):.1%}; all power there would be a standard "
            f"deviation of {bound**0.5:.3g}",
            remedy="give the noise's standard deviation, from a noise scan or the scanner",
        )
    return float(np.sqrt(theta[0]))


def noise_covariance(noise: np.ndarray) -> np.ndarray:
    """Return the coils' noise covariance Σ per real component, Hermitian [coil, coil].

    Σ = ⟨n nᴴ⟩ / 2 over the samples of a scan without signal, complex [coil, sample].

    Raises:
        DataError: Too few samples, or a covariance that is not positive definite (a dead coil).
    """
    coils, count = noise.shape
    if count < 4 * coils:
        raise DataError(
            "The noise scan is too short",
            expected=f"at least {4 * coils} samples for {coils} coils",
            got=count,
            remedy="leave the noise scan out: the noise is then estimated from k-space",
        )
    noise = noise.astype(np.complex128)
    if not np.isfinite(noise).all():
        raise DataError(
            "The noise scan holds values that are not finite",
            expected="finite numbers",
            got=f"{int((~np.isfinite(noise)).sum())} NaN or infinite",
            remedy="leave the noise scan out, or convert the raw data again",
        )
    sigma = noise @ noise.conj().T / (2 * count)
    if np.linalg.eigvalsh(sigma)[0] <= 1e-7 * np.trace(sigma).real / coils:
        raise DataError(
            "The coils' noise covariance is not positive definite",
            where=f"coil {int(np.argmin(np.diag(sigma).real))}",
            expected="independent noise in every coil",
            got="a dead or a duplicate coil",
            remedy="leave out that coil",
        )
    return sigma


def prewhiten(kspace: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return L⁻¹ y with Σ = L Lᴴ: noise of unit sd per real component, independent per coil.

    Args:
        kspace: Complex [coil, …].
        covariance: Σ per real component, Hermitian [coil, coil].

    Source: Pruessmann et al., Magnetic Resonance in Medicine 46:638, 2001.
    """
    factor = np.linalg.cholesky(covariance)
    flat = np.linalg.solve(factor, kspace.reshape(len(kspace), -1))
    return flat.reshape(kspace.shape).astype(kspace.dtype)


def simulate_maps(coils: int, shape: tuple[int, int], radius: float = 1.6) -> np.ndarray:
    """Return simulated sensitivities of wires around the field of view, complex64 [coil, H, W].

    SIMULATED, for tests and calibration: coil c is a long straight wire along the main field at
    angle 2πc/C and `radius` half-widths from the centre; by Biot and Savart its transverse field
    is B_x − i B_y ∝ 1 / ((x − x_c) + i (y − y_c)). Scaled to Σ_c |S_c|² = 1 at every pixel.

    Args:
        coils: Number of coils; 1 gives ones.
        shape: (H, W).
        radius: Distance of the wires from the centre, in half-widths; above √2.
    """
    if coils == 1:
        return np.ones((1, *shape), np.complex64)
    y, x = (2 * (np.arange(n) - n // 2) / n for n in shape)
    angle = 2 * np.pi * np.arange(coils) / coils
    place = radius * np.exp(1j * angle)
    z = x[None, None] + 1j * y[None, :, None] - place[:, None, None]
    # turned so that every coil has phase 0 at the centre of the field of view
    maps = -np.exp(1j * angle)[:, None, None] / z
    return (maps / np.linalg.norm(maps, axis=0)).astype(np.complex64)
