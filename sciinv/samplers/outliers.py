"""Draws that the data reject given their fellows: chains that ended in a wrong mode.

Draws of one posterior have nearly the same misfit E = −log p(y | x0). Where p(x0 | y) is Gaussian
and the data decide k directions of it,

    √(k/2) ≤ sd(E) ≤ √k,

the lower where they decide each wholly. k is at most min(data, pixels), and far less under a prior:
it is read off how far the draws of the group lie apart in data space
(`sciinv.metrics.decided_directions`; of 8,540 data of a disc from 30° some 650).

Two modes that both carry weight may differ in E by more only if the prior pays the difference back
to within a few nats, which among thousands of nats is a coincidence. So a draw whose E lies far
above the lowest of its group stands in a place that the posterior does not visit: annealing went
wrong, and the draw is none.

A low E alone proves nothing, and a mode that every chain of a group missed is not seen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sciinv.likelihoods import Gaussian
from sciinv.metrics import decided_directions
from sciinv.noise import components
from sciinv.problem import Problem

# Of √(k/2), above the lowest of the group. The lowest of up to 64 draws is expected at −2.4 of
# these, the highest at 2.4: what is left are more than three for all that is not Gaussian.
FAR = 8.0
# Draws of a group whose scatter says how many directions the data decide: of 6 pairs on.
FEWEST = 4


def freedom(problem: Problem, pixels: int) -> tuple[int, int]:
    """Return the number of components that carry data, and k = min(that, pixels)."""
    data = components(problem.likelihood, problem.y[:1])
    return data, max(1, min(data, pixels))


def impossible(
    chi2: Tensor, data: int, k: float, drawn: bool = False, in_nats: bool = False
) -> Tensor:
    """Return which draws of a group are none, [B] bool.

    Args:
        chi2: Reduced χ² of the draws by the declared noise, [B].
        data: Number N of components that carry data: E = ½ N χ².
        k: The directions that the data decide, or the most that they can.
        drawn: Whether the scale of the noise is drawn: the noise is then what the best draw says.
        in_nats: Whether "chi2" is −2 log p(y | draw) ÷ N, the noise with it, as where data differ
            in their noise and χ² has no common unit.

    Where even the best draw has χ² above 1 the noise is larger than declared, and E is counted in
    units of that noise.
    """
    lowest = chi2.min()
    unit = torch.ones_like(lowest) if in_nats else _noise(chi2, drawn)
    excess = 0.5 * data * (chi2 - lowest) / unit
    return excess > FAR * math.sqrt(k / 2)


def _noise(chi2: Tensor, drawn: bool) -> Tensor:
    """Return the variance of the noise ÷ the declared one, as the best draw of a group has it."""
    return chi2.min() if drawn else chi2.min().clamp_min(1.0)


Scatter = Callable[[Tensor], Sequence[float]]


def scatter(problem: Problem) -> Scatter | None:
    """Return what gives ½ ‖A x_i − A x_j‖² of all pairs of images, in the declared noise.

    None where draws have instruments of their own, or the noise depends on the image.
    """
    likelihood, physics = problem.likelihood, problem.physics
    if getattr(physics, "unknowns", ()) or not isinstance(likelihood, Gaussian):
        return None

    def pairs(x0: Tensor) -> Sequence[float]:
        with torch.no_grad():
            u = physics.A(x0)
            each = [likelihood.nll(u[i : i + 1].expand_as(u[:i]), u[:i]) for i in range(1, len(u))]
        found: Sequence[float] = torch.cat(each).tolist()
        return found

    return pairs


Attempt = Callable[[int, Sequence[int]], tuple[Tensor, Mapping[str, Tensor | float]]]


def redrawn(
    attempt: Attempt,
    groups: Sequence[range],
    lanes: int,
    retries: int,
    data: int,
    k: int,
    apart: Scatter | None = None,
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Return draws of one posterior or several, those that are impossible drawn anew from the top.

    Which lanes run again, and which of them together, follows from the draws of their own group, so
    that a draw's bits are those of its group whatever else was asked for.

    Args:
        attempt: Called with the number of the try, 0 at first, and the lanes that run; returns
            their x0 and statistics. No lane's chain may depend on another's.
        groups: Lanes, side by side, that draw from one posterior. A lane of no group runs once.
        lanes: Lanes of the first try, B.
        retries: How often to try again.
        data: See `impossible`.
        k: The most directions that the data can decide. Of a group of four or more, how many they
            do decide is seen in how far its draws lie apart in data space.
        apart: See `scatter`.

    Returns:
        x0 [B, C, H, W], and the statistics of each lane's last try; besides "tries" (1 at first)
        and "failed" (1 where the last try is impossible too), each [B]. "nfe" counts all tries.
    """
    x0, first = attempt(0, range(lanes))
    values = {key: _by_lane(v, lanes) for key, v in first.items()}
    tries = torch.ones(lanes, dtype=torch.float64)
    failed = torch.zeros_like(tries)
    drawn = "noise_scale" in values
    in_nats = "misfit" in values

    def none(own: slice) -> Tensor:
        """Return which draws of a group are none."""
        fit = values["misfit" if in_nats else "chi2"][own]
        decided: float = k
        if apart is not None and len(fit) >= FEWEST and not in_nats:
            noise = float(_noise(fit, drawn))
            decided = min(k, decided_directions([d / noise for d in apart(x0[own])]))
        return impossible(fit, data, decided, drawn, in_nats).cpu()

    for group in groups:
        members, own = torch.as_tensor(group), slice(group.start, group.stop)
        where = members[none(own)]
        for again in range(1, retries + 1):
            if not len(where):
                break
            fresh, found = attempt(again, where.tolist())
            x0 = x0.index_copy(0, where.to(x0.device), fresh)
            for key, old in values.items():
                there = where.to(old.device)
                new = _by_lane(found[key], len(where)).to(old)
                values[key] = old.index_copy(0, there, new + old[there] if key == "nfe" else new)
            tries[where] += 1
            where = members[none(own)]
        failed[where] = 1.0
    return x0, {**values, "tries": tries, "failed": failed}


def _by_lane(value: Tensor | float, lanes: int) -> Tensor:
    """Return a statistic with one row per lane."""
    if isinstance(value, Tensor) and value.ndim:
        return value
    return torch.full((lanes,), float(value), dtype=torch.float64)
