"""How far a denoiser errs in an object as a whole: its brightness, phase, place and size.

    C' = C + Σ_j v_j(σ) g_j g_jᵀ

with C the local widths and g_j the answers of x̂ = D(x_t, σ) to a change of its brightness, of its
phase (complex images), of its place (two), its size, and its shape (two shears and a turn). Local
widths know correlations over a few pixels, as a mean over all images has them. An error of a
hundredth in the brightness of everything, or of a tenth of a pixel in the place of a disc, is
small in every pixel and has no place there, but a sum over many pixels holds it. v_j is what is
left of (g_jᵀ e)² of the error e = x0 − x̂ beyond gᵀ C g, by the likelihood of Gaussian errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciinv.covariances import Covariance

NAMES = ("brightness", "phase", "place", "size", "shape")
ITERATIONS = 300  # of expectation maximisation: the values stand within a percent long before
LEAST = 1e-12  # a variance below is none: shares of the image, squared pixels, squared strains


def directions(x_hat: Tensor, offset: float = 0.0) -> dict[str, Tensor]:
    """Return g by name, each [B, J, C, H, W], per unit of the change.

    The units: a share of x̂ − offset, a radian, a pixel, a strain of 1 about the centre of x̂.

    Args:
        x_hat: x̂, [B, C, H, W].
        offset: Value that x̂ is counted from.
    """
    d = x_hat - offset
    h, w = d.shape[-2:]
    gx, gy = _slope(d, -1), _slope(d, -2)
    weight = d.abs().sum(1, keepdim=True)
    weight = weight / weight.sum((-2, -1), keepdim=True).clamp_min(torch.finfo(d.dtype).tiny)
    row = torch.arange(h, dtype=d.dtype, device=d.device)[:, None]
    column = torch.arange(w, dtype=d.dtype, device=d.device)
    y = row - (weight * row).sum((-2, -1), keepdim=True)
    x = column - (weight * column).sum((-2, -1), keepdim=True)
    found = {"brightness": d[:, None]}
    if d.shape[1] == 2:
        found["phase"] = torch.stack([-d[:, 1], d[:, 0]], 1)[:, None]
    found["place"] = torch.stack([gx, gy], 1)
    found["size"] = (x * gx + y * gy)[:, None]
    found["shape"] = torch.stack([x * gx - y * gy, x * gy + y * gx, x * gy - y * gx], 1)
    return found


def _slope(d: Tensor, axis: int) -> Tensor:
    """Return central differences along an axis, one-sided at the ends."""
    return torch.gradient(d, dim=axis)[0]


class Motions:
    """The fitted variances v_j(σ) of one prior.

    Args:
        sigmas: Noise levels [S], rising, units of the image.
        variances: v [S, 5] in the order of `NAMES`; 0 where there is none.
        offset: Value that x̂ is counted from, units of the image.
    """

    def __init__(self, sigmas: Tensor, variances: Tensor, offset: float) -> None:
        self.sigmas, self.variances, self.offset = sigmas, variances, offset

    def scaled(self, factor: float) -> Motions:
        """Return those of images `factor` times as large."""
        return Motions(self.sigmas * factor, self.variances, self.offset * factor)

    def at(self, sigma: float) -> dict[str, float]:
        """Return v by name: ln v is interpolated in ln σ, and stays as it is beyond the ends."""
        at, grid = math.log(sigma), np.log(self.sigmas.numpy())
        logs = np.log(np.maximum(self.variances.numpy(), LEAST * 1e-6))
        values = [float(np.exp(np.interp(at, grid, column))) for column in logs.T]
        return {n: v for n, v in zip(NAMES, values, strict=True) if v > LEAST}

    def along(self, x_hat: Tensor, sigma: float, inflate: float = 1.0) -> Tensor | None:
        """Return √(κ v_j) g_j, [B, J, C, H, W], no longer than σ; None where nothing is added.

        Args:
            x_hat: x̂ = D(x_t, σ), [B, C, H, W].
            sigma: σ, units of the image.
            inflate: κ.
        """
        found = self.at(float(sigma))
        if not found:
            return None
        every = directions(x_hat, self.offset)
        scaled = [math.sqrt(inflate * v) * every[n] for n, v in found.items() if n in every]
        if not scaled:
            return None
        g = torch.cat(scaled, 1)
        size = g.flatten(2).norm(dim=2).clamp_min(torch.finfo(g.dtype).tiny)
        return g * (float(sigma) / size).clamp_max(1.0)[..., None, None, None]


def fit(
    denoise: Callable[[Tensor, Tensor], Tensor],
    covariance: Callable[[Tensor, float], Covariance],
    images: Tensor,
    sigmas: Tensor,
    offset: float,
    *,
    count: int = 96,
    seed: int = 0,
    batch: int = 8,
) -> Motions:
    """Return the variances of the whole object's motions beside local widths.

    Args:
        denoise: D(x, σ), x [B, C, H, W] and σ [B], units of the image.
        covariance: C of x̂ and σ, see `LocalWidths.covariance`.
        images: Clean images [N, C, H, W]: the prior's own draws, or others of the class.
        sigmas: Levels of the table [S], rising.
        offset: See `Motions`.
        count: Noised images per level.
        seed: Seed of the noise.
        batch: Images per call.
    """
    g = torch.Generator().manual_seed(seed)
    rows = []
    for level in sigmas.tolist():
        squares, beside = [], []
        for _ in range(0, count, batch):
            x0 = images[torch.randint(len(images), (batch,), generator=g)]
            sigma = torch.full((batch,), level)
            with torch.no_grad():
                x_hat = denoise(x0 + level * torch.randn(x0.shape, generator=g), sigma)
            q, p = _seen(x0 - x_hat, covariance(x_hat, level), directions(x_hat, offset))
            squares.append(q)
            beside.append(p)
        rows.append(_variances(torch.cat(squares), torch.cat(beside)))
    return Motions(sigmas.double(), torch.stack(rows), offset)


def _seen(e: Tensor, c: Covariance, every: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return (gᵀe)² [B, J] and what C and each v = 1 make of it, [B, J, 1 + 5]."""
    names = [n for n in every for _ in range(every[n].shape[1])]
    g = torch.cat(list(every.values()), 1)
    flat = g.flatten(2).double()
    squares = (flat * e.flatten(1).double()[:, None]).sum(2).square()
    by_c = torch.stack([(g[:, j] * c(g[:, j])).flatten(1).double().sum(1)
                        for j in range(g.shape[1])], 1)  # fmt: skip
    overlap = (flat @ flat.mT).square()
    of = torch.zeros(len(names), len(NAMES), dtype=torch.float64)
    for j, name in enumerate(names):
        of[j, NAMES.index(name)] = 1.0
    return squares, torch.cat([by_c[..., None], overlap @ of], 2)


def _variances(squares: Tensor, parts: Tensor) -> Tensor:
    """Return v [5] of the highest likelihood of squares ~ (part 0 + parts v) χ²₁.

    Multiplicative steps v ← v Σ (q p ÷ m²) ÷ Σ (p ÷ m) keep v ≥ 0 and never lower the likelihood
    (those of variance components; the first part has the factor 1).
    """
    there = squares > 0
    q, p = squares[there], parts[there]
    fixed, free = p[:, 0], p[:, 1:]
    size = free.mean(0)
    used = size > 0
    v = torch.where(used, 0.1 * fixed.mean() / size.clamp_min(1e-300), 0.0)
    for _ in range(ITERATIONS):
        m = fixed + free @ v
        v = v * ((q / m.square())[:, None] * free).mean(0) / (free / m[:, None]).mean(0).clamp_min(
            1e-300
        )
    return v
