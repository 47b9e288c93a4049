"""The whitened, linearised measurement Ā = W J, and the solve (I + Ā C Āᵀ) u = r behind a draw."""

from __future__ import annotations

import itertools
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
EVERY = 3  # iterations of a solve between two looks at its error
LOOK = 6  # and on a device between two questions whether any lane goes on, which stop it


class Linearised:
    """Ā = W J at a point: v ↦ W J v and its transpose, as a dense matrix where that is small.

    Args:
        forward: v ↦ J v, [B, C, H, W] → [B, …].
        adjoint: r ↦ Jᵀ r.
        likelihood: Gives W with Wᵀ W the Fisher information.
        u: The prediction at the point, [B, …], for a W that depends on it.
        matrix: J as rows, [M, C, H, W] or [B, M, C, H, W], where it is known.
        normal: v ↦ Jᵀ J v, where the operator has a faster way than one after the other.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        likelihood: Likelihood,
        u: Tensor,
        matrix: Tensor | None = None,
        normal: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._forward, self._adjoint = forward, adjoint
        precision = likelihood.precision(u)
        self._normal = None if precision is None else normal
        self._precision = u.new_ones(()) if precision is None else precision
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
        """Return Jᵀ Wᵀ W J v, by the operator's own product where the noise is white."""
        if self.rows is None and self._normal is not None:
            return self._normal(v) * self._precision
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


class Whitened:
    """The solve behind an exact draw in coordinates z where p(x0 | x_t) is N(0, I).

    M z = Lᵀ Āᵀ r,  M = I + Lᵀ Āᵀ Ā L / T,  d = L z,  C = L Lᵀ.

    As M ≥ I, an error is largest where the data say little, and there the annealing noises it anew.
    So an iterate is good enough when, in every band of spatial frequency, its error is a small
    share of the noise of the next level. A mean over the image would hide the few large structures
    that limited angles leave open: they converge last, and they decide what the chain becomes.

    The error of z_k is read off the differences of iterates `EVERY` steps apart, continued as a
    geometric series; under a preconditioner P that is near M⁻¹, also off L P r.

    Args:
        lin: Ā at the point.
        covariance: C.
        like: An image batch [B, C, H, W]: shape, dtype, device.
        temper: T ≥ 1, factor on the noise variance.
        symbol: H(k) of Āᵀ Ā, see `normal_symbol`; preconditions by
            F⁻¹ (1 + a P H / T)⁻¹ F with (a, P) the covariance's typical spectrum. None: by nothing.
    """

    def __init__(
        self,
        lin: Linearised,
        covariance: Covariance,
        like: Tensor,
        temper: float = 1.0,
        symbol: Tensor | None = None,
    ) -> None:
        self.lin, self.c, self.like, self.temper = lin, covariance, like, temper
        self.gain: Tensor | None = None
        typical = covariance.typical_spectrum(like)
        if symbol is not None and typical is not None:
            scale, power = typical
            self.gain = 1.0 / (1.0 + scale * power * symbol / temper)

    def matvec(self, z: Tensor) -> Tensor:
        """Return M z."""
        return z + self.c.sqrt_t(self.lin.normal(self.c.sqrt(z))) / self.temper

    def precondition(self, r: Tensor) -> Tensor:
        """Return P r."""
        return r if self.gain is None else filtered(self.gain, r)

    def energy(self, r: Tensor, iterations: int) -> float:
        """Return min ½ zᵀ M z − zᵀ b over `iterations` steps, summed over the lanes."""
        b = self.c.sqrt_t(self.lin.adjoint(r, self.like))
        z, residual = cg_steps(self.matvec, b, self.precondition, iterations)
        return -0.5 * float((z * (b + residual)).sum())

    def solve(
        self, r: Tensor, scale: float, tol: float, max_iter: int, nats: float | None = None
    ) -> tuple[Tensor, Tensor, int]:
        """Return d, its error ÷ `scale` in the worst band of frequency per lane [B], iterations.

        Args:
            r: Whitened residual ÷ T, shape of the measurement.
            scale: What an error is measured by, units of the image: the next level's noise.
            tol: The share of it that may be left.
            max_iter: Most iterations.
            nats: What ½ eᵀ M e may be of an error e besides, where residuals decide on more than
                the image: what they lack reads as noise. Up to `max_iter`, and no error beyond.
        """
        bands = Bands(self.like)
        last: Tensor | None = None
        before = torch.zeros_like(self.like)
        energies: list[Tensor] = []

        def error(z: Tensor, residual: Tensor, step: int) -> Tensor | None:
            nonlocal last, before
            if step % EVERY:
                return None
            change = bands(self.c.sqrt(z - before))
            ratio = (
                0.5 * torch.ones_like(change) if last is None else change / last.clamp_min(1e-30)
            )
            ratio = ratio.clamp(0.0, 0.9)
            left = change * ratio / (1 - ratio)
            if self.gain is not None:
                left = torch.minimum(left, bands(self.c.sqrt(self.precondition(residual))))
            last, before = change, z
            if nats is None:
                return left.amax(1) / scale
            energies.append(0.5 * (z.double() * (b + residual).double()).flatten(1).sum(1))
            more = torch.full_like(energies[-1], 2 * tol)
            if len(energies) > 2:
                gain, previous = energies[-1] - energies[-2], energies[-2] - energies[-3]
                fall = (gain / previous.clamp_min(1e-30)).clamp(0.0, 0.9)
                more = tol * (gain.clamp_min(0) * fall / (1 - fall) / nats).clamp_max(2.0)
            return torch.maximum(left.amax(1) / scale, more.to(left))

        b = self.c.sqrt_t(self.lin.adjoint(r, self.like))
        z, left, iterations = conjugate_gradient(
            self.matvec, b, tol, max_iter, self.precondition, error=error
        )
        return self.c.sqrt(z), left, iterations


