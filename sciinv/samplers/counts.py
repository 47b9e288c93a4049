"""What is counted while chains run: levels done, and means of the kernel's statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Progress = Callable[[int, int], None]


class Levels:
    """Counts the levels of a run, group by group; draws made anew cost as many once more."""

    def __init__(self, steps: int, groups: int, progress: Progress | None) -> None:
        self.steps, self.total, self.progress = steps, groups * steps, progress
        self.done, self.tries = 0, 1

    def tell(self, level: int, again: int) -> None:
        """Say that a level of a group's try number `again` (from 0) is done."""
        if again == self.tries:
            self.tries, self.total = self.tries + 1, self.total + self.steps
        if self.progress is not None:
            self.progress(self.done + again * self.steps + level, self.total)

    def close(self) -> None:
        """End a group."""
        self.done, self.tries = self.done + self.tries * self.steps, 1


class Means:
    """Running means over the levels of the kernel's statistics, per lane."""

    def __init__(self) -> None:
        self.total: dict[str, Tensor] = {}
        self.count: dict[str, int] = {}

    def add(self, stats: Mapping[str, Tensor]) -> None:
        """Add a level's statistics, each [B]."""
        for key, value in stats.items():
            self.total[key] = self.total.get(key, torch.zeros_like(value)) + value
            self.count[key] = self.count.get(key, 0) + 1

    def result(self) -> dict[str, Tensor | float]:
        """Return the mean of each over the levels that had it."""
        return {k: v / np.float64(self.count[k]) for k, v in self.total.items()}
