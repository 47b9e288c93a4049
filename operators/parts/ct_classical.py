"""Filtered back-projection and SIRT: the classical reconstructions of a planar scan."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sciinv.operators.parts.ct_geometry import Geometry
from sciinv.operators.parts.ct_projector import Projector


def fbp(y: Tensor, geometry: Geometry) -> Tensor:
    """Return the filtered back-projection of line integrals, 1/mm.

    Ram–Lak filter and pixel-driven back-projection with linear interpolation:

        x(r) = Σ_θ Δθ · w(θ, γ) · q_θ(s(r)) · (D / (D + h))²,   q = ramp ∗ (cos γ · y)

    on the detector scaled to the rotation axis (for a parallel beam D → ∞). Lines that were
    measured twice share their weight w (Noo et al., Phys. Med. Biol. 2002), so that any arc is
    treated alike: half-turn, full turn, short scan. Nothing is made up for views that are not
    there: a limited arc shows its missing wedge as streaks and blur.

    Args:
        y: Line integrals, [..., angle, detector].
        geometry: The scan.

    Returns:
        Image [..., rows, columns], 1/mm.

    Source: Kak & Slaney, Principles of Computerized Tomographic Imaging, 1988, §3.3 and §3.4.
    """
    g = geometry
    weight = view_weights(g.angles)[:, None] * redundancy(g)
    pitch = g.detector_mm / g.magnification
    q = _ramp(y * torch.as_tensor(weight * np.cos(g.gamma)).to(y), pitch)
    flat = q.reshape(-1, len(g.angles), g.detectors)
    x = flat.new_zeros(flat.shape[0], g.image_size[0] * g.image_size[1])
    for i, theta in enumerate(np.deg2rad(g.angles)):
        t, h = g.position(theta)
        near = np.ones_like(t)
        if g.kind == "fan":
            near = float(g.source_origin_mm) / (float(g.source_origin_mm) + h)  # type: ignore[arg-type]
        # Element index of each pixel: its shadow u = t · near · magnification on the detector
        k = (t * near * g.magnification - g.u[0]) / g.detector_mm
        low = np.clip(np.floor(k), 0, max(g.detectors - 2, 0)).astype(np.int64)
        part = k - low
        seen = (k > -0.5) & (k < g.detectors - 0.5)
        part = np.clip(part, 0, 1)
        scale = np.where(seen, near**2, 0.0)
        left = torch.as_tensor((1 - part) * scale).to(y)
        right = torch.as_tensor(part * scale).to(y)
        at = torch.as_tensor(low, device=y.device)
        after = (at + 1).clamp_max(g.detectors - 1)
        x += flat[:, i, at] * left + flat[:, i, after] * right
    return x.reshape(*y.shape[:-2], *g.image_size)


def _ramp(y: Tensor, pitch: float) -> Tensor:
    """Return y filtered with the band-limited ramp along its last dimension, 1/mm."""
    n = y.shape[-1]
    size = 1 << int(np.ceil(np.log2(2 * n)))
    k = np.fft.fftfreq(size, 1 / size).round()
    kernel = np.zeros(size)
    kernel[0] = 1 / 4
    odd = k % 2 == 1
    kernel[odd] = -1 / (np.pi * k[odd]) ** 2
    response = torch.as_tensor(np.fft.rfft(kernel).real / pitch).to(y)
    return torch.fft.irfft(torch.fft.rfft(y, size) * response, size)[..., :n]


def _cells(angles: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return each view's gap to the next (degrees, in the order of the angles), start and end.

    Angles are taken on the circle; the scan's arc starts after its largest gap.
    """
    order = np.argsort(angles % 360, kind="stable")
    turned = (angles % 360)[order]
    gap = np.diff(np.append(turned, turned[0] + 360))
    out = np.empty_like(gap)
    out[order] = gap
    last = int(np.argmax(gap))
    start = turned[(last + 1) % len(turned)]
    return out, float(start), float(start + 360 - gap[last])


def view_weights(angles: np.ndarray) -> np.ndarray:
    """Return Δθ of each view, rad: half the way to both neighbours, [angle].

    A gap wider than 2.5 × the median one is no part of the scan: the views at its edges count
    as if their next neighbour stood at the median distance.
    """
    if len(angles) == 1:
        return np.array([np.pi])
    order = np.argsort(angles % 360, kind="stable")
    gap = _cells(angles)[0][order]
    middle = float(np.median(gap[gap > 1e-9])) if (gap > 1e-9).any() else 360.0
    gap = np.where(gap > 2.5 * middle, middle, gap)
    out = np.empty_like(gap)
    out[order] = np.deg2rad(0.5 * (gap + np.roll(gap, 1)))
    return out


def redundancy(geometry: Geometry) -> np.ndarray:
    """Return the share of each ray in its line, [angle, detector]: 1 measured once, ½ twice.

    The line of (θ, γ) is met again at θ + 180° − 2γ under −γ. Shares fall smoothly to the ends
    of the arc over a tenth of it, since a step in them would be a streak.
    """
    angles = geometry.angles
    gap, start, stop = _cells(angles)
    if len(angles) < 3:
        return np.ones((len(angles), geometry.detectors))
    middle = float(np.median(gap[gap > 1e-9])) if (gap > 1e-9).any() else 360.0
    if gap.max() <= 2.5 * middle:
        return np.full((len(angles), geometry.detectors), 0.5)
    taper = 0.1 * (stop - start)

    def share(theta: np.ndarray) -> np.ndarray:
        into = (theta - start + middle / 2) % 360
        length = stop - start + middle
        edge = np.minimum(into, length - into)
        return np.where(edge < 0, 0.0, np.sin(0.5 * np.pi * np.clip(edge / taper, 0, 1)) ** 2)

    theta = angles[:, None] + np.zeros(geometry.detectors)
    other = theta + 180 - 2 * np.rad2deg(geometry.gamma)
    mine, twin = np.maximum(share(theta), 1e-6), share(other)
    if geometry.detector_offset_mm:
        # The twin ray must also fall on the detector.
        u = geometry.u
        twin = np.where((-u >= u[0] - 1e-9) & (-u <= u[-1] + 1e-9), twin, 0.0)
    return mine / (mine + twin)


def sirt(
    y: Tensor, projector: Projector, used: Tensor | None = None, iterations: int = 100
) -> Tensor:
    """Return the SIRT image after a fixed number of iterations, not negative, 1/mm.

        x ← max(0, x + C Aᵀ R (y − A x)),   R = 1 / row sums of A,   C = 1 / column sums

    Args:
        y: Line integrals, [..., angle, detector].
        projector: The scan's system matrix.
        used: 1 where a sample carries data and 0 where not, [angle, detector].
        iterations: How many.

    Source: Gregor & Benson, IEEE Trans. Med. Imaging 2008.
    """
    g = projector.geometry
    mask = y.new_ones(len(g.angles), g.detectors) if used is None else used.to(y)
    row = projector.forward(y.new_ones(g.image_size))
    r = torch.where(row > 1e-6 * row.max(), mask / row.clamp_min(1e-12), torch.zeros_like(row))
    column = projector.adjoint(mask)
    c = torch.where(column > 1e-6 * column.max(), 1 / column.clamp_min(1e-12), 0 * column)
    x = y.new_zeros(*y.shape[:-2], *g.image_size)
    for _ in range(iterations):
        x = (x + c * projector.adjoint(r * (y - projector.forward(x)))).clamp_min_(0)
    return x
