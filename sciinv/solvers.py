"""The whitened, linearised measurement Ā = W J, and the solve (I + Ā C Āᵀ) u = r behind a draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciinv.covariances import Covariance, Implicit
from sciinv.likelihoods import Likelihood

# Above this many measured components the dual matrix is not formed: conjugate gradients instead.
DENSE_LIMIT = 1200
DENSE_ENTRIES = 6_000_000


class Linearised:
    """Ā = W J at a point: v ↦ W J v and its transpose, as a dense matrix where that is small.

    Args:
        forward: v ↦ J v, [B, C, H, W] → [B, …].
        adjoint: r ↦ Jᵀ r.
        likelihood: Gives W with Wᵀ W the Fisher information.
        u: The prediction at the point, [B, …], for a W that depends on it.
        matrix: J as rows, [M, C, H, W] or [B, M, C, H, W], where it is known.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        likelihood: Likelihood,
        u: Tensor,
        matrix: Tensor | None = None,
    ) -> None:
        self._forward, self._adjoint = forward, adjoint
        self.likelihood, self.u = likelihood, u
        self.rows = None if matrix is None else self._whiten_rows(matrix)
        self._factored: tuple[Covariance, Tensor] | None = None

    def _whiten_rows(self, matrix: Tensor) -> Tensor:
        """Return W J as rows [B or 1, M, C, H, W]."""
        rows = matrix if matrix.ndim == 5 else matrix[None]
        b, m = rows.shape[:2]
        columns = rows.flatten(2).transpose(1, 2)  # [B, D, M]: each image component's data vector
        shape = self.u.shape[1:]
        out = []
        for lane in range(b):
            data = columns[lane].reshape(-1, *shape)
            u = self.u[lane : lane + 1].expand_as(data)
            out.append(self.likelihood.whiten(data, u).reshape(-1, m).mT)
        return torch.stack(out).reshape(rows.shape)

    def forward(self, v: Tensor) -> Tensor:
        """Return W J v, shape of the measurement."""
        if self.rows is not None:
            flat = torch.einsum("bmd,bd->bm", self._flat_rows(v), v.flatten(1))
            return flat.reshape(v.shape[0], *self.u.shape[1:])
        return self.likelihood.whiten(self._forward(v), self.u)

    def adjoint(self, r: Tensor, like: Tensor) -> Tensor:
        """Return Jᵀ Wᵀ r, shape of the image `like`."""
        if self.rows is not None:
            flat = torch.einsum("bmd,bm->bd", self._flat_rows(r), r.flatten(1))
            return flat.reshape(like.shape)
        return self._adjoint(self.likelihood.whiten_t(r, self.u))

    def factor(self, covariance: Covariance, lanes: int) -> Tensor:
        """Return the Cholesky factor of I + Ā C Āᵀ in double precision, [B or 1, M, M]."""
        if self._factored is None or self._factored[0] is not covariance:
            assert self.rows is not None
            rows = self.rows
            if not covariance.shared and rows.shape[0] == 1:
                rows = rows.expand(lanes, *rows.shape[1:])
            # Through the root, I + (Ā L)(Ā L)ᵀ is positive definite whatever the rounding.
            half = covariance.rows_root(rows).flatten(2).double()
            s = half @ half.mT
            s = s + torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
            self._factored = (covariance, torch.linalg.cholesky(s))
        return self._factored[1]

    def _flat_rows(self, batch: Tensor) -> Tensor:
        assert self.rows is not None
        flat = self.rows.flatten(2)
        return flat.expand(batch.shape[0], -1, -1) if flat.shape[0] == 1 else flat


def dense_rows(physics: Any, like: Tensor, measurement: Tensor) -> Tensor | None:
    """Return a linear operator as rows [M, C, H, W] where that is small, else None.

    Args:
        physics: A linear operator.
        like: An image batch, for shape, dtype and device.
        measurement: A measurement batch.
    """
    m, d = measurement[0].numel(), like[0].numel()
    if m > DENSE_LIMIT or m * d > DENSE_ENTRIES:
        return None
    basis = torch.eye(m, dtype=like.dtype, device=like.device)
    blocks = [physics.A_adjoint(b.reshape(-1, *measurement.shape[1:])) for b in basis.split(64)]
    return torch.cat(blocks)


def solve_dual(
    lin: Linearised,
    covariance: Covariance,
    r: Tensor,
    like: Tensor,
    tol: float,
    max_iter: int,
    temper: float = 1.0,
    relative: bool = True,
) -> tuple[Tensor, Tensor, int]:
    """Solve (I + Ā C Āᵀ/T) u = r; T = 1 where Ā is a small matrix.

    Directly in double precision where Ā is a small matrix, else by conjugate gradients.

    Returns:
        u (shape of r), the relative residual per lane [B], and the iterations.
    """
    if lin.rows is not None and not isinstance(covariance, Implicit):
        factor = lin.factor(covariance, len(like))
        b = r.flatten(1).double()
        if factor.shape[0] == 1:
            u = torch.cholesky_solve(b.mT, factor[0]).mT
        else:
            u = torch.cholesky_solve(b[..., None], factor).squeeze(-1)
        return u.to(r).reshape(r.shape), torch.zeros(r.shape[0]), 0

    def matvec(v: Tensor) -> Tensor:
        return v + lin.forward(covariance(lin.adjoint(v, like))) / temper

    if not relative:
        tol = tol * math.sqrt(r[0].numel())
    return conjugate_gradient(matvec, r, tol, max_iter, relative=relative)


