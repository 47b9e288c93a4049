"""The density that a Markov kernel samples, in coordinates z where p(x0 | x_t) is near N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.problem import Problem
from sciinv.seeds import Streams


class Target:
    """U(z) = −log p(x0 | x_t) − log p(y | x0) at x0 = m + L z, up to a constant.

    For a Gaussian p(x0 | x_t) the first term is ½‖z‖². Where only its gradient is known (the
    score-based conditional), differences of it come from the trapezoid rule along the step.

    Args:
        moments: The model of p(x0 | x_t).
        problem: The data.
    """

    def __init__(self, moments: Moments, problem: Problem) -> None:
        self.moments, self.problem = moments, problem

    def x(self, z: Tensor) -> Tensor:
        """Return x0 = m + L z."""
        return self.moments.mean + self.moments.covariance.sqrt(z)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return −log p(y | x0) [B], ∇_z of the prior term, and ∇_z of the data term."""
        x0 = self.x(z)
        nll, g = self.problem.nll_and_gradient(x0)
        g_data = self.moments.covariance.sqrt_t(g)
        if self.moments.gradient is None:
            return nll, z, g_data
        g_prior = -self.moments.covariance.sqrt_t(self.moments.gradient(x0))
        return nll, g_prior, g_data

    def prior_change(self, z: Tensor, z_new: Tensor, g: Tensor, g_new: Tensor) -> Tensor:
        """Return the change of −log p(x0 | x_t) from z to z_new, [B]."""
        if self.moments.gradient is None:
            return 0.5 * (z_new.square() - z.square()).flatten(1).sum(1)
        return 0.5 * ((g + g_new) * (z_new - z)).flatten(1).sum(1)

    def curvature(self, z: Tensor, streams: Streams, iterations: int = 8) -> Tensor:
        """Return the largest eigenvalue of I + Lᵀ Jᵀ Wᵀ W J L at z by power iteration, [B]."""
        lin, _ = self.problem.linearise(self.x(z))
        c = self.moments.covariance
        v = streams.randn(z.shape[1:], z)
        norm = torch.ones(len(z), dtype=z.dtype, device=z.device)
        for _ in range(iterations):
            v = v / v.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, *(1,) * (v.ndim - 1))
            v = c.sqrt_t(lin.adjoint(lin.forward(c.sqrt(v)), v))
            norm = v.flatten(1).norm(dim=1)
        return 1.0 + 1.1 * norm  # power iteration comes from below
