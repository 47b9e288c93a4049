"""What is checked of the arguments of closure quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.operators.parts.sky_transform import refuse


def legs_of(name: str, value: Any, legs: int, n: int) -> Tensor:
    """Return the visibilities of each quantity's legs, [number, legs], checked against N = n."""
    value = [] if value is None else value
    index = torch.as_tensor(np.asarray(value, dtype=np.int64).reshape(-1, legs))
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= n):
        raise refuse(
            f"The {name} refer to visibilities that are not there",
            f"indices from 0 to {n - 1}, [number, {legs}]",
            f"{int(index.min())} to {int(index.max())}",
            f"make the {name} from the same list of visibilities as u and v",
        )
    return index


def factor_of(value: Any, m: int) -> Tensor:
    """Return the lower Cholesky factor of the covariance of m data, checked."""
    factor = torch.as_tensor(np.asarray(value, float))
    diagonal = torch.diagonal(factor) if factor.shape == (m, m) else torch.zeros(1)
    if factor.shape != (m, m) or not bool((diagonal > 0).all()):
        raise refuse(
            "The covariance does not match the closure quantities",
            f"a lower Cholesky factor [{m}, {m}] with a positive diagonal (closures, then flux)",
            f"{list(factor.shape)}, smallest diagonal {float(diagonal.min()):g}",
            "use ClosureSet.cholesky of the same closure set",
        )
    return factor


def legs_matrix(quantities: Sequence[Tensor], signs: Sequence[Tensor], n: int) -> Tensor:
    """Return how data answer to relative errors of the visibilities, [M + 1, 2 n], float64.

    Args:
        quantities: Visibilities of the legs of phases, log closure amplitudes and log amplitudes.
        signs: Their signs.
        n: Number of visibilities: the first n columns are errors of arg V, the others of ln|V|.
            The last row is the total flux, which has none.
    """
    factor = torch.zeros(sum(map(len, quantities)) + 1, 2 * n, dtype=torch.float64)
    row = 0
    for index, sign, first in zip(quantities, signs, (0, n, n), strict=True):
        each = factor[row : row + len(index), first : first + n]
        each.scatter_add_(1, index.cpu(), sign.cpu().double().expand(index.shape).contiguous())
        row += len(index)
    return factor