class Bands:
    """Root mean squares of images in octaves of spatial frequency, cycles per field."""

    def __init__(self, like: Tensor) -> None:
        h, w = like.shape[-2:]
        ky = torch.fft.fftfreq(h)[:, None] * h
        kx = torch.fft.rfftfreq(w)[None] * w
        k = torch.hypot(ky, kx)
        weight = torch.full_like(k, 2.0)  # a half plane: its inner columns stand for two
        weight[:, 0] = 1.0
        if w % 2 == 0:
            weight[:, -1] = 1.0
        edges = [0.0, *(2.0**j for j in range(1, 20) if 2.0**j < max(h, w)), math.inf]
        masks = [weight * ((k >= a) & (k < b)) for a, b in itertools.pairwise(edges)]
        masks = [m / m.sum() for m in masks if bool(m.any())]
        self.masks = torch.stack(masks).flatten(1).to(like)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [B, bands] of images [B, C, H, W]."""
        power = torch.fft.rfft2(x, norm="ortho").abs().square().mean(1).flatten(1)
        return (power @ self.masks.mT).sqrt()


def filtered(gain: Tensor, v: Tensor) -> Tensor:
    """Return F⁻¹ g F v for a g(k) in unshifted FFT order, even in k, that broadcasts over v."""
    g = gain[..., : v.shape[-1] // 2 + 1] if gain.ndim > 1 and gain.shape[-1] > 1 else gain
    return torch.fft.irfft2(torch.fft.rfft2(v) * g, s=v.shape[-2:])


def cg_steps(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    precondition: Callable[[Tensor], Tensor],
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Return x and b − S x after so many steps, without a look at the error."""
    last = b

    def error(x: Tensor, residual: Tensor, step: int) -> Tensor | None:
        nonlocal last
        last = residual
        return None

    x = conjugate_gradient(matvec, b, 0.0, steps, precondition, error=error)[0]
    return x, last


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    tol: float,
    max_iter: int,
    precondition: Callable[[Tensor], Tensor] | None = None,
    relative: bool = True,
    error: Callable[[Tensor, Tensor, int], Tensor | None] | None = None,
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
        error: Replaces that measure: called with x, b − S x and the iterations done, it returns the
            error of each lane [B], or None where it does not look. Looking seldom spares a device
            the wait for an answer.

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
    active = rr > (0 if error is not None else stop)
    left = torch.where(active, torch.full_like(rr, math.inf), torch.zeros_like(rr))
    iterations = 0
    # A lane that is done stands still, so going on for a while is harmless; asking stops a device.
    every = 1 if b.device.type == "cpu" else LOOK
    while iterations < max_iter and (iterations % every or bool(active.any())):
        iterations += 1
        sp = matvec(p)
        curvature = dot(p, sp)
        moves = active & (curvature > 0)
        alpha = lane(torch.where(moves, rr / curvature.clamp_min(1e-30), torch.zeros_like(rr)))
        x = x + alpha * p
        r = r - alpha * sp
        mr = m(r)
        rr_new = torch.where(moves, dot(r, mr), rr)
        beta = torch.where(moves, rr_new / rr.clamp_min(1e-30), torch.zeros_like(rr))
        p = torch.where(lane(moves), mr + lane(beta) * p, p)
        rr = rr_new
        if error is None:
            active = moves & (rr > stop)
            continue
        found = error(x, r, iterations)
        if found is not None:
            left = torch.where(active, found, left)
            active = moves & (left > tol)
    if error is None:
        left = (rr.clamp_min(0) / norm).sqrt()
    return x, left, iterations
