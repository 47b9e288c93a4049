"""A solve that is done on coarse pixels first, and corrected by products of the operator itself.

Where Aᵀ A is dear, most of a solve's iterations need not see it: what an error is measured by, the
next level's noise, is far above what fine pixels and every view add. With M = I + Lᵀ Āᵀ Ā L / T
and M̃ the same on coarse pixels and few views,

    y = M̃⁻¹ r  by conjugate gradients,   z ← z + α p,   r ← r − α M p   with p from y,

flexible conjugate gradients. r is the residual of the true equation, and L M̃⁻¹ r the error of z as
far as M̃ is M: so each step begins with a look at how good the last one left it.

Sources: Golub & Ye 1999 (inexact preconditioners); Notay 2000 (flexible conjugate gradients).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sciinv.displaced import Moves
from sciinv.solvers.bands import Bands, half_plane, remaining
from sciinv.solvers.conjugate import conjugate_gradient

# The inner solve's error, as it is estimated, is this share of what the outer may leave, and it
# counts among that: what is measured is the error of z, and not that of its measurement.
SHARE = 0.4
# M̃ need not see all of an error: on simulated discs L y was down to half of it (levels 40 to 68).
DOUBT = 2.0
MOST = 90  # inner iterations
EVERY = 3  # of them between two looks


@dataclass(frozen=True)
class Rough:
    """Aᵀ A of an operator on coarse pixels, at a small part of its price.

    Attributes:
        side: Pixels per coarse pixel along each axis; it divides the image's sides.
        normal: x_c ↦ N x_c, [B, C, H/side, W/side], with x_cᵀ N x_c ≈ ‖A x‖² for an image x whose
            means over side × side pixels are x_c.
    """

    side: int
    normal: Callable[[Tensor], Tensor]


class Coarse:
    """M̃⁻¹, on the Fourier coefficients z of an image with C = diag(s) K diag(s).

    Coefficients that the coarse grid holds are solved for; the others are divided by what a
    stationary Aᵀ A would add, 1 + ⟨s²⟩ K H.

    Args:
        rough: The coarse operator.
        weight: 1/(noise variance · T), a number or [B, 1, 1, 1].
        sd: s, [B, C, H, W].
        power: K(k) in unshifted order, [H, W].
        symbol: H(k) of Āᵀ Ā / T, [C, H, W] or [B, C, H, W].
        moves: M where C = diag(s) K diag(s) + M Mᵀ: their coordinates follow the coefficients in
            one row, and all of them are solved for.
    """

    def __init__(
        self, rough: Rough, weight: Tensor, sd: Tensor, power: Tensor, symbol: Tensor,
        moves: Moves | None = None,
    ) -> None:  # fmt: skip
        h, w = sd.shape[-2:]
        self.shape = (*sd.shape[1:-1], w // 2 + 1, 2)
        self.moves = None if moves is None else moves.coarse(rough.side)
        self.side = rough.side
        self.rows, self.columns = h // rough.side, w // rough.side
        self.low = (*sd.shape[1:-2], 2 * (self.rows // 2) - 1, self.columns // 2, 2)  # of `_kept`
        self.sd = F.avg_pool2d(sd, rough.side)
        self.normal, self.weight = rough.normal, weight
        half = power[..., : w // 2 + 1].to(sd)
        mean = sd.square().mean((1, 2, 3), keepdim=True)
        self.fine = 1.0 / (1.0 + mean * half * symbol[..., : w // 2 + 1])[..., None]
        amplitude = self._kept(half.expand(h, w // 2 + 1)[..., None])[..., 0].sqrt()
        twice = half_plane(w).to(sd)[: self.columns // 2]
        mean_of = _mean(h, rough.side)[:, None] * _mean(w, rough.side)[None, : w // 2 + 1]
        gain = torch.view_as_complex(self._kept(torch.view_as_real(mean_of))) / rough.side
        gain = gain.to(torch.complex64 if sd.dtype == torch.float32 else torch.complex128)
        self.out = gain * (amplitude / twice.sqrt())
        self.into = gain.conj() * (amplitude * twice.sqrt())
        self.bands = Bands(self.sd)

    def __call__(
        self, r: Tensor, scale: float, tol: float, first: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return y = M̃⁻¹ r and its estimated error ÷ scale in the worst octave of L y, [B].

        Args:
            r: Fourier coefficients.
            scale: What an error is measured by, units of the image.
            tol: What `DOUBT` L y and its error may be together, ÷ scale: where they are less, or
                the error alone is less than `SHARE` of it, a lane is done.
            first: Whether r is a right-hand side, whose solution's size says nothing of an error.
        """
        own, moved = self._parted(r, self.shape)
        y = self.fine * own
        kept = self._kept(own)
        low = kept if moved is None else torch.cat([kept.flatten(1), moved], 1)
        last: Tensor | None = None
        before: Tensor | float = 0.0
        unsure = torch.zeros_like(self.weight.expand(len(r), 1, 1, 1)[:, 0, 0, 0])
        done = unsure > 0

        def error(z: Tensor, residual: Tensor, step: int) -> Tensor | None:
            nonlocal last, before, unsure, done
            if step % EVERY:
                return None
            change = self.side * self.bands(self._image(z - before))
            left = remaining(change, last)
            last, before = change, z
            unsure = torch.where(done, unsure, left.amax(1) / scale)
            done = done | (unsure <= SHARE * tol)
            if not first:
                size = self.side * self.bands(self._image(z))
                done = done | ((DOUBT * size + left).amax(1) <= tol * scale)
            return torch.where(done, 0.0, 2 * tol).to(unsure)

        z, _, _ = conjugate_gradient(self._matvec, low, tol, MOST, error=error)
        z, moved = self._parted(z, self.low)
        top = self.rows // 2
        y[..., :top, : self.columns // 2, :] = z[..., :top, :, :]
        y[..., 1 - top :, : self.columns // 2, :] = z[..., top:, :, :]
        return (y if moved is None else torch.cat([y.flatten(1), moved], 1)), unsure

    def _parted(self, z: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Return coefficients of a shape, and what moves."""
        if self.moves is None:
            return z, None
        own, moved = z.split([z.shape[1] - self.moves.count, self.moves.count], 1)
        return own.reshape(len(z), *shape), moved

    def _matvec(self, z: Tensor) -> Tensor:
        """Return M̃ z of the coefficients kept."""
        image = self.normal(self._image(z)) * self.weight
        k = torch.fft.rfft2(self.sd * image, norm="ortho")
        top, half = self.rows // 2, self.columns // 2
        kept = torch.cat([k[..., :top, :half], k[..., 1 - top :, :half]], -2)
        out = torch.view_as_real(kept * self.into)
        if self.moves is not None:
            out = torch.cat([out.flatten(1), self.moves.transposed(image)], 1)
        return z + out

    def _image(self, z: Tensor) -> Tensor:
        """Return the means of L z over coarse pixels, [B, C, rows, columns]."""
        z, moved = self._parted(z, self.low)
        top, half = self.rows // 2, self.columns // 2
        y = torch.view_as_complex(z) * self.out
        k = y.new_zeros(*y.shape[:-2], self.rows, half + 1)
        k[..., :top, :half] = y[..., :top, :]
        k[..., 1 - top :, :half] = y[..., top:, :]
        image = self.sd * torch.fft.irfft2(k, s=(self.rows, self.columns), norm="ortho")
        return image if moved is None or self.moves is None else image + self.moves(moved)

    def _kept(self, z: Tensor) -> Tensor:
        """Return the coefficients that the coarse grid holds, of [..., ky, kx, 2]."""
        top, half = self.rows // 2, self.columns // 2
        return torch.cat([z[..., :top, :half, :], z[..., 1 - top :, :half, :]], -3)


def _mean(n: int, side: int) -> Tensor:
    """Return what a mean over `side` samples makes of each wave on n, its first sample's phase."""
    k = torch.fft.fftfreq(n, dtype=torch.float64)
    steps = torch.arange(side, dtype=torch.float64)
    angle = 2 * torch.pi * k[:, None] * steps
    return torch.polar(torch.ones_like(angle), angle).mean(1)


def nested(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    coarse: Callable[[Tensor, bool], tuple[Tensor, Tensor]],
    measure: Callable[[Tensor, Tensor | None], Tensor],
    tol: float,
    max_iter: int,
) -> tuple[Tensor, Tensor, int]:
    """Solve M z = b by flexible conjugate gradients, each lane on its own.

    Args:
        matvec: z ↦ M z.
        b: Right-hand side, [B, …].
        coarse: r ↦ y = M̃⁻¹ r and its error [B]; with whether r is the right-hand side.
        measure: y and r ↦ the error of z per lane but for that of y, [B]; a step and None ↦ its
            size.
        tol: Stop where the two are no more than this.
        max_iter: Most products with M.

    Returns:
        z, its error, and the products with M: one at least.
    """

    def dot(p: Tensor, q: Tensor) -> Tensor:
        return (p * q).flatten(1).sum(1)

    def lane(a: Tensor) -> Tensor:
        return a.reshape(-1, *(1 for _ in b.shape[1:]))

    z, r, before = torch.zeros_like(b), b, b
    y, unsure = coarse(r, True)
    left = torch.full_like(unsure, math.inf)
    active = dot(r, r) > 0
    p, fall, change = torch.zeros_like(b), torch.ones_like(left), torch.full_like(left, math.inf)
    steps = 0
    while steps < max_iter and bool(active.any()):
        ry = dot(r, y)
        turn = dot(y, r - before) / fall.clamp_min(1e-30) if steps else torch.zeros_like(fall)
        p = torch.where(lane(active), y + lane(turn) * p, p)
        sp = matvec(p)
        steps += 1
        curvature = dot(p, sp)
        moves = active & (curvature > 0)
        alpha = torch.where(moves, dot(r, p) / curvature.clamp_min(1e-30), torch.zeros_like(fall))
        last, change = change, measure(lane(alpha) * p, None)
        z, before, fall = z + lane(alpha) * p, r, ry
        r = r - lane(alpha) * sp
        y, unsure = coarse(r, False)
        # Where M̃ sees too little of an error, steps had to be longer and fall slowly.
        told = torch.maximum(alpha.clamp_min(DOUBT) * measure(y, r), remaining(change, last))
        left = torch.where(moves, told + unsure, left)
        active = moves & (left > tol)
    return z, torch.where(left.isinf() & ~active, 0.0, left), steps
