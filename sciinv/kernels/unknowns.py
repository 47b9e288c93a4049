"""Noise scale and instrument parameters of a chain, drawn at each level beside x0.

Given x_t the level's target is p(x0 | x_t) p(θ) p(s) p(y | x0, θ, s). Beside x0 | x_t, θ, s, y:

    θ   where the data are few: from p(θ | x_t, y, s), before x0 is drawn given it, see `collapsed`;
        else a move of image and parameters together, see `parameters`, or a block, see `joint`;
        before x0 too where x0 is not solved to the noise, see `from_mean`
    b   offsets by group, marginalised in x0's draw, from their Gaussian given x0
    s   s² | x0, y ~ Inv-Gamma, or with the size of a model error beside it, see `drawn_noise`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.errors import OperatorError
from sciinv.kernels import collapsed, from_mean, joint, parameters
from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.drawn_noise import MANY, DrawnNoise, few
from sciinv.kernels.rows import SharedRows
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.noise import Offsets, scaled
from sciinv.operators.base import Operator, Unknown, declared
from sciinv.problem import Problem
from sciinv.seeds import Streams

NATS = 0.1  # of the error of a solve
EARLY = 0.5  # of the levels: down to there a parameter may still be on its way to where it belongs
FIRST = 0.25  # of the levels, which leave the scale of the noise as it was
# From here on a solve of more than MANY data is good enough for the scale that is handed out;
# before, s is off by what the solve leaves, and later levels forget it. (At every level a brain
# cost four times more, from 0.6 on twice: there the scale came out at 1.0678, 1.0675 in two draws,
# here at 1.0686, 1.0683, where its posterior sd is 0.0025.) With few data s hangs on the image and
# forgets slowly; there it is cheap.
CAREFUL = 0.8
# What an early solve leaves is not spread as noise is: the middle of k-space fits last. The size of
# a model error took it for its own, 100 % of the signal, and freed the image of the data for good.
# So it is drawn in the last levels only, all of them solved well, where the data are many.
SIZED = 0.6
# A move of so many parameters with the image answers each with a solve of its own; beyond, the
# image and all of them are drawn by one, where the operator gives their derivatives: of maps in MRI
# that is right and costs far less than `collapsed`, which takes the rest where the data are few.
FEW = 4


@dataclass
class Unknowns:
    """The unknowns of one chain per lane, with the values of the last level.

    Attributes:
        nominal: The problem with the declared noise and instrument.
        shape: (C, H, W) of an image.
        parameters: Unknowns that enter through the operator's `at`.
        theta: Their values, [B, P], in the order of the parameters.
        offsets: Unknowns that are added to groups of data.
        noise: Scale of the noise and size of a model error; None where the noise is known.
        values: What a draw hands out, by name: [B] or [B, groups].
        chi2: χ² of the draw with the declared noise and the instrument as drawn, [B].
        together: Whether the parameters are drawn in a block with the image; see `FEW`.
        reference: Image and parameters at which the move's line is taken; see `parameters`.
        rows: What the data see of an image where the parameters are drawn with the image integrated
            out; None where they are not. See `collapsed`.
        centre: Where the collapsed draw takes its metric, [B, P].
        log_step: Log of its step, [B].
        unfinished: Whether this level's x0 is not solved to the noise, so that no move of the
            parameters can be judged by it.
        block: What preconditions the parameters of a block draw, see `joint`, and the image that it
            was made for.
    """

    nominal: Problem
    shape: tuple[int, ...]
    parameters: tuple[Unknown, ...]
    theta: Tensor
    offsets: tuple[Unknown, ...]
    noise: DrawnNoise | None
    values: dict[str, Tensor] = field(default_factory=dict)
    chi2: Tensor | None = None
    together: bool = False
    reference: tuple[Tensor, Tensor] | None = None
    rows: SharedRows | None = None
    centre: Tensor | None = None
    log_step: Tensor | None = None
    unfinished: bool = False
    block: tuple[Tensor, Tensor] | None = None

    @classmethod
    def start(cls, problem: Problem, noise: str, like: Tensor) -> Unknowns | None:
        """Return the unknowns at their prior means, or None where all is known.

        Raises:
            ConfigError: The noise has no scale to draw.
            OperatorError: An unknown is declared that cannot be drawn.
        """
        physics: Operator = problem.physics
        unknowns = physics.unknowns
        drawn = DrawnNoise.start(problem, noise, like)
        if drawn is None and not unknowns:
            return None
        _check(unknowns, physics, problem.likelihood)
        entering = tuple(u for u in unknowns if u.groups is None)
        # innermost those with several groups: they need noise that no other offset correlates
        offsets = sorted((u for u in unknowns if u.groups is not None), key=_many)
        means = torch.cat([torch.full((u.size or 1,), u.mean) for u in entering] or [torch.ones(0)])
        theta = means.to(like.device, torch.float64).expand(len(like), -1)
        made = cls(problem, tuple(like.shape[1:]), entering, theta, tuple(offsets), drawn)
        if entering:
            made._choose(like)
        return made

    def _choose(self, like: Tensor) -> None:
        """Choose how the parameters are drawn, and say why."""
        if self.theta.shape[1] > FEW:
            view = self.physics(self.theta)
            self.together = view.sensitivity(torch.zeros_like(like)) is not None
        if self.together:
            self._say("in a block with the image, as the operator gives their derivatives")
            return
        few, why = collapsed.reason(self, self.nominal.linear)
        how = "with the image integrated out" if few else "by moves together with the image"
        self._say(f"{how}, as {why}")

    def _say(self, way: str) -> None:
        """Keep how the parameters are drawn, and why, for the result's attributes."""
        self.nominal.cache["unknowns drawn"] = way

    def begin(
        self,
        before: Tensor | None,
        moments: Moments,
        streams: Streams,
        level: Level,
        kernel: Kernel,
    ) -> dict[str, Tensor]:
        """Draw parameters that come before x0: with the image integrated out, or in a block.

        Args:
            before: The last level's x0; None at the first.
            moments: The model of p(x0 | x_t).
            streams: One random stream per lane.
            level: Where the annealing is.
            kernel: What draws x0 then.

        Returns:
            "unknowns_acceptance", [B], where they do.
        """
        if self.rows is not None and not collapsed.applies(moments):
            self.rows = None
            self._say("by moves together with the image, as p(x0 | x_t) is no Gaussian")
        if self.rows is not None:
            return {"unknowns_acceptance": collapsed.draw(self, moments, streams, level)}
        if not self.together:
            self.unfinished = bool(self.parameters) and kernel.unfinished(
                moments, self.problem(), level
            )
            if self.unfinished:
                from_mean.draw(self, moments, streams)
                self._say(
                    "from the mean of p(x0 | x_t) where the image is not yet solved to the noise, "
                    "then by moves together with the image"
                )
            return {}
        early = level.progress < EARLY
        return {"unknowns_acceptance": joint.draw(self, before, moments, streams, early)}

    def prior(self) -> tuple[Tensor, Tensor]:
        """Return the prior mean and standard deviation of each parameter, both [P]."""
        each = [(u.mean, u.sd) for u in self.parameters for _ in range(u.size or 1)]
        mean, sd = self.theta.new_tensor(each).unbind(1)
        return mean, sd

    def problem(
        self, theta: Tensor | None = None, temper: float = 1.0, *, careful: bool = True
    ) -> Problem:
        """Return the problem at these values, the noise variance times `temper`.

        Args:
            theta: Values of the parameters, [B, P]; the last ones if None.
            temper: Factor on the noise variance.
            careful: Whether the scale of the noise that this level draws may be handed out.
        """
        physics = self.physics(self.theta if theta is None else theta) if self.parameters else None
        problem = self.nominal.altered(self.likelihood(temper), physics)
        if self.unfinished:  # nothing is decided by what the solve leaves
            return problem
        # An unfinished solve of N data leaves a misfit that reads as noise: √(2N) is what Σ e²
        # scatters by. A parameter may hang on a single nat.
        n = problem.y[0].numel()
        if self.parameters:
            problem.nats = NATS
        elif self.noise is not None and (careful or n <= MANY):
            problem.nats = NATS * max(1.0, 0.1 * (2 * n) ** 0.5)
        return problem

    def careful(self, level: Level) -> bool:
        """Return whether a level is solved well for the noise that it draws."""
        sized = self.noise is not None and self.noise.size is not None
        return level.progress >= (SIZED if sized else CAREFUL)

    def physics(self, theta: Tensor) -> Any:
        """Return the operator at these parameters [B, P]."""
        view = self.nominal.physics.at(theta.to(self.nominal.y))
        return declared(view, self.nominal.y, self.shape)

    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return θ ↦ A_θ x of images [K·B, C, H, W] at parameters [K·B, P]."""
        predict = self.nominal.physics.predictions(x)
        return lambda theta: predict(theta.to(self.nominal.y))

    def likelihood(self, temper: float = 1.0) -> Likelihood:
        """Return the likelihood at the noise drawn last, its variance times `temper`."""
        likelihood = self.nominal.likelihood
        if self.noise is not None:
            likelihood = self.noise.likelihood(likelihood, temper)
        elif temper != 1.0:
            likelihood = scaled(likelihood, self.theta.new_full((len(self.theta),), temper**0.5))
        for unknown in self.offsets:
            assert isinstance(likelihood, Gaussian)
            assert unknown.groups is not None
            likelihood = Offsets(likelihood, unknown.groups, unknown.sd, unknown.mean)
        return likelihood

    def step(
        self,
        draw: Draw,
        moments: Moments,
        streams: Streams,
        level: Level,
    ) -> Draw:
        """Draw the unknowns beside the level's x0, and return x0 as it moved with them.

        Args:
            draw: The draw of x0, [B, C, H, W], at the unknowns' last values.
            moments: The model of p(x0 | x_t).
            streams: One random stream per lane.
            level: Where the annealing is. In the first half of the levels a parameter goes to
                where the energy is lower, whatever the proposal; then the accept step is exact. In
                the first quarter the noise keeps its scale.
        """
        # A tempered level is drawn with noise that is raised on purpose.
        temper = draw.temperature
        x0, stats = draw.x0, dict(draw.stats)
        moves = self.parameters and not self.together and self.rows is None
        if moves and not self.unfinished:
            early = level.progress < EARLY
            x0, stats["unknowns_acceptance"] = parameters.move(
                self, x0, moments, streams, temper, early
            )
        problem = self.problem()
        y, u = problem.y, problem.physics.A(x0)
        likelihood = problem.likelihood
        for unknown in reversed(self.offsets):  # from the outermost: each given those outside it
            assert isinstance(likelihood, Offsets)
            b = likelihood.draw_offsets(u, y, streams)
            y = y - likelihood.placed(b, y)
            self.values[unknown.name] = b if b.shape[1] > 1 else b[:, 0]
            likelihood = likelihood.base
        if self.noise is not None:
            # A tempered level tells nothing of s, and at early ones x0 fits worse than any draw of
            # the posterior: there s would rise to the misfit, free the image of the data and never
            # come back (closures of M87*: NaN at the second level).
            if temper == 1.0 and level.progress >= FIRST:
                sized = few(self.nominal) or level.progress >= SIZED
                self.noise.draw(likelihood, u, y, streams, sized)
            self.values |= self.noise.values(self.nominal.likelihood, u, y)
        sizes = [parameter.size or 1 for parameter in self.parameters]
        for parameter, value in zip(self.parameters, self.theta.split(sizes, 1), strict=True):
            if parameter.period:  # handed out within half a period of the prior's mean
                turns = torch.round((value - parameter.mean) / parameter.period)
                value = value - parameter.period * turns
            self.values[parameter.name] = value[:, 0] if parameter.size is None else value
        self.chi2 = self.nominal.likelihood.chi2(u, y)
        return Draw(x0, stats)


def _many(unknown: Unknown) -> bool:
    """Order offsets: those with several groups first, innermost."""
    assert unknown.groups is not None
    return int(unknown.groups.max()) == 0


def _check(unknowns: tuple[Unknown, ...], physics: Operator, likelihood: Likelihood) -> None:
    """Refuse unknowns that cannot be drawn."""
    name = type(physics).__name__
    if any(u.groups is None for u in unknowns) and physics.at is None:
        raise OperatorError(
            "The operator declares an unknown but not how it depends on it",
            where=name,
            expected="at(theta: Tensor [B, P]) -> Physics",
            got=", ".join(u.name for u in unknowns if u.groups is None),
            remedy="give the operator the method at, or the unknown its groups of data",
        )
    if any(u.groups is not None for u in unknowns) and not isinstance(likelihood, Gaussian):
        raise OperatorError(
            "An offset by group needs Gaussian noise",
            where=name,
            expected="Gaussian noise",
            got=type(likelihood).__name__,
            remedy="let the unknown enter through at",
        )
