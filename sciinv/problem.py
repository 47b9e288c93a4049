"""The data side of a run: the measurement, its operator and its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.noise import Scaled, relative_precision, without_offsets
from sciinv.operators.base import LinearOperator, Operator, declared
from sciinv.solvers import Linearised, Rough, dense_rows, normal_symbol

# What is left out of F x is this share of its largest part: far below the noise of any datum.
RANK_FLOOR = 1e-5

CHANGED = 0.3  # of log s or log t, before the symbol of a noise with a model error is made anew

# With a noise per lane every lane has a matrix of its own to factor: products are cheaper beyond.
LANE_ROWS = 256


@dataclass
class Problem:
    """The data side of a run: operator and likelihood, built once, and y for a batch of lanes.

    Attributes:
        y: The measurement, [B, …].
        physics: The forward operator, `operators.base.Operator`.
        likelihood: p(y | A x).
        linear: Whether A is linear.
        rows: A as rows [M, C, H, W] where A is linear and small, or [B, M, C, H, W].
        cache: What depends on operator and noise alone, kept for all batches.
        chain: What one chain's first level found for the others.
        nominal: The problem with the declared noise and instrument, where this one has others.
        nats: What a solve's error may be worth in −log p where noise or instrument are drawn.
    """

    y: Tensor
    physics: Operator
    likelihood: Likelihood
    linear: bool
    rows: Tensor | None = None
    cache: dict[Any, Any] = field(default_factory=dict)
    chain: dict[str, Any] = field(default_factory=dict)
    nominal: Problem | None = None
    nats: float | None = None

    @classmethod
    def of(cls, y: Tensor, physics: Physics, likelihood: Likelihood, like: Tensor) -> Problem:
        """Return the problem of these data; `like` is an image batch for shape and dtype."""
        from deepinv.physics import LinearPhysics

        physics = declared(physics, y, like.shape[1:])
        linear = isinstance(physics, LinearPhysics)
        rows = dense_rows(physics, like, y) if linear else None
        return cls(y, physics, likelihood, linear, rows)

    def with_data(self, y: Tensor) -> Problem:
        """Return the problem of other data of the same operator and noise."""
        return replace(self, y=y, chain={})

    def altered(
        self, likelihood: Likelihood | None = None, physics: Physics | None = None
    ) -> Problem:
        """Return the problem of the same data with other noise or another instrument per lane."""
        nominal = self.nominal or self
        other = replace(nominal, chain=self.chain, nominal=nominal)
        if likelihood is not None:
            other.likelihood = likelihood
            if likelihood.lanes > 1 and self.rows is not None and len(self.rows) > LANE_ROWS:
                other.rows = None
        if physics is not None:  # its rows differ from lane to lane
            other.physics, other.cache = physics, {"reduced": None}
            few = self.rows is not None and len(self.rows) <= LANE_ROWS
            other.rows = lane_rows(physics, self.y) if few else None
        return other

    def symbol(self, lin: Linearised, like: Tensor) -> Tensor:
        """Return H(k), the stationary part of Āᵀ Ā of a linear operator; computed once.

        At another noise scale it is the declared one's over s², [B, C, H, W]; another instrument
        is near the declared one, and a preconditioner need not be more. A model error is no factor:
        with the declared noise's symbol three steps left a brain's middle of k-space at a χ² of
        700. Then it is that of the first lane's noise, anew where s or t have changed.
        """
        noise = without_offsets(self.likelihood)
        if isinstance(noise, Scaled) and noise.logs is not None:
            kept = self.chain.get("symbol")
            if kept is None or math.dist(kept[0], noise.logs) > CHANGED:
                physics = (self.nominal or self).physics
                first = replace(
                    self, y=self.y[:1], physics=physics, likelihood=self.likelihood.of_lane(0),
                    rows=None,
                )  # fmt: skip
                one = torch.zeros_like(like[:1])
                kept = noise.logs, normal_symbol(first.linearise(one)[0], one)
                self.chain["symbol"] = kept
            return kept[1]
        if self.nominal is not None:
            nominal = self.nominal
            there = nominal.linearise(torch.zeros_like(like))[0]
            return nominal.symbol(there, like) * relative_precision(self.likelihood, like)
        if "symbol" not in self.cache:
            self.cache["symbol"] = normal_symbol(lin, like[:1])
        return self.cache["symbol"]

    def _products(self, u: Tensor) -> tuple[Any, Rough | None, Tensor | None]:
        """Return Aᵀ diag(w) A, the same on coarse pixels, and f with 1/sd² = f w.

        Aᵀ A, nothing and nothing where the operator has no such products, or not for this noise.
        """
        physics = cast(LinearOperator, self.physics)
        weights = None if self.rows is not None else self.likelihood.weights(u[:1])
        if weights is None:
            return physics.A_adjoint_A, None, None
        key = "products", u.dtype, u.device
        if key not in self.cache:
            # a device is kept waiting by many small products, and is fast at large ones
            rough = physics.rough(weights[0]) if u.device.type == "cpu" else None
            self.cache[key] = physics.normal(weights[0]), rough
        normal, rough = self.cache[key]
        if normal is None:
            return physics.A_adjoint_A, None, None
        return normal, rough, weights[1]

    @property
    def reduced(self) -> tuple[Tensor, Tensor] | None:
        """Q [P, r] and R [r, C, H, W] with F ≈ Q R, where A(x) = g(F x) and F is small.

        F are the rows that the operator says in `coordinates`; R is orthogonal, in the order of
        F's singular values down to `RANK_FLOOR` of the largest: double precision, computed once.
        """
        if "reduced" not in self.cache:
            rows = self.physics.coordinates
            self.cache["reduced"] = None if rows is None else _compressed(rows)
        return self.cache["reduced"]

    def nll(self, x: Tensor) -> Tensor:
        """Return −log p(y | x), [B]."""
        return self.likelihood.nll(self.physics.A(x), self.y)

    def nll_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return −log p(y | x) [B] and its gradient in x."""
        u = self.physics.A(x)
        with torch.enable_grad():
            leaf = u.detach().requires_grad_(True)
            value = self.likelihood.nll(leaf, self.y)
            (g,) = torch.autograd.grad(value.sum(), leaf)
        if self.linear:
            return value.detach(), self.physics.A_adjoint(g)
        return value.detach(), self.physics.A_vjp(x, g)

    def linearise(self, x: Tensor) -> tuple[Linearised, Tensor]:
        """Return the whitened linearisation of A at x, and A(x)."""
        physics = self.physics
        u = physics.A(x)
        if self.linear:
            key = "linearised"
            if key not in self.cache or self.rows is None or not self._fixed_weights():
                lin = Linearised(
                    physics.A,
                    physics.A_adjoint,
                    self.likelihood,
                    u,
                    self.rows,
                    *self._products(u),
                )
                if self._fixed_weights():
                    self.cache[key] = lin
                return lin, u
            return self.cache[key], u
        matrix = physics.jacobian(x)
        if matrix is not None:
            matrix = matrix.reshape(len(x), -1, *x.shape[1:])
        elif not physics.differentiable:
            matrix = central_differences(physics.A, x)

        def forward(v: Tensor) -> Tensor:
            return torch.func.jvp(physics.A, (x,), (v,))[1]

        def adjoint(r: Tensor) -> Tensor:
            return physics.A_vjp(x, r)

        return Linearised(forward, adjoint, self.likelihood, u, matrix), u

    def _fixed_weights(self) -> bool:
        return self.nominal is None and isinstance(self.likelihood, Gaussian)