def normal_symbol(lin: Linearised, like: Tensor) -> Tensor:
    """Return H(k) ≥ 0, the stationary part of Āᵀ Ā in Fourier, [C, H, W] unshifted.

    The mean response to impulses at five places, as in circulant preconditioning of tomography
    (Clinthorne et al. 1993; Fessler & Booth 1999).
    """
    _, c, h, w = like.shape
    places = [(h // 2, w // 2), *((h * i // 8, w * j // 8) for i in (3, 5) for j in (3, 5))]
    total = torch.zeros(c, h, w, dtype=like.dtype, device=like.device)
    for channel in range(c):
        for i, j in places:
            impulse = torch.zeros(like.shape, dtype=like.dtype, device=like.device)
            impulse[:, channel, i, j] = 1.0
            response = lin.adjoint(lin.forward(impulse), like)[0, channel]
            total[channel] += torch.fft.fft2(response.roll((-i, -j), (0, 1))).real
    return (total / len(places)).clamp_min(0)


def solve_primal(
    lin: Linearised,
    power: Tensor,
    symbol: Tensor,
    r: Tensor,
    like: Tensor,
    tol: float,
    max_iter: int,
    temper: float = 1.0,
) -> tuple[Tensor, Tensor, int]:
    """Solve (C⁻¹ + Āᵀ Ā/T) d = Āᵀ r, C = F⁻¹ P F, preconditioned by F⁻¹ (1/P + H/T)⁻¹ F.

    Stops when the error, as the preconditioner sees it, is `tol` posterior standard deviations in
    the root mean square over the modes.

    Returns:
        d (shape of the image), that error per lane [B], and the iterations.
    """
    half = like.shape[-1] // 2 + 1
    p = power.expand(*power.shape[:-2], *like.shape[-2:]) if power.ndim > 1 else power
    inverse = 1.0 / p.clamp_min(torch.finfo(like.dtype).tiny * 1e6)
    gain = 1.0 / (inverse + symbol / temper)

    def spectral(g: Tensor, v: Tensor) -> Tensor:
        g = g[..., :half] if g.ndim > 1 and g.shape[-1] > 1 else g
        return torch.fft.irfft2(torch.fft.rfft2(v) * g, s=v.shape[-2:])

    def matvec(v: Tensor) -> Tensor:
        return spectral(inverse, v) + lin.adjoint(lin.forward(v), like) / temper

    size = like[0].numel()
    return conjugate_gradient(
        matvec,
        lin.adjoint(r, like),
        tol * math.sqrt(size),
        max_iter,
        precondition=lambda v: spectral(gain, v),
        relative=False,
    )


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    tol: float,
    max_iter: int,
    precondition: Callable[[Tensor], Tensor] | None = None,
    relative: bool = True,
) -> tuple[Tensor, Tensor, int]:
    """Solve S x = b for a symmetric positive S, each lane on its own.

    A lane that has converged stands still, so that no lane's result depends on its neighbours.

    Args:
        matvec: v ↦ S v.
        b: Right-hand side, [B, …].
        tol: Stop at √(rᵀ M r) < tol, with r = b − S x.
        max_iter: Most iterations.
        precondition: v ↦ M v; the identity if None.
        relative: Whether tol is a share of √(bᵀ M b).

    Returns:
        x, the measure that is compared with `tol` per lane [B] (per √size where not relative), and
        the iterations.
    """
    m = precondition or (lambda v: v)

    def dot(p: Tensor, q: Tensor) -> Tensor:
        return (p * q).flatten(1).sum(1)

    def lane(a: Tensor) -> Tensor:
        return a.reshape(-1, *(1 for _ in b.shape[1:]))

    x, r = torch.zeros_like(b), b
    p = m(r)
    rr = dot(r, p)
    norm = rr.clamp_min(1e-30) if relative else torch.full_like(rr, b[0].numel())
    stop = tol**2 * (norm if relative else torch.ones_like(rr))
    iterations = 0
    for _ in range(max_iter):
        active = rr > stop
        if not bool(active.any()):
            break
        iterations += 1
        sp = matvec(p)
        curvature = dot(p, sp)
        active &= curvature > 0
        if not bool(active.any()):
            break
        alpha = lane(torch.where(active, rr / curvature.clamp_min(1e-30), torch.zeros_like(rr)))
        x = x + alpha * p
        r = r - alpha * sp
        mr = m(r)
        rr_new = torch.where(active, dot(r, mr), rr)
        beta = torch.where(active, rr_new / rr.clamp_min(1e-30), torch.zeros_like(rr))
        p = torch.where(lane(active), mr + lane(beta) * p, p)
        rr = rr_new
    return x, (rr.clamp_min(0) / norm).sqrt(), iterations
