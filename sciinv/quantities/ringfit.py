"""Diameter, width, orientation and central depression of ring images, draw by draw.

The centre is where the radius of peak brightness varies least with angle; diameter and width are
those of the radial profiles around it.

Source: EHT Collaboration 2019, ApJL 875, L4, section 9 (image-domain feature extraction), with one
change: angles are weighted with the brightness of the ring there, so that the dark side of a
crescent, where the peak is that of noise, does not blur the result.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciinv.errors import DataError

CHUNK = 16  # images at a time; bounds memory to some 100 MB
CORE_UAS = 5.0  # radius of the disc whose mean is the central brightness
SPREAD_MAX = 0.35  # relative spread of the peak radius above which there is no ring
CENTRE_MAX = 0.5  # central brightness, relative to the ring's, above which it is a disc
FAINT = 0.1  # brightness, relative to the peak, below which an angle is not counted as lit
LIT_MIN = 0.5  # part of the circle that must be lit


@dataclass(frozen=True)
class Rings:
    """Ring parameters, one per image; all NaN where an image shows no ring.

    Attributes:
        diameter: Twice the mean radius of peak brightness, µas.
        width: Mean full width at half maximum of the radial profiles, µas.
        position_angle: Direction of the brightest part, degrees east of north, [0, 360).
        asymmetry: |∫ I e^{iθ} dθ| / ∫ I dθ on the ring: 0 for an even one, 1/2 for 1 + cos θ.
        central_fraction: Mean brightness of the centre (radius 5 µas) ÷ mean on the ring.
        spread: Standard deviation of the peak radius over angle ÷ its mean.
        centre_east: Offset of the centre from the middle of the image, µas.
        centre_north: The same to the north, µas.
    """

    diameter: NDArray[np.float64]
    width: NDArray[np.float64]
    position_angle: NDArray[np.float64]
    asymmetry: NDArray[np.float64]
    central_fraction: NDArray[np.float64]
    spread: NDArray[np.float64]
    centre_east: NDArray[np.float64]
    centre_north: NDArray[np.float64]

    @property
    def depression(self) -> NDArray[np.float64]:
        """Ring ÷ central brightness: 10 is a depression of 10:1; infinite for a dark centre."""
        with np.errstate(divide="ignore"):
            return 1.0 / np.maximum(self.central_fraction, 0.0)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether an image shows a ring."""
        return np.isfinite(self.diameter)


def ring_parameters(image: Any, pixel_uas: float) -> Rings:
    """Measure the rings in images [..., H, W], north at the top and east at the left.

    An image is said to show no ring when it is not finite or has no flux, when the radius of peak
    brightness varies by more than 35 % around the best centre, when the centre is not darker than
    half of the ring (a disc, or one with an uneven rim), or when less than half of the circle is
    lit (two blobs, a short arc).

    Args:
        image: Any array or tensor, [..., H, W]; a channel dimension of length 1 counts among "...".
        pixel_uas: Side of a pixel, µas.

    Returns:
        Arrays of the shape "...".

    Raises:
        DataError: Fewer than two dimensions, or a pixel size that is not positive.
    """
    x = torch.as_tensor(np.asarray(image) if not isinstance(image, Tensor) else image.detach())
    if x.ndim < 2 or min(x.shape[-2:]) < 8 or not pixel_uas > 0:
        raise DataError(
            "Rings cannot be measured in this array",
            expected="images [..., H, W] of at least 8 × 8 pixels, a pixel size > 0 µas",
            got=f"{list(x.shape)}, {pixel_uas} µas",
            remedy="give the images with their two sky axes last",
        )
    lead = tuple(x.shape[:-2])
    flat = x.cpu().double().reshape(-1, *x.shape[-2:])
    parts = [_measure(chunk, pixel_uas) for chunk in flat.split(CHUNK)] or [
        torch.zeros(0, len(fields(Rings)), dtype=torch.float64)
    ]
    table = torch.cat(parts).numpy()
    return Rings(*(column.reshape(lead) for column in table.T))


