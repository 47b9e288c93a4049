"""Conjugate gradients: S x = b for many lanes at once, each on its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LOOK = 6  # iterations on a device between two questions whether any lane goes on, which stop it


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
    expected: int = 0,
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
        expected: Iterations that a solve like this took before: a device is not asked earlier
            whether any lane goes on. The result does not depend on it but for rounding.

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
    host = b.device.type == "cpu"
    needed = torch.zeros((), dtype=torch.int64, device=b.device)
    while iterations < max_iter:
        if host:
            if not bool(active.any()):
                break
        elif iterations >= expected and (iterations - expected) % LOOK == 0:
            taken = int(torch.where(active.any(), torch.full_like(needed, -1), needed))
            if taken >= 0:
                iterations = taken
                break
        iterations += 1
        if not host:
            needed = needed + active.any()
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
