"""The exact draw where p(x0 | x_t) is a mixture, A is linear and the noise is Gaussian.

    p(x0 | y) = Σ_k w_k' N(ν_k, P_k),   P_k = (C_k⁻¹ + Āᵀ Ā)⁻¹,   ν_k = μ_k + P_k Āᵀ W (y − A μ_k)
    log w_k' = log w_k + log N(y; A μ_k, A C_k Aᵀ + R)

does not depend on the noise level, so that it is worked out once for all levels and lanes, with
P_k = V_k diag(ρ_k) V_kᵀ. Given x_t it is a mixture again, without any matrix to factor:

    p(x0 | x_t, y) = Σ_k r_k N(ν_k + P_k (P_k + σ² I)⁻¹ (x_t − ν_k), (P_k⁻¹ + I/σ²)⁻¹)
    log r_k = log w_k' + log N(x_t; ν_k, P_k + σ² I)

A component is drawn by r_k, then x0 from it. All matrices are D × D, so that the number of data
does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.covariances import Components
from sciinv.errors import ConfigError
from sciinv.problem import Problem
from sciinv.seeds import Streams
from sciinv.solvers import Linearised

MOST_PIXELS = 4096  # components of an image; matrices of that size are factored per mode
_BLOCK = 64  # columns of the identity that the operator is applied to at once


@dataclass(frozen=True)
class Posterior:
    """p(x0 | y) of every lane, in the axes of each component.

    Attributes:
        y: The data that it is of.
        log_weights: log w_k', [K, B].
        vectors: V_k, [K, D, D]; [1, D, D] where all C_k are one.
        values: ρ_k, [K, D] or [1, D].
        centres: V_kᵀ ν_k, [K, B, D].
    """

    y: Tensor
    log_weights: Tensor
    vectors: Tensor
    values: Tensor
    centres: Tensor


def draw(components: Components, problem: Problem, streams: Streams) -> Tensor:
    """Return x0 ~ p(x0 | x_t, y), [B, C, H, W]."""
    p, log_r, away = _given(components, problem)
    cumulated = torch.softmax(log_r, 0).cumsum(0)
    uniform = streams.rand((1,), log_r)[:, 0]
    pick = (cumulated < uniform).sum(0).clamp_max(len(log_r) - 1)
    lane = torch.arange(len(pick), device=pick.device)
    tied = len(p.values) == 1
    rho, s2 = p.values[pick * (not tied)], components.sigma**2
    white = streams.randn((rho.shape[1],), rho)
    along = p.centres[pick, lane] + rho / (rho + s2) * away[pick, lane]
    along = along + (rho * s2 / (rho + s2)).sqrt() * white
    x = along @ p.vectors[0].mT
    for k in [] if tied else pick.unique():
        # Of all lanes, not of those that have it: a product's rounding depends on its size, and no
        # draw may depend on what its neighbours drew.
        x = torch.where((pick == k)[:, None], along @ p.vectors[k].mT, x)
    return x.to(components.x_t).reshape(components.x_t.shape)


def mean(components: Components, problem: Problem) -> Tensor:
    """Return E[x0 | x_t, y], [B, C, H, W]."""
    p, log_r, away = _given(components, problem)
    rho = p.values[:, None]
    along = p.centres + rho / (rho + components.sigma**2) * away
    x = (torch.softmax(log_r, 0)[..., None] * (along @ p.vectors.mT)).sum(0)
    return x.to(components.x_t).reshape(components.x_t.shape)


def _given(components: Components, problem: Problem) -> tuple[Posterior, Tensor, Tensor]:
    """Return p(x0 | y), log r_k [K, B] and V_kᵀ (x_t − ν_k) [K, B, D]."""
    p = _posterior(components, problem)
    away = components.x_t.double().flatten(1) @ p.vectors - p.centres
    total = (p.values + components.sigma**2)[:, None]
    return p, p.log_weights - 0.5 * (away.square() / total + total.log()).sum(2), away


def _posterior(components: Components, problem: Problem) -> Posterior:
    """Return p(x0 | y), computed once for a chain.

    Raises:
        ConfigError: Noise or instrument are drawn with the image: Āᵀ Ā then differs by lane.
    """
    if problem.nominal is not None:
        raise ConfigError(
            "A mixture is drawn as one under one noise and one instrument alone",
            expected="noise and instrument that are known",
            got="noise or instrument drawn with the image",
            remedy="set noise='fixed' and leave unknowns out, or take conditional='tweedie'",
        )
    known = problem.chain.get("mixture")
    if known is not None and known.y is problem.y:
        return known
    like, mu = components.x_t, components.means
    lin, u = problem.linearise(torch.zeros_like(like))
    n = normal(lin, problem, like)
    root, factor, vectors, values = _axes(components, n, problem)
    data = problem.likelihood.residual(torch.zeros_like(u), problem.y)  # W y
    h = lin.adjoint(data, like).flatten(1).double()
    pull = h - (mu @ n)[:, None]  # Āᵀ W (y − A μ_k), [K, B, D]
    # By the triangles, not by ρ_k: data of small noise are far above 1 here, and what rounding
    # leaves of ρ_k along them would be multiplied by that.
    half = torch.linalg.solve_triangular(factor, root.mT @ pull.mT, upper=False)
    z = torch.linalg.solve_triangular(factor.mT, half, upper=True)  # ν_k = μ_k + L_k z
    nu = mu[:, None] + (root @ z).mT
    # ‖W (y − A ν_k)‖² + ‖z‖² is the misfit of the evidence without a difference of large numbers.
    misfit = torch.stack([_misfit(x.to(like).reshape(like.shape), problem) for x in nu])
    misfit = misfit + z.square().sum(1)
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    log_w = (components.weights.log() - log_det)[:, None] - 0.5 * misfit
    found = Posterior(problem.y, log_w, vectors, values, nu @ vectors)
    problem.chain["mixture"] = found
    return found


def _misfit(x: Tensor, problem: Problem) -> Tensor:
    r = problem.likelihood.residual(problem.physics.A(x), problem.y)
    return r.double().flatten(1).square().sum(1)


def normal(lin: Linearised, problem: Problem, like: Tensor) -> Tensor:
    """Return Āᵀ Ā, [D, D], double precision; computed once."""
    if "normal" not in problem.cache:
        d = like[0].numel()
        blocks = []
        for block in torch.eye(d, dtype=like.dtype, device=like.device).split(_BLOCK):
            image = block.reshape(-1, *like.shape[1:])
            blocks.append(lin.normal(image).flatten(1).double())
        n = torch.cat(blocks)
        problem.cache["normal"] = 0.5 * (n + n.mT)
    return problem.cache["normal"]


def _axes(
    components: Components, n: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return L_k with C_k = L_k L_kᵀ, the Cholesky factor F_k of I + L_kᵀ Āᵀ Ā L_k, V_k and ρ_k.

    Each [K, D, D], ρ_k [K, D]; of one component where all C_k are equal.
    """
    if "mixture" not in problem.cache:
        vectors, values = components.vectors, components.values
        if bool((vectors == vectors[:1]).all()) and bool((values == values[:1]).all()):
            vectors, values = vectors[:1], values[:1]
        root = vectors * values.sqrt()[:, None, :]
        eye = torch.eye(n.shape[0], dtype=n.dtype, device=n.device)
        factor = torch.linalg.cholesky(eye + root.mT @ n @ root)
        half = torch.linalg.solve_triangular(factor, root.mT, upper=False)  # P_k = halfᵀ half
        values, vectors = torch.linalg.eigh(half.mT @ half)
        problem.cache["mixture"] = (root, factor, vectors, values.clamp_min(0))
    return problem.cache["mixture"]
