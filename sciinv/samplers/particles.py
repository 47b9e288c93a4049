"""Particles: the reverse diffusion guided by the data, its draws weighted and resampled.

Each level takes p(x0 | x_t) ≈ N(m, C) (the conditional) and a measurement linearised at m, and

    proposes  x_{t−1} ~ q(x_{t−1} | x_t, y): x0|x_t, y drawn exactly, then bridged to σ_{t−1};
    weights   by ψ(x_{t−1}) / ψ(x_{t−1}; x_t), where ψ(x_t) = N(y; A(m), J C Jᵀ + R) is the evidence
              with the moments at x_{t−1}, and ψ(x_{t−1}; x_t) the same evidence as the moments at
              x_t predicted it.

Draws of a group are resampled together when the effective number falls below half. The weights
correct what a Gaussian p(x0 | x_t) misses, above all the probability of each mode. Draws of one
group share ancestors, so the group, not the draw, is the unit of independence.

Sources: Wu et al. 2023, twisted diffusion sampler (arXiv 2306.17775); moment matching, Rozet et
al. 2024 (arXiv 2405.13712). The predicted evidence in the denominator is ours: it makes the weights
exactly 1 for a Gaussian prior with a linear operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciinv import conditionals
from sciinv.covariances import Covariance
from sciinv.diffusion import edm_grid
from sciinv.errors import ConfigError
from sciinv.kernels import Problem
from sciinv.likelihoods import Gaussian
from sciinv.priors.base import Prior
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams


@dataclass
class _Cloud:
    """The Gaussian picture of x0 at one level: moments, whitened Jacobian, evidence factor."""

    x: Tensor  # x_t, [B, D]
    m: Tensor  # E[x0 | x_t], [B, D]
    c: Tensor  # Cov[x0 | x_t], [B, D, D]
    a: Tensor  # W J at m, [B, M, D]
    e: Tensor  # W (y − A(m)), [B, M]

    def pick(self, index: Tensor) -> _Cloud:
        return _Cloud(self.x[index], self.m[index], self.c[index], self.a[index], self.e[index])


class Particles(Sampler):
    """Guided reverse diffusion as a twisted particle filter over the draws of a group.

    For problems of up to a few hundred unknowns and data, where it is asymptotically exact: many
    modes, nonlinear operators. For images use DAPS: weights degenerate in high dimension.

    Args:
        prior: The diffusion prior.
        conditional: Model of p(x0 | x_t), Gaussian.
        levels: Noise levels.
        sigma_max: Highest level; the prior's own if None.
        sigma_min: Lowest level; the prior's own if None.
        group: Draws of one group, the micro-batch.
        threshold: Resample when the effective number falls below this share of the group.
    """

    name = "particles"

    def __init__(
        self,
        prior: Prior,
        conditional: str | conditionals.Conditional = "tweedie",
        levels: int = 50,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        group: int = 256,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(prior, group)
        self.conditional = conditionals.build(conditional, prior)
        self.sigmas = edm_grid(sigma_max or prior.sigma_max, sigma_min or prior.sigma_min, levels)
        self.threshold = threshold

    @property
    def steps(self) -> int:
        """Number of noise levels."""
        return len(self.sigmas)

    def chain(
        self, problem: Problem, streams: Streams, like: Tensor, report: Callable[[int], None]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Run one group of particles."""
        b, d = len(like), like[0].numel()
        if d > 4096 or problem.y[0].numel() > 2048:
            raise ConfigError(
                "The particle sampler is for small problems",
                expected="up to 4,096 pixels and 2,048 data",
                got=f"{d} pixels, {problem.y[0].numel()} data",
                remedy="use samplers.DAPS",
            )
        own = Streams([(*streams.keys[0], "group")])  # what the lanes of a group share
        x = self.sigmas[0] * streams.randn((d,), like)
        cloud = self._look(x, float(self.sigmas[0]), problem, like, streams)
        log_w = self._evidence(cloud.e, cloud.a, cloud.c)
        resampled, lowest = 0, 1.0
        nfe = 1
        for i in range(len(self.sigmas) - 1):
            now, then = float(self.sigmas[i]), float(self.sigmas[i + 1])
            share = self._share(log_w)
            lowest = min(lowest, share)
            if share < self.threshold:
                cloud, resampled = cloud.pick(self._resample(log_w, own)), resampled + 1
                log_w = torch.zeros_like(log_w)
            q = (then / now) ** 2
            s2 = then**2 * (1 - q)
            x0 = self._draw(cloud, streams)
            x = q * cloud.x + (1 - q) * x0 + math.sqrt(s2) * streams.randn((d,), like)
            predicted = self._predicted(cloud, x, q, s2)
            cloud = self._look(x, then, problem, like, streams)
            nfe += 1
            log_w = log_w + self._evidence(cloud.e, cloud.a, cloud.c) - predicted
            if not bool(torch.isfinite(log_w).any()):
                raise self.diverged(problem.physics, i + 1, then)
            report(i + 1)
        x0 = self._draw(cloud, streams)
        if not (problem.linear and isinstance(problem.likelihood, Gaussian)):
            # The last draw is of the linearised data: weigh by what the true likelihood says.
            images = x0.reshape(like.shape)
            linear = cloud.e - torch.einsum("bmd,bd->bm", cloud.a, x0 - cloud.m)
            log_w = log_w + 0.5 * linear.square().sum(1) - problem.nll(images)
        lowest = min(lowest, self._share(log_w))
        pick = self._resample(log_w, own)
        x0 = x0[pick]
        report(len(self.sigmas))
        ancestors = float(len(torch.unique(pick))) / b
        return x0.reshape(like.shape), {
            "nfe": float(nfe),
            "effective_share": lowest,
            "resampled": float(resampled),
            "distinct": ancestors,
        }

    def _look(
        self, x: Tensor, sigma: float, problem: Problem, like: Tensor, streams: Streams
    ) -> _Cloud:
        """Return the moments at x_t, and the whitened measurement linearised at their mean."""
        moments = self.conditional(x.reshape(like.shape), sigma, streams)
        c = self._matrix(moments.covariance, like)
        lin, u = problem.linearise(moments.mean)
        rows = lin.rows
        if rows is None:
            rows = self._rows(lin, like)
        a = rows.flatten(2).expand(len(like), -1, -1)
        e = problem.likelihood.residual(u, problem.y).flatten(1)
        return _Cloud(x, moments.mean.flatten(1), c, a, e)

    @staticmethod
    def _rows(lin: Any, like: Tensor) -> Tensor:
        """Return W J as rows, by one adjoint product per datum."""
        m = lin.u[0].numel()
        out = []
        for k in range(m):
            r = torch.zeros(len(like), m, dtype=like.dtype, device=like.device)
            r[:, k] = 1.0
            out.append(lin.adjoint(r.reshape(lin.u.shape), like))
        return torch.stack(out, 1)

    @staticmethod
    def _matrix(covariance: Covariance, like: Tensor) -> Tensor:
        """Return C as [B, D, D]."""
        d = like[0].numel()
        eye = torch.eye(d, dtype=like.dtype, device=like.device)
        rows = eye.reshape(1, d, *like.shape[1:]).expand(len(like), *(-1,) * (like.ndim))
        if covariance.shared:
            return covariance.rows(rows[:1]).flatten(2).expand(len(like), -1, -1)
        return covariance.rows(rows).flatten(2)

    @staticmethod
    def _evidence(e: Tensor, a: Tensor, c: Tensor) -> Tensor:
        """Return log N(e; 0, I + Ā C Āᵀ) up to the constant of the noise, [B]."""
        s = a @ c @ a.mT + torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        factor = torch.linalg.cholesky(s)
        w = torch.linalg.solve_triangular(factor, e[..., None], upper=False).squeeze(-1)
        logdet = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * w.square().sum(1) - logdet

    @staticmethod
    def _draw(cloud: _Cloud, streams: Streams) -> Tensor:
        """Return x0 ~ p(x0 | x_t, y) of the Gaussian picture (Matheron's rule), [B, D]."""
        values, vectors = torch.linalg.eigh(cloud.c)
        z = streams.randn(cloud.m.shape[1:], cloud.m)[..., None]
        dx = (vectors @ (values.clamp_min(0).sqrt()[..., None] * z)).squeeze(-1)
        noise = streams.randn(cloud.e.shape[1:], cloud.e)
        r = cloud.e - torch.einsum("bmd,bd->bm", cloud.a, dx) - noise
        ca = cloud.c @ cloud.a.mT
        s = cloud.a @ ca + torch.eye(r.shape[1], dtype=r.dtype, device=r.device)
        u = torch.cholesky_solve(r[..., None], torch.linalg.cholesky(s))
        return cloud.m + dx + (ca @ u).squeeze(-1)

    def _predicted(self, cloud: _Cloud, x: Tensor, q: float, s2: float) -> Tensor:
        """Return the evidence of y given x_{t−1} as the moments at x_t predict it, [B]."""
        d = x.shape[1]
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        gain = (1 - q) * torch.linalg.solve((1 - q) ** 2 * cloud.c + s2 * eye, cloud.c).mT
        shift = (gain @ (x - q * cloud.x - (1 - q) * cloud.m)[..., None]).squeeze(-1)
        c = cloud.c - (1 - q) * gain @ cloud.c
        e = cloud.e - torch.einsum("bmd,bd->bm", cloud.a, shift)
        return self._evidence(e, cloud.a, 0.5 * (c + c.mT))

    @staticmethod
    def _share(log_w: Tensor) -> float:
        w = torch.softmax(log_w, 0)
        return float(1.0 / w.square().sum()) / len(w)

    @staticmethod
    def _resample(log_w: Tensor, own: Streams) -> Tensor:
        """Return the indices of a systematic resampling."""
        n = len(log_w)
        w = torch.softmax(torch.nan_to_num(log_w, nan=-math.inf), 0)
        points = (torch.arange(n, device=w.device) + own.rand((), w)) / n
        return torch.searchsorted(w.cumsum(0), points.to(w)).clamp_max(n - 1)

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {
            "sampler": self.name,
            "conditional": self.conditional.name,
            "levels": len(self.sigmas),
            "group": self.micro_batch,
            "sigma_max": float(self.sigmas[0]),
            "sigma_min": float(self.sigmas[-1]),
        }
