"""The density of an operator's parameters with the image integrated out.

    p(θ | x_t, y) ∝ p(θ) N(y; A_θ m, A_θ C A_θᵀ + R),   x0 | x_t ~ N(m, C)

All that the data see of an image is Q x0, Q orthonormal rows that span those of A_θ for every θ
(`kernels.rows`). With W the whitening of R, B = A_θ Qᵀ and Σ = Q C Qᵀ = S Sᵀ,

    −log p = ½ eᵀ K⁻¹ e + ½ log |K| + ½ ‖(θ − μ) / sd‖²,   e = W (y − B Q m),   K = T I + H Hᵀ,
    H = W B S, and T = 1 but where a search begins with raised noise.

Its slope needs ∂B/∂θ alone: dU = ⟨−Wᵀ α (Q m)ᵀ + Wᵀ (K⁻¹ − α αᵀ) H Sᵀ, dB⟩, α = K⁻¹ e.

Source: Rasmussen & Williams 2006, "Gaussian processes for machine learning", section 5.4.1; Kay
1993, "Fundamentals of statistical signal processing", equation 3.31, for the information.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.kernels.rows import SharedRows, root_seen
from sciinv.likelihoods import Likelihood

JITTER = 1e-10  # of Σ's mean
ENTRIES = 20_000_000  # numbers of slopes of K that are held at once


class Marginal:
    """U(θ) = −log p(θ | x_t, y) up to a constant, its slope and its information, per lane.

    Args:
        rows: What the data see of an image, with B.
        moments: The model of p(x0 | x_t), Gaussian.
        y: The data, [B, …].
        likelihood: Gaussian noise, as it was drawn last.
        prior: Prior mean and standard deviation of each parameter, both [P].
    """

    def __init__(
        self,
        rows: SharedRows,
        moments: Moments,
        y: Tensor,
        likelihood: Likelihood,
        prior: tuple[Tensor, Tensor],
    ) -> None:
        m = moments.mean.double()
        self.rows, (self.mean, self.sd) = rows, prior
        _, self.root = root_seen(moments.covariance, rows.q, len(m), JITTER)  # S
        self.p = (m.flatten(1) @ rows.q.flatten(1).mT)[..., None]  # Q m
        y = y.double()
        self.y = likelihood.residual(torch.zeros_like(y), y).flatten(1)[..., None]
        lanes = 1 if likelihood.lanes == 1 else len(y)
        units = torch.eye(y[0].numel(), dtype=y.dtype, device=y.device)
        shape = (lanes, *y.shape[1:])
        whitened = [likelihood.whiten(u.reshape(y[:1].shape).expand(shape), y) for u in units]
        w = torch.stack([column.flatten(1) for column in whitened], 2)  # W, [B or 1, M, M]
        diagonal = w.diagonal(dim1=1, dim2=2)
        # noise of single data: a product in place of a matrix
        self.w = diagonal[..., None] if bool((torch.diag_embed(diagonal) == w).all()) else w
        self.simple = self.w.shape[-1] == 1

    def _whiten(self, a: Tensor) -> Tensor:
        return self.w * a if self.simple else self.w @ a

    def _whiten_t(self, a: Tensor) -> Tensor:
        return self.w * a if self.simple else self.w.mT @ a

    def _factored(self, b: Tensor, temper: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return H, the Cholesky factor of K, e, and which lanes are finite."""
        fine = torch.isfinite(b).flatten(1).all(1)
        b = torch.where(fine[:, None, None], b, 0.0)
        h, e = self._whiten(b @ self.root), self.y - self._whiten(b @ self.p)
        eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        noise = eye if temper is None else temper[:, None, None] * eye
        factor, failed = torch.linalg.cholesky_ex(noise + h @ h.mT)
        fine = fine & (failed == 0)  # a θ so far out that rounding takes the noise away
        return h, torch.where(fine[:, None, None], factor, eye), e, fine

    def _value(self, theta: Tensor, factor: Tensor, w: Tensor, fine: Tensor) -> Tensor:
        """Return U where w = L⁻¹ e."""
        before = 0.5 * ((theta - self.mean) / self.sd).square().sum(1)
        volume = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        value = 0.5 * w.square().sum((1, 2)) + volume + before
        return torch.where(fine, value, torch.inf)

    def energy(self, theta: Tensor, temper: Tensor | None = None) -> Tensor:
        """Return U, [B], at noise variance times T [B]; infinite where A_θ is not finite."""
        _, factor, e, fine = self._factored(self.rows.seen(theta), temper)
        w = torch.linalg.solve_triangular(factor, e, upper=False)
        return self._value(theta, factor, w, fine)

    def slope(self, theta: Tensor, temper: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return U [B] and ∂U/∂θ [B, P]."""
        b, pull = self.rows.with_pull(theta)
        h, factor, e, fine = self._factored(b, temper)
        w = torch.linalg.solve_triangular(factor, e, upper=False)
        alpha = torch.linalg.solve_triangular(factor.mT, w, upper=True)
        back = torch.cholesky_solve(h, factor) - alpha @ (alpha.mT @ h)
        g = self._whiten_t(back @ self.root.mT - alpha @ self.p.mT)
        return self._value(theta, factor, w, fine), pull(g) + (theta - self.mean) / self.sd**2

    def information(self, theta: Tensor, temper: Tensor | None = None) -> Tensor:
        """Return the expected curvature of U, positive definite, [B, P, P].

        F_ij = ∂_i μᵀ K⁻¹ ∂_j μ + ½ tr(K⁻¹ ∂_i K K⁻¹ ∂_j K) + δ_ij / sd_i², with μ = W B Q m; from
        single-precision products, as it only proposes.
        """
        h, factor, _, _ = self._factored(self.rows.seen(theta), temper)
        eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device).expand(len(h), -1, -1)
        left = torch.linalg.solve_triangular(factor, eye, upper=False)
        right = (self.root @ (left @ h).mT).float()  # S Hᵀ L⁻ᵀ
        left = (left * self.w.mT if self.simple else left @ self.w).float()  # L⁻¹ W
        p, slopes = self.p.float(), self.rows.slopes(theta, self.sd)
        n = max(1, ENTRIES // (len(slopes) * h.shape[1] ** 2))
        parts = []
        for lanes in torch.arange(len(theta), device=theta.device).split(n):
            means, spreads = [], []
            for slope in slopes:
                db = left[lanes] @ slope[lanes]
                x = db @ right[lanes]
                means.append((db @ p[lanes])[..., 0])
                spreads.append((x + x.mT).flatten(1))
            mu, k = torch.stack(means, 1), torch.stack(spreads, 1)
            parts.append(mu @ mu.mT + 0.5 * (k @ k.mT))
        f = torch.cat(parts).double()
        return 0.5 * (f + f.mT) + torch.diag(self.sd**-2)
