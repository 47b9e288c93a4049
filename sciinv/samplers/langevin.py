"""Langevin sampling of p(y | x0) p(x0) without annealing, the other baseline.

x ← x + P (∇ log p(y | x) + s(x, σ_min)) h + √(2h P) ξ with P the inverse of the curvature bound.

Source: Roberts & Tweedie 1996; with a denoiser's score: Laumont et al. 2022 (arXiv 2103.04715).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Isotropic
from sciinv.kernels.target import Target
from sciinv.priors.base import Prior
from sciinv.problem import Problem, per_lane
from sciinv.samplers.base import Sampler
from sciinv.seeds import Streams


class Langevin(Sampler):
    """Unadjusted Langevin with the score at σ_min; the step comes from the curvature.

    h = ½ / (1/σ_min² + λ_max(Jᵀ R⁻¹ J)): stable by construction, and slow in weak directions,
    which is why annealing exists.

    Args:
        prior: The diffusion prior.
        iterations: Langevin steps from the start D(0, σ_max).
        sigma: Noise level of the score; the prior's σ_min if None.
        micro_batch: See `Sampler`.
    """

    name = "langevin"

    def __init__(
        self,
        prior: Prior,
        iterations: int = 1000,
        sigma: float | None = None,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__(prior, micro_batch)
        self.iterations = iterations
        self.sigma = float(sigma or prior.sigma_min)

    @property
    def steps(self) -> int:
        """Number of Langevin steps."""
        return self.iterations

    def chain(
        self, problem: Problem, streams: Streams, like: Tensor, report: Callable[[int], None]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Run one chain per lane."""
        s2 = self.sigma**2
        x = self.prior(torch.zeros_like(like), self.prior.sigma_max)
        start = Target(Moments(x, Isotropic(s2), 0), problem)
        h = 0.5 * s2 / start.curvature(torch.zeros_like(x), streams)
        hh = per_lane(h, x)
        for step in range(self.iterations):
            _, g = problem.nll_and_gradient(x)
            drift = self.prior.score(x, self.sigma) - g
            x = x + hh * drift + math.sqrt(2.0) * hh.sqrt() * streams.randn(like.shape[1:], like)
            if not bool(torch.isfinite(x).all()):
                raise self.diverged(problem.physics, step, self.sigma)
            report(step + 1)
        return x, {"nfe": float(self.iterations + 1), "step_size": h}

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {"sampler": self.name, "levels": self.iterations, "sigma": self.sigma}
