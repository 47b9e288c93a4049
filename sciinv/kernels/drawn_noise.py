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
            made.split, made.width = Split.of(base, error, problem.y), error.width
            made.size = torch.full_like(scale.reshape(len(like), -1)[:, 0], error.width)
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
        if isinstance(likelihood, WithModelError):
            if sized:
                self.scale, self.size = likelihood.draw(u, y, streams, self.fixed)
        else:
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
