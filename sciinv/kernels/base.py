"""What a kernel is: a draw from p(x0 | x_t, y) given a model of p(x0 | x_t) and the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from sciinv.conditionals import Moments
from sciinv.problem import Problem
from sciinv.seeds import Streams


@dataclass
class Draw:
    """A draw of x0 with what it tells of itself, one number per lane.

    Attributes:
        x0: [B, C, H, W].
        stats: "acceptance", "residual" (of a linear solve), "iterations", …, each [B].
        nfe: Network evaluations spent.
    """

    x0: Tensor
    stats: dict[str, Tensor]
    nfe: int = 0


class Kernel(ABC):
    """Draws x0 ~ p(x0 | x_t) p(y | x0) / Z; has no step size that a user must tune."""

    name: str

    @abstractmethod
    def __call__(
        self, moments: Moments, problem: Problem, streams: Streams, progress: float
    ) -> Draw:
        """Return one draw per lane.

        Args:
            moments: The model of p(x0 | x_t).
            problem: The data.
            streams: One random stream per lane.
            progress: How far the annealing has come, 0 at the first level, near 1 at the last.
        """
