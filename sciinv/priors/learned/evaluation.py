"""How good a learned prior is: errors against simple denoisers, samples, and the model card."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.diffusion import edm_grid
from sciinv.priors.learned.network import LearnedPrior
from sciinv.priors.phantoms.family import Family
from sciinv.seeds import stream_seed

Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Wiener:
    """The best linear, stationary denoiser of a class: μ + F⁻¹[S/(S + σ²) F(x − μ)].

    Attributes:
        mean: Mean image μ [C, H, W].
        spectrum: Power spectrum S [C, H, W/2 + 1] of x − μ, orthonormal DFT.
    """

    mean: Tensor
    spectrum: Tensor

    @classmethod
    def of_images(cls, images: Tensor) -> Wiener:
        """Return the filter of a sample of clean images [N, C, H, W]."""
        mean = images.mean(0)
        power = torch.fft.rfft2(images - mean, norm="ortho").abs().square().mean(0)
        return cls(mean, power)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the filtered images; x [B, C, H, W], σ [B]."""
        gain = self.spectrum / (self.spectrum + sigma.reshape(-1, 1, 1, 1) ** 2)
        spectrum = torch.fft.rfft2(x - self.mean, norm="ortho") * gain
        return self.mean + torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")


@dataclass(frozen=True)
class ErrorRow:
    """Root mean square errors per pixel at one noise level, all in the unit of σ."""

    sigma: float
    wiener: float
    network: float


def error_table(
    prior: Denoise, images: Tensor, wiener: Wiener, sigmas: list[float], *, seed: int = 0
) -> list[ErrorRow]:
    """Return the errors of both denoisers on the same noisy held-out images [N, C, H, W]."""
    rows = []
    with torch.no_grad():
        for n, sigma in enumerate(sigmas):
            noise = torch.Generator().manual_seed(stream_seed(seed, "table", n))
            total = torch.zeros(2, dtype=torch.float64)
            for x0 in images.split(32):
                x = x0 + sigma * torch.randn(x0.shape, generator=noise)
                s = torch.full((len(x0),), sigma)
                for i, d in enumerate((wiener(x, s), prior(x, s))):
                    total[i] += (d - x0).double().square().sum()
            linear, learned = (total / images.numel()).sqrt().tolist()
            rows.append(ErrorRow(sigma, linear, learned))
    return rows


def unconditional(
    prior: LearnedPrior,
    count: int,
    shape: tuple[int, int, int],
    *,
    steps: int = 24,
    seed: int = 0,
    batch: int = 16,
) -> Tensor:
    """Return samples [N, C, H, W] of p(x0): Heun's method on the probability-flow ODE.

    dx/dσ = (x − D(x, σ))/σ from σ_max to σ_min, and D at the end (Karras et al. 2022, algorithm 1).
    """
    levels = edm_grid(prior.sigma_max, prior.sigma_min, steps).tolist()
    stream = torch.Generator().manual_seed(stream_seed(seed, "unconditional"))
    mean = prior.offset
    x_T = mean + prior.sigma_max * torch.randn((count, *shape), generator=stream)
    out = []
    with torch.no_grad():
        for x in x_T.split(batch):
            for s, s_next in itertools.pairwise(levels):
                d = (x - prior(x, s)) / s
                x_e = x + (s_next - s) * d
                d_next = (x_e - prior(x_e, s_next)) / s_next
                x = x + (s_next - s) * (d + d_next) / 2
            out.append(prior(x, levels[-1]))
    return torch.cat(out)


def memorised(prior: LearnedPrior, kind: Family, unseen: int, seed: int, count: int = 16) -> str:
    """Say how near samples are to training images, against images that were held out.

    Compared are as many training images as were held out; distances are root mean squares a pixel.
    """
    drawn = unconditional(prior, count, kind.shape, seed=seed + 1)
    u = (drawn - kind.offset) / kind.scale
    many = max(unseen, 32)
    near, far = (
        _nearest(u, kind.augment(kind.pool(seed, block, many, None).float(), _stream(seed)))
        for block in (1, 0)
    )
    ratio = float((near / far).median())
    return (
        f"{count} samples: nearest of {many} training images {float(near.mean()):.3g} u, of the "
        f"held-out ones {float(far.mean()):.3g} u, median ratio {ratio:.2f} "
        + ("(no nearer than unseen images)" if ratio > 0.85 else "(NEARER: samples are copies)")
    )


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _nearest(samples: Tensor, known: Tensor) -> Tensor:
    a, b = (x.norm(dim=1) if x.shape[1] == 2 else x[:, 0] for x in (samples, known))
    return torch.cdist(a.flatten(1), b.flatten(1)).amin(1) / a[0].numel() ** 0.5