def _measure(image: Tensor, pixel: float) -> Tensor:
    """Return the fields of `Rings` as columns, [B, 8]."""
    good = torch.isfinite(image).all(-1).all(-1)
    image = torch.where(good[:, None, None], image, 0.0)
    peak = image.amax((1, 2))
    good &= peak > 0
    image = image / torch.where(good, peak, 1.0)[:, None, None]
    centre, size = _moments(torch.where(image > FAINT, image, 0.0), pixel)

    step = 0.14 * size  # 11 × 11 centres within ±0.7 of the rms radius, then three refinements
    for reach, angles, radii in ((5, 36, 40), (2, 36, 64), (2, 48, 80), (2, 48, 80)):
        centre = _best_centre(image, pixel, centre, step, reach, angles, size, radii)
        step = step / 2.5

    angle, radius = _polar(180, 2.5 * size, 200, image)
    profile = _sample(image, pixel, centre[:, None], angle, radius)[:, 0]  # [B, θ, r]
    r_peak, height = _peak(profile, radius)
    weight = height.clamp_min(0) / height.clamp_min(0).sum(1, keepdim=True).clamp_min(1e-12)
    mean = (weight * r_peak).sum(1)
    spread = (weight * (r_peak - mean[:, None]).square()).sum(1).sqrt() / mean
    floor = profile[..., -1].mean(1)
    width = (weight * _fwhm(profile - floor[:, None, None], radius, r_peak)).sum(1)

    on_ring = (radius >= (mean - width / 2)[:, None]) & (radius <= (mean + width / 2)[:, None])
    band = (profile * on_ring[:, None]).sum(2) / on_ring.sum(1, keepdim=True).clamp_min(1)
    mode = torch.complex((band * angle.cos()).sum(1), (band * angle.sin()).sum(1))
    along = _sample(image, pixel, centre[:, None], angle, mean[:, None])[:, 0, :, 0].mean(1)
    core_r = CORE_UAS * torch.linspace(0, 1, 6, dtype=image.dtype).expand(len(image), -1)
    core = _sample(image, pixel, centre[:, None], angle, core_r)[:, 0].mean(1)
    core = (core * core_r).sum(1) / core_r.sum(1)  # ∝ area
    fraction = core / along
    lit = (band > FAINT * band.amax(1, keepdim=True)).double().mean(1)

    good &= (lit > LIT_MIN) & (spread < SPREAD_MAX) & (fraction < CENTRE_MAX) & (along > 0)
    columns = (
        2 * mean,
        width,
        torch.rad2deg(mode.angle()) % 360,
        mode.abs() / band.sum(1),
        fraction,
        spread,
        centre[:, 0],
        centre[:, 1],
    )
    return torch.where(good[:, None], torch.stack(columns, 1), torch.nan)


