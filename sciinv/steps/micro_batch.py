"""Micro-batches that fit into memory: found by a probe, halved where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from deepinv.physics import Physics

from sciinv.errors import WorkflowError

T = TypeVar("T")
LARGEST = 64  # draws of one micro-batch that the probe starts from


def halving(
    attempt: Callable[[int], T], micro_batch: int, say: Callable[[str], None] | None = None
) -> tuple[T, int]:
    """Return what `attempt(n)` returns for the first n = micro_batch, ½ micro_batch, … that fits.

    Draw i stays draw i, from the same random numbers; only its rounding depends on n.

    Args:
        attempt: Called with a number of draws; raises `torch.OutOfMemoryError` where they are too
            many.
        micro_batch: Where to start.
        say: Takes a line each time it is halved.

    Returns:
        The result and the n it was found with.

    Raises:
        WorkflowError: One draw alone does not fit.
    """
    while True:
        try:
            return attempt(micro_batch), micro_batch
        except torch.OutOfMemoryError as error:
            got = str(error).split("\n")[0]
        # Outside the handler: the error's traceback holds the tensors of the failed try.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if micro_batch == 1:
            raise WorkflowError(
                "One draw does not fit into the memory",
                expected="room for a micro-batch of 1",
                got=got,
                remedy="use a GPU with more memory, smaller images, or a smaller item_batch",
            )
        micro_batch //= 2
        if say is not None:
            say(f"out of memory: micro-batches of {micro_batch} draws from here on")


def probe(sampler: Callable[[int], Any], y: Any, physics: Physics) -> int:
    """Return the largest micro-batch, 64, 32, …, 1, of which one chain runs to its end.

    Args:
        sampler: Returns a sampler with a given micro-batch and as few levels as show its memory.
        y: One measurement [1, …].
        physics: The operator.
    """
    return halving(lambda n: sampler(n).sample(y, physics, draws=1, seed=0), LARGEST)[1]
