"""The noise of a chain as it was drawn last: its scale, and the size of a model error beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.model_error import Split, WithModelError
from sciinv.noise import Scaled, components, scaled
from sciinv.problem import Problem
from sciinv.seeds import Streams

# Data from which on solves stop early: what they leave is then not spread as noise is.
MANY = 4096
# Of its half-width: where a size of many data begins. A chain that begins with a large one lets the
# image go where the signal is strong, and what that leaves keeps the size large: under the generic
# prior a tooth stayed thousands of nats below the images that fit. From 0 it rises to what a fit
# leaves.
BEGIN = 1e-3


@dataclass
class DrawnNoise:
    """Scale of the noise and size of the model error, with the values of the last level.

    Attributes:
        scale: s, [B] or [B, groups]; 1 where it is fixed.
        index: Group of each component where the noise has groups.
        fixed: Whether s is not drawn.
        split: The model error beside the noise; None where none is declared.
        size: Its size t, [B].
        width: Half-width of the prior of t.
    """

    scale: Tensor
    index: Tensor | None
    fixed: bool
    split: Split | None = None
    size: Tensor | None = None
    width: float = 1.0

    @classmethod
    def start(cls, problem: Problem, noise: str, like: Tensor) -> DrawnNoise | None:
        """Return s = 1 and t at its prior's median, or None where the noise is wholly known.

        With many data t begins near 0, see `BEGIN`.

        Raises:
            ConfigError: The noise has no scale to draw.
            OperatorError: A model error beside noise that is not Gaussian.
        """
        physics, fixed = problem.physics, noise != "drawn"
        error = physics.error_of(problem.y)
        if fixed and error is None:
            return None
        index = None if fixed else physics.noise_groups
        groups = () if index is None else (int(index.max()) + 1,)
        scale = torch.ones(len(like), *groups, dtype=torch.float64, device=like.device)
        made = cls(scale, index, fixed)
        if error is not None:
            base = problem.likelihood
            if not isinstance(base, Gaussian):
                raise OperatorError(
                    "A model error is drawn beside Gaussian noise",
                    where=type(physics).__name__,
                    expected="Gaussian noise",
                    got=type(base).__name__,
                    remedy="leave model_error out of the unknowns",
                )
            begin = 1.0 if few(problem) else BEGIN
            made.split, made.width = Split.of(base, error, problem.y), error.width
            made.size = torch.full_like(scale.reshape(len(like), -1)[:, 0], begin * error.width)
        made.likelihood(problem.likelihood)  # refuses what has no scale
        return made

    def likelihood(self, base: Likelihood, temper: float = 1.0) -> Scaled:
        """Return the likelihood at this noise, its variance times `temper`."""
        root = temper**0.5
        made = scaled(base, self.scale * root, self.index)
        if self.split is None or self.size is None:
            return made
        return WithModelError(
            made.base, made.scale, self.index, self.split, self.size * root, self.width
        )

    def draw(
        self, likelihood: Likelihood, u: Tensor, y: Tensor, streams: Streams, sized: bool
    ) -> None:
        """Draw s and, if `sized`, t given predictions and data.

        Args:
            likelihood: That of the last values.
            u: Predictions.
            y: The data.
            streams: One random stream per lane.
            sized: Whether the level's image fits well enough to tell t.
        """
        assert isinstance(likelihood, Scaled)
        if isinstance(likelihood, WithModelError) and sized:
            self.scale, self.size = likelihood.draw(u, y, streams, self.fixed)
        elif not self.fixed:
            self.scale = likelihood.draw_scale(u, y, streams)

    def values(self, base: Likelihood, u: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return what a draw hands out: s and t, and how it fits where these are several numbers.

        "chi2_found" is the reduced χ² by the noise as drawn, "misfit" is −2 log p(y | x, s, t) per
        datum up to a constant: the noise then has no common unit that χ² could be counted in.
        """
        out = {} if self.fixed else {"noise_scale": self.scale}
        if self.size is None and self.scale.ndim == 1:
            return out
        here = self.likelihood(base)
        data = components(here, y[:1])
        found = {"chi2_found": here.chi2(u, y), "misfit": 2 * here.nll(u, y) / data}
        return out | ({} if self.size is None else {"model_error": self.size}) | found


def few(problem: Problem) -> bool:
    """Return whether the data are few, so that each level's image fits them to the noise."""
    return problem.rows is not None or problem.y[0].numel() <= MANY
