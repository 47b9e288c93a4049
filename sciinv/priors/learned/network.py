"""A learned diffusion prior: deepinv's DRUNet inside the preconditioning of EDM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from deepinv.models import DRUNet
from torch import Tensor, nn

from sciinv.errors import PriorError
from sciinv.priors.base import Prior, check_channels, sigma_like
from sciinv.priors.learned import gains
from sciinv.priors.learned.bands import served
from sciinv.priors.learned.linear import LinearSkip
from sciinv.priors.learned.planes import (
    blur,
    conjugate,
    constant_phase,
    pad,
    slow_phase,
    turn,
    unit,
)
from sciinv.priors.learned.specs import UPPER, HighSpec, NetworkSpec, Preconditioning
from sciinv.priors.widths import FittedWidths
from sciinv.priors.widths.local import LocalWidths
from sciinv.priors.widths.moves import MovedEdges

__all__ = ["EDMNetwork", "HighSpec", "LearnedPrior", "NetworkSpec", "Preconditioning"]


class EDMNetwork(nn.Module):
    """D_u(x, σ) = c_skip x + c_out F(c_in x, ln σ / 4), in units of u (Karras et al. 2022).

    F is a `deepinv.models.DRUNet` without biases. It gets two constant maps beside the image:
    ln σ / 4, and 1, without which it could not make an offset at σ = 1. Pixel blocks are folded
    into channels, which costs patch² less work at the finest scale.

    Args:
        spec: Sizes of the network.
        sigma_data: Root mean square of the class.
        sigma_range: (least, greatest) σ of training; outside it the map of ln σ stays constant.
    """

    mean: Tensor

    def __init__(
        self, spec: NetworkSpec, sigma_data: float, sigma_range: tuple[float, float]
    ) -> None:
        super().__init__()
        self.spec = spec
        self.sigma_data = sigma_data
        self.sigma_range = sigma_range
        if spec.gains and spec != NetworkSpec(
            spec.channels, spec.nc, spec.nb, 1, phase=spec.phase, linear=True, coarse=spec.coarse,
            gains=spec.gains,
        ):  # fmt: skip
            raise PriorError(
                "A network that scales bands takes no other input than the filtered image",
                expected="gains with linear, coarse, patch 1, phase or not, and nothing else",
                got=spec,
            )
        folded = (1 if spec.apart else spec.channels) * spec.patch**2
        if spec.mean_size is not None:
            self.register_buffer("mean", torch.zeros(1, spec.channels, *spec.mean_size))
        if spec.linear:
            self.linear = LinearSkip()
        shown = 1 + spec.highpass + (spec.mean_size is not None) + spec.linear
        seen, made = folded * shown, folded
        if spec.gains:
            seen, made = spec.gains + 3 * spec.phase, spec.gains + 2 * spec.phase
        # deepinv adds the channel of the second map.
        self.unet = DRUNet(
            in_channels=seen + 1,
            out_channels=made,
            nc=tuple(spec.nc),
            nb=spec.nb,
            act_mode="r",  # not in place, for torch.func
            pretrained=None,
        )
        if spec.gains and spec.phase:
            gains.begin(self.unet)
        if spec.linear:
            with torch.no_grad():
                self.unet.m_tail.weight.zero_()  # start from the filter

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return D_u(x, σ); x [B, C, H, W] of any H, W; σ [B, 1, 1, 1]."""
        skip, c_out, raw = self.parts(x, sigma)
        return skip + c_out * raw.to(x.dtype)

    def parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return c_skip x (or W x), c_out and F, of which D_u = c_skip x + c_out F."""
        root = (sigma**2 + self.sigma_data**2).sqrt()
        if self.spec.linear:
            mean = 0.0 if self.spec.mean_size is None else self.mean.to(x.dtype)
            skip, size, c_out = self.linear(x - mean, sigma)
            if self.spec.gains:
                return skip, c_out, self.gained(x, skip, sigma, c_out)
            return mean + skip, c_out, self.raw((x - mean) / root, sigma, skip / size)
        skip, c_out = self.sigma_data**2 / root**2 * x, sigma * self.sigma_data / root
        return skip, c_out, self.raw(x / root, sigma)

    def gained(self, x: Tensor, y: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """Return (Σ g_b ⊙ B_b y)/c_out + e^{iφ} a of the filtered image y of x (see `gains`)."""
        (H, W), k, own = y.shape[-2:], self.spec.coarse, self.unet.m_tail.weight.dtype
        y = F.avg_pool2d(pad(y / c_out, 8 * k), k)
        shape = (y.shape[-2], y.shape[-1])
        weights = gains.octaves(shape, self.spec.gains, y)
        power = self.linear.power(shape, y, k)
        gained = power * power / (power + sigma**2)
        size = gains.sizes(gained, weights) / (k * c_out)
        parts = gains.bands(y, weights)
        seen = [(parts.square().sum(2) + 1e-12).sqrt() / size]  # a root of 0 has no derivative
        if self.spec.phase:
            phase = unit(y)
            x = k * F.avg_pool2d(pad(x / (sigma**2 + self.sigma_data**2).sqrt(), 8 * k), k)
            whole = gained.mean((-2, -1), keepdim=True).sqrt() / (k * c_out)
            level = (y.square().sum(1, keepdim=True) + 1e-12).sqrt() / whole
            seen += [turn(x, conjugate(phase)), level]
        shown = torch.cat([*seen, self.maps(sigma, shape)], 1).to(own)
        g = self.unet.forward_unet(shown).to(y.dtype)
        out = (g[:, : self.spec.gains, None] * parts).sum(1)
        if self.spec.phase:
            out = out + turn(g[:, self.spec.gains :], phase)
        return F.interpolate(out, scale_factor=k, mode="bilinear")[..., :H, :W]

    def maps(self, sigma: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the two constant maps that F is shown, [B, 2, H, W]."""
        low, high = self.sigma_range
        level = (sigma.clamp(low, high).log() / 4).to(self.unet.m_tail.weight.dtype)
        return torch.cat([level, torch.ones_like(level)], 1).expand(-1, -1, *shape)

    def raw(self, x: Tensor, sigma: Tensor, more: Tensor | None = None) -> Tensor:
        """Return F(x, ln σ / 4) for an already scaled x; `more` is shown to it beside x."""
        H, W = x.shape[-2:]
        p, k, own = self.spec.patch, self.spec.coarse, self.unet.m_tail.weight.dtype
        x = pad(x, 8 * p * k)
        parts = [x]
        if more is not None:
            parts.append(pad(more, 8 * p * k))
        turned = self.spec.phase or self.spec.turn
        if turned:
            # the best linear estimate has the best phase, at the scale that the noise leaves
            slow = constant_phase(x) if self.spec.turn else slow_phase(x)
            filtered = self.spec.phase and more is not None and not self.spec.apart
            slow = unit(parts[1]) if filtered else slow
            parts = [turn(part, conjugate(slow)) for part in parts]
        if k > 1:  # noise of the blocks' means keeps unit size
            parts = [k * F.avg_pool2d(part, k) for part in parts]
        parts = [part.to(own) for part in parts]
        if self.spec.highpass:
            magnify = (sigma**2 + self.sigma_data**2).sqrt() / sigma
            fine = (parts[0] - blur(parts[0])) * magnify.to(own)
            parts.append(4 * torch.tanh(fine / 4))
        if self.spec.mean_size is not None:
            if tuple(self.spec.mean_size) != (H, W):
                raise PriorError(
                    "The prior knows the mean of its images, so it holds for their size alone",
                    expected=f"H, W = {tuple(self.spec.mean_size)}",
                    got=(H, W),
                )
            mean = F.avg_pool2d(pad(self.mean / self.sigma_data, 8 * p * k), k)
            parts.append(mean.to(own).expand_as(parts[0]))
        if self.spec.apart:
            parts = [part.flatten(0, 1)[:, None] for part in parts]
            sigma = sigma.expand(len(x), 1, 1, 1).repeat_interleave(self.spec.channels, 0)
        if p > 1:
            parts = [F.pixel_unshuffle(part, p) for part in parts]
        maps = self.maps(sigma, (parts[0].shape[-2], parts[0].shape[-1]))
        x = self.unet.forward_unet(torch.cat([parts[0], maps, *parts[1:]], 1))
        if p > 1:
            x = F.pixel_shuffle(x, p)
        if self.spec.apart:
            x = x[:, 0].unflatten(0, (-1, self.spec.channels))
        if k > 1:
            x = F.interpolate(x, scale_factor=k, mode="bilinear")
        if turned:
            x = turn(x.to(slow.dtype), slow)
        return x[..., :H, :W]


