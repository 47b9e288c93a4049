"""What is not exactly known of a counting CT scanner: blank scan, dark level, scale, position.

    u = I0 e^{β + γ_k} exp(−s T A x) + d e^{δ},   y ~ Poisson(u),   k: the detector element

β, γ_k and δ are drawn as logarithms, so that no count's expectation is below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import Declared, Unknown, widths_of
from sciinv.operators.parts.ct_unknowns import ScannerAt

# Prior mean and unit; the prior standard deviation is the user's.
KNOWN = {
    "blank_log_scale": (0.0, "1"),
    "element_log_gain": (0.0, "1"),
    "dark_log_scale": (0.0, "1"),
    "attenuation_scale": (1.0, "1"),
    "detector_shift": (0.0, "detector elements"),
}
STEP = 0.01  # elements: half the width of the central difference in a shift


def unknowns_of_counts(
    sds: Mapping[str, float] | None, detectors: int, dark: Tensor
) -> tuple[Unknown, ...]:
    """Return the unknowns of a counting scan by their names and prior standard deviations.

    Args:
        sds: Standard deviation by name: "blank_log_scale" (β, all of the blank scan: a source that
            drifted), "element_log_gain" (γ_k, each element of it: rings), "dark_log_scale" (δ, all
            dark counts), "attenuation_scale" (s) and "detector_shift" (T) as of line integrals.
            None: all is known.
        detectors: Number of detector elements.
        dark: The declared dark counts.

    Raises:
        OperatorError: A name is not known, a standard deviation is no number above 0, or there are
            no dark counts to scale.
    """
    widths = widths_of(sds, KNOWN, "CT counts")
    if "dark_log_scale" in widths and not float(dark.max()) > 0:
        raise OperatorError(
            "The dark level is a factor of dark counts, and these are 0",
            where="CT counts, unknowns: dark_log_scale",
            expected="dark_counts above 0, the best guess of the level",
            got=float(dark.max()),
            remedy="give dark_counts, or leave dark_log_scale out",
        )
    return tuple(
        Unknown(name, mean, widths[name], unit, dim="detector", size=detectors)
        if name == "element_log_gain"
        else Unknown(name, mean, widths[name], unit)
        for name, (mean, unit) in KNOWN.items()
        if name in widths
    )


class CountsAt(Declared, Physics):
    """A counting scan with the blank, dark and scanner parameters of θ [B, P], lane by lane.

    Args:
        scan: The scan as declared: `operators.ct.CTCounts`.
        theta: θ, [B, P].
    """

    def __init__(self, scan: Any, theta: Tensor) -> None:
        super().__init__(noise_model=scan.noise_model)
        self.likelihood, self.img_size = scan.likelihood, scan.linear.img_size
        self.scan, self.theta = scan, theta
        self.image_spec, self.measurement_spec = scan.image_spec, scan.measurement_spec
        sizes = [u.size or 1 for u in scan.unknowns]
        names = [u.name for u in scan.unknowns]
        self.values = dict(zip(names, theta.split(sizes, 1), strict=True))
        self.scale, self.shift = (
            self.values[name][:, 0] if name in self.values else None
            for name in ("attenuation_scale", "detector_shift")
        )
        self.lines = ScannerAt(scan.linear, self.scale, self.shift)

    def _blank(self, p: Tensor) -> Tensor:
        """Return I0 e^{β + γ_k}, to broadcast over p [B, 1, angle, detector]."""
        log = torch.zeros(1, 1, 1, 1).to(p)
        for name in ("blank_log_scale", "element_log_gain"):
            if name in self.values:
                log = log + self.values[name].to(p)[:, None, None]
        return self.scan.blank_counts.to(p) * log.exp()

    def _dark(self, p: Tensor) -> Tensor:
        """Return d e^{δ}, to broadcast over p."""
        dark = self.scan.dark_counts.to(p)
        if "dark_log_scale" not in self.values:
            return dark
        return dark * self.values["dark_log_scale"].to(p)[:, None, None].exp()

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the expected counts, [B, 1, angle, detector]."""
        p = self.lines.A(x)
        return self._blank(p) * torch.exp(-p) + self._dark(p)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Jᵀ v at x; shape of x."""
        with torch.no_grad():
            p = self.lines.A(x)
            slope = self._blank(p) * torch.exp(-p)
        return self.lines.A_adjoint(-slope * v)

    def sensitivity(
        self, x: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return δ ↦ G δ, [B, P] to counts, and r ↦ Gᵀ r, with G = ∂A_θ x/∂θ.

        Args:
            x: Images, [B, 1, rows, columns].
        """
        seen = self.scan.linear.projections(x, self.shift is not None)
        p = seen.at(self.scale, self.shift)
        beam = self._blank(p) * torch.exp(-p)
        of_one: dict[str, Tensor] = {"blank_log_scale": beam}
        if "dark_log_scale" in self.values:
            of_one["dark_log_scale"] = self._dark(p).expand_as(p)
        if self.scale is not None:
            of_one["attenuation_scale"] = -beam * seen.at(None, self.shift)
        if self.shift is not None:
            up, down = (seen.at(self.scale, self.shift + h) for h in (STEP, -STEP))
            of_one["detector_shift"] = -beam * (up - down) / (2 * STEP)
        sizes = [part.shape[1] for part in self.values.values()]

        def forward(delta: Tensor) -> Tensor:
            out = torch.zeros_like(beam)
            for name, part in zip(self.values, delta.to(x).split(sizes, 1), strict=True):
                out = out + of_one.get(name, beam) * part[:, None, None]
            return out

        def adjoint(r: Tensor) -> Tensor:
            each = [(of_one.get(name, beam) * r).sum((1, 2)) for name in self.values]
            each = [
                part if size > 1 else part.sum(1, keepdim=True)
                for part, size in zip(each, sizes, strict=True)
            ]
            return torch.cat(each, 1)

        return forward, adjoint
