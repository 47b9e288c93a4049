"""The arithmetic that numbers are made with, whatever the calling program has set for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

THREADS = 1  # of torch on a CPU: sums over several threads round otherwise


@contextmanager
def fixed_arithmetic(threads: int = THREADS) -> Iterator[None]:
    """Compute on so many CPU threads, without autocast and inference mode; then as before.

    Rounding depends on all three, and where a conjugate-gradient solve stops depends on rounding:
    with two threads a draw differs by half of what two independent draws differ by. A library that
    left the thread count changed would slow its caller's own work down, so it is put back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            # An autocast further in, as training has one, keeps no casts of weights either: torch
            # forgets them when the outermost ends, so that every step would see the first weights.
            for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
                stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
            yield
    finally:
        torch.set_num_threads(before)
