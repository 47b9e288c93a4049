"""The covariance of a picture whose edges may lie elsewhere, and whose brightness may be another.

    x0 = D + e + Σ_l s_l Σ_a ∂_a D · d_la + s_0 z D,   e ~ N(0, C)

d_la is a smooth random field of unit size and correlation length l, the displacement along axis a
to first order; s_l is its size in pixels. A width per pixel says how much a pixel errs and not that
an edge errs as a whole: data that move an edge then find texture cheaper.

d = P ζ Qᵀ with Gaussian bumps on a grid of 1.25 l along both axes, ζ ~ N(0, I).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sciinv.covariances import Covariance

STEP = 1.25  # distance of two bumps in their lengths: the field's variance then ripples by 0.1 %
LEAST = 0.02  # pixels: a smaller displacement costs as much as any and moves nothing


@dataclass(frozen=True)
class Field:
    """A smooth random displacement: bumps along rows and columns, and its size.

    Attributes:
        size: s_l, pixels; root mean square along each axis.
        rows: P, [H, J].
        columns: Q, [W, J'].
    """

    size: float
    rows: Tensor
    columns: Tensor


class Moves:
    """z ↦ Σ_l s_l Σ_a ∂_a D · (P ζ_la Qᵀ) + s_0 ζ_0 D, and its transpose.

    Args:
        picture: D, [B, C, H, W], units of x.
        slopes: ∂_a D along rows and columns, units of x per pixel.
        fields: The displacements.
        brightness: s_0, a share of D.
    """

    def __init__(
        self, picture: Tensor, slopes: tuple[Tensor, Tensor], fields: list[Field], brightness: float
    ) -> None:
        self.picture, self.slopes, self.fields = picture, slopes, fields
        self.brightness = brightness
        self.counts = [f.rows.shape[1] * f.columns.shape[1] for f in fields for _ in slopes]
        # Even, as coordinates before them in a row are looked at as complex numbers.
        self.count = sum(self.counts) + 2 - sum(self.counts) % 2

    @classmethod
    def of(cls, picture: Tensor, sizes: dict[float, float], brightness: float) -> Moves:
        """Return the moves of a picture, for sizes s_l of fields of length l, both in pixels."""
        h, w = picture.shape[-2:]
        fields = [
            Field(size, bumps(h, length).to(picture), bumps(w, length).to(picture))
            for length, size in sizes.items()
            if size >= LEAST
        ]
        return cls(picture, slopes(picture), fields, brightness)

    def __call__(self, z: Tensor) -> Tensor:
        """Return the image [B, C, H, W] of z [B, count]."""
        *parts, last = z.split([*self.counts, self.count - sum(self.counts)], 1)
        out = self.brightness * last[:, :1, None, None] * self.picture
        for n, zeta in enumerate(parts):
            field = self.fields[n // 2]
            p, q = field.rows, field.columns
            shift = p @ zeta.reshape(len(z), 1, p.shape[1], q.shape[1]) @ q.mT
            out = out + field.size * self.slopes[n % 2] * shift
        return out

    def transposed(self, v: Tensor) -> Tensor:
        """Return z [B, …, count] of images [B, …, C, H, W]."""
        between = (1,) * (v.ndim - self.picture.ndim)

        def seen(picture: Tensor) -> Tensor:
            return (v * picture.reshape(len(picture), *between, *picture.shape[1:])).sum(-3)

        along = [seen(slope) for slope in self.slopes]
        out = [
            field.size * (field.rows.mT @ s @ field.columns).flatten(-2)
            for field in self.fields
            for s in along
        ]
        last = self.brightness * seen(self.picture).flatten(-2).sum(-1, keepdim=True)
        return torch.cat([*out, F.pad(last, (0, self.count - sum(self.counts) - 1))], -1)

    def coarse(self, side: int) -> Moves:
        """Return the moves of the means over side × side pixels, fields taken at their middle."""
        fields = [
            Field(f.size, *(a.unflatten(0, (-1, side)).mean(1) for a in (f.rows, f.columns)))
            for f in self.fields
        ]
        down, right = (F.avg_pool2d(slope, side) for slope in self.slopes)
        return Moves(F.avg_pool2d(self.picture, side), (down, right), fields, self.brightness)


class Displaced(Covariance):
    """C' = C + M Mᵀ, M the moves: L' = [L, M], of coordinates in one row.

    Args:
        base: C, of image coordinates.
        moves: M.
    """

    shared = False

    def __init__(self, base: Covariance, moves: Moves) -> None:
        self.base, self.moves = base, moves

    def coordinates(self, like: Tensor) -> tuple[int, ...]:
        """Return (pixels + what the moves take,)."""
        return (like[0].numel() + self.moves.count,)

    def sqrt(self, z: Tensor) -> Tensor:
        """Return L z + M ζ."""
        own, zeta = z[:, : -self.moves.count], z[:, -self.moves.count :]
        return self.base.sqrt(own.reshape(self.moves.picture.shape)) + self.moves(zeta)

    def sqrt_t(self, v: Tensor) -> Tensor:
        """Return (Lᵀ v, Mᵀ v)."""
        return torch.cat([self.base.sqrt_t(v).flatten(1), self.moves.transposed(v)], 1)

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v + M Mᵀ v."""
        return self.base(v) + self.moves(self.moves.transposed(v))

    def typical_spectrum(self, like: Tensor) -> tuple[float, Tensor] | None:
        """Return that of C: what preconditions need not know the moves."""
        return self.base.typical_spectrum(like)

    def rows(self, a: Tensor) -> Tensor:
        """Return C' applied to each row of a, [B, M, C, H, W]."""
        z = self.moves.transposed(a)
        return self.base.rows(a) + torch.stack([self.moves(row) for row in z.unbind(1)], 1)

    def rows_root(self, a: Tensor) -> Tensor:
        """Return L'ᵀ applied to each row of a, [B, M, …]."""
        return torch.cat([self.base.rows_root(a).flatten(2), self.moves.transposed(a)], 2)


def slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences along rows and columns, 0 at the border."""
    down, right = torch.zeros_like(picture), torch.zeros_like(picture)
    down[..., 1:-1, :] = (picture[..., 2:, :] - picture[..., :-2, :]) / 2
    right[..., :, 1:-1] = (picture[..., :, 2:] - picture[..., :, :-2]) / 2
    return down, right


@lru_cache(maxsize=32)
def bumps(n: int, length: float) -> Tensor:
    """Return Gaussian bumps of a length on n samples, [n, J]; their squares add up to 1."""
    step = STEP * length
    count = math.ceil(n / step) + 2
    middle = step * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) + (n - 1) / 2
    at = torch.arange(n, dtype=torch.float64)[:, None]
    out = torch.exp(-0.5 * ((at - middle) / length) ** 2)
    return (out / out.square().sum(1).mean().sqrt()).float()
