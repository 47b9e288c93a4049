"""The Gaussian-mixture prior: many modes, and still a closed-form denoiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciinv.covariances import Components, Covariance, Dense
from sciinv.errors import PriorError
from sciinv.priors.base import Prior


class GaussianMixture(Prior):
    """p(x0) = Σ_k w_k N(μ_k, C_k), whose p(x0 | x_t) is again a mixture.

    With r_k(x) ∝ w_k N(x; μ_k, C_k + σ² I) and m_k = μ_k + C_k (C_k + σ² I)⁻¹ (x − μ_k):
    D(x, σ) = Σ r_k m_k, and Cov[x0 | x_t] = Σ r_k (C_k σ² (C_k + σ² I)⁻¹ + m_k m_kᵀ) − D Dᵀ.

    Args:
        means: μ_k, [K, C, H, W], units of the image.
        covariances: C_k, [K, D, D] with D = C·H·W.
        weights: w_k ≥ 0, [K]; normalised here.
        units: Unit of a pixel value.

    Raises:
        PriorError: A shape is wrong, or a weight or an eigenvalue is negative.
    """

    micro_batch = 8

    def __init__(
        self, means: Tensor, covariances: Tensor, weights: Tensor, units: str = ""
    ) -> None:
        super().__init__()
        means, covariances = torch.as_tensor(means), torch.as_tensor(covariances)
        weights = torch.as_tensor(weights).to(means.dtype)
        k, size = means.shape[0], means[0].numel()
        if means.ndim != 4 or covariances.shape != (k, size, size) or weights.shape != (k,):
            raise PriorError(
                "The mixture's means, covariances and weights do not match",
                expected=f"[K, C, H, W], [K, D, D] = [{k}, {size}, {size}], [K] = [{k}]",
                got=f"{list(means.shape)}, {list(covariances.shape)}, {list(weights.shape)}",
                remedy="give one covariance and one weight per mean",
            )
        total = float(weights.sum())
        if not bool(torch.isfinite(weights).all()) or not 0 < total < float("inf"):
            raise PriorError(
                "The mixture's weights are no probabilities",
                expected="finite weights ≥ 0, not all 0",
                got=", ".join(f"{w:g}" for w in weights.tolist()[:8]),
                remedy="give each component a weight; one of 0 may be left out",
            )
        lean = float((covariances - covariances.mT).abs().max())
        if lean > torch.finfo(means.dtype).eps ** 0.5 * float(covariances.abs().max()):
            raise PriorError(
                "A covariance of the mixture is not symmetric",
                expected="C = Cᵀ, to rounding",
                got=f"a difference of {lean:.3g}",
                remedy="take the mean of C and Cᵀ",
            )
        values, vectors = torch.linalg.eigh(0.5 * (covariances + covariances.mT).double())
        if float(values.min()) < -1e-6 * float(values.max()) or float(weights.min()) < 0:
            raise PriorError(
                "The mixture has a negative weight or eigenvalue",
                expected="weights ≥ 0 and positive semi-definite covariances",
                got=f"weights ≥ {float(weights.min()):g}, eigenvalues ≥ {float(values.min()):g}",
                remedy="check the covariances' symmetry and the weights' sign",
            )
        self.units = units
        self.shape = (int(means.shape[1]), int(means.shape[2]), int(means.shape[3]))
        self.channels = self.shape[0]
        self.register_buffer("means", means)
        self.register_buffer("values", values.clamp_min(0).to(means.dtype))
        self.register_buffer("vectors", vectors.to(means.dtype))
        self.register_buffer("weights", weights / weights.sum())
        spread = float(means.flatten(1).std(0).max()) if k > 1 else 0.0
        top = max(float(self.values.max()) ** 0.5, spread, float(means.abs().max()))
        self.sigma_max = 20.0 * top
        self.sigma_min = 0.1 * float(self.values.mean()) ** 0.5

    def _components(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return r_k [B, K], m_k [B, K, D] and the eigenvalues λσ²/(λ+σ²) [B, K, D]."""
        s2 = torch.as_tensor(sigma).to(x).expand(x.shape[0]).reshape(-1, 1, 1) ** 2
        u, values = self.vectors.to(x), self.values.to(x)
        mu = self.means.to(x).flatten(1)
        d = torch.einsum("bkd,kde->bke", x.flatten(1)[:, None] - mu, u)
        total = values + s2
        log_r = self.weights.to(x).log() - 0.5 * (d.square() / total + total.log()).sum(2)
        m = mu + torch.einsum("bke,kde->bkd", d * values / total, u)
        return torch.softmax(log_r, 1), m, (values * s2 / total)

    def components(self, x_t: Tensor, sigma: float) -> Components:
        """Return p(x0 | x_t) as a mixture, in double precision; counts as one evaluation."""
        self.evaluations += 1
        weights, mu, vectors, values = (
            part.to(x_t.device, torch.float64)
            for part in (self.weights, self.means.flatten(1), self.vectors, self.values)
        )
        return Components(x_t, float(sigma), weights, mu, vectors, values)

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return Σ r_k m_k; x [B, C, H, W], σ a number or [B]."""
        r, m, _ = self._components(x, sigma)
        return (r[..., None] * m).sum(1).reshape(x.shape)

    def log_density(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """Return log p_σ(x) including its constant, [B]."""
        s2 = torch.as_tensor(sigma).to(x).expand(x.shape[0]).reshape(-1, 1, 1) ** 2
        d = torch.einsum(
            "bkd,kde->bke",
            x.flatten(1)[:, None] - self.means.to(x).flatten(1),
            self.vectors.to(x),
        )
        total = self.values.to(x) + s2
        log_n = -0.5 * (d.square() / total + (2 * torch.pi * total).log()).sum(2)
        return torch.logsumexp(self.weights.to(x).log() + log_n, 1)

    def conditional_matrix(self, x_t: Tensor, sigma: float | Tensor) -> Tensor:
        """Return Cov[x0 | x_t], [B, D, D]."""
        r, m, values = self._components(x_t, sigma)
        u = self.vectors.to(x_t)
        mean = (r[..., None] * m).sum(1)
        size = u.shape[-1]
        outer = torch.einsum("kde,kfe->kedf", u, u).reshape(-1, size * size)
        within = ((r[..., None] * values).flatten(1) @ outer).reshape(-1, size, size)
        d = m - mean[:, None]
        return within + torch.einsum("bk,bkd,bkf->bdf", r, d, d)

    def conditional_covariance(self, x_t: Tensor, sigma: float) -> Covariance:
        """Return the covariance of p(x0 | x_t), one per lane."""
        values, vectors = torch.linalg.eigh(self.conditional_matrix(x_t, sigma))
        return Dense(vectors, values)

    def isotropic_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return tr(Cov[x0 | x_t]) / D, [B]."""
        return self.conditional_matrix(x_t, sigma).diagonal(dim1=1, dim2=2).mean(1)

    def sample(self, streams: Any, like: Tensor) -> Tensor:
        """Return exact draws of p(x0), one per stream, [B, C, H, W]."""
        pick = torch.searchsorted(self.weights.cumsum(0).to(like), streams.rand((1,), like)[:, 0])
        pick = pick.clamp_max(len(self.weights) - 1)
        z = streams.randn((self.means[0].numel(),), like)
        root = self.vectors.to(like)[pick] * self.values.to(like)[pick].sqrt()[:, None, :]
        x = self.means.to(like)[pick].flatten(1) + (root @ z[..., None]).squeeze(-1)
        return x.reshape(len(x), *self.means.shape[1:])
