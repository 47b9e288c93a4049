"""What a kernel is: a draw from p(x0 | x_t, y) given a model of p(x0 | x_t) and the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.problem import Problem
from sciinv.seeds import Streams


@dataclass(frozen=True)
class Level:
    """A level of the annealing, as a kernel and a sampler's step see it.

    Attributes:
        index: Its number, from 0 at the highest noise.
        count: Levels in all.
        sigma: Its noise, units of the image.
        sigma_next: The noise of the next level; 0 at the last.
    """

    index: int
    count: int
    sigma: float
    sigma_next: float = 0.0

    @property
    def progress(self) -> float:
        """How far the annealing has come: 0 at the first level, near 1 at the last."""
        return self.index / self.count


@dataclass
class Draw:
    """A draw of x0 with what it tells of itself, one number per lane.

    Attributes:
        x0: [B, C, H, W].
        stats: "acceptance", "residual" (of a linear solve), "iterations", …, each [B].
        temperature: Factor on the noise variance with which x0 was drawn, 1 but at first levels.
    """

    x0: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    temperature: float = 1.0


class Kernel(ABC):
    """Draws x0 ~ p(x0 | x_t) p(y | x0) / Z; has no step size that a user must tune."""

    name: str

    @abstractmethod
    def __call__(self, moments: Moments, problem: Problem, streams: Streams, level: Level) -> Draw:
        """Return one draw per lane.

        Args:
            moments: The model of p(x0 | x_t).
            problem: The data.
            streams: One random stream per lane.
            level: Where the annealing is.
        """

    def unfinished(self, moments: Moments, problem: Problem, level: Level) -> bool:
        """Return whether this level's x0 is not meant to explain the data to within their noise."""
        return False
