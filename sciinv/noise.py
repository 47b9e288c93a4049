"""Gaussian noise that is not wholly known: a scale per lane, and offsets shared by many data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.errors import ConfigError, OperatorError
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.seeds import Streams

# p(s²) = Inv-Gamma(a0, b0): heavy-tailed, of median s = 1; log s has a standard deviation of 1.1.
PRIOR_SHAPE, PRIOR_RATE = 0.5, 0.2275


class Scaled(Gaussian):
    """Gaussian noise R of a base times a factor per lane: y = u + n, n ~ N(0, s² R).

    Args:
        base: The declared noise.
        scale: s, [B], or [B, groups].
        index: Group of each component of y, an integer tensor that broadcasts to y without its
            batch; None where there is one group.

    Raises:
        OperatorError: Groups of a noise with a full covariance.
    """

    def __init__(self, base: Gaussian, scale: Tensor, index: Tensor | None = None) -> None:
        super(Gaussian, self).__init__(d=None)  # what `sd` is was checked in the base
        if index is not None and base.sd is None:
            raise OperatorError(
                "A noise with a full covariance has one scale",
                expected="no groups of noise",
                got=f"{scale.shape[-1]} groups",
                remedy="leave the operator's noise_groups out, or give standard deviations",
            )
        self.base = base
        self.lanes = len(scale)
        for name in ("sd", "cholesky", "period"):
            self.register_buffer(name, getattr(base, name))
        self.register_buffer("scale", scale)
        self.register_buffer("index", index)

    @property
    def is_white(self) -> bool:
        """False: no one number is the noise of every lane."""
        return False

    def of_lane(self, lane: int) -> Scaled:
        """Return the likelihood of one lane."""
        return Scaled(self.base, self.scale[lane : lane + 1], self.index)

    def precision(self, like: Tensor) -> Tensor | None:
        """Return 1/(s sd)² for images, [B, 1, 1, 1], where a lane's noise is white, else None."""
        base = self.base.precision(like)
        if base is None or self.index is not None:
            return None
        return base / self.scale.to(like).reshape(-1, 1, 1, 1) ** 2

    def weights(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return those of the declared noise and 1/s² per lane; None where s differs by group."""
        base = self.base.weights(like)
        if base is None or self.index is not None:
            return None
        return base[0], base[1] / self.scale.to(like).reshape(-1, 1, 1, 1) ** 2

    def factor(self, r: Tensor) -> Tensor:
        """Return s to broadcast over r, whose rows may be several per lane, lane by lane."""
        s = self.scale.to(r)
        s = s.reshape(len(s), -1)
        s = s[:, self.index] if self.index is not None else s.reshape(-1, *(1,) * (r.ndim - 1))
        return per_row(s.reshape(len(s), *(1,) * (r.ndim - s.ndim), *s.shape[1:]), r)

    def whiten(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return R^{-1/2} r / s."""
        return self.base.whiten(r, u) / self.factor(r)

    def whiten_t(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return R^{-T/2} r / s."""
        return self.base.whiten_t(r / self.factor(r), u)

    def deviations(self, like: Tensor) -> Tensor | None:
        """Return the standard deviation of each component, [B, …]; see `Gaussian`."""
        declared = self.base.deviations(like)
        lanes = like[:1].expand(self.lanes, *like.shape[1:])
        return None if declared is None else declared * self.factor(lanes)

    def counts(self, y: Tensor) -> Tensor:
        """Return the number of components that carry data, by group, [groups]."""
        return group_sum(carries_data(self, y), self.index, self.groups)[0]

    @property
    def logs(self) -> tuple[float, float] | None:
        """Mean logs of s and of the size of a model error of another shape; None without one."""
        return None

    @property
    def groups(self) -> int:
        """Number of scales of a lane."""
        return 1 if self.index is None else self.scale.shape[1]

    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return ½ ‖R^{-1/2} (y − u)/s‖² + Σ N log s, [B]."""
        return super().nll(u, y) + log_volume(self, y)

    def noise(self, like: Tensor, streams: Streams) -> Tensor:
        """Return n ~ N(0, s² R)."""
        return self.base.noise(like, streams) * self.factor(like)

    def log_volume(self, y: Tensor) -> Tensor:
        """Return Σ N log s over the groups, [B]."""
        logs = self.scale.reshape(self.lanes, -1).log().to(y)
        return (logs * self.counts(y).to(y)).sum(1)

    def relative_precision(self) -> Tensor:
        """Return the mean of 1/s² over the groups, per lane, [B]."""
        return self.scale.reshape(self.lanes, -1).square().reciprocal().mean(1)

    def draw_scale(self, u: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """Return s | u, y: s² ~ Inv-Gamma(a0 + N/2, b0 + ½ Σ e²), the shape of `scale`.

        e is the residual in units of the declared noise, N the number of real components that
        carry data, both by group.
        """
        e = self.base.residual(u, y).double().square()
        total = group_sum(e, self.index, self.groups)
        rate = PRIOR_RATE + 0.5 * total
        shape = PRIOR_SHAPE + 0.5 * self.counts(y).to(total).expand_as(total)
        return (rate / streams.gamma(shape)).sqrt().reshape(self.scale.shape).to(self.scale)


class Offsets(Gaussian):
    """Gaussian noise with an unknown offset per group of data, marginalised: R → R + τ² B Bᵀ.

    y = u + B (μ + b) + n, b ~ N(0, τ²) per group, B the membership of components in groups. With
    w = R^{-1/2} B the whitening is W = Π (I − c_g w_g w_gᵀ) R^{-1/2}, with
    c_g = (1 − 1/√(1 + τ² n_g))/n_g and n_g = ‖w_g‖² (the w_g of different groups do not overlap).

    Args:
        base: The noise without the offsets.
        index: Group of each component of y without its batch, integers; −1 where there is none.
        sd: τ, units of y.
        mean: μ, units of y.

    Raises:
        OperatorError: Several groups over a noise that is correlated between them.
    """

    def __init__(self, base: Gaussian, index: Tensor, sd: float, mean: float = 0.0) -> None:
        super(Gaussian, self).__init__(d=None)  # what `sd` is was checked in the base
        self.base, self.tau, self.mean = base, float(sd), float(mean)
        self.lanes = base.lanes
        self.groups = int(index.max()) + 1
        diagonal = base.sd is not None and not isinstance(base, Offsets)
        if self.groups > 1 and not diagonal:
            raise OperatorError(
                "Only one unknown of an operator may be an offset by group",
                expected="one unknown with several groups over noise that is not correlated",
                got=f"{self.groups} groups over correlated noise",
                remedy="leave one of the two out, or give it a single group",
            )
        for name in ("sd", "cholesky", "period"):
            self.register_buffer(name, getattr(base, name))
        self.register_buffer("index", index)
        # Correlated noise spreads the one group's whitened vector over all components.
        self.register_buffer("support", index if diagonal else torch.zeros_like(index))

    @property
    def is_white(self) -> bool:
        """False: data of one group are correlated."""
        return False

    def of_lane(self, lane: int) -> Offsets:
        """Return the likelihood of one lane."""
        return Offsets(self.base.of_lane(lane), self.index, self.tau, self.mean)

    def precision(self, like: Tensor) -> Tensor | None:
        """Return None: data of one group are correlated."""
        return None

    def weights(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return None: data of one group are correlated."""
        return None

    def members(self, like: Tensor) -> Tensor:
        """Return B summed over the groups: 1 for each component of a group, [1, …]."""
        return (self.index >= 0).to(like).expand(like.shape[1:])[None]

    def _directions(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return w of all groups, [lanes, …], and n, [lanes, groups]."""
        ones = self.members(r).expand(self.lanes, *r.shape[1:])
        w = self.base.whiten(ones)
        return w, group_sum(w.square(), self.support, self.groups)

    def _shrunk(self, r: Tensor) -> Tensor:
        """Return Π (I − c_g w_g w_gᵀ) r."""
        w, n = self._directions(r)
        c = (1 - (1 + self.tau**2 * n).rsqrt()) / n.clamp_min(1e-30)
        w, c = per_row(w, r), per_row(c, r)
        along = group_sum(w * r, self.support, self.groups) * c
        return r - w * spread(along, self.support, r)

    def difference(self, y: Tensor, u: Tensor) -> Tensor:
        """Return y − u − B μ."""
        return self.base.difference(y - self.mean * self.members(y), u)

    def whiten(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return W r."""
        return self._shrunk(self.base.whiten(r, u))

    def whiten_t(self, r: Tensor, u: Tensor | None = None) -> Tensor:
        """Return Wᵀ r."""
        return self.base.whiten_t(self._shrunk(r), u)

    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return −log p(y | u) with the offsets marginalised, up to a constant, [B]."""
        return super().nll(u, y) + log_volume(self, y)

    def noise(self, like: Tensor, streams: Streams) -> Tensor:
        """Return B b + n."""
        b = self.tau * streams.randn((self.groups,), like)
        return self.base.noise(like, streams) + self.placed(b, like)

    def placed(self, b: Tensor, like: Tensor) -> Tensor:
        """Return B b of offsets [B, groups], the shape of `like`."""
        return spread(b, self.index, like)

    def draw_offsets(self, u: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """Return μ + b, b | u, y ~ N(P w·e, P) with P = 1/(1/τ² + n) per group, [B, groups]."""
        w, n = self._directions(y)
        e = self.base.whiten(self.difference(y, u))
        p = 1.0 / (1.0 / self.tau**2 + n)
        mean = p * group_sum(w * e, self.support, self.groups)
        return self.mean + mean + p.sqrt() * streams.randn((self.groups,), mean)


def scaled(base: Likelihood, scale: Tensor, index: Tensor | None = None) -> Scaled:
    """Return the base's noise times a factor per lane.

    Raises:
        ConfigError: The noise is not Gaussian.
    """
    if not isinstance(base, Gaussian):
        raise ConfigError(
            "This noise has no scale to draw",
            expected="Gaussian noise",
            got=type(base).__name__,
            remedy="set noise='fixed'",
        )
    return Scaled(base, scale, index)


def log_volume(likelihood: Gaussian, y: Tensor) -> Tensor:
    """Return −log det W beyond that of the declared noise, [B or 1]."""
    if isinstance(likelihood, Scaled):
        return likelihood.log_volume(y)
    if isinstance(likelihood, Offsets):
        _, n = likelihood._directions(y)
        grown = 0.5 * torch.log1p(likelihood.tau**2 * n).sum(1)
        return grown + log_volume(likelihood.base, y)
    return y.new_zeros(1)


def without_offsets(likelihood: Likelihood) -> Likelihood:
    """Return the noise beside the marginalised offsets."""
    while isinstance(likelihood, Offsets):
        likelihood = likelihood.base
    return likelihood


def relative_precision(likelihood: Likelihood, like: Tensor) -> Tensor:
    """Return the mean of declared ÷ noise variance, per lane, to broadcast over `like`."""
    likelihood = without_offsets(likelihood)
    if not isinstance(likelihood, Scaled):
        return like.new_ones(())
    return likelihood.relative_precision().to(like).reshape(-1, *(1,) * (like.ndim - 1))


def carries_data(likelihood: Gaussian, y: Tensor) -> Tensor:
    """Return 1 for each component whose standard deviation is finite, else 0, [1, …] as float64."""
    ones = torch.ones_like(y[:1], dtype=torch.float64)
    if likelihood.sd is None:
        return ones
    return ones * torch.isfinite(likelihood.sd).to(ones)


def components(likelihood: Likelihood, y: Tensor) -> int:
    """Return the number of real components of one measurement [1, …] that carry data."""
    if not isinstance(likelihood, Gaussian):
        return y.numel()
    return int(carries_data(likelihood, y).sum())


def group_sum(value: Tensor, index: Tensor | None, groups: int) -> Tensor:
    """Return the sums of [B, …] by group, [B, groups]; an index below 0 is no group."""
    flat = value.flatten(1)
    if index is None:
        return flat.sum(1, keepdim=True)
    if groups == 1:
        return (value * (index >= 0).to(value)).flatten(1).sum(1, keepdim=True)
    where = index.expand(value.shape[1:]).flatten()
    out = flat.new_zeros(len(flat), groups + 1)
    return out.index_add(1, torch.where(where < 0, groups, where), flat)[:, :groups]


def spread(value: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Return [B, groups] at each component's group, the shape of `like`; 0 where there is none."""
    padded = torch.cat([value, torch.zeros_like(value[:, :1])], 1)
    where = index.expand(like.shape[1:])
    return padded[:, torch.where(where < 0, value.shape[1], where)]


def per_row(value: Tensor, r: Tensor) -> Tensor:
    """Return a value per lane for rows that are several per lane, one lane after the other."""
    if len(value) in (1, len(r)):
        return value
    return value.repeat_interleave(math.ceil(len(r) / len(value)), 0)