def picture(images: Tensor, path: Path, columns: int = 8) -> None:
    """Write images [N, C, H, W] as one PNG without axes; two channels are shown as magnitude."""
    from matplotlib.image import imsave

    grey = images.norm(dim=1) if images.shape[1] == 2 else images[:, 0]
    flat = grey.flatten(1)
    low = torch.quantile(flat, 0.001) if images.shape[1] == 1 else torch.zeros(())
    tiles = ((grey - low) / (torch.quantile(flat, 0.999, dim=1) - low)[:, None, None]).numpy()
    H, W = tiles.shape[-2:]
    rows = math.ceil(len(tiles) / columns)
    page = np.ones((rows * (H + 2), columns * (W + 2)), np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (H + 2), i % columns * (W + 2)
        page[y : y + H, x : x + W] = tile.clip(0, 1)
    part = path.with_name(path.name + ".part")
    imsave(part, page, cmap="gray", vmin=0, vmax=1, format="png")
    part.replace(path)


def _stretches(training: dict[str, Any]) -> str:
    """Say which batch and learning rate held from which step on."""
    return "; ".join(
        f"batch {s['batch']} at rate {s['rate']:g}"
        + (f" from step {s['from']:,}" * (s["from"] > 0))
        for s in training["stretches"]
    )


def uppers(prior: LearnedPrior) -> list[str]:
    """Return the card's rows on the networks that serve the high noise levels."""
    rows = []
    for role, spec in prior.uppers():
        network, t = spec.network, prior.metadata[f"training_{role}"]
        parameters = sum(p.numel() for p in getattr(prior, role).parameters())
        seen = [f"{network.patch} × {network.patch} pixels folded"] * (network.patch > 1)
        if network.coarse > 1:
            seen.append(f"on means of {network.coarse} × {network.coarse} pixels")
        if network.gains:
            adding = " and adding in the frame of its phase" * network.phase
            seen.append(
                f"scaling {network.gains} octave bands of the class's Wiener filter{adding}"
            )
        elif network.linear:
            seen.append("added to the class's Wiener filter")
        rows.append(
            f"| network from σ = {spec.above:g} u"
            + f", alone from {spec.alone:g} u" * (spec.alone > spec.above)
            + f" | the same kind, {tuple(network.nc)}, "
            f"{network.nb} block{'s' * (network.nb > 1)} a scale, "
            f"{', '.join(seen)}, {parameters / 1e6:.2f} million weights; "
            f"trained on σ ≥ {t['sigma_min']:g} u in {t['steps']:,} steps, {t['images']:,} images, "
            f"{t['seconds'] / 60:.0f} minutes |"
        )
    return rows


def card(prior: LearnedPrior, rows: list[ErrorRow], limits: str, pictures: dict[str, str]) -> str:
    """Return the model card as Markdown."""
    m, t = prior.metadata, prior.metadata["training"]
    c = prior.constants
    shape = "×".join(map(str, prior.train_shape))
    size = "this size only" if prior.shape else "any size"
    parameters = sum(p.numel() for p in prior.network.parameters())
    lines = [
        f"# Prior `{prior.name}`",
        "",
        f"A diffusion prior D(x, σ) for {m['data']['summary']}.",
        "",
        "| | |",
        "|---|---|",
        f"| images | {shape} (channels × height × width), {size} |",
        f"| pixel | {m['pixel']['side']:.6g} {m['pixel']['unit']} |",
        f"| values | x = {c.offset:g} + {c.scale:g}·u; unit of x: {prior.units} |",
        f"| noise levels | σ from {prior.sigma_min:.3g} to {prior.sigma_max:.3g} in that unit |",
        f"| network | deepinv DRUNet {tuple(prior.spec.nc)}, {prior.spec.nb} blocks a scale, "
        f"{prior.spec.patch} × {prior.spec.patch} pixels folded into channels, "
        f"{parameters / 1e6:.2f} million weights, EDM preconditioning |",
        *uppers(prior),
        f"| data | {m['data']['licence']} |",
        f"| seeds | training {t['seed']}; the held-out images are block 0 of that seed |",
        f"| training | {t['steps']:,} steps, {t['images']:,} images ({_stretches(t)}), "
        f"{t['seconds'] / 60:.0f} minutes on {t['threads']} CPU thread(s); {t['optimizer']} |",
        f"| command | `{m['command']}` |",
        "",
        "Not good for: " + limits + ".",
        "",
        "## Denoising error on held-out images",
        "",
        "Root mean square per pixel, in units of u. Doing nothing leaves σ. The Wiener filter is "
        "the best linear one for the mean and the power spectrum of the class.",
        "",
        "| σ | Wiener filter | this prior | prior ÷ Wiener |",
        "|---|---|---|---|",
        *(
            f"| {r.sigma / c.scale:.3g} | {r.wiener / c.scale:.3g} | {r.network / c.scale:.3g} "
            f"| {r.network / r.wiener:.2f} |"
            for r in rows
        ),
        "",
    ]
    for caption, name in pictures.items():
        lines += [f"## {caption}", "", f"![{caption}]({name})", ""]
    return "\n".join(lines)
