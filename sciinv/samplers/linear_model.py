"""The linear Gaussian model of x0 and y at one noise level, for the particle sampler.

    x0 ~ N(m, C),   W y = W h + W J (x0 − m) + N(0, I)

Its evidence of y is the twist ψ(x_t). For a linear operator with Gaussian noise it is exact. For
others A is regressed on x0 over points of N(m, C), and the scatter that the regression leaves joins
the noise: where p(x0 | x_t) is wide and A bends, the data then say little, and more as it narrows.
A tangent at m instead claims that A is straight, and throws away modes that it cannot see.

Sources: statistical linear regression, Lefebvre et al. 2002; its use in smoothing, García-Fernández
et al. 2015 (posterior linearisation).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Covariance, Implicit
from sciinv.likelihoods import Gaussian
from sciinv.problem import Problem
from sciinv.seeds import Streams, stream_seed

# Numbers that one block of regressed lanes may hold at a time.
_BLOCK = 4_000_000


@dataclass
class LinearModel:
    """Moments of x0 given x_t, and the whitened linear model of the measurement.

    Attributes:
        x: x_t, [B, D].
        m: E[x0 | x_t], [B, D].
        c: C = Cov[x0 | x_t], [B, D, D].
        root: L with C = L Lᵀ, [B, D, D].
        a: W J, [B, M, D].
        e: W (y − h), [B, M].
        log_w: log det W, up to a constant of the whole run, [B].
    """

    x: Tensor
    m: Tensor
    c: Tensor
    root: Tensor
    a: Tensor
    e: Tensor
    log_w: Tensor

    def pick(self, index: Tensor) -> LinearModel:
        """Return the lanes of these indices."""
        return LinearModel(*(getattr(self, f.name)[index] for f in fields(self)))

    def evidence(self) -> Tensor:
        """Return log ψ(x_t) = log N(y; h, …), [B]."""
        return self.log_w + _log_evidence(self.e, self.a, self.c)

    def draw(self, streams: Streams) -> Tensor:
        """Return x0 ~ p(x0 | x_t, y) (Matheron's rule), [B, D]."""
        z = streams.randn(self.m.shape[1:], self.m)[..., None]
        dx = (self.root @ z).squeeze(-1)
        noise = streams.randn(self.e.shape[1:], self.e)
        r = self.e - torch.einsum("bmd,bd->bm", self.a, dx) - noise
        ca = self.c @ self.a.mT
        s = self.a @ ca + torch.eye(r.shape[1], dtype=r.dtype, device=r.device)
        u = torch.cholesky_solve(r[..., None], torch.linalg.cholesky(s))
        return self.m + dx + (ca @ u).squeeze(-1)

    def predicted(self, x: Tensor, q: float, s2: float) -> Tensor:
        """Return log ψ(x_{t−1}) as this level predicts it, [B].

        Args:
            x: x_{t−1} = q x_t + (1 − q) x0 + N(0, s2), [B, D].
            q: (σ_{t−1}/σ_t)².
            s2: Variance of the bridge.
        """
        d = x.shape[1]
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        gain = (1 - q) * torch.linalg.solve((1 - q) ** 2 * self.c + s2 * eye, self.c).mT
        shift = (gain @ (x - q * self.x - (1 - q) * self.m)[..., None]).squeeze(-1)
        c = self.c - (1 - q) * gain @ self.c
        e = self.e - torch.einsum("bmd,bd->bm", self.a, shift)
        return self.log_w + _log_evidence(e, self.a, 0.5 * (c + c.mT))

    def log_likelihood(self, x0: Tensor) -> Tensor:
        """Return log p(y | x0) in this model, up to the same constant, [B]."""
        r = self.e - torch.einsum("bmd,bd->bm", self.a, x0 - self.m)
        return self.log_w - 0.5 * r.square().sum(1)


def tangent(x: Tensor, moments: Moments, problem: Problem) -> LinearModel:
    """Return the model with A linearised at m; exact for a linear A with Gaussian noise."""
    like = moments.mean
    lin, u = problem.linearise(like)
    rows = lin.rows
    if rows is None:  # one adjoint product per datum
        size = lin.u[0].numel()
        units = torch.eye(size, dtype=like.dtype, device=like.device)
        shape = (len(like), *lin.u.shape[1:])
        rows = torch.stack(
            [lin.adjoint(r.expand(len(like), -1).reshape(shape), like) for r in units], 1
        )
    a = rows.flatten(2).expand(len(like), -1, -1)
    e = problem.likelihood.residual(u, problem.y).flatten(1)
    c, root = _matrices(moments.covariance, like)
    return LinearModel(x, like.flatten(1), c, root, a, e, _log_whitening(problem, u))


def regressed(x: Tensor, moments: Moments, problem: Problem, points: int) -> LinearModel:
    """Return the model with A regressed over `points` points of N(m, C), and no derivative."""
    like = moments.mean
    c, root = _matrices(moments.covariance, like)
    z = _points(points, like)
    lanes = max(1, _BLOCK // (len(z) * max(z.shape[1], problem.y[0].numel())))
    parts = [
        _regressed(like[k], root[k], problem.y[k], problem, z)
        for k in torch.arange(len(like)).split(lanes)
    ]
    a, e, log_w = (torch.cat(part) for part in zip(*parts, strict=True))
    return LinearModel(x, like.flatten(1), c, root, a, e, log_w)


def _regressed(
    mean: Tensor, root: Tensor, y: Tensor, problem: Problem, z: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return W J, W (y − h) and log det W of one block of lanes."""
    n, d = z.shape
    x0 = mean.flatten(1)[:, None] + z @ root.mT
    x0 = x0.reshape(-1, *mean.shape[1:])
    u = problem.physics.A(x0)
    u = u.reshape(len(y), n, *u.shape[1:])
    h, likelihood = u.mean(1), problem.likelihood
    if isinstance(likelihood, Gaussian):
        differences = [likelihood.difference(y, u[:, k]) for k in range(n)]
    else:
        differences = [y - u[:, k] for k in range(n)]
    e = torch.stack([likelihood.whiten(r, h) for r in differences], 1).flatten(2)
    centre = e.mean(1)
    r = e - centre[:, None]
    slope = -(r.mT @ z) / n  # W J L
    left = r + z @ slope.mT
    scatter = left.mT @ left / max(1, n - d - 1)
    eye = torch.eye(scatter.shape[-1], dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky(eye + scatter)
    a = slope @ torch.linalg.pinv(root)
    both = torch.cat([a, centre[..., None]], -1)
    both = torch.linalg.solve_triangular(factor, both, upper=False)
    log_w = _log_whitening(problem, h) - factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return both[..., :-1], both[..., -1], log_w


def _points(points: int, like: Tensor) -> Tensor:
    """Return fixed points, symmetric about 0 and of covariance I, [n, D]; n ≥ 4 D."""
    d = like[0].numel()
    half = max(points // 2, 2 * d)
    g = torch.Generator().manual_seed(stream_seed("points", d, half))
    z = torch.randn(half, d, generator=g, dtype=torch.float64)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.mT @ z / half)).mT
    return torch.cat([z, -z]).to(like)


def _log_whitening(problem: Problem, u: Tensor) -> Tensor:
    """Return log det of the noise's own W at u, where it depends on u, [B]."""
    if isinstance(problem.likelihood, Gaussian):
        return torch.zeros(len(u), dtype=u.dtype, device=u.device)
    return problem.likelihood.whiten(torch.ones_like(u), u).log().flatten(1).sum(1)


def _matrices(covariance: Covariance, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return C and L with C = L Lᵀ, each [B, D, D]."""
    lanes, d = len(like), like[0].numel()
    eye = torch.eye(d, dtype=like.dtype, device=like.device)
    rows = eye.reshape(1, d, *like.shape[1:])
    if not covariance.shared:
        rows = rows.expand(lanes, *rows.shape[1:])
    if isinstance(covariance, Implicit):  # its root is that of one vector, and no matrix
        c = covariance.rows(rows).flatten(2)
        values, vectors = torch.linalg.eigh(0.5 * (c + c.mT))
        root = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT
    else:
        root = covariance.rows_root(rows).flatten(2)
        c = root @ root.mT
    return c.expand(lanes, -1, -1), root.expand(lanes, -1, -1)


def _log_evidence(e: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """Return log N(e; 0, I + Ā C Āᵀ) up to (2π)^{M/2}, [B]."""
    s = a @ c @ a.mT + torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(s)
    w = torch.linalg.solve_triangular(factor, e[..., None], upper=False).squeeze(-1)
    return -0.5 * w.square().sum(1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
