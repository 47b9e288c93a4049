"""Maximum entropy: the smoothest positive image that fits data of any kind, as eht-imaging does.

Source: Chael et al. 2018, "Interferometric imaging directly with closure phases and closure
amplitudes", ApJ 857, 23; Narayan & Nityananda 1986, ARA&A 24, 127.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.errors import DivergenceError

FLOOR = 1e-9  # of the peak: keeps ln x finite where a Gaussian prior has fallen to nothing


def maximum_entropy(
    physics: Physics,
    y: Tensor,
    flux: Tensor,
    *,
    prior_fwhm_uas: float = 50.0,
    weight: float = 30.0,
    tempering: Sequence[float] = (100.0, 30.0, 10.0, 3.0, 1.0),
    steps: int = 60,
    blur_fwhm_uas: float = 12.0,
) -> Tensor:
    """Return argmin −log p(y | x) / T + weight · Σ (x ln(x/p) − x + p) / Σ p over x > 0.

    p is a circular Gaussian of the given flux. Closures have many minima: T falls to 1 in rounds,
    and each round starts from the last image, blurred. Minimised over ln x by L-BFGS in float64.

    Args:
        physics: An operator with `image_spec` in µas and a likelihood.
        y: Measurement, [B, …].
        flux: Flux of p, in units of the image, [B].
        prior_fwhm_uas: Full width at half maximum of p, µas.
        weight: Of the entropy, in units of −log p.
        tempering: T of each round.
        steps: L-BFGS iterations of a round.
        blur_fwhm_uas: Blur between rounds, µas.

    Returns:
        [B, 1, H, W] in units of the image.

    Raises:
        DivergenceError: The minimisation left the finite numbers.
    """
    spec = physics.image_spec
    axes = [
        torch.as_tensor(a.copy(), dtype=torch.float64, device=y.device) for a in (spec.y, spec.x)
    ]
    pixel = float((axes[0][0] - axes[0][1]).abs())
    shape = [gaussian(axis, prior_fwhm_uas) for axis in axes]
    prior = (shape[0][:, None] * shape[1]).clamp_min(FLOOR)
    prior = prior / prior.sum()
    images = [
        _one(physics, item[None].double(), float(f) * prior[None, None], weight, tempering, steps,
             blur_fwhm_uas / pixel)
        for item, f in zip(y, flux, strict=True)
    ]  # fmt: skip
    return torch.cat(images).to(y)


def _one(
    physics: Physics,
    y: Tensor,
    prior: Tensor,
    weight: float,
    tempering: Sequence[float],
    steps: int,
    blur: float,
) -> Tensor:
    x, total = prior, prior.sum()
    for temperature in tempering:
        x = x if x is prior else smooth(x, blur)
        z = x.clamp_min(FLOOR * float(x.max())).log().requires_grad_(True)
        optimiser = torch.optim.LBFGS(
            [z], max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def objective(
            z: Tensor = z, optimiser: Any = optimiser, temperature: float = temperature
        ) -> Tensor:
            optimiser.zero_grad()
            image = z.exp()
            misfit = physics.likelihood.nll(physics.A(image), y).sum() / temperature
            entropy = (image * (z - prior.log()) - image + prior).sum() / total
            value = misfit + weight * entropy
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(objective)
        x = z.detach().exp()
        if not bool(torch.isfinite(x).all()):
            raise DivergenceError(
                "The maximum-entropy image left the finite numbers",
                where=f"{type(physics).__name__}, temperature {temperature:g}",
                got=f"{int((~torch.isfinite(x)).sum())} of {x.numel()} pixels not finite",
                remedy="check the units of the data and of the image",
            )
    return x


def gaussian(offset: Tensor, fwhm: float) -> Tensor:
    """Return exp(−4 ln 2 (offset/fwhm)²)."""
    return torch.exp(-2.772588722239781 * (offset / fwhm) ** 2)


def smooth(x: Tensor, fwhm: float) -> Tensor:
    """Convolve the last two axes with a Gaussian of unit sum, `fwhm` in pixels; 0 outside."""
    for dim in (-1, -2):
        n = x.shape[dim]
        axis = torch.arange(n, dtype=x.dtype, device=x.device)
        reach = torch.arange(-n, n + 1, dtype=x.dtype, device=x.device)
        kernel = gaussian(axis[:, None] - axis, max(fwhm, 1e-3))
        kernel = kernel / gaussian(reach, max(fwhm, 1e-3)).sum()
        x = (x.transpose(dim, -1) @ kernel).transpose(dim, -1)
    return x.contiguous()
