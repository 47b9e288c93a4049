"""The whitened, linearised measurement Ā = W J, and the solve (I + Ā C Āᵀ) u = r behind a draw."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.covariances import Covariance, Implicit
from sciinv.likelihoods import Likelihood
from sciinv.solvers.conjugate import conjugate_gradient
from sciinv.solvers.rough import Rough

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
        normal: v ↦ Jᵀ J v, where the operator has a faster way than one after the other; with
            `precision`, v ↦ Jᵀ diag(w) J v.
        rough: The same on coarse pixels, where the operator has it.
        precision: f where Wᵀ W = f diag(w), see `Likelihood.weights`; if None, that of white noise,
            and w = 1.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        likelihood: Likelihood,
        u: Tensor,
        matrix: Tensor | None = None,
        normal: Callable[[Tensor], Tensor] | None = None,
        rough: Rough | None = None,
        precision: Tensor | None = None,
    ) -> None:
        self._forward, self._adjoint = forward, adjoint
        self.precision = likelihood.precision(u) if precision is None else precision
        self._normal = None if self.precision is None else normal
        self.rough = None if self.precision is None else rough
        self.likelihood, self.u = likelihood, u
        self.rows = None if matrix is None else self._whiten_rows(matrix)
        self._factored: tuple[Covariance, Tensor] | None = None

    def _whiten_rows(self, matrix: Tensor) -> Tensor:
        """Return W J as rows [B or 1, M, C, H, W]."""
        rows = matrix if matrix.ndim == 5 else matrix[None]
        rows = rows.expand(max(len(rows), self.likelihood.lanes), *rows.shape[1:])
        b, m = rows.shape[:2]
        columns = rows.flatten(2).transpose(1, 2)  # [B, D, M]: each image component's data vector
        shape = self.u.shape[1:]
        if self.likelihood.lanes == 1:
            u = self.u[:b].expand(b, *shape).repeat_interleave(columns.shape[1], 0)
            whitened = self.likelihood.whiten(columns.reshape(-1, *shape), u)
            return whitened.reshape(b, -1, m).mT.reshape(rows.shape)
        out = []
        for lane in range(b):
            data = columns[lane].reshape(-1, *shape)
            u = self.u[lane : lane + 1].expand_as(data)
            whitened = self.likelihood.of_lane(lane).whiten(data, u)
            out.append(whitened.reshape(-1, m).mT)
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

    def normal(self, v: Tensor) -> Tensor:
        """Return Jᵀ Wᵀ W J v, by the operator's own product where it has one for this noise."""
        if self.rows is None and self._normal is not None:
            assert self.precision is not None
            return self._normal(v) * self.precision
        return self.adjoint(self.forward(v), v)

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


def dense_rows(physics: LinearPhysics, like: Tensor, measurement: Tensor) -> Tensor | None:
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
