"""The exact draw where p(x0 | x_t) is a mixture, A is linear and the noise is Gaussian.

    p(x0 | x_t, y) = Σ_k w_k N(m_k + P_k Āᵀ W (y − A m_k), P_k),   P_k = (C_k⁻¹ + Āᵀ Ā)⁻¹
    log w_k = log r_k + log N(y; A m_k, A C_k Aᵀ + R)

A component is drawn by its evidence of the data, then x0 from it. All matrices are D × D, so that
the number of data does not matter, and they are factored once per noise level for all lanes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.covariances import Components
from sciinv.errors import ConfigError
from sciinv.problem import Problem
from sciinv.seeds import Streams
from sciinv.solvers import Linearised

MOST_PIXELS = 4096  # components of an image; matrices of that size are factored per mode
_BLOCK = 64  # columns of the identity that the operator is applied to at once


def draw(components: Components, problem: Problem, streams: Streams, like: Tensor) -> Tensor:
    """Return x0 ~ p(x0 | x_t, y), [B, C, H, W]."""
    log_w, half, root, factor = _posterior(components, problem, like)
    cumulated = torch.softmax(log_w, 1).cumsum(1)
    pick = (cumulated < streams.rand((1,), log_w)).sum(1).clamp_max(log_w.shape[1] - 1)
    lane = torch.arange(len(log_w), device=log_w.device)
    white = half[lane, pick] + streams.randn((half.shape[2],), half)
    # For all components, then one of them: a matrix per lane would cost far more to gather.
    each = root @ _solved(factor.mT, white.mT[None], upper=True)  # [K, D, B]
    x = components.means[lane, pick] + each[pick, :, lane]
    return x.to(like).reshape(like.shape)


def mean(components: Components, problem: Problem, like: Tensor) -> Tensor:
    """Return E[x0 | x_t, y], [B, C, H, W]."""
    log_w, half, root, factor = _posterior(components, problem, like)
    z = _solved(factor.mT, half.permute(1, 2, 0), upper=True)
    each = components.means + (root @ z).permute(2, 0, 1)
    return (torch.softmax(log_w, 1)[..., None] * each).sum(1).to(like).reshape(like.shape)


def _posterior(
    components: Components, problem: Problem, like: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log w_k [B, K], F_k⁻¹ L_kᵀ Āᵀ W (y − A m_k) [B, K, D], L_k and F_k [K, D, D].

    F_k F_kᵀ = I + L_kᵀ Āᵀ Ā L_k.

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
    lin, u = problem.linearise(torch.zeros_like(like))
    n = normal(lin, problem, like)
    data = problem.likelihood.residual(torch.zeros_like(u), problem.y)  # W y
    h = lin.adjoint(data, like).flatten(1).double()
    root, factor = _factors(components, n, problem)
    m = components.means
    b = h[:, None] - m @ n  # Āᵀ W (y − A m_k)
    misfit = data.flatten(1).double().square().sum(1)[:, None]
    misfit = misfit - (m * (h[:, None] + b)).sum(2)  # ‖W (y − A m_k)‖²
    half = _solved(factor, root.mT @ b.permute(1, 2, 0), upper=False).permute(2, 0, 1)
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    log_w = components.log_weights - log_det - 0.5 * (misfit - half.square().sum(2))
    return log_w, half, root, factor


def _solved(factor: Tensor, columns: Tensor, upper: bool) -> Tensor:
    """Return F_k⁻¹ b for factors [K, D, D] and columns [K or 1, D, B], the lanes as columns."""
    columns = columns.expand(len(factor), *columns.shape[1:])
    return torch.linalg.solve_triangular(factor, columns, upper=upper)


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


def _factors(components: Components, n: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return L_k with C_k = L_k L_kᵀ, and the Cholesky factors of I + L_kᵀ Āᵀ Ā L_k, [K, D, D]."""
    key = ("mixture", components.sigma)
    if key not in problem.cache:
        root = components.vectors * components.values.sqrt()[:, None, :]
        eye = torch.eye(n.shape[0], dtype=n.dtype, device=n.device)
        problem.cache[key] = (root, torch.linalg.cholesky(eye + root.mT @ n @ root))
    return problem.cache[key]
