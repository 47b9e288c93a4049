"""What is not exactly known of a CT scanner: scale, air, the detector's position, its elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.operators.base import Declared, Unknown, widths_of

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
            element's: rings). None: all is known.
        shape: (angles, detectors).

    Raises:
        OperatorError: A name is not known, or a standard deviation is no number above 0.
    """
    detectors = shape[1]
    widths = widths_of(sds, KNOWN, "CT")
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

    T moves a projection by part of an element in Fourier, with zeros beyond the detector: what
    lies outside of it is air.

    Args:
        p: [B, 1, angle, detector].
    """

    def __init__(self, p: Tensor) -> None:
        self.p, self.length = p, _length(p.shape[-1])
        self._spectrum: Tensor | None = None

    def at(self, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """Return s_b T_b p, of s [B] and the elements by which T_b shifts, [B]."""
        moved = self.p if shift is None else self._moved(shift)
        return moved if scale is None else moved * scale.to(moved).reshape(-1, 1, 1, 1)

    def _moved(self, shift: Tensor) -> Tensor:
        p = self.p
        if self._spectrum is None:
            self._spectrum = torch.fft.rfft(p, n=self.length)
        f = torch.fft.rfftfreq(self.length, dtype=p.dtype, device=p.device)
        angle = 2 * torch.pi * shift.to(p).reshape(-1, 1, 1, 1) * f
        phase = torch.polar(torch.ones_like(angle), angle)
        return torch.fft.irfft(self._spectrum * phase, n=self.length)[..., : p.shape[-1]]


class ScannerAt(Declared, LinearPhysics):
    """A scan with a scale and a shift per lane: y = s_b T_b A x; see `Projections`.

    Its transpose is exact.

    Args:
        scan: The scan as declared, a linear operator to [B, 1, angle, detector].
        scale: s, [B].
        shift: Elements by which the detector is shifted, [B].
    """

    def __init__(self, scan: Any, scale: Tensor | None, shift: Tensor | None) -> None:
        super().__init__(img_size=scan.img_size, noise_model=scan.noise_model)
        self.scan, self.scale, self.shift = scan, scale, shift
        self.image_spec, self.measurement_spec = scan.image_spec, scan.measurement_spec

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return s T A x."""
        return Projections(self.scan.A(x)).at(self.scale, self.shift)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Aᵀ Tᵀ s y."""
        back = None if self.shift is None else -self.shift
        return self.scan.A_adjoint(Projections(y).at(self.scale, back))


def _length(n: int) -> int:
    """Return a length for the Fourier transform that shifts n elements without wrapping round.

    Odd, as the translation is orthogonal without a Nyquist frequency; of factors 3, 5 and 7 alone,
    as a transform of a large prime's length costs several times more.
    """
    length = 2 * n + 1
    while _rest(length) > 1:
        length += 2
    return length


def _rest(length: int) -> int:
    """Return what is left of a number without its factors 3, 5 and 7."""
    for factor in (3, 5, 7):
        while length % factor == 0:
            length //= factor
    return length
