"""DAPS: decoupled annealing posterior sampling.

    x_T ~ N(0, σ_T² I)
    for i = N … 1:
        x0|y ~ p(x0 | x_{t_i}) p(y | x0)          a conditional and a kernel
        x_{t_{i−1}} ~ N(x0|y, σ_{t_{i−1}}² I)
    return x0|y

Source: Zhang et al., "Improving diffusion inverse problem solving with decoupled noise annealing",
CVPR 2025 (arXiv 2407.01521).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from sciinv import conditionals, kernels
from sciinv.conditionals import FittedWidth
from sciinv.diffusion import edm_grid
from sciinv.errors import ConfigError
from sciinv.kernels import Level, ReleasedLangevin
from sciinv.kernels.unknowns import Unknowns
from sciinv.likelihoods import Gaussian
from sciinv.priors.base import Prior
from sciinv.priors.widths.own import own_widths
from sciinv.problem import Problem
from sciinv.samplers.base import Sampler, Step
from sciinv.seeds import Streams, at_least, positive, whole

RETRIES = 2


@dataclass
class State:
    """What a level hands to the next: x_t, the unknowns, and its draw of x0."""

    x_t: Tensor
    unknowns: Unknowns | None = None
    x0: Tensor | None = None


class DAPS(Sampler):
    """Decoupled annealing: each level draws x0 given x_t and y, then noises it anew.

    Args:
        prior: The diffusion prior.
        conditional: Model of p(x0 | x_t): "auto" (the best that the prior carries, see
            `conditionals.best`), "mixture", "tweedie", "local", "spectral", "isotropic", "score",
            "published", "reverse", or an object of `sciinv.conditionals`.
        kernel: Draw of p(x0 | x_t, y): "auto", "exact", "newton", "modes", "langevin", "hmc",
            "metropolis", or an object of `sciinv.kernels`.
        levels: Annealing levels; the prior's own if None, found by calibration on its own draws.
        sigma_max: Highest noise level, units of the image; the prior's own if None.
        sigma_min: Lowest; the prior's own if None.
        sweeps: Draws of x0 at each level before the next, with x_t noised anew in between.
        inflate: κ, factor on the fitted variance of "isotropic", "spectral" and "local". If None,
            the prior's own, found by calibration on its own draws; 1 for "local" named here. Fresh
            noise makes states that are worse than those that a width was fitted on, so that
            κ is above 1, and the smaller the fewer the levels. The last draw is not noised anew:
            it is handed out, with κ = 1 where κ is larger.
        renoise: "fresh" is the paper's x_{t−1} ~ N(x0|y, σ_{t−1}²), which forgets x_t; "bridge"
            draws x_{t−1} given both x0|y and x_t, the reverse diffusion guided by the data:
            x_{t−1} ~ N(q x_t + (1 − q) x0|y, σ_{t−1}² (1 − q)), q = (σ_{t−1}/σ_t)². Its error
            falls with the step where p(x0 | x_t) is far from Gaussian.
        rho: Exponent of the EDM grid.
        micro_batch: See `Sampler`.
        item_batch: See `Sampler`.
        retries: How often draws that their group's data reject are drawn anew
            (`samplers.outliers`). If None, 2 under a fitted width, which is a model of
            p(x0 | x_t) and may lead into a wrong mode, and 0 otherwise.
        noise: "fixed" takes the noise as declared; "drawn" draws a factor on its standard deviation
            with the image (per group where the operator declares `noise_groups`), the variable
            "noise_scale" of the result: s² ~ Inv-Gamma(½, 0.23) before the data, of median s = 1
            and a standard deviation of log s of 1.1. "auto" draws it under a fitted width, as a
            learned prior's, where the noise is Gaussian; a configuration's default.
    """

    name = "daps"
    draws_unknowns = True

    def __init__(
        self,
        prior: Prior,
        conditional: str | conditionals.Conditional = "auto",
        kernel: str | kernels.Kernel = "auto",
        levels: int | None = None,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        sweeps: int = 1,
        inflate: float | None = None,
        renoise: Literal["fresh", "bridge"] = "fresh",
        rho: float = 7.0,
        micro_batch: int | None = None,
        noise: Literal["fixed", "drawn", "auto"] = "fixed",
        retries: int | None = None,
        item_batch: int = 1,
    ) -> None:
        super().__init__(prior, micro_batch, item_batch)
        self.conditional = copy.copy(conditionals.build(conditional, prior))  # not the caller's
        self.chosen = conditional == "auto"
        if self.chosen and renoise == "fresh" and isinstance(self.conditional, FittedWidth):
            local = isinstance(self.conditional, conditionals.LocalWidth)
            self.conditional.inflate = float(prior.local_inflate if local else prior.inflate)
        if inflate is not None:
            if not isinstance(self.conditional, FittedWidth):
                raise ConfigError(
                    "This conditional has no fitted width to inflate",
                    expected="conditional = isotropic, spectral or local",
                    got=self.conditional.name,
                    remedy="leave inflate out",
                )
            self.conditional.inflate = positive(inflate, "inflate")
        if isinstance(kernel, str) and kernel not in ("auto", *kernels.KERNELS):
            kernels.build(kernel, None)  # type: ignore[arg-type]
        self.kernel = kernel
        sweeps = at_least(1, whole(sweeps, "sweeps"), "sweeps")
        if renoise not in ("fresh", "bridge"):
            raise ConfigError("There is no way of this name to noise anew",
                              expected="fresh or bridge", got=renoise,
                              remedy="name one of these")  # fmt: skip
        if noise not in ("fixed", "drawn", "auto"):
            raise ConfigError("There is no way of this name to take the noise",
                              expected="fixed, drawn or auto", got=noise,
                              remedy="name one of these")  # fmt: skip
        self.sweeps, self.renoise, self.noise = sweeps, renoise, noise
        self.fitted = isinstance(self.conditional, FittedWidth)
        self.last = self.conditional
        if isinstance(self.last, FittedWidth) and renoise == "fresh":
            # No level mends what κ adds to the last draw: with κ = 3 there, the intervals of 50 %
            # held 58 % of a black hole's pixels, most of them empty sky; with 1, 53 %.
            self.last = copy.copy(self.last)
            self.last.inflate = min(1.0, self.last.inflate)
        self.retries = (
            RETRIES * self.fitted
            if retries is None
            else at_least(0, whole(retries, "retries"), "retries")
        )
        self.sigmas = edm_grid(
            positive(prior.sigma_max if sigma_max is None else sigma_max, "sigma_max"),
            positive(prior.sigma_min if sigma_min is None else sigma_min, "sigma_min"),
            at_least(1, whole(prior.levels if levels is None else levels, "levels"), "levels"),
            positive(rho, "rho"),
        )

    @classmethod
    def published(
        cls,
        prior: Prior,
        levels: int = 200,
        ode_steps: int = 5,
        sigma_max: float = 100.0,
        sigma_min: float = 0.1,
        langevin_steps: int = 100,
        step_size: float = 1e-4,
        tau: float = 0.01,
        half: bool = False,
        micro_batch: int | None = None,
        unit: float | None = None,
    ) -> DAPS:
        """Return the released code's sampler at its own settings, for comparison.

        200 levels σ 100 → 0.1, 5 Euler steps per ODE, 100 unadjusted Langevin steps with
        lr = 1e−4 falling to 1 %, τ = 0.01 without the ½; in units where images span [−1, 1].

        The noise levels and τ are multiplied by `unit`, lr by its square, and an operator with
        ‖A‖ > 1 is divided by its norm (`ReleasedLangevin`): otherwise the step diverges. With
        unit = 1 and ‖A‖ ≤ 1 nothing is changed.

        Args:
            unit: Size of the image that the released numbers take for 1. If None, twice the root
                mean square of the prior's class, and 1 where that is not known or lies within
                a factor of 4 of 1, as it does for images in [−1, 1].
        """
        unit = _unit(prior) if unit is None else positive(unit, "unit")
        sampler = cls(
            prior,
            conditional=conditionals.Published(prior, ode_steps, 0.01 * unit),
            kernel=ReleasedLangevin(langevin_steps, step_size, tau, half=half, unit=unit),
            levels=levels,
            sigma_max=sigma_max * unit,
            sigma_min=sigma_min * unit,
            micro_batch=micro_batch,
        )
        sampler.remedy = (
            "the released step is unadjusted: give `unit`, the size of the images, lower step_size "
            "or raise tau; or take samplers.DAPS, whose kernels choose their step"
        )
        return sampler

    def levels_of_noise(self) -> Sequence[float]:
        """Return σ_i of Algorithm 1, one per sweep."""
        return [float(s) for s in self.sigmas for _ in range(self.sweeps)]

    def start(self, problem: Problem, streams: Streams, like: Tensor) -> State:
        """Return x_T ~ N(0, σ_T² I), and the unknowns at their prior means."""
        noise = self.noise
        if noise == "auto":
            known = not (self.fitted and isinstance(problem.likelihood, Gaussian))
            noise = "fixed" if known else "drawn"
        unknowns = Unknowns.start(problem, noise, like)
        gaussian = not isinstance(self.conditional, conditionals.Score)
        seen = problem if unknowns is None else unknowns.problem()
        self._kernel = kernels.build(self.kernel, seen, gaussian)
        if self.chosen and self.conditional.name == "spectral" and self.prior.widths is None:
            self.prior.widths = own_widths(self.prior, like)
        return State(float(self.sigmas[0]) * streams.randn(like.shape[1:], like), unknowns)

    def step(self, state: State, level: Level, problem: Problem, streams: Streams) -> Step:
        """One level of Algorithm 1."""
        x_t, unknowns = state.x_t, state.unknowns
        conditional = self.conditional if level.sigma_next else self.last
        p_x0 = conditional(x_t, level.sigma, streams)  # p(x0 | x_t)
        if unknowns is None:
            draw = self._kernel(p_x0, problem, streams, level)  # x0 ~ p(x0 | x_t) p(y | x0)
        else:
            # θ | x_t, y where it is long, or where x0 will not be solved to the noise
            stats = unknowns.begin(state.x0, p_x0, streams, level, self._kernel)
            seen = unknowns.problem(careful=unknowns.careful(level))
            draw = self._kernel(p_x0, seen, streams, level)
            draw.stats.update(stats)
            draw = unknowns.step(draw, p_x0, streams, level)  # θ, s | x0, x_t, y
        x_next = self.noised(x_t, draw.x0, level, streams)  # x_{t−1} ~ N(x0, σ_{t−1}² I)
        return Step(draw.x0, State(x_next, unknowns, draw.x0), draw.stats, unknowns)

    def noised(self, x_t: Tensor, x0: Tensor, level: Level, streams: Streams) -> Tensor:
        """Return x_{t−1} given the draw of x0."""
        sigma, sigma_next = level.sigma, level.sigma_next
        if not sigma_next:
            return x0
        noise = streams.randn(x0.shape[1:], x0)
        if self.renoise == "fresh" or sigma_next == sigma:  # between sweeps: noised anew
            return x0 + sigma_next * noise
        q = (sigma_next / sigma) ** 2
        return q * x_t + (1 - q) * x0 + sigma_next * math.sqrt(1 - q) * noise

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {
            "sampler": self.name,
            "conditional": self.conditional.name,
            "kernel": self.kernel if isinstance(self.kernel, str) else self.kernel.name,
            "levels": len(self.sigmas),
            "sweeps": self.sweeps,
            "renoise": self.renoise,
            **({"retries": self.retries} if self.retries else {}),
            **({"noise": self.noise} if self.noise != "fixed" else {}),
            **(
                {"inflate": self.conditional.inflate}
                if isinstance(self.conditional, FittedWidth)
                else {}
            ),
            "sigma_max": float(self.sigmas[0]),
            "sigma_min": float(self.sigmas[-1]),
        }


def _unit(prior: Prior) -> float:
    """Return the size of a prior's images, 1 for those that span about [−1, 1]."""
    size = 1.0 if prior.typical is None else 2 * prior.typical[1]
    return 1.0 if 0.25 < size < 4 else size