def lane_rows(physics: Operator, y: Tensor) -> Tensor:
    """Return a linear operator whose lanes differ as rows [B, M, C, H, W]; y is a measurement."""
    linear = cast(LinearOperator, physics)
    basis = torch.eye(y[0].numel(), dtype=y.dtype, device=y.device)
    units = (unit.reshape(1, *y.shape[1:]).expand_as(y) for unit in basis)
    return torch.stack([linear.A_adjoint(unit) for unit in units], 1)


def _compressed(rows: Tensor) -> tuple[Tensor, Tensor]:
    flat = rows.double().flatten(1)
    q, _ = left_vectors(flat)
    return q, (q.mT @ flat).reshape(-1, *rows.shape[1:])


def left_vectors(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the left singular vectors [M, r] and values [r] of rows [M, N], largest first.

    Values below `RANK_FLOOR` of the largest are left out.
    """
    values, vectors = torch.linalg.eigh(flat @ flat.mT)
    keep = values > (RANK_FLOOR**2) * values[-1]
    return vectors[:, keep].flip(1), values[keep].flip(0).sqrt()


def central_differences(a: Any, x: Tensor) -> Tensor:
    """Return the Jacobian of A at x as rows [B, M, C, H, W], by 2 D evaluations of A.

    (A(x + h e) − A(x − h e)) / 2h with h = ε^{1/3} · max |x| (1 where x = 0): the step at which
    rounding and curvature err alike.
    """
    size = x.abs().flatten(1).amax(1)
    h = torch.finfo(x.dtype).eps ** (1 / 3) * torch.where(size > 0, size, torch.ones_like(size))
    columns = []
    for unit in torch.eye(x[0].numel(), dtype=x.dtype, device=x.device):
        step = per_lane(h, x) * unit.reshape(1, *x.shape[1:])
        columns.append(((a(x + step) - a(x - step)).flatten(1)) / (2 * h[:, None]))
    return torch.stack(columns, -1).reshape(len(x), -1, *x.shape[1:])


def per_lane(value: Tensor, like: Tensor) -> Tensor:
    """Return [B] as [B, 1, 1, …] to broadcast over `like`."""
    return value.reshape(-1, *(1 for _ in like.shape[1:]))
