"""What the Markov kernels share: the Metropolis step, and the effective size of a chain."""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.seeds import Streams


def metropolis(log_a: Tensor, streams: Streams, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return which lanes accept [B], and min(1, α) for the adaptation; NaN counts as α = 0.

    Args:
        log_a: log α of the proposals, [B].
        streams: One random stream per lane.
        like: A tensor of the dtype and device of the uniform numbers.
    """
    finite = torch.isfinite(log_a)
    take = finite & (streams.rand((), like).log() < log_a)
    return take, torch.where(finite, log_a.clamp_max(0).exp(), torch.zeros_like(log_a))


def effective_size(trace: list[Tensor]) -> Tensor:
    """Return the effective number of independent states per lane, [B], between 1 and n.

    n / τ with τ = −1 + 2 Σ_m (ρ_{2m} + ρ_{2m+1}) up to the first pair that is not positive. Rough
    for a chain of few states; 1 for one that never moved.

    Args:
        trace: A scalar of each state, n times [B].

    Source: Geyer 1992, "Practical Markov chain Monte Carlo" (initial positive sequence).
    """
    states = torch.stack(trace)
    n = len(states)
    if n < 2:
        return torch.ones_like(states[0], dtype=torch.float64)
    x = states.double() - states.double().mean(0)
    f = torch.fft.rfft(x, n=2 * n, dim=0)
    c = torch.fft.irfft(f.abs().square(), n=2 * n, dim=0)[:n]
    rho = c / c[0].clamp_min(1e-300)
    pairs = rho[: n - n % 2].unflatten(0, (-1, 2)).sum(1)
    tau = 2 * (pairs * (pairs > 0).cumprod(0)).sum(0) - 1
    size = (n / tau.clamp_min(1e-12)).clamp(1.0, float(n))
    moved = states.amax(0) > states.amin(0)
    return torch.where(moved & torch.isfinite(size), size, torch.ones_like(size))
