"""The local width of p(x0 | x_t): where in the image the denoiser errs.

    C = diag(s) K diag(s),   ln s(x̂)² = ln r(σ)² + h(x̂, ln σ),   K = F⁻¹ κ(σ, |k|) F

x̂ = D(x_t, σ). h is a small convolutional network of x̂: its values on three scales, the logarithm
of its gradients on three scales, and ln σ. It is fitted by the Gaussian likelihood of the errors,

    min E[ h + (x0 − x̂)² e^{−h} / r(σ)² ],

and κ is the spectrum of (x0 − x̂)/s in rings of |k| after that. For complex images (two channels) h
sees the magnitude and serves both channels, so that the phase does not matter. A denoiser errs on
edges and hardly in the empty parts; a stationary width cannot say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciinv.covariances import Fourier, Pixelwise
from sciinv.priors.widths.stationary import BINS, on_plane, radial_power, ring_centres, variance_at

HIDDEN = 24
FEATURES = 8
# h stays within: a width neither vanishes nor exceeds what σ² allows by far.
LOWEST, HIGHEST = -12.0, 8.0


class WidthNetwork(nn.Module):
    """h(x̂, ln σ): log of the local variance over its mean; [B, C, H, W] → [B, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(FEATURES, HIDDEN, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(HIDDEN, 1, 1)
        for parameter in self.last.parameters():  # a constant width to begin with
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """Return h; x and σ [B, 1, 1, 1] in units of the class's root mean square."""
        hidden = torch.relu(self.first(features(x, log_sigma)))
        hidden = torch.relu(self.second(hidden))
        return self.last(hidden).clamp(LOWEST, HIGHEST)


def features(x: Tensor, log_sigma: Tensor) -> Tensor:
    """Return what the width may depend on, [B, 8, H, W]."""
    size = x.shape[-2:]
    value = x if x.shape[1] == 1 else x.square().sum(1, keepdim=True).sqrt()
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1, 0, 0))
    gradient = (down.square() + right.square()).sum(1, keepdim=True)
    maps = [value, *(_coarse(value, k, size) for k in (2, 4))]
    for side in (1, 3, 7):
        padded = F.pad(gradient, (side // 2,) * 4, mode="replicate")
        maps.append(0.5 * torch.log(F.avg_pool2d(padded, side, 1) + 1e-4))
    one = torch.ones_like(value)
    return torch.cat([*maps, 0.5 * log_sigma * one, one], 1)


def _coarse(x: Tensor, k: int, size: torch.Size) -> Tensor:
    mean = F.avg_pool2d(x, k, ceil_mode=True, count_include_pad=False)
    return F.interpolate(mean, size=size, mode="bilinear")


class LocalWidths:
    """The fitted local widths of one prior.

    Args:
        network: h.
        sigmas: Noise levels [S], rising, units of the image.
        mean: r(σ)² [S], squared units of the image.
        correlation: κ(σ, |k|) [S, K] in rings of |k| from 0 to √½ cycles per pixel.
        offset: Value that x̂ is counted from, units of the image.
        unit: Root mean square of the class, units of the image.
    """

    def __init__(
        self,
        network: WidthNetwork,
        sigmas: Tensor,
        mean: Tensor,
        correlation: Tensor,
        offset: float,
        unit: float,
    ) -> None:
        self.network = network.requires_grad_(False).eval()
        self.sigmas, self.mean, self.correlation = sigmas, mean, correlation
        self.offset, self.unit = offset, unit

    def covariance(self, x_hat: Tensor, sigma: float, inflate: float = 1.0) -> Pixelwise:
        """Return C for x̂ = D(x_t, σ) [B, C, H, W], its variance × `inflate` and s ≤ σ."""
        sd = (inflate * self.variance(x_hat, sigma)).clamp_max(float(sigma) ** 2).sqrt()
        correlation = Fourier(self.spectrum(sigma, x_hat.shape[-2:]).to(x_hat))
        return Pixelwise(sd, correlation, inflate * self.mean_at(sigma))

    def variance(self, x_hat: Tensor, sigma: float) -> Tensor:
        """Return s², [B, C, H, W], squared units of the image."""
        net = self.network.to(x_hat.device, torch.float32)
        x = ((x_hat - self.offset) / self.unit).float()
        log_sigma = x.new_full((len(x), 1, 1, 1), math.log(sigma / self.unit))
        if (
            x.device.type == "cpu"
        ):  # lane by lane: its maps then stay in the cache, at half the time
            logs = torch.cat(
                [net(*lane) for lane in zip(x.split(1), log_sigma.split(1), strict=True)]
            )
        else:
            logs = net(x, log_sigma)
        return (self.mean_at(sigma) * logs.exp()).to(x_hat).expand_as(x_hat)

    def mean_at(self, sigma: float) -> float:
        """Return r(σ)², never above σ²."""
        return float(variance_at(self.sigmas, self.mean[:, None], sigma)[0])

    def spectrum(self, sigma: float, shape: tuple[int, ...]) -> Tensor:
        """Return κ(σ, |k|), [H, W] in unshifted FFT order."""
        at, grid = math.log(sigma), np.log(self.sigmas.numpy())
        logs = [np.interp(at, grid, column) for column in self.correlation.log().numpy().T]
        return on_plane(np.array(logs), ring_centres(len(logs)).numpy(), shape)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by the names that files use; see `of_tensors`."""
        return {
            "local.sigma": self.sigmas,
            "local.mean": self.mean,
            "local.correlation": self.correlation,
            "local.unit": torch.tensor([self.offset, self.unit], dtype=torch.float64),
            **{f"local.{k}": v for k, v in self.network.state_dict().items()},
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> LocalWidths:
        """Return the widths from tensors named as by `tensors`.

        Raises:
            KeyError: One is missing.
            RuntimeError: The network's do not fit.
        """
        own = {k.removeprefix("local."): v for k, v in tensors.items()}
        sigmas, mean, correlation, constants = (
            own.pop(k).double() for k in ("sigma", "mean", "correlation", "unit")
        )
        network = WidthNetwork()
        network.load_state_dict({k: v.float() for k, v in own.items()})
        offset, unit = constants.tolist()
        return cls(network, sigmas, mean, correlation, offset, unit)


def fit(
    denoise: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    sigmas: Tensor,
    *,
    offset: float = 0.0,
    unit: float = 1.0,
    pairs: int = 3072,
    steps: int = 2000,
    crop: int = 48,
    seed: int = 0,
    batch: int = 16,
    say: Callable[[str], None] = lambda line: None,
) -> LocalWidths:
    """Return the local widths of a denoiser on images.

    Args:
        denoise: D(x, σ), x [B, C, H, W] and σ [B], units of the image.
        images: Clean images [N, C, H, W]: the prior's own draws, or others of the class.
        sigmas: Levels of the table [S], rising; the network is fitted at levels between the ends.
        offset: See `LocalWidths`.
        unit: See `LocalWidths`.
        pairs: Images that are noised and denoised once each for the fit; as many again for the
            table.
        steps: Steps of Adam, each on `batch` crops.
        crop: Side of the crops.
        seed: Seed of everything.
        batch: Images per call.
        say: Takes a line of progress.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = (math.log(float(sigmas[0])), math.log(float(sigmas[-1])))
    estimates, errors, levels = [], [], []
    for _ in range(0, pairs, batch):
        x0 = images[torch.randint(len(images), (batch,), generator=generator)]
        sigma = torch.exp(ends[0] + (ends[1] - ends[0]) * torch.rand(batch, generator=generator))
        x_hat, error = denoised(denoise, x0, sigma, generator)
        estimates.append((x_hat - offset) / unit)
        errors.append(error.square().mean(1, keepdim=True))
        levels.append(sigma)
    x, e2, sigma = torch.cat(estimates), torch.cat(errors), torch.cat(levels)
    mean = _smooth_mean(e2, sigma, sigmas)
    flat = torch.ones(len(sigmas), BINS, dtype=torch.float64)
    table = LocalWidths(WidthNetwork(), sigmas.double(), mean, flat, offset, unit)
    r2 = torch.tensor([table.mean_at(float(s)) for s in sigma]).reshape(-1, 1, 1, 1).to(e2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        table.network = _train(x, e2 / r2, (sigma / unit).log(), steps, crop, generator, batch, say)
    return _correlations(table, denoise, images, sigmas, pairs, generator, batch)


def denoised(
    denoise: Callable[[Tensor, Tensor], Tensor], x0: Tensor, sigma: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return (x̂, x0 − x̂) of freshly noised images."""
    noise = sigma.reshape(-1, 1, 1, 1) * torch.randn(x0.shape, generator=g)
    with torch.no_grad():
        x_hat = denoise(x0 + noise, sigma)
    return x_hat, x0 - x_hat


def _smooth_mean(e2: Tensor, sigma: Tensor, sigmas: Tensor) -> Tensor:
    """Return r(σ)² on the grid: means of the squared error over neighbourhoods in ln σ."""
    at, grid = sigma.double().log(), sigmas.double().log()
    width = float(grid[1] - grid[0])
    weight = torch.exp(-0.5 * ((grid[:, None] - at[None]) / width) ** 2)
    share = e2.double().mean((1, 2, 3)) / sigma.double() ** 2
    return (weight @ share) / weight.sum(1).clamp_min(1e-12) * sigmas.double() ** 2


def _train(
    x: Tensor,
    e2: Tensor,
    log_sigma: Tensor,
    steps: int,
    crop: int,
    g: torch.Generator,
    batch: int,
    say: Callable[[str], None],
) -> WidthNetwork:
    """Return the network fitted to the squared errors e2 over their mean."""
    network = WidthNetwork()
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    h, w = (min(crop, n) for n in x.shape[-2:])
    total = 0.0
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = 3e-3 * min(1.0, 2 * (1 - step / steps))
        take = torch.randint(len(x), (batch,), generator=g)
        i = int(torch.randint(x.shape[-2] - h + 1, (1,), generator=g))
        j = int(torch.randint(x.shape[-1] - w + 1, (1,), generator=g))
        log_variance = network(
            x[take][..., i : i + h, j : j + w].float(), log_sigma[take].reshape(-1, 1, 1, 1).float()
        )
        error = e2[take][..., i : i + h, j : j + w].float()
        loss = (log_variance + error * torch.exp(-log_variance)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        total += float(loss.detach())
        if (step + 1) % 500 == 0:
            say(f"step {step + 1}: mean log loss {total / 500:.3f} (1 for a constant width)")
            total = 0.0
    return network.requires_grad_(False)


def refitted(
    widths: LocalWidths,
    denoise: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    above: float,
    *,
    count: int = 192,
    seed: int = 0,
    batch: int = 16,
) -> LocalWidths:
    """Return the widths with r(σ)² and κ measured anew at the levels of the table above a σ.

    For a denoiser that changed there alone: h, and every row below, stay as they are. Whatever h
    now says wrong about the mean is in κ, as in `fit`.

    Args:
        widths: The widths.
        denoise: D(x, σ), x [B, C, H, W] and σ [B], units of the image.
        images: Clean images [N, C, H, W].
        above: Least σ of the levels, units of the image.
        count: Noised images per level, for r² and for κ each.
        seed: Seed of the noise.
        batch: Images per call.
    """
    g = torch.Generator().manual_seed(seed)
    upper = widths.sigmas >= above
    levels, mean = widths.sigmas[upper], widths.mean.clone()
    if not len(levels):
        return widths
    squares = []
    for level in levels.tolist():
        sigma, total = torch.full((batch,), level), 0.0
        for _ in range(0, count, batch):
            x0 = images[torch.randint(len(images), (batch,), generator=g)]
            total += float(denoised(denoise, x0, sigma, g)[1].double().square().mean())
        squares.append(total / math.ceil(count / batch))
    mean[upper] = torch.tensor(squares, dtype=torch.float64)
    table = LocalWidths(
        widths.network, widths.sigmas, mean, widths.correlation.clone(), widths.offset, widths.unit
    )
    pairs = count * len(levels)
    rows = _correlations(table, denoise, images, levels, pairs, g, batch).correlation
    table.correlation[upper] = rows
    return table


def _correlations(
    table: LocalWidths,
    denoise: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    sigmas: Tensor,
    pairs: int,
    g: torch.Generator,
    batch: int,
) -> LocalWidths:
    """Return the widths with κ measured on freshly noised images at each level."""
    count = max(batch, pairs // len(sigmas) // batch * batch)
    rows = []
    for level in sigmas.tolist():
        total = torch.zeros(BINS, dtype=torch.float64)
        for _ in range(0, count, batch):
            x0 = images[torch.randint(len(images), (batch,), generator=g)]
            x_hat, error = denoised(denoise, x0, torch.full((batch,), level), g)
            sd = table.variance(x_hat, level).clamp_max(level**2).sqrt()
            total += radial_power(error / sd) * batch / count
        rows.append(total)
    return LocalWidths(
        table.network, table.sigmas, table.mean, torch.stack(rows), table.offset, table.unit
    )
