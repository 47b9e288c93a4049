"""Gibbs sweeps over coefficients u under scale-mixture laws and Gaussian data.

    p(u | data) ∝ Π_k p(u_k) · exp(−½ uᵀ G u + bᵀ u)

G and b are the precision and the pull of everything Gaussian that is known of u: a noisy image, a
measurement, or both. A sweep draws v | u by the law; where the law has zeros, which coefficients
are present, with all u integrated out (`sciinv.priors.scales.presences`); then all u | v at once:
u = V^½ w, w ~ N(M⁻¹ V^½ b, M⁻¹), M = I + V^½ G V^½, which holds at v = 0 and at v = 10⁸ alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciinv.priors.scales import presences
from sciinv.priors.scales.laws import Law
from sciinv.seeds import Streams


@dataclass
class State:
    """Where the sweeps are.

    Attributes:
        u: Coefficients, [B, D].
        v: Their variances, [B, D]; of no meaning where a coefficient is absent.
        z: 1 where present, else 0, [B, D]; None for a law without zeros.
    """

    u: Tensor
    v: Tensor
    z: Tensor | None = None

    @property
    def effective(self) -> Tensor:
        """v, 0 where a coefficient is absent."""
        return self.v if self.z is None else self.v * self.z


@dataclass(frozen=True)
class Given:
    """The Gaussian p(u | v, data) of each lane: V^½, the Cholesky factor F of M, and F⁻¹ V^½ b."""

    root: Tensor
    factor: Tensor
    half: Tensor

    @classmethod
    def of(cls, v: Tensor, gram: Tensor, pull: Tensor) -> Given:
        """Return it for variances v [B, D], G [D, D] and b [B, D]."""
        root = v.sqrt()
        m = (root[:, :, None] * gram).mul_(root[:, None, :])
        m.diagonal(dim1=1, dim2=2).add_(1)
        factor = _factors(m)
        half = torch.linalg.solve_triangular(factor, (root * pull)[..., None], upper=False)
        return cls(root, factor, half[..., 0])

    def solve(self, rest: Tensor | None = None) -> Tensor:
        """Return V^½ F⁻ᵀ (half + rest): the mean, or with standard normal numbers a draw."""
        z = self.half if rest is None else self.half + rest
        return (
            self.root
            * torch.linalg.solve_triangular(self.factor.mT, z[..., None], upper=True)[..., 0]
        )

    def covariance_root(self) -> Tensor:
        """Return F⁻¹ V^½, [B, D, D], whose Gram matrix is the covariance."""
        return torch.linalg.solve_triangular(self.factor, torch.diag_embed(self.root), upper=False)


def _factors(m: Tensor) -> Tensor:
    """Return the Cholesky factors of m [B, D, D].

    NumPy's on the CPU: of 64 × 64 matrices PyTorch's batch costs more than twice as much.
    """
    if m.device.type != "cpu":
        return torch.linalg.cholesky(m)
    try:
        return torch.from_numpy(np.linalg.cholesky(m.detach().numpy()))
    except np.linalg.LinAlgError as error:  # one kind of error for whoever runs the chain
        raise torch.linalg.LinAlgError(str(error)) from error


def start(law: Law, streams: Streams, count: int, like: Tensor) -> State:
    """Return a state drawn from the prior; no sweep has seen the data yet."""
    v = law.prior_variances(streams, count, like)
    u = v.sqrt() * streams.randn((count,), like)
    if law.present >= 1:
        return State(u, v)
    z = (streams.rand((count,), like) < law.present).to(u)
    return State(u * z, v, z)


def sweep(state: State, law: Law, gram: Tensor, pull: Tensor, streams: Streams) -> State:
    """Return the state after one sweep; one Cholesky factor per lane."""
    v = law.variances(state.u, streams)
    u, z = state.u, state.z
    if z is not None:
        v, z = presences.draw(v, z, law, gram, pull, streams)
    given = Given.of(v if z is None else v * z, gram, pull)
    u = given.solve(streams.randn(u.shape[1:], u))
    return State(u, v, z)
