"""Other people's networks as priors: a denoiser, EDM's F or D, a discrete DDPM.

    denoiser   D(x, σ) = N(x, σ)
    edm        D(x, σ) = c_skip x + c_out N(c_in x, ln σ / 4),   or N(x, σ) itself
    ddpm       x_t = s x with s = √ᾱ = 1/√(1+σ²), t from σ = √((1−ᾱ_t)/ᾱ_t), and
               epsilon:  D = x − σ N(x_t, t)
               v:        D = s x_t − σ s N(x_t, t)
               x0:       D = N(x_t, t)

in the network's own units u; physical values are x = offset + scale·u.

Sources: Karras et al. 2022 (arXiv 2206.00364); Ho et al. 2020 (arXiv 2006.11239); v: Salimans & Ho
2022 (arXiv 2202.00512); cosine schedule: Nichol & Dhariwal 2021 (arXiv 2102.09672).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sciinv.covariances import Covariance, Implicit
from sciinv.errors import PriorError
from sciinv.priors.base import Prior, check_channels, sigma_like
from sciinv.priors.widths import FittedWidths

# Calls the network in its own units: (network, u [B, C, H, W], σ [B]) -> D_u.
Denoise = Callable[[Callable[..., Tensor], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Direct:
    """D_u(u, σ) = N(u, σ): any deepinv denoiser, or a preconditioned EDM network."""

    def __call__(self, network: Callable[..., Tensor], u: Tensor, sigma: Tensor) -> Tensor:
        """Return D_u(u, σ); u [B, C, H, W], σ [B]."""
        return network(u, sigma)


@dataclass(frozen=True)
class EDM:
    """D_u = c_skip u + c_out F(c_in u, ln σ / 4) (Karras et al. 2022, table 1).

    Attributes:
        sigma_data: Root mean square of u over the training images.
    """

    sigma_data: float = 0.5

    def __call__(self, network: Callable[..., Tensor], u: Tensor, sigma: Tensor) -> Tensor:
        """Return D_u(u, σ); u [B, C, H, W], σ [B]."""
        s = sigma_like(sigma, u)
        var = s**2 + self.sigma_data**2
        out = network(u / var.sqrt(), sigma.log() / 4)
        return self.sigma_data**2 / var * u + s * self.sigma_data / var.sqrt() * out


@dataclass(frozen=True)
class DDPM:
    """A network of the variance-preserving process with discrete steps t = 0 … N − 1.

    Attributes:
        alphas_cumprod: ᾱ_t, [N], falling from near 1 to near 0.
        prediction: What the network returns.
        timestep: "nearest" gives the network the whole number whose ln σ is nearest;
            "interpolated" a fraction, for networks that embed t by sines and cosines.
        timestep_scale: Factor on t before the network sees it.
    """

    alphas_cumprod: np.ndarray
    prediction: Literal["epsilon", "v", "x0"] = "epsilon"
    timestep: Literal["nearest", "interpolated"] = "nearest"
    timestep_scale: float = 1.0

    @property
    def sigmas(self) -> np.ndarray:
        """σ_t = √((1−ᾱ_t)/ᾱ_t), the noise level of x_t / √ᾱ_t, rising."""
        return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    def step_of(self, sigma: Tensor) -> Tensor:
        """Return t [B] of σ [B]: linear in ln σ between the steps, held at both ends."""
        table = torch.as_tensor(np.log(self.sigmas)).to(sigma)
        at = sigma.log()
        upper = torch.searchsorted(table, at.contiguous()).clamp(1, len(table) - 1)
        low, high = table[upper - 1], table[upper]
        t = upper - 1 + ((at - low) / (high - low)).clamp(0, 1)
        if self.timestep == "nearest":
            t = t.round()
        if self.timestep_scale != 1.0:
            return t * self.timestep_scale
        return t.long() if self.timestep == "nearest" else t

    def __call__(self, network: Callable[..., Tensor], u: Tensor, sigma: Tensor) -> Tensor:
        """Return D_u(u, σ); u [B, C, H, W], σ [B]."""
        s = sigma_like(sigma, u)
        scale = 1 / (1 + s**2).sqrt()
        x_t = scale * u
        out = network(x_t, self.step_of(sigma))
        if self.prediction == "epsilon":
            return u - s * out
        if self.prediction == "v":
            return scale * x_t - s * scale * out
        return out


def alphas_cumprod(
    kind: str, steps: int = 1000, first: float = 1e-4, last: float = 0.02
) -> np.ndarray:
    """Return ᾱ_t = Π (1 − β), [steps], of a named schedule.

    Args:
        kind: "linear" (β from `first` to `last`), "scaled_linear" (√β linear) or "cosine"
            (ᾱ ∝ cos²(π/2 · (t/N + 0.008)/1.008), β ≤ 0.999).
        steps: N.
        first: β of the first step.
        last: β of the last step.

    Raises:
        PriorError: The schedule is not known.
    """
    if kind == "linear":
        beta = np.linspace(first, last, steps)
    elif kind == "scaled_linear":
        beta = np.linspace(first**0.5, last**0.5, steps) ** 2
    elif kind == "cosine":
        t = np.arange(steps + 1) / steps
        f = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    else:
        raise PriorError(
            "There is no noise schedule of this name",
            where="schedule.kind",
            expected="linear, scaled_linear or cosine, or alphas_cumprod",
            got=kind,
            remedy="name one of these, or list alphas_cumprod",
        )
    return np.cumprod(1 - beta)


class WrappedPrior(Prior):
    """A prior whose denoiser is a network that was trained elsewhere.

    D(x, σ) = offset + scale · D_u((x − offset)/scale, σ/scale). The network runs in the precision
    of its weights; the result has the dtype of x. Operations that overwrite their input are turned
    off, so that derivatives of D can be taken.

    Args:
        network: The network, its weights loaded.
        parametrisation: How D_u follows from it: `Direct`, `EDM` or `DDPM`.
        channels: Channels of an image (2 for complex: real, imaginary).
        sigma_min: Smallest σ to use, units of u.
        sigma_max: Largest σ, units of u.
        shape: (C, H, W) where the network serves one size only.
        per_channel: The network has one channel, and is applied to each channel by itself.
        learned_variance: The network returns twice the channels; the first half is used.
        units: Unit of a pixel value.
        offset: Physical value of u = 0.
        scale: Physical value of one unit of u.
        name: Name for messages.
        widths: Fitted widths of p(x0 | x_t) in physical units, or None.
        inflate: Factor on the fitted variances.
        micro_batch: Draws computed together by default.
    """

    def __init__(
        self,
        network: nn.Module,
        parametrisation: Denoise,
        *,
        channels: int,
        sigma_min: float,
        sigma_max: float,
        shape: tuple[int, int, int] | None = None,
        per_channel: bool = False,
        learned_variance: bool = False,
        units: str = "",
        offset: float = 0.0,
        scale: float = 1.0,
        name: str = "wrapped network",
        widths: FittedWidths | None = None,
        inflate: float = 1.0,
        micro_batch: int = 4,
    ) -> None:
        super().__init__()
        if not (0 < sigma_min < sigma_max < math.inf and 0 < scale < math.inf):
            raise PriorError(
                "The prior's noise levels or its scale are not possible",
                where=name,
                expected="0 < sigma_min < sigma_max and scale > 0",
                got=f"sigma_min={sigma_min}, sigma_max={sigma_max}, scale={scale}",
                remedy="correct them; σ counts in the network's own units",
            )
        self.network, self.parametrisation = network, parametrisation
        self.channels, self.shape, self.per_channel = channels, shape, per_channel
        self.learned_variance = learned_variance
        self.units, self.name, self.micro_batch = units, name, micro_batch
        self.offset, self.scale = offset, scale
        self.sigma_min, self.sigma_max = sigma_min * scale, sigma_max * scale
        self.widths, self.inflate = widths, inflate
        for module in network.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return D(x, σ); x [B, C, H, W] and σ (a number or [B]) in physical units.

        Raises:
            PriorError: Wrong number of channels, a σ that is not positive, or the network returns
                something else than an image of that shape.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
        check_channels(x, self.channels, self.name)
        if isinstance(sigma, int | float) and not 0 < sigma < math.inf:
            raise PriorError(
                "A denoiser is defined for a positive, finite noise level",
                where=self.name,
                expected=f"sigma in [{self.sigma_min:.3g}, {self.sigma_max:.3g}] {self.units}",
                got=sigma,
            )
        own = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), x.dtype)
        u = ((x - self.offset) / self.scale).to(own)
        s = (sigma_like(sigma, x) / self.scale).to(own).flatten()
        if self.per_channel:
            u, s = u.reshape(-1, 1, *u.shape[2:]), s.repeat_interleave(self.channels)
        out = self.parametrisation(self._call, u, s)
        return self.offset + self.scale * out.reshape(x.shape).to(x.dtype)

    def _call(self, u: Tensor, level: Tensor) -> Tensor:
        out = self.network(u, level)
        out = getattr(out, "sample", out)  # diffusers wraps its tensors
        if isinstance(out, Tensor) and self.learned_variance:
            out = out[:, : u.shape[1]]
        if not isinstance(out, Tensor) or out.shape != u.shape:
            raise PriorError(
                "The network does not return an image of the shape of its input",
                where=f"{self.name}: {type(self.network).__name__}",
                expected=list(u.shape),
                got=list(out.shape) if isinstance(out, Tensor) else type(out).__name__,
                remedy="check channels, learned_variance and per_channel",
            )
        return out

    def conditional_covariance(self, x_t: Tensor, sigma: float) -> Covariance:
        """Return σ² ∂D/∂x by forward derivatives; attention by its plain formula."""
        product = super().conditional_covariance(x_t, sigma)

        def plain(v: Tensor) -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no forward derivative
                return product(v)

        return Implicit(plain)
