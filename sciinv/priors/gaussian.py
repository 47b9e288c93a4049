"""The Gaussian prior: everything about it is known in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciinv.covariances import Covariance, Dense, Fourier
from sciinv.errors import PriorError
from sciinv.priors.base import Prior, sigma_like


class Gaussian(Prior):
    """p(x0) = N(m, C), with D(x, σ) = m + C (C + σ² I)⁻¹ (x − m).

    p(x0 | x_t) = N(D(x_t, σ), C − C (C + σ² I)⁻¹ C), whatever x_t.

    Args:
        mean: m, [C, H, W], units of the image.
        covariance: C, [D, D] with D = C·H·W, symmetric positive semi-definite.
        power_spectrum: Instead of `covariance`, E|F x0|² of a stationary prior in the orthonormal
            DFT and unshifted order, [H, W]; symmetric under k → −k.
        units: Unit of a pixel value.

    Raises:
        PriorError: Not exactly one of the two is given, a shape is wrong, or a spectrum or an
            eigenvalue is negative, the covariance is not symmetric or the spectrum is not that of
            real images.
    """

    micro_batch = 8

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor | None = None,
        power_spectrum: Tensor | None = None,
        units: str = "",
    ) -> None:
        super().__init__()
        mean = torch.as_tensor(mean)
        if mean.ndim != 3 or (covariance is None) == (power_spectrum is None):
            raise PriorError(
                "A Gaussian prior takes a mean and one covariance",
                expected="mean [C, H, W] and either covariance [D, D] or power_spectrum [H, W]",
                got=f"mean {list(mean.shape)}, covariance "
                f"{'given' if covariance is not None else 'none'}, power_spectrum "
                f"{'given' if power_spectrum is not None else 'none'}",
                remedy="give exactly one of covariance and power_spectrum",
            )
        self.units = units
        self.shape = (int(mean.shape[0]), int(mean.shape[1]), int(mean.shape[2]))
        self.channels = self.shape[0]
        self.register_buffer("mean", mean)
        if covariance is not None:
            size = mean.numel()
            covariance = torch.as_tensor(covariance)
            _check_shape("covariance", covariance, (size, size))
            _check_even("covariance", covariance, covariance.mT, "C = Cᵀ")
            sym = 0.5 * (covariance + covariance.mT)
            values, vectors = torch.linalg.eigh(sym.double())
            _check_positive("covariance", values)
            self.register_buffer("values", values.clamp_min(0).to(mean.dtype))
            self.register_buffer("vectors", vectors.to(mean.dtype))
        else:
            power = torch.as_tensor(power_spectrum)
            _check_shape("power_spectrum", power, self.shape[1:])
            _check_positive("power_spectrum", power)
            turned = power.flip(0, 1).roll((1, 1), (0, 1))  # the value at −k, DFT order
            _check_even("power_spectrum", power, turned, "P(k) = P(−k) in the unshifted DFT order")
            self.register_buffer("values", power.clamp_min(0).to(mean.dtype))
            self.vectors = None
        top = float(self.values.max())
        average = float(self.values.mean())
        self.sigma_max = 20.0 * max(top**0.5, float(mean.abs().max()))
        self.sigma_min = 0.05 * average**0.5

    def _covariance(self, values: Tensor) -> Covariance:
        return Fourier(values) if self.vectors is None else Dense(self.vectors, values)

    @property
    def covariance(self) -> Covariance:
        """The prior covariance C."""
        return self._covariance(self.values)

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return m + C (C + σ² I)⁻¹ (x − m); x [B, C, H, W], σ a number or [B]."""
        d = x - self.mean.to(x)
        values = self.values.to(x)
        s2 = sigma_like(sigma, x) ** 2
        if self.vectors is None:
            gain = values / (values + s2)
            return self.mean.to(x) + torch.fft.ifft2(torch.fft.fft2(d) * gain).real
        u = self.vectors.to(x)
        gain = values / (values + s2.reshape(-1, 1))
        return self.mean.to(x) + (((d.flatten(1) @ u) * gain) @ u.mT).reshape(x.shape)

    def conditional_covariance(self, x_t: Tensor, sigma: float) -> Covariance:
        """Return the covariance of p(x0 | x_t): λσ²/(λ+σ²) on the eigenvectors of C."""
        s2 = float(sigma) ** 2
        return self._covariance(self.values * s2 / (self.values + s2))

    def isotropic_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return tr(Cov[x0 | x_t]) / D."""
        s2 = float(sigma) ** 2
        return (self.values * s2 / (self.values + s2)).mean()

    def spectral_variance(self, x_t: Tensor, sigma: float) -> Tensor:
        """Return the diagonal of Cov[x0 | x_t] in the orthonormal DFT, [H, W]."""
        s2 = float(sigma) ** 2
        values = self.values * s2 / (self.values + s2)
        if self.vectors is None:
            return values
        return spectral_diagonal(self.vectors, values, self.shape)

    def sample(self, streams: Any, like: Tensor) -> Tensor:
        """Return exact draws of p(x0), one per stream, [B, C, H, W]."""
        return self.mean.to(like) + self.covariance.sqrt(streams.randn(self.shape, like))


def spectral_diagonal(vectors: Tensor, values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return diag(F U λ Uᵀ F*) averaged over channels, [H, W], orthonormal DFT."""
    modes = torch.fft.fft2(vectors.mT.reshape(-1, *shape), norm="ortho").abs().square()
    return (values.reshape(-1, 1, 1, 1) * modes).sum(0).mean(0)


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != tuple(shape):
        raise PriorError(
            f"The prior's {name} does not match its mean",
            expected=list(shape),
            got=list(value.shape),
            remedy=f"give a {name} of that shape",
        )


def _check_even(name: str, value: Tensor, mirrored: Tensor, expected: str) -> None:
    """Raise unless two forms of one number agree to rounding: closed forms use one or the other."""
    kind = value.dtype if value.is_floating_point() else torch.float32
    error = float((value - mirrored).abs().max())
    top = float(value.abs().max())
    # √eps: covariances are products of matrices, whose rounding grows with their size.
    if error > torch.finfo(kind).eps ** 0.5 * top:
        raise PriorError(
            f"The prior's {name} is not symmetric",
            expected=f"{expected}, to rounding",
            got=f"a difference of {error:.3g}, the largest value being {top:.3g}",
            remedy="take the mean of both, or look for what turned one of them (fftshift?)",
        )


def _check_positive(name: str, values: Tensor) -> None:
    low, top = float(values.min()), float(values.max())
    if not top > 0 or low < -1e-6 * top or not bool(torch.isfinite(values).all()):
        raise PriorError(
            f"The prior's {name} is not positive semi-definite",
            expected="finite eigenvalues ≥ 0, not all 0",
            got=f"between {low:g} and {top:g}",
            remedy="check its sign and symmetry",
        )
