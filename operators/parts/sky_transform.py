"""A sky image and the visibilities of an interferometer: the transform, its grid, dirty images."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import ImageSpec

UAS = math.pi / 180 / 3600 / 1e6  # radians per µas
Pixel = Literal["point", "square", "triangle"]
# power of sinc(pixel · frequency) that each pixel shape multiplies the visibility with
PIXELS = {"point": 0, "square": 1, "triangle": 2}


class SkyTransform(torch.nn.Module):
    """The separable direct Fourier transform from a pixel grid to (u, v) points.

    exp(2πi(ul + vm)) is a product of a factor of the column and one of the row, so that one
    matrix product over columns and one sum over rows give all visibilities, from tables of
    2N(H + W) numbers where the dense matrix has 2NHW. Phases are computed in float64.

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F, Jy.
        pixel: Shape of a pixel's light: "point" (default; the image's samples are delta
            functions), "square" or "triangle" (bilinear, eht-imaging's default).
    """

    def __init__(
        self,
        u: Tensor,
        v: Tensor,
        image_size: int,
        field_of_view_uas: float,
        flux_unit_jy: float,
        pixel: Pixel,
    ) -> None:
        super().__init__()
        size = field_of_view_uas / image_size * UAS
        offset = (torch.arange(image_size, dtype=torch.float64) - (image_size - 1) / 2) * size
        # east is left and north is up, so both sky coordinates fall along their axis
        for name, frequency, unit in (("columns", u, flux_unit_jy), ("rows", v, 1.0)):
            phase = -2 * math.pi * offset[:, None] * frequency
            gain = unit * torch.sinc(size * frequency) ** PIXELS[pixel]
            table = torch.cat([gain * phase.cos(), gain * phase.sin()], 1)  # [W, 2N], [H, 2N]
            self.register_buffer(name, table)
            self.register_buffer(f"{name}_32", table.float())
        self.register_buffer("u", u)
        self.register_buffer("v", v)
        self.n, self.image_size = len(u), image_size
        self.field_of_view_uas, self.flux_unit_jy = field_of_view_uas, flux_unit_jy

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables of columns and rows in the dtype and on the device of `like`."""
        suffix = "" if like.dtype == torch.float64 else "_32"
        columns, rows = getattr(self, f"columns{suffix}"), getattr(self, f"rows{suffix}")
        return columns.to(like), rows.to(like)

    def forward(self, x: Tensor) -> Tensor:
        """Return the visibilities [B, 2, N] (real, imaginary) of images [B, 1, H, W], Jy."""
        columns, rows = self.tables(x)
        part = x[:, 0] @ columns  # [B, H, 2N]
        a, b = part[..., : self.n], part[..., self.n :]
        c, s = rows[:, : self.n], rows[:, self.n :]
        return torch.stack([(a * c - b * s).sum(1), (a * s + b * c).sum(1)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the exact transpose of `forward`: [B, 2, N] to [B, 1, H, W]."""
        columns, rows = self.tables(y)
        c, s = rows[:, : self.n], rows[:, self.n :]
        a, b = y[:, :1], y[:, 1:]
        part = torch.cat([a * c + b * s, b * c - a * s], 2)  # [B, H, 2N]
        return (part @ columns.mT)[:, None]

    def rows_of(self, index: Tensor, weight: Tensor) -> Tensor:
        """Return rows Σ_leg w · ∂V/∂x of a Jacobian as images [B, M, H, W].

        Args:
            index: Visibilities of the legs, [M, L].
            weight: Weight of each leg's real and imaginary part, [B, 2, M, L].
        """
        columns, rows = (table.mT for table in self.tables(weight))  # [2N, W], [2N, H]
        c, s = rows[index], rows[self.n + index]  # [M, L, H]
        p, q = weight[:, 0, ..., None], weight[:, 1, ..., None]  # [B, M, L, 1]
        left = torch.cat([p * c + q * s, q * c - p * s], 2)  # [B, M, 2L, H]
        right = torch.cat([columns[index], columns[self.n + index]], 1)  # [M, 2L, W]
        return left.mT @ right


def sky_image_spec(image_size: int, field_of_view_uas: float, flux_unit_jy: float) -> ImageSpec:
    """Return the image of a sky field: north at the top, east at the left, offsets in µas."""
    size = field_of_view_uas / image_size
    offset = -(np.arange(image_size) - (image_size - 1) / 2) * size
    units = "Jy/pixel" if flux_unit_jy == 1 else f"{flux_unit_jy:g} Jy/pixel"
    return ImageSpec(
        shape=(1, image_size, image_size),
        units=units,
        y=offset,
        x=offset.copy(),
        axis_units="µas",
        axis_names=("relative declination", "relative right ascension"),
    )


def refuse(what: str, expected: str, got: object, remedy: str) -> OperatorError:
    """Return the error of parameters that do not fit."""
    return OperatorError(what, where="interferometry", expected=expected, got=got, remedy=remedy)


def baselines(u: Any, v: Any) -> tuple[Tensor, Tensor]:
    """Return u and v in float64, checked."""
    u, v = (torch.as_tensor(np.asarray(t, float)) for t in (u, v))
    if u.ndim != 1 or u.shape != v.shape or not len(u):
        raise refuse(
            "The baselines are not two lists of one length",
            "u [N] and v [N], N > 0, in wavelengths",
            f"{list(u.shape)} and {list(v.shape)}",
            "give one u and one v per visibility",
        )
    if not bool(torch.isfinite(u).all() & torch.isfinite(v).all()):
        raise refuse("A baseline is not finite", "finite wavelengths", "NaN or infinity",
                    "drop the flagged visibilities")  # fmt: skip
    return u, v


def check_grid(image_size: int, fov: float, flux_unit: float, pixel: str) -> None:
    """Raise `OperatorError` unless such an image is possible."""
    if image_size < 2 or not fov > 0 or not flux_unit > 0 or pixel not in PIXELS:
        raise refuse(
            "The image grid is not possible",
            "image_size ≥ 2, field_of_view_uas > 0, flux_unit_jy > 0, "
            f"pixel one of {', '.join(PIXELS)}",
            f"{image_size}, {fov}, {flux_unit}, {pixel!r}",
            "correct the operator's parameters",
        )


def dirty_image(transform: SkyTransform, vis: Tensor, sd: Tensor) -> Tensor:
    """Return Σ w Re(V* e^{2πi(ul+vm)}) / (F Σ w), w = 1/σ²: 1 at a point source of flux F.

    Args:
        transform: The sky transform.
        vis: Visibilities, Jy, [B, 2, N].
        sd: σ, Jy, [N] or one number.

    Returns:
        [B, 1, H, W], F Jy/beam, natural weighting.
    """
    w = natural_weights(transform, sd, vis)
    return transform.adjoint(vis * w) / transform.flux_unit_jy**2


def natural_weights(transform: SkyTransform, sd: Tensor, like: Tensor) -> Tensor:
    """Return 1/σ², normalised to a sum of 1, [N]."""
    w = sd.to(like).expand(transform.n) ** -2
    return w / w.sum()


def check_noise_sd(noise_sd: Any, n: int) -> Tensor:
    """Return σ of n visibilities in float64, [n] or one number, checked."""
    sd = torch.as_tensor(np.asarray(noise_sd, float))
    if sd.shape not in ((), (1,), (n,)) or not bool((sd > 0).all()):
        raise refuse(
            "The noise does not match the visibilities",
            f"one σ > 0 per visibility, [{n}], or one number",
            f"{list(sd.shape)}, minimum {float(sd.min()) if sd.numel() else None}",
            "check the weights of the data",
        )
    return sd
