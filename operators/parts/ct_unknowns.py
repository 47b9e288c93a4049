"""What is not exactly known of a CT scanner: scale, air, the detector's position, its elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import Declared, Unknown
from sciinv.registry import close_to

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
        OperatorError: A name is not known, or a standard deviation is not above 0.
    """
    detectors = shape[1]
    groups = {
        "air_offset": torch.zeros(1, 1, 1, dtype=torch.long),
        "element_offset": torch.arange(detectors)[None, None],
    }
    for name in sds or {}:
        if name not in KNOWN:
            raise OperatorError(
                "A CT scan has no unknown of this name",
                where="CT",
                expected=", ".join(KNOWN),
                got=name,
                remedy=close_to(str(name), KNOWN) or "name one of these",
            )
    return tuple(
        Unknown(name, mean, float(sds[name]), unit, groups.get(name), "detector")
        for name, (mean, unit) in KNOWN.items()
        if sds and name in sds
    )


class ScannerAt(Declared, LinearPhysics):
    """A scan with a scale and a shift per lane: y = s_b T_b A x, T a band-limited translation.

    T moves a projection by part of an element in Fourier, with zeros beyond the detector: what
    lies outside of it is air. Its transpose is exact.

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
        return self._scaled(self._moved(self.scan.A(x), 1.0))

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Aᵀ Tᵀ s y."""
        return self.scan.A_adjoint(self._moved(self._scaled(y), -1.0))

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self.scale is None else y * self.scale.to(y).reshape(-1, 1, 1, 1)

    def _moved(self, y: Tensor, sign: float) -> Tensor:
        if self.shift is None:
            return y
        n = y.shape[-1]
        length = 2 * n + 1  # odd: without a Nyquist frequency the translation is orthogonal
        f = torch.fft.rfftfreq(length, dtype=y.dtype, device=y.device)
        angle = 2 * torch.pi * sign * self.shift.to(y).reshape(-1, 1, 1, 1) * f
        phase = torch.polar(torch.ones_like(angle), angle)
        return torch.fft.irfft(torch.fft.rfft(y, n=length) * phase, n=length)[..., :n]
