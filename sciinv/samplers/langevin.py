"""Langevin sampling of p(y | x0) p(x0) without annealing, the other baseline.

x ← x + P (∇ log p(y | x) + s(x, σ_min)) h + √(2h P) ξ with P the inverse of the curvature bound.

Source: Roberts & Tweedie 1996; with a denoiser's score: Laumont et al. 2022 (arXiv 2103.04715).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.covariances import Isotropic
from sciinv.kernels import Level
from sciinv.kernels.target import Target
from sciinv.priors.base import Prior
from sciinv.problem import Problem, per_lane
from sciinv.samplers.base import Sampler, Step
from sciinv.seeds import Streams, at_least, positive, whole


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
        self.iterations = at_least(1, whole(iterations, "iterations"), "iterations")
        self.sigma = positive(prior.sigma_min if sigma is None else sigma, "sigma")

    def levels_of_noise(self) -> Sequence[float]:
        """Return the score's noise level, once per step."""
        return [self.sigma] * self.iterations

    def start(self, problem: Problem, streams: Streams, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return D(0, σ_max), and the step h of each lane."""
        x = self.prior(torch.zeros_like(like), self.prior.sigma_max)
        around = Target(Moments(x, Isotropic(self.sigma**2)), problem)
        return x, 0.5 * self.sigma**2 / around.curvature(torch.zeros_like(x), streams)

    def step(
        self, state: tuple[Tensor, Tensor], level: Level, problem: Problem, streams: Streams
    ) -> Step:
        """X ← x + h (∇ log p(y | x) + s(x, σ)) + √(2h) ξ."""
        x, h = state
        hh = per_lane(h, x)
        _, g = problem.nll_and_gradient(x)
        drift = self.prior.score(x, self.sigma) - g
        x = x + hh * drift + (2 * hh).sqrt() * streams.randn(x.shape[1:], x)
        return Step(x, (x, h), {"step_size": h})

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {"sampler": self.name, "levels": self.iterations, "sigma": self.sigma}
