"""Gibbs sweeps over coefficients u under scale-mixture laws and Gaussian data.

    p(u | data) ∝ Π_k p(u_k) · exp(−½ uᵀ G u + bᵀ u)

G and b are the precision and the pull of everything Gaussian that is known of u: a noisy image, a
measurement, or both. A sweep draws v | u by the law; where the law has zeros, which of two
neighbours are present, both coefficients integrated out; then all u | v at once:
u = V^½ w, w ~ N(M⁻¹ V^½ b, M⁻¹), M = I + V^½ G V^½, which holds at v = 0 and at v = 10⁸ alike.

One coefficient at a time, a jump could never move to its neighbour: the pair passes through a state
of much lower probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciinv.priors.scales.laws import Law
from sciinv.seeds import Streams

# (u_k, u_j) absent or present: the four states of a pair.
_FIRST, _SECOND = (0.0, 1.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)


@dataclass
class State:
    """Where the sweeps are.

    Attributes:
        u: Coefficients, [B, D].
        v: Their variances were they present, [B, D].
        z: 1 where present, else 0, [B, D]; None for a law without zeros.
        count: Sweeps so far.
    """

    u: Tensor
    v: Tensor
    z: Tensor | None = None
    count: int = 0

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
        prior = law.prior_variances(streams, u.shape[1], u)
        v = torch.where(z > 0, v, prior)
        u, z = _presences(u, v, z, law, gram, pull, streams, state.count % 2)
    given = Given.of(v if z is None else v * z, gram, pull)
    u = given.solve(streams.randn(u.shape[1:], u))
    return State(u, v, z, state.count + 1)


def _presences(
    u: Tensor, v: Tensor, z: Tensor, law: Law, gram: Tensor, pull: Tensor, streams: Streams,
    parity: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return u and z after a draw of each pair (z_k, z_j, u_k, u_j) given all others.

    j is the coefficient that the data confuse most with k; every second k at each sweep. With
    M = F Fᵀ of the pair in each of its four states, p(state) ∝ odds · exp(½ |F⁻¹ r h|²) / det F,
    where h is the pull that the others leave; a state is drawn by Gumbel's maximum.

    One pair follows another, a few numbers at a time: in NumPy, whose calls cost a quarter of
    PyTorch's, and on the CPU.
    """
    d, first, nearest = u.shape[1], range(parity, u.shape[1], 2), partners(gram)
    second = [nearest[k] for k in first]
    gumbel = -(-streams.rand((4, d), u).clamp_min(1e-300).log()).log()
    normal = streams.randn((2, d), u).cpu().numpy()
    g = gram.cpu().numpy()
    # [4, B, pairs]; (…)[:, None, None] for the states' first and second coefficient
    on_k, on_j = (np.array(side)[:, None, None] for side in (_FIRST, _SECOND))
    root = v.sqrt().cpu().numpy()
    r_k, r_j = on_k * root[:, list(first)], on_j * root[:, second]
    a, c, e = g[list(first), list(first)], g[list(first), second], g[second, second]
    f_kk = np.sqrt(1 + a * r_k**2)
    f_kj = c * r_k * r_j / f_kk
    f_jj = np.sqrt(1 + e * r_j**2 - f_kj**2)
    odds = (on_k + on_j) * (math.log(law.present) - math.log1p(-law.present))
    base = odds - np.log(f_kk * f_jj) + gumbel[:, :, list(first)].cpu().numpy().swapaxes(0, 1)
    s_k, s_j, tie = r_k / f_kk, r_j / f_jj, f_kj / f_jj
    out, present = u.cpu().numpy().copy(), z.cpu().numpy().copy()
    left = pull.cpu().numpy() - out @ g
    lane = np.arange(len(out))
    for i, (k, j) in enumerate(zip(first, second, strict=True)):
        u_k, u_j = out[:, k].copy(), out[:, j].copy()
        w_k = s_k[:, :, i] * (left[:, k] + a[i] * u_k + c[i] * u_j)
        w_j = s_j[:, :, i] * (left[:, j] + c[i] * u_k + e[i] * u_j) - tie[:, :, i] * w_k
        pick = (base[:, :, i] + 0.5 * (w_k * w_k + w_j * w_j)).argmax(0)
        x_j = w_j[pick, lane] + normal[:, 1, k]
        x_k = w_k[pick, lane] + normal[:, 0, k] - tie[pick, lane, i] * x_j
        out[:, k], out[:, j] = s_k[pick, lane, i] * x_k, s_j[pick, lane, i] * x_j
        present[:, k], present[:, j] = on_k[pick, 0, 0], on_j[pick, 0, 0]
        left -= np.outer(out[:, k] - u_k, g[k]) + np.outer(out[:, j] - u_j, g[j])
    return torch.as_tensor(out).to(u), torch.as_tensor(present).to(u)


def partners(gram: Tensor) -> list[int]:
    """Return for each coefficient the other one whose effect on the data is most like its own."""
    size = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    like = (gram / size[:, None] / size).abs()
    like.fill_diagonal_(-1)
    return like.argmax(1).tolist()
