"""DPS: diffusion posterior sampling, the baseline.

From x_N ~ N(0, I), with x̂0 = (x_i + (1 − ᾱ_i) s(x_i, i)) / √ᾱ_i and x'_{i−1} the DDPM step:
x_{i−1} = x'_{i−1} − ζ_i ∇_{x_i} ‖y − A(x̂0(x_i))‖², ζ_i = ζ / ‖y − A(x̂0)‖.

Source: Chung et al., "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023
(arXiv 2209.14687), Algorithm 1 and its step-size rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciinv.diffusion import VariancePreserving
from sciinv.kernels import Level
from sciinv.priors.base import Prior
from sciinv.problem import Problem, per_lane
from sciinv.samplers.base import Sampler, Step
from sciinv.seeds import Streams, at_least, positive, whole


class DPS(Sampler):
    """Diffusion posterior sampling with the paper's step-size rule.

    Its ζ has to be tuned and its draws are not calibrated: it is here to be compared.

    Args:
        prior: The diffusion prior, differentiable in x.
        steps: DDPM steps.
        zeta: ζ, the step on the gradient of the misfit's norm.
        scale: Unit of the image that the diffusion sees as 1; the prior's units.
        micro_batch: See `Sampler`.
    """

    name = "dps"

    def __init__(
        self,
        prior: Prior,
        steps: int = 1000,
        zeta: float = 1.0,
        scale: float = 1.0,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__(prior, micro_batch)
        steps = at_least(1, whole(steps, "steps"), "steps")
        zeta, scale = positive(zeta, "zeta"), positive(scale, "scale")
        # The discrete β of DDPM, stretched so that any number of steps reaches the same ends.
        ratio = 1000 / steps
        self.process = VariancePreserving.linear(steps, 1e-4 * ratio, min(0.02 * ratio, 0.999))
        self.zeta, self.scale = zeta, scale

    def levels_of_noise(self) -> Sequence[float]:
        """Return √((1 − ᾱ_i)/ᾱ_i) for i = N … 1, in the diffusion's unit."""
        return [float(s) for s in self.process.sigmas[::-1]]

    def start(self, problem: Problem, streams: Streams, like: Tensor) -> Tensor:
        """Return x_N ~ N(0, I)."""
        return streams.randn(like.shape[1:], like)

    def step(self, state: Tensor, level: Level, problem: Problem, streams: Streams) -> Step:
        """x_{i−1} = (the DDPM step from x_i to x̂0) − ζ/‖y − A x̂0‖ ∇ ‖y − A x̂0‖²."""
        x, i = state, level.count - 1 - level.index
        a_bar = float(self.process.alpha_bar[i])
        a_prev = float(self.process.alpha_bar[i - 1]) if i else 1.0
        alpha, root = a_bar / a_prev, math.sqrt(a_bar)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().detach().requires_grad_(True)
            # x_VE = x_VP/√ᾱ: the denoiser's mean is x̂0 of the formula above.
            x_hat = self.prior(leaf / root * self.scale, level.sigma * self.scale)
            misfit = problem.y - problem.physics.A(x_hat)
            norm = misfit.flatten(1).norm(dim=1)
            (gradient,) = torch.autograd.grad(norm.square().sum(), leaf)
        self.prior.evaluations += 1  # the gradient's way back through the network
        x_hat, norm = x_hat.detach() / self.scale, norm.detach()
        # DDPM posterior mean and variance of x_{i−1} given x_i and x̂0.
        beta = 1 - alpha
        mean = math.sqrt(a_prev) * beta * x_hat + math.sqrt(alpha) * (1 - a_prev) * x
        variance = beta * (1 - a_prev) / (1 - a_bar)
        x = mean / (1 - a_bar) - per_lane(self.zeta / norm.clamp_min(1e-12), x) * gradient
        if i:
            x = x + math.sqrt(variance) * streams.randn(x.shape[1:], x)
        return Step(x * self.scale, x)

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {"sampler": self.name, "levels": self.steps, "zeta": self.zeta, "scale": self.scale}
