"""The scale-mixture prior: x0 = S u with independent heavy-tailed or sparse coefficients u.

Signals of independent increments (S sums them up), images that are sparse in a basis: p(x0 | x_t)
has no closed form, but given the coefficients' variances it is Gaussian, and so is p(x0 | x_t, y)
for a linear operator with Gaussian noise. The sampler draws both in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciinv.covariances import Covariance, Dense
from sciinv.errors import PriorError
from sciinv.priors.base import Prior, sigma_like
from sciinv.priors.scales import gibbs
from sciinv.priors.scales.laws import Law
from sciinv.seeds import Streams

MOST_PIXELS = 1024  # a matrix of that size squared is factored per lane and sweep
BURN, KEPT = 32, 96  # sweeps of the denoiser; its Monte-Carlo error on heavy tails is not known


@dataclass(frozen=True)
class Scales:
    """p(x0 | x_t) of a scale mixture, as what a draw needs of it.

    Attributes:
        prior: S and the law.
        x_t: The state, [B, C, H, W].
        sigma: Its noise level.
    """

    prior: ScaleMixture
    x_t: Tensor
    sigma: float


class ScaleMixture(Prior):
    """x0 = S u, u_k ~ law independently.

    D(x, σ) = E[x0 | x_t] and Cov[x0 | x_t] are means over Gibbs sweeps of the Gaussian moments
    given the variances (Rao–Blackwell), with random numbers that are always the same: D is a
    function of x, whose error is that of some hundred sweeps.

    Args:
        synthesis: S, [D, D], invertible, D = C·H·W.
        law: Of each coefficient.
        shape: (C, H, W).
        units: Unit of a pixel value.

    Raises:
        PriorError: S is no invertible matrix of the image's size, or the image is too large.
    """

    micro_batch = 8

    def __init__(
        self, synthesis: Tensor, law: Law, shape: tuple[int, int, int], units: str = ""
    ) -> None:
        super().__init__()
        synthesis = torch.as_tensor(synthesis)
        d = shape[0] * shape[1] * shape[2]
        if synthesis.shape != (d, d) or d > MOST_PIXELS:
            raise PriorError(
                "The synthesis of a scale mixture does not serve this image",
                expected=f"a matrix [D, D] with D = C·H·W = {d}, at most {MOST_PIXELS}",
                got=list(synthesis.shape),
                remedy="give one column per coefficient; train a network for large images",
            )
        analysis, info = torch.linalg.inv_ex(synthesis.double())
        if bool(info) or not bool(torch.isfinite(analysis).all()):
            raise PriorError(
                "The synthesis of a scale mixture is not invertible",
                expected="D independent columns",
                got="a singular matrix",
                remedy="leave out what others already span, or scale it",
            )
        self.law, self.units = law, units
        self.shape, self.channels = shape, shape[0]
        self.register_buffer("synthesis", synthesis)
        self.register_buffer("analysis", analysis.to(synthesis.dtype))
        size = law.scale * float(synthesis.square().sum(1).max()) ** 0.5
        self.sigma_max = 20.0 * size
        self.sigma_min = 0.1 * law.scale * float(synthesis.square().sum(0).min()) ** 0.5

    def scales(self, x_t: Tensor, sigma: float) -> Scales:
        """Return p(x0 | x_t) as what a draw needs of it; counted like an evaluation of D."""
        self.evaluations += 1
        return Scales(self, x_t, float(sigma))

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return E[x0 | x_t]; x [B, C, H, W], σ a number or [B]. Its derivative is Cov / σ²."""
        out: Tensor = _Denoised.apply(x, sigma, self)
        return out

    def moments(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return mean [B, D] and covariance [B, D, D] of p(x0 | x_t), double precision.

        Lanes of one noise level are drawn together.
        """
        levels = torch.as_tensor(sigma).double().expand(len(x)).to(x.device)
        mean = x.new_empty(x.flatten(1).shape, dtype=torch.float64)
        covariance = mean.new_empty((*mean.shape, mean.shape[1]))
        for level in levels.unique():
            lanes = levels == level
            mean[lanes], covariance[lanes] = self._moments(x[lanes].double(), float(level))
        return mean, covariance

    def _moments(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        s = self.synthesis.to(x)
        gram = s.mT @ s / sigma**2
        pull = x.flatten(1) @ s / sigma**2
        streams = Streams.of_seed(0, len(x))
        state = gibbs.start(self.law, streams, s.shape[1], x)
        first = second = within = torch.zeros((), dtype=x.dtype, device=x.device)
        for k in range(BURN + KEPT):
            state = gibbs.sweep(state, self.law, gram, pull, streams)
            if k < BURN:
                continue
            given = gibbs.Given.of(state.effective, gram, pull)
            mean, root = given.solve(), given.covariance_root()
            first = first + mean / KEPT
            second = second + mean[:, :, None] * mean[:, None, :] / KEPT
            within = within + root.mT @ root / KEPT
        covariance = within + second - first[:, :, None] * first[:, None, :]
        return first @ s.mT, s @ covariance @ s.mT

    def conditional_covariance(self, x_t: Tensor, sigma: float) -> Covariance:
        """Return the covariance of p(x0 | x_t), one per lane."""
        values, vectors = torch.linalg.eigh(self.moments(x_t, sigma)[1])
        return Dense(vectors.to(x_t), values.clamp_min(0).to(x_t))

    def isotropic_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return tr(Cov[x0 | x_t]) / D, [B]."""
        return self.moments(x_t, sigma)[1].diagonal(dim1=1, dim2=2).mean(1).to(x_t)

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x0) up to a constant, [B].

        Coefficients below 1e−9 of the law's scale count as absent where the law has zeros: the
        density is then that beside the zeros' point mass.
        """
        u = x.double().flatten(1) @ self.analysis.to(x).double().mT
        log_p = self.law.log_density(u)
        if self.law.present < 1:
            p = torch.tensor(self.law.present, dtype=u.dtype)
            there = u.abs() > 1e-9 * self.law.scale
            log_p = torch.where(there, log_p + p.log(), torch.log1p(-p))
        return log_p.sum(1)

    def sample(self, streams: Any, like: Tensor) -> Tensor:
        """Return exact draws of p(x0), one per stream, [B, C, H, W]."""
        u = self.law.sample(streams, self.synthesis.shape[1], like)
        assert self.shape is not None
        return (u @ self.synthesis.to(like).mT).reshape(len(u), *self.shape)


class _Denoised(torch.autograd.Function):
    """D with its derivative Cov[x0 | x_t] / σ², which is symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: float | Tensor, prior: ScaleMixture) -> Tensor:
        with torch.no_grad():
            mean, covariance = prior.moments(x, sigma)
        ctx.save_for_backward(covariance, sigma_like(sigma, x))
        return mean.to(x).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        covariance, sigma = ctx.saved_tensors
        (g,) = grads
        flat = (covariance.to(g) @ g.flatten(1)[..., None]).reshape(g.shape)
        return flat / sigma**2, None, None
