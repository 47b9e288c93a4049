"""What is not exactly known of a CT scanner: scale, air, the detector's position, its elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.operators.base import MODEL_ERROR, Declared, Unknown, widths_of
from sciinv.operators.parts.ct_projector import Projector
from sciinv.operators.parts.transposed import Linear

# Parts of an element. On a disc of the prior's family in Helsinki's fan over 60° what a shift errs
# by is worth at most 1,400 (1), 93 (2), 20 (3), 7 (4), 1.5 nats (6).
PARTS = 4
LOBES = 8  # of the windowed sinc to either side, parts

# Prior mean and unit; the prior standard deviation is the user's.
KNOWN = {
    "attenuation_scale": (1.0, "1"),
    "detector_shift": (0.0, "detector elements"),
    "element_offset": (0.0, "1"),
    "air_offset": (0.0, "1"),
}


def unknowns_of(sds: Mapping[str, float] | None, shape: tuple[int, int]) -> tuple[Unknown, ...]:
    """Return the unknowns of a scan by their names and prior standard deviations.

    Args:
        sds: Standard deviation by name: "attenuation_scale" (a factor on all line integrals, near
            1), "detector_shift" (in detector elements, of the sign of `detector_offset_mm`; the
            rotation axis is then projected that far from where the geometry has it),
            "air_offset" (added to all line integrals), "element_offset" (added to all of one
            element's: rings). None: all is known. "model_error" is the operator's own.
        shape: (angles, detectors).

    Raises:
        OperatorError: A name is not known, or a standard deviation is no number above 0.
    """
    detectors = shape[1]
    widths = widths_of(sds, (*KNOWN, MODEL_ERROR), "CT")
    groups = {
        "air_offset": torch.zeros(1, 1, 1, dtype=torch.long),
        "element_offset": torch.arange(detectors)[None, None],
    }
    return tuple(
        Unknown(name, mean, widths[name], unit, groups.get(name), "detector")
        for name, (mean, unit) in KNOWN.items()
        if name in widths
    )


def scale_and_shift(
    unknowns: Sequence[Unknown], theta: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return the attenuation scale and the detector shift in theta [B, P], each [B] or None."""
    names = [u.name for u in unknowns if u.groups is None]
    values = dict(zip(names, theta.unbind(1), strict=True))
    return values.get("attenuation_scale"), values.get("detector_shift")


class Projections:
    """Projections p to be scaled and shifted, each in its own way: s_b T_b p.

    T moves the detector by δ elements. A sampled projection does not say what it is between its
    samples: at half an element of the Helsinki scans a band-limited translation of it errs by 0.4
    of the noise, which is worth 1,400 nats, so that chains stopped at whole elements. So p is given
    on `parts` of each element and moved by a windowed sinc, and the mean over the parts is taken:
    7 nats with four. Beyond the detector is air.

    Args:
        p: [B, 1, angle, detector · parts].
        parts: Parts of an element.
    """

    def __init__(self, p: Tensor, parts: int = 1) -> None:
        self.p, self.parts = p, parts

    def at(self, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """Return s_b T_b p, of s [B] and the elements δ by which T_b shifts, [B]."""
        p = self.p
        if shift is not None:
            lanes = max(len(p), len(shift))
            p, shift = p.expand(lanes, *p.shape[1:]), shift.expand(lanes)
            taps, index = _taps(shift, self.parts, p.shape[-1], p)
            p = F.pad(p, (1, 1)).gather(-1, index.expand(*p.shape[:-1], -1))
            p = F.conv1d(_by_view(p), taps, stride=self.parts, groups=len(taps))
            p = _by_lane(p)
        return p if scale is None else p * scale.to(p).reshape(-1, 1, 1, 1)


def transposed(y: Tensor, scale: Tensor | None, shift: Tensor | None, parts: int = 1) -> Tensor:
    """Return T_bᵀ s_b y, [B, 1, angle, detector · parts]: the exact transpose of `Projections`."""
    if scale is not None:
        y = y * scale.to(y).reshape(-1, 1, 1, 1)
    if shift is None:
        return y
    many = parts * y.shape[-1]
    taps, index = _taps(shift, parts, many, y)
    v = _by_lane(F.conv_transpose1d(_by_view(y), taps, stride=parts, groups=len(taps)))
    out = v.new_zeros(*v.shape[:-1], many + 2)
    return out.scatter_add(-1, index.expand_as(v), v)[..., 1:-1]


def _taps(shift: Tensor, parts: int, many: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights [B, 1, T] of a shift, and which of `many` parts they see, [B, 1, 1, L].

    Whole parts are an index into the projection with a zero at either end, so that the weights of a
    lane have the same length whatever its neighbours' shifts are.
    """
    at = shift.to(like.device, torch.float64) * parts
    whole = at.detach().round()
    n = torch.arange(-LOBES, parts + LOBES, device=like.device, dtype=torch.float64)
    i = torch.arange(parts, device=like.device, dtype=torch.float64)
    u = n[:, None] - i - (at - whole)[:, None, None]
    window = torch.where(u.abs() < LOBES, torch.sinc(u / LOBES), torch.zeros_like(u))
    taps = (torch.sinc(u) * window).sum(-1)
    taps = taps / taps.sum(-1, keepdim=True)
    start = torch.arange(-LOBES, many + LOBES, device=like.device) + whole.long()[:, None]
    return taps.to(like.dtype)[:, None], (start + 1).clamp(0, many + 1)[:, None, None]


def _by_view(p: Tensor) -> Tensor:
    """Return [B, 1, angle, detector] as [angle, B, detector]: a lane is a channel."""
    return p[:, 0].transpose(0, 1)


def _by_lane(p: Tensor) -> Tensor:
    return p.transpose(0, 1)[:, None]


class ScannerAt(Declared, LinearPhysics):
    """A scan with a scale and a shift per lane: y = s_b T_b A x; see `Projections`.

    Its transpose is exact.

    Args:
        scan: The scan as declared, `operators.ct.CT`.
        scale: s, [B].
        shift: Elements by which the detector is shifted, [B].
    """

    def __init__(self, scan: Any, scale: Tensor | None, shift: Tensor | None) -> None:
        super().__init__(img_size=scan.img_size, noise_model=scan.noise_model)
        self.scan, self.scale, self.shift = scan, scale, shift
        self.image_spec, self.measurement_spec = scan.image_spec, scan.measurement_spec

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return s T A x."""
        return self.scan.projections(x, self.shift is not None).at(self.scale, self.shift)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Aᵀ Tᵀ s y."""
        self.scan.check_measurement(y)
        if self.shift is None:
            return self.scan.A_adjoint(transposed(y, self.scale, None))
        fine = self.scan.parts
        return fine.back(transposed(y, self.scale, self.shift, fine.parts))


class Parts:
    """A scan whose detector's elements are divided, for `Projections`.

    Args:
        projector: The scan's own.
    """

    def __init__(self, projector: Projector) -> None:
        g = projector.geometry
        self.parts = PARTS if projector.model == "strip" else 1  # others are no means over elements
        if self.parts == 1:
            self.projector = projector
            return
        divided = replace(
            g, detectors=g.detectors * self.parts, detector_mm=g.detector_mm / self.parts
        )
        self.projector = Projector(divided, projector.model, projector.memory_limit_mb)

    def of(self, x: Tensor) -> Projections:
        """Return the projections of x [B, 1, rows, columns]."""
        p = Linear.apply(x, self.projector.forward, self.projector.adjoint)
        return Projections(p, self.parts)

    def back(self, p: Tensor) -> Tensor:
        """Return Aᵀ p, of p [B, 1, angle, detector · parts]."""
        return Linear.apply(p, self.projector.adjoint, self.projector.forward)
