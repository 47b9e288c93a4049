"""Covariances C = L Lᵀ of images, known through their action; the widths of p(x0 | x_t)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Components:
    """p(x0 | x_t) ∝ Σ_k w_k N(x0; μ_k, C_k) N(x_t; x0, σ² I) with C_k = V_k diag(λ_k) V_kᵀ.

    Attributes:
        x_t: [B, D].
        sigma: σ, the noise level.
        weights: w_k, [K].
        means: μ_k, [K, D].
        vectors: V_k, [K, D, D].
        values: λ_k ≥ 0, [K, D].
    """

    x_t: Tensor
    sigma: float
    weights: Tensor
    means: Tensor
    vectors: Tensor
    values: Tensor


class Covariance(ABC):
    """A positive semi-definite C = L Lᵀ on images [B, C, H, W]; L is symmetric unless said."""

    #: True where every lane of a batch has the same covariance
    shared: bool = True

    def coordinates(self, like: Tensor) -> tuple[int, ...]:
        """Return the shape of one lane's z with x = L z; an image's unless L has more columns."""
        return tuple(like.shape[1:])

    def origin(self, like: Tensor) -> Tensor:
        """Return z = 0 of each lane of an image batch."""
        return like.new_zeros(len(like), *self.coordinates(like))

    @abstractmethod
    def sqrt(self, z: Tensor) -> Tensor:
        """Return L z."""

    def sqrt_t(self, v: Tensor) -> Tensor:
        """Return Lᵀ v."""
        return self.sqrt(v)

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self.sqrt(self.sqrt_t(v))

    def power_spectrum(self, like: Tensor) -> Tensor | None:
        """Return P(k) where C = F⁻¹ P F, to broadcast over `like`; None where C is not that."""
        return None

    def typical_spectrum(self, like: Tensor) -> tuple[float, Tensor] | None:
        """Return (a, P(k)): a P is what C has on average over images; None if that is unknown."""
        power = self.power_spectrum(like)
        return None if power is None else (1.0, power)

    def rows(self, a: Tensor) -> Tensor:
        """Return C applied to each row of a, [B, M, C, H, W] → the same shape."""
        return self._by_row(self, a)

    def rows_root(self, a: Tensor) -> Tensor:
        """Return Lᵀ applied to each row of a, [B, M, C, H, W] → the same shape."""
        return self._by_row(self.sqrt_t, a)

    def _by_row(self, act: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
        if self.shared:
            return act(a.flatten(0, 1)).reshape(a.shape)
        return torch.stack([act(a[:, m]) for m in range(a.shape[1])], dim=1)


class Isotropic(Covariance):
    """C = r² I.

    Args:
        variance: r², a number or one per lane [B], squared units of x.
    """

    def __init__(self, variance: Tensor | float) -> None:
        self.variance = torch.as_tensor(variance)
        self.shared = self.variance.ndim == 0

    def _r2(self, v: Tensor) -> Tensor:
        r2 = self.variance.to(v)
        return r2 if r2.ndim == 0 else r2.reshape(-1, *(1 for _ in v.shape[1:]))

    def sqrt(self, z: Tensor) -> Tensor:
        """Return r z."""
        return self._r2(z).sqrt() * z

    def __call__(self, v: Tensor) -> Tensor:
        """Return r² v."""
        return self._r2(v) * v

    def power_spectrum(self, like: Tensor) -> Tensor:
        """Return r² at every frequency."""
        return self._r2(like)

    def _by_row(self, act: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
        return act(a)


class Fourier(Covariance):
    """C diagonal in the orthonormal 2-D DFT: F⁻¹ diag(P(k)) F, a stationary covariance.

    Args:
        power: P(k) in unshifted FFT order, [H, W], or [C, H, W] with one spectrum per channel.
    """

    def __init__(self, power: Tensor) -> None:
        self.power = power

    def power_spectrum(self, like: Tensor) -> Tensor:
        """Return P(k)."""
        return self.power.to(like)

    def _apply(self, gain: Tensor, v: Tensor) -> Tensor:
        half = gain[..., : v.shape[-1] // 2 + 1].to(v)
        return torch.fft.irfft2(torch.fft.rfft2(v) * half, s=v.shape[-2:])

    def sqrt(self, z: Tensor) -> Tensor:
        """Return F⁻¹ √P F z."""
        return self._apply(self.power.sqrt(), z)

    def __call__(self, v: Tensor) -> Tensor:
        """Return F⁻¹ P F v."""
        return self._apply(self.power, v)


class Pixelwise(Covariance):
    """C = diag(s) K diag(s): a width per pixel s and a shared correlation K.

    Args:
        sd: s, [B, C, H, W], units of x.
        correlation: K, a stationary covariance of unit variance, or None for white.
        mean_variance: What s² is on average over many images, if known.
    """

    shared = False

    def __init__(
        self, sd: Tensor, correlation: Fourier | None = None, mean_variance: float | None = None
    ) -> None:
        self.sd = sd
        self.mean_variance = mean_variance
        self.correlation = correlation

    def sqrt(self, z: Tensor) -> Tensor:
        """Return L z = s K^{1/2} z; L is not symmetric where K is not white."""
        return self.sd * (z if self.correlation is None else self.correlation.sqrt(z))

    def sqrt_t(self, v: Tensor) -> Tensor:
        """Return Lᵀ v = K^{1/2} s v."""
        w = self.sd * v
        return w if self.correlation is None else self.correlation.sqrt(w)

    def __call__(self, v: Tensor) -> Tensor:
        """Return s K s v."""
        w = self.sd * v
        return self.sd * (w if self.correlation is None else self.correlation(w))

    def typical_spectrum(self, like: Tensor) -> tuple[float, Tensor] | None:
        """Return (mean variance, spectrum of K)."""
        if self.mean_variance is None:
            return None
        white = torch.ones((), dtype=like.dtype, device=like.device)
        power = white if self.correlation is None else self.correlation.power.to(like)
        return self.mean_variance, power

    def rows(self, a: Tensor) -> Tensor:
        """Return s K s applied to each row of a, [B, M, C, H, W]."""
        sd = self.sd[:, None]
        return sd * self._correlate(sd * a, self.correlation)

    def rows_root(self, a: Tensor) -> Tensor:
        """Return K^{1/2} s applied to each row of a, [B, M, C, H, W]."""
        root = None if self.correlation is None else Fourier(self.correlation.power.sqrt())
        return self._correlate(self.sd[:, None] * a, root)

    @staticmethod
    def _correlate(a: Tensor, by: Fourier | None) -> Tensor:
        return a if by is None else by(a.flatten(0, 1)).reshape(a.shape)


class Dense(Covariance):
    """C given by eigenvectors and eigenvalues: U diag(λ) Uᵀ.

    Args:
        vectors: U, [D, D] or one per lane [B, D, D].
        values: λ ≥ 0, [D] or [B, D], squared units of x.
    """

    def __init__(self, vectors: Tensor, values: Tensor) -> None:
        self.vectors = vectors
        self.values = values.clamp_min(0)
        self.shared = vectors.ndim == 2

    def _apply(self, gain: Tensor, v: Tensor) -> Tensor:
        u = self.vectors.to(v)
        flat = v.flatten(1)
        if self.shared:
            return (((flat @ u) * gain.to(v)) @ u.mT).reshape(v.shape)
        spectrum = (u.mT @ flat.unsqueeze(-1)).squeeze(-1) * gain.to(v)
        return (u @ spectrum.unsqueeze(-1)).squeeze(-1).reshape(v.shape)

    def sqrt(self, z: Tensor) -> Tensor:
        """Return U √λ Uᵀ z."""
        return self._apply(self.values.sqrt(), z)

    def __call__(self, v: Tensor) -> Tensor:
        """Return U λ Uᵀ v."""
        return self._apply(self.values, v)

    def rows(self, a: Tensor) -> Tensor:
        """Return C applied to each row of a [B, M, …]."""
        return self._rows(self.values, a)

    def rows_root(self, a: Tensor) -> Tensor:
        """Return Lᵀ applied to each row of a [B, M, …]."""
        return self._rows(self.values.sqrt(), a)

    def _rows(self, values: Tensor, a: Tensor) -> Tensor:
        u, flat, gain = self.vectors.to(a), a.flatten(2), values.to(a)
        gain = gain if self.shared else gain.unsqueeze(1)
        return (((flat @ u) * gain) @ u.mT).reshape(a.shape)


class Implicit(Covariance):
    """C known only through products C v, as σ² ∂D/∂x of a network; its root by Lanczos.

    L z ≈ ‖z‖ V √T e₁ with V, T from `steps` Lanczos steps started at z: the Krylov approximation
    of C^{1/2} z. Negative Ritz values (a network's Jacobian is not exactly symmetric) count as 0.

    Args:
        product: v ↦ C v.
        steps: Lanczos steps, each one product.
    """

    shared = False

    def __init__(self, product: Callable[[Tensor], Tensor], steps: int = 8) -> None:
        self.product = product
        self.steps = steps
        self.calls = 0

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        self.calls += 1
        return self.product(v)

    def sqrt(self, z: Tensor) -> Tensor:
        """Return the Krylov approximation of C^{1/2} z."""
        shape = z.shape
        norm = z.flatten(1).norm(dim=1)
        q = z.flatten(1) / norm.clamp_min(1e-30)[:, None]
        basis, alphas, betas = [q], [], []
        for step in range(self.steps):
            w = self(basis[-1].reshape(shape)).flatten(1)
            alphas.append((w * basis[-1]).sum(1))
            for older in basis:  # full reorthogonalisation: the basis is small
                w = w - (w * older).sum(1, keepdim=True) * older
            beta = w.norm(dim=1)
            if step + 1 < self.steps:
                betas.append(beta)
                basis.append(w / beta.clamp_min(1e-30)[:, None])
        t = torch.diag_embed(torch.stack(alphas, 1))
        if betas:
            off = torch.stack(betas, 1)
            t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        values, vectors = torch.linalg.eigh(t.double())
        root = vectors @ (values.clamp_min(0).sqrt()[..., None] * vectors[:, 0, :, None])
        weights = root.squeeze(-1).to(z) * norm[:, None]
        return (torch.stack(basis, 2) @ weights[..., None]).squeeze(-1).reshape(shape)


class Deferred(Covariance):
    """A covariance that is worked out when it is first used.

    Args:
        make: Returns it.
        shared: Whether every lane has the same.
    """

    def __init__(self, make: Callable[[], Covariance], shared: bool = False) -> None:
        self._make, self.shared = make, shared
        self._made: Covariance | None = None

    @property
    def made(self) -> Covariance:
        """The covariance."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def coordinates(self, like: Tensor) -> tuple[int, ...]:
        """Return the shape of one lane's z."""
        return self.made.coordinates(like)

    def sqrt(self, z: Tensor) -> Tensor:
        """Return L z."""
        return self.made.sqrt(z)

    def sqrt_t(self, v: Tensor) -> Tensor:
        """Return Lᵀ v."""
        return self.made.sqrt_t(v)

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self.made(v)

    def rows(self, a: Tensor) -> Tensor:
        """Return C applied to each row of a, [B, M, …]."""
        return self.made.rows(a)

    def rows_root(self, a: Tensor) -> Tensor:
        """Return Lᵀ applied to each row of a, [B, M, …]."""
        return self.made.rows_root(a)