def _moments(image: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """Return the centroid (east, north) [B, 2] and the rms radius [B], µas."""
    h, w = image.shape[1:]
    north = -(torch.arange(h, dtype=image.dtype) - (h - 1) / 2) * pixel
    east = -(torch.arange(w, dtype=image.dtype) - (w - 1) / 2) * pixel
    total = image.sum((1, 2)).clamp_min(1e-12)
    e, n = (image.sum(1) * east).sum(1) / total, (image.sum(2) * north).sum(1) / total
    r2 = (east[None, None] - e[:, None, None]).square() + (
        north[None, :, None] - n[:, None, None]
    ).square()
    size = ((image * r2).sum((1, 2)) / total).sqrt().clamp_min(2 * pixel)
    return torch.stack([e, n], 1), size


def _polar(angles: int, r_max: Tensor, radii: int, like: Tensor) -> tuple[Tensor, Tensor]:
    angle = torch.arange(angles, dtype=like.dtype) * (2 * torch.pi / angles)
    return angle, r_max[:, None] * torch.linspace(0, 1, radii, dtype=like.dtype)


def _sample(image: Tensor, pixel: float, centre: Tensor, angle: Tensor, radius: Tensor) -> Tensor:
    """Return the image around centres [B, K, 2] at angles [A] and radii [B, R]: [B, K, A, R].

    Angles run from north through east; bicubic interpolation, 0 outside.
    """
    east = centre[..., 0, None, None] + angle.sin()[:, None] * radius[:, None, None, :]
    north = centre[..., 1, None, None] + angle.cos()[:, None] * radius[:, None, None, :]
    h, w = image.shape[1:]
    # grid_sample counts from −1 to 1 between the outer edges of the image
    grid = torch.stack([-2 * east / (w * pixel), -2 * north / (h * pixel)], -1)
    b, k, a, r = grid.shape[:-1]
    out = torch.nn.functional.grid_sample(
        image[:, None],
        grid.reshape(b, k * a, r, 2),
        mode="bicubic",
        padding_mode="zeros",
        align_corners=False,
    )
    return out.reshape(b, k, a, r)


def _best_centre(
    image: Tensor,
    pixel: float,
    centre: Tensor,
    step: Tensor,
    reach: int,
    angles: int,
    size: Tensor,
    radii: int,
) -> Tensor:
    """Return the centre of the grid ±reach steps around `centre` with the least spread, [B, 2]."""
    n = torch.arange(-reach, reach + 1, dtype=image.dtype)
    offset = torch.cartesian_prod(n, n)  # [K, 2]
    centres = centre[:, None] + step[:, None, None] * offset
    angle, radius = _polar(angles, 2.5 * size, radii, image)
    profile = _sample(image, pixel, centres, angle, radius)
    r_peak, height = _peak(profile, radius[:, None])
    weight = height.clamp_min(0) / height.clamp_min(0).sum(2, keepdim=True).clamp_min(1e-12)
    mean = (weight * r_peak).sum(2)
    spread = (weight * (r_peak - mean[..., None]).square()).sum(2).sqrt()
    # seen from the brightest point itself, all peaks are at radius 0 and agree
    relative = torch.where(mean > 0.25 * size[:, None], spread / mean, torch.inf)
    best = relative.argmin(1)
    return centres[torch.arange(len(image)), best]


def _peak(profile: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return radius and height of the maximum along the last axis, by a parabola through three."""
    i = profile.argmax(-1, keepdim=True).clamp(1, profile.shape[-1] - 2)
    low, top, high = (profile.gather(-1, i + k)[..., 0] for k in (-1, 0, 1))
    bend = low - 2 * top + high
    shift = torch.where(bend < 0, 0.5 * (low - high) / torch.where(bend < 0, bend, -1.0), 0.0)
    shift = shift.clamp(-1, 1)
    spacing = (radius[..., 1] - radius[..., 0])[..., None]
    return (i[..., 0] + shift) * spacing, top - 0.25 * (low - high) * shift


def _fwhm(profile: Tensor, radius: Tensor, r_peak: Tensor) -> Tensor:
    """Return the full width at half maximum about the peak of profiles [B, A, R], [B, A].

    A side that never falls to half reaches to the end of the profile.
    """
    spacing = (radius[:, 1] - radius[:, 0])[:, None]
    n = profile.shape[-1]
    top = profile.amax(-1, keepdim=True)
    below = profile < 0.5 * top
    index = torch.arange(n)
    i_peak = (r_peak / spacing).round().long().clamp(0, n - 1)[..., None]
    outer = torch.where(below & (index > i_peak), index, n - 1).amin(-1)
    inner = torch.where(below & (index < i_peak), index, -1).amax(-1)

    def crossing(outside: Tensor, inside: Tensor) -> Tensor:
        a = profile.gather(-1, outside.clamp(0, n - 1)[..., None])[..., 0]
        b = profile.gather(-1, inside.clamp(0, n - 1)[..., None])[..., 0]
        gap = torch.where((b - a).abs() > 0, b - a, 1.0)
        part = ((0.5 * top[..., 0] - a) / gap).clamp(0, 1)
        return (outside + part * (inside - outside)) * spacing

    left = torch.where(inner >= 0, crossing(inner, inner + 1), 0.0)
    return crossing(outer, outer - 1) - left