class LearnedPrior(Prior):
    """A diffusion prior with a trained network; takes and returns physical values.

    D(x, σ) = offset + scale · D_u((x − offset)/scale, σ/scale). Any H, W is computed (mirrored to
    a multiple of 8·patch and cropped). The arithmetic has the precision of the weights (float32 as
    loaded; in bfloat16 only F is, c_skip x stays float32), and D(x, σ) the dtype of x.

    Args:
        spec: Sizes of the network.
        constants: Range, offset and scale.
        train_shape: (C, H, W) of the training images.
        fixed_size: True where the class is defined on that grid alone.
        units: Unit of a pixel value.
        name: Name of the prior.
        high: A second network for high noise levels, or None.
        middle: A third one above that, or None.
        coarse: A last one above that, which sees the image's coarse structure alone, or None.
        widths: Fitted widths of p(x0 | x_t) in physical units, or None.
        local: Fitted local widths, in physical units, or None.
        moves: Fitted displacements of edges beside the local widths, or None.
        inflate: Factor on the fitted variances, found by calibration.
        levels: Annealing levels that suffice, found by calibration.
        local_inflate: Factor on the variances of the local widths at these levels.
        metadata: Everything else the file says (data, licence, training).

    References:
        Karras et al., "Elucidating the design space of diffusion-based generative models", 2022.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        constants: Preconditioning,
        *,
        train_shape: Sequence[int],
        fixed_size: bool = False,
        units: str = "",
        name: str = "prior",
        high: HighSpec | None = None,
        middle: HighSpec | None = None,
        coarse: HighSpec | None = None,
        widths: FittedWidths | None = None,
        local: LocalWidths | None = None,
        moves: MovedEdges | None = None,
        inflate: float = 3.0,
        levels: int = Prior.levels,
        local_inflate: float = Prior.local_inflate,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.constants = spec, constants
        c = constants
        self.network = EDMNetwork(spec, c.sigma_data, (c.sigma_min / 2, c.sigma_max * 2))
        self.high_spec, self.middle_spec, self.coarse_spec = high, middle, coarse
        for role, upper in self.uppers():
            ends = (upper.above / 2, c.sigma_max * 2)
            setattr(self, role, EDMNetwork(upper.network, c.sigma_data, ends))
        self.channels = spec.channels
        self.train_shape = (int(train_shape[0]), int(train_shape[1]), int(train_shape[2]))
        self.shape = self.train_shape if fixed_size else None
        self.units, self.name = units, name
        self.offset, self.scale = c.offset, c.scale
        self.sigma_data = c.sigma_data * c.scale
        self.typical = (c.offset, self.sigma_data)
        self.sigma_min, self.sigma_max = c.sigma_min * c.scale, c.sigma_max * c.scale
        self.widths, self.local, self.moves = widths, local, moves
        self.inflate, self.levels, self.local_inflate = inflate, levels, local_inflate
        self.metadata = dict(metadata or {})
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)  # fresh or loaded, the same bits

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        """Return D(x, σ); x [B, C, H, W] and σ (a number or [B]) in physical units.

        Raises:
            PriorError: Wrong number of channels, or a σ that is not positive.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
        check_channels(x, self.channels, self.name)
        s = sigma_like(sigma, x)
        compiling = torch.compiler.is_compiling()
        # A number is looked at on the host: to ask a device for it would stop the device.
        number = isinstance(sigma, int | float) and not compiling
        seen = torch.tensor(sigma, dtype=x.dtype) if number else s
        if not compiling and not _positive(seen):
            raise PriorError(
                "A denoiser is defined for a positive, finite noise level",
                where=self.name,
                expected=f"sigma in [{self.sigma_min:.3g}, {self.sigma_max:.3g}] {self.units}",
                got=sigma if isinstance(sigma, int | float) else s.flatten().tolist(),
            )
        own = self.network.unet.m_tail.weight.dtype
        dtype = own if own == torch.float64 else torch.float32
        u = ((x - self.offset) / self.scale).to(dtype)
        out = self._denoise(u, (s / self.scale).to(dtype), (seen / self.scale).to(dtype))
        return self.offset + self.scale * out.to(x.dtype)

    def _denoise(self, u: Tensor, sigma: Tensor, seen: Tensor) -> Tensor:
        """Return D_u by the networks that serve each σ [B, 1, 1, 1] (or one for all); see `bands`.

        `seen` is σ too, where it can be looked at without a wait.
        """
        out = partial(self.network, u, sigma)
        for role, spec in self.uppers():
            upper = partial(getattr(self, role), u, sigma)
            out = partial(served, out, upper, sigma, seen, spec)
        return out()

    def uppers(self) -> list[tuple[str, HighSpec]]:
        """Return the networks above the one for low σ that there are, rising: (role, levels)."""
        found = ((role, getattr(self, f"{role}_spec")) for role in UPPER)
        return [(role, spec) for role, spec in found if spec is not None]

    def describe(self) -> dict[str, Any]:
        """Return what a file must say to build this prior again (JSON types only)."""
        return {
            "name": self.name,
            "network": {"class": "deepinv.models.DRUNet", **asdict(self.spec)},
            "preconditioning": {"kind": "edm", **asdict(self.constants)},
            "train_shape": list(self.train_shape),
            "fixed_size": self.shape is not None,
            "units": self.units,
            "inflate": self.inflate,
            "levels": self.levels,
            "local_inflate": self.local_inflate,
            **{role: asdict(spec) for role, spec in self.uppers()},
            **self.metadata,
        }


def _positive(s: Tensor) -> bool:
    try:
        return bool(((s > 0) & (s < math.inf)).all())
    except RuntimeError:  # under torch.func.vmap there are no values to look at
        return True
