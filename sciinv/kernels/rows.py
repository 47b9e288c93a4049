"""What few data see of an image, whatever the operator's parameters: B = A_θ Qᵀ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciinv.covariances import Covariance
from sciinv.kernels.parameters import differences
from sciinv.operators.base import Operator, declared
from sciinv.problem import lane_rows, left_vectors
from sciinv.seeds import Streams

TRIES = 4  # values of θ whose rows are looked at; the last one must lie in the span of the others
SAME = 1e-3  # of the rows' size: what may lie outside, far above RANK_FLOOR and far below a signal
PIXELS = 256  # where the span grows with θ, an image of so few pixels is taken whole
AGREE = 1e-2  # of a slope: within this autograd and differences say the same


class SharedRows:
    """Q with A_θ x = A_θ Qᵀ Q x for every θ, and B = A_θ Qᵀ with its slopes.

    Args:
        physics: The operator, linear, with `at`.
        q: Orthonormal rows, [r, C, H, W], float64.
        lanes: Lanes of a chain.
        theta: Values [B, P] at which the two ways to a slope are compared.
        sd: The prior's standard deviation of each parameter, [P].

    Attributes:
        smooth: Whether autograd knows ∂B/∂θ; else it comes from differences.
    """

    def __init__(self, physics: Operator, q: Tensor, lanes: int, theta: Tensor, sd: Tensor) -> None:
        self.q, self.rank, self.sd = q, len(q), sd
        images = q.repeat_interleave(lanes, 0)
        self._predict: Callable[[Tensor], Tensor] = physics.predictions(images)
        # for a metric single precision is enough
        self._roughly: Callable[[Tensor], Tensor] = physics.predictions(images.float())
        self.repeats = True
        self.repeats = not self._by_lane(theta)
        self.smooth = self._look(theta)

    def seen(self, theta: Tensor) -> Tensor:
        """Return B, [B, M, r], of parameters [B, P], in double precision."""
        return self._of(self._predict, theta).double()

    def _of(self, predict: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
        out = predict(theta.repeat(self.rank, 1) if self.repeats else theta)
        return out.reshape(self.rank, len(theta), -1).permute(1, 2, 0)

    def _by_lane(self, theta: Tensor) -> bool:
        """Return whether one θ per lane serves all rows: else it is worked out r times over."""
        there = theta + self.sd * torch.linspace(0, 0.1, len(theta))[:, None].to(self.sd)
        try:
            out = self._predict(there).reshape(self.rank, len(there), -1).permute(1, 2, 0).double()
            return torch.allclose(out, self.seen(there), rtol=1e-5)
        except (RuntimeError, IndexError):
            return False

    def with_pull(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return B and g ↦ ⟨g, ∂B/∂θ⟩, [B, M, r] to [B, P]."""
        if self.smooth:
            with torch.enable_grad():
                leaf = theta.detach().clone().requires_grad_(True)
                b = self.seen(leaf)
            return b.detach(), lambda g: torch.autograd.grad(b, leaf, g)[0].nan_to_num()

        def pull(g: Tensor) -> Tensor:
            slopes = differences(lambda t: (self.seen(theta + t),), self.sd, theta)[0]
            return torch.stack([(slope * g).sum((1, 2)) for slope in slopes], 1)

        return self.seen(theta), pull

    def slopes(self, theta: Tensor, sd: Tensor) -> list[Tensor]:
        """Return ∂B/∂θ_j, P times [B, M, r], in single precision."""

        def b(step: Tensor) -> tuple[Tensor]:
            return (self._of(self._roughly, (theta + step).float()).float(),)

        return differences(b, sd, theta)[0]

    def _look(self, theta: Tensor) -> bool:
        """Return whether autograd and differences agree along one direction at θ."""
        way = self.sd * torch.linspace(0.5, 1.0, len(self.sd)).to(self.sd)
        along: Any = lambda t: (self.seen(theta + t * way),)  # noqa: E731
        slope = differences(along, torch.ones_like(way[:1]), theta[:, :1])[0][0]
        try:
            with torch.enable_grad():
                leaf = theta.detach().clone().requires_grad_(True)
                (own,) = torch.autograd.grad((self.seen(leaf) * slope).sum(), leaf)
        except RuntimeError:  # a part of it is cut off from the tape
            return False
        expected = float(slope.square().sum())
        return abs(float((own * way).sum()) - expected) <= AGREE * expected


def root_seen(
    covariance: Covariance, rows: Tensor, lanes: int, jitter: float
) -> tuple[Tensor, Tensor]:
    """Return half and S, of which half halfᵀ = S Sᵀ = R C Rᵀ, [B or 1, r, …], S in float64.

    Args:
        covariance: C.
        rows: R, [r, C, H, W].
        lanes: B, where C is not the same for all.
        jitter: Added as a share of its mean: directions that the prior knows all but exactly.
    """
    each = 1 if covariance.shared else lanes
    half = covariance.rows_root(rows[None].expand(each, *rows.shape)).flatten(2)
    exact = half.double()  # of single-precision products the Cholesky factor can fail
    seen = exact @ exact.mT
    size = seen.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(seen.shape[-1], dtype=seen.dtype, device=seen.device)
    return half, torch.linalg.cholesky(seen + jitter * size * eye)


def span(physics: Operator, y: Tensor, shape: tuple[int, ...], prior: Any) -> Tensor | None:
    """Return Q, [r, C, H, W] in float64, or None where the rows of A_θ have no common span.

    The rows are those at the prior's mean and at draws of it. Where one more draw brings new rows,
    Q is all pixels if these are few.

    Args:
        physics: A linear operator with `at`.
        y: A measurement [B, …] of few data.
        shape: (C, H, W) of an image.
        prior: Prior mean and standard deviation of each parameter, both [P].
    """
    mean, sd = prior
    tries = Streams.of_seed(0, TRIES).randn(sd.shape, sd)
    tries[0] = 0
    y = y[:1].double().expand(TRIES, *y.shape[1:])
    assert physics.at is not None
    rows = lane_rows(declared(physics.at(mean + sd * tries), y, shape), y).double().flatten(2)
    if not bool(torch.isfinite(rows).all()):
        return None
    known, new = rows[:-1].flatten(0, 1), rows[-1]
    vectors, sizes = left_vectors(known)
    q = (vectors / sizes).mT @ known
    left = new - (new @ q.mT) @ q
    if float(left.norm()) > SAME * float(new.norm()):
        if known.shape[1] > PIXELS:
            return None
        q = torch.eye(known.shape[1], dtype=known.dtype, device=known.device)
    return q.reshape(-1, *shape)
