"""A scan on coarse pixels, as few views and elements as these need: what a solve begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sciinv.operators.parts.ct_projector import Projector
from sciinv.solvers.rough import Rough

SIDE = 2  # pixels of a coarse pixel
LEAST = 64  # side of an image, pixels, from which it is worth it
# The arc between two views at the rim of the image, coarse pixels: one is what sampling asks for.
# An error here costs a product of the scan now and then, and not the draw.
ARC = 1.15


def rough(projector: Projector, weights: Tensor) -> Rough | None:
    """Return Aᵀ diag(w) A on pixels and elements of twice the width, with fewer views.

    Neighbouring views stand for each other as long as they are no further apart than `ARC`; the
    weights are sums over the views and elements that one stands for.

    Args:
        projector: The scan.
        weights: w, [angle, detector].

    Returns:
        Some sixteenth to thirtieth of the work of a product; None where a side is no multiple of
        4, or the image is small.
    """
    g, (h, w) = projector.geometry, projector.geometry.image_size
    if h % (2 * SIDE) or w % (2 * SIDE) or min(h, w) < LEAST:
        return None
    turn = np.round(g.angles % 360.0, 7) % 360.0
    distinct, inverse = np.unique(turn, return_inverse=True)
    step = np.deg2rad(np.median(np.diff(distinct))) if len(distinct) > 1 else np.pi
    together = max(1, int(ARC / (step * max(h, w) / (2 * SIDE))))
    group = torch.from_numpy(np.arange(len(distinct)) // together)[
        torch.from_numpy(inverse.ravel())
    ]
    odd = g.detectors % SIDE
    padded = torch.nn.functional.pad(weights.double(), (0, odd))
    count = int(group.max()) + 1
    total = padded.new_zeros(count, padded.shape[1]).index_add_(0, group, padded)
    total = total.unflatten(1, (-1, SIDE)).sum(2).to(weights)
    starts = np.arange(0, len(distinct), together)
    size = np.diff(np.append(starts, len(distinct)))
    coarse = replace(
        g,
        angles=np.add.reduceat(distinct, starts) / size,
        image_size=(h // SIDE, w // SIDE),
        pixel_mm=SIDE * g.pixel_mm,
        detectors=(g.detectors + odd) // SIDE,
        detector_mm=SIDE * g.detector_mm,
        # an element of no weight at the end moves the middle
        detector_offset_mm=g.detector_offset_mm + odd * g.detector_mm / 2,
    )
    few = Projector(coarse, projector.model, projector.memory_limit_mb)
    return Rough(SIDE, few.normal_of(total))
