"""CLEAN: the sky as point sources, found one by one in the dirty image.

Source: Högbom 1974, A&AS 15, 417; restored with a circular Gaussian of 20 µas as EHT Collaboration
2019, ApJL 875, L4 shows its CLEAN images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciinv.operators.parts.maximum_entropy import smooth
from sciinv.operators.parts.sky_transform import SkyTransform, dirty_image, natural_weights


def clean(
    transform: SkyTransform,
    vis: Tensor,
    sd: Tensor,
    *,
    gain: float = 0.05,
    iterations: int = 1000,
    beam_fwhm_uas: float = 20.0,
) -> Tensor:
    """Return the CLEAN image of calibrated visibilities, without self-calibration.

    Searches the whole field, positive peaks only; stops after `iterations`, or where the highest
    residual is below the noise of the dirty image, 1/√Σw. Components are convolved with a Gaussian
    of unit area; the residuals, in another unit (per beam), are not added.

    Args:
        transform: The sky transform of the visibilities.
        vis: Visibilities, Jy, [B, 2, N].
        sd: σ, Jy, [N] or one number.
        gain: Part of each peak that is taken away.
        iterations: Most components to take.
        beam_fwhm_uas: Full width at half maximum of the restoring beam, µas.

    Returns:
        [B, 1, H, W] in F Jy/pixel.
    """
    n = transform.image_size
    beam = _dirty_beam(transform, sd, vis)
    residual = dirty_image(transform, vis, sd)[:, 0].clone()
    noise = (sd.to(vis).expand(transform.n) ** -2).sum() ** -0.5 / transform.flux_unit_jy
    components = torch.zeros_like(residual)
    for image, found in zip(residual, components, strict=True):
        for _ in range(iterations):
            at = int(image.argmax())
            row, column = divmod(at, n)
            if not float(image[row, column]) > float(noise):
                break
            part = gain * image[row, column]
            found[row, column] += part
            image -= part * beam[n - 1 - row : 2 * n - 1 - row, n - 1 - column : 2 * n - 1 - column]
    return smooth(components, beam_fwhm_uas / transform.field_of_view_uas * n)[:, None]


def _dirty_beam(transform: SkyTransform, sd: Tensor, like: Tensor) -> Tensor:
    """Return the dirty image of a point source over all offsets, 1 in the middle, [2n−1, 2n−1]."""
    n = transform.image_size
    fov = transform.field_of_view_uas * (2 * n - 1) / n
    wide = SkyTransform(transform.u, transform.v, 2 * n - 1, fov, 1.0, "point")
    w = natural_weights(transform, sd, like)
    return wide.adjoint(torch.stack([w, torch.zeros_like(w)])[None])[0, 0]
