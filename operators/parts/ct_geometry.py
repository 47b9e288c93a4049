"""Where source, detector and pixels stand: parallel beam and fan beam on a flat detector."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sciinv.errors import OperatorError

KINDS = ("parallel", "fan")


@dataclass(frozen=True)
class Geometry:
    """A planar scan: view angles, a flat detector, and a centred grid of square pixels.

    World coordinates are in mm with x to the right and y up; row 0 of the image is its top. At
    view angle θ a point has the lateral coordinate t = x cos θ + y sin θ and lies at the depth
    h = −x sin θ + y cos θ towards the detector; the rotation axis is the origin. It is seen at

        u = t                                  (parallel beam)
        u = t (D + R) / (D + h)                (fan beam: source at depth −D, detector at R)

    and detector element k is centred at u_k = (k − (K − 1)/2) Δ + offset. This is the convention
    of the ASTRA toolbox's `parallel` and `fanflat` (van Aarle et al., Opt. Express 2016).

    Attributes:
        angles: View angles θ in degrees, [angle].
        image_size: (rows, columns).
        pixel_mm: Side of a pixel, mm.
        detectors: Number of detector elements K.
        detector_mm: Pitch Δ of the elements, mm (on the detector itself, also for a fan).
        kind: "parallel" or "fan".
        source_origin_mm: D, source to rotation axis, mm (fan only).
        origin_detector_mm: R, rotation axis to detector, mm (fan only).
        detector_offset_mm: Shift of the detector along u, mm; a rotation axis that is seen at
            element c (counted from 0) is an offset of ((K − 1)/2 − c) Δ.

    Raises:
        OperatorError: A length, count or angle is out of range, or the source or detector of a fan
            would stand inside the image.
    """

    angles: np.ndarray
    image_size: tuple[int, int]
    pixel_mm: float
    detectors: int
    detector_mm: float
    kind: str = "parallel"
    source_origin_mm: float | None = None
    origin_detector_mm: float | None = None
    detector_offset_mm: float = 0.0
    _half_diagonal: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        angles = np.asarray(self.angles, dtype=np.float64)
        if angles.ndim != 1 or angles.size == 0 or not np.isfinite(angles).all():
            raise _bad("angles", "one or more finite angles in degrees, [angle]", _say(angles))
        object.__setattr__(self, "angles", angles)
        if self.kind not in KINDS:
            raise _bad("geometry", f"one of {', '.join(KINDS)}", repr(self.kind))
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise _bad("image_size", "rows and columns, each 1 or more", self.image_size)
        if self.detectors < 1:
            raise _bad("detectors", "1 or more elements", self.detectors)
        for name in ("pixel_mm", "detector_mm"):
            _positive(name, getattr(self, name))
        if not np.isfinite(self.detector_offset_mm):
            raise _bad("detector_offset_mm", "a finite length in mm", self.detector_offset_mm)
        half = 0.5 * self.pixel_mm * float(np.hypot(*self.image_size))
        object.__setattr__(self, "_half_diagonal", half)
        if self.kind == "fan":
            _positive("source_origin_mm", self.source_origin_mm)
            _positive("origin_detector_mm", self.origin_detector_mm, zero=True)
            if self.source_origin_mm <= half:  # type: ignore[operator]
                raise _bad(
                    "source_origin_mm",
                    f"more than half the image's diagonal, {half:.6g} mm",
                    f"{self.source_origin_mm:.6g} mm",
                )

    @property
    def u(self) -> np.ndarray:
        """Centre of each detector element along the detector, mm, [detector]."""
        k = np.arange(self.detectors) - (self.detectors - 1) / 2
        return k * self.detector_mm + self.detector_offset_mm

    @property
    def x(self) -> np.ndarray:
        """Centre of each image column, mm, increasing, [columns]."""
        n = self.image_size[1]
        return (np.arange(n) - (n - 1) / 2) * self.pixel_mm

    @property
    def y(self) -> np.ndarray:
        """Centre of each image row, mm, decreasing from the top, [rows]."""
        n = self.image_size[0]
        return ((n - 1) / 2 - np.arange(n)) * self.pixel_mm

    @property
    def source_detector_mm(self) -> float:
        """D + R of a fan beam, mm."""
        return float(self.source_origin_mm) + float(self.origin_detector_mm)  # type: ignore[arg-type]

    @property
    def gamma(self) -> np.ndarray:
        """Angle of each element's ray to the central one, rad, [detector]; 0 if parallel."""
        if self.kind == "parallel":
            return np.zeros(self.detectors)
        return np.arctan(self.u / self.source_detector_mm)

    @property
    def magnification(self) -> float:
        """(D + R) / D: how much larger a thing at the axis is on the detector; 1 if parallel."""
        if self.kind == "parallel":
            return 1.0
        return self.source_detector_mm / float(self.source_origin_mm)  # type: ignore[arg-type]

    def position(self, theta: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels' lateral coordinate t and depth h, mm, each [rows · columns].

        Args:
            theta: View angle, rad.
        """
        c, s = np.cos(theta), np.sin(theta)
        t = (self.y[:, None] * s + self.x[None, :] * c).ravel()
        h = (self.y[:, None] * c - self.x[None, :] * s).ravel()
        return t, h


def _positive(name: str, value: float | None, zero: bool = False) -> None:
    good = value is not None and np.isfinite(value) and (value > 0 or (zero and value == 0))
    if not good:
        raise _bad(name, f"a length in mm {'of 0 or more' if zero else 'above 0'}", value)


def _bad(name: str, expected: str, got: object) -> OperatorError:
    return OperatorError(
        f"The scan's {name} cannot be",
        where="CT geometry",
        expected=expected,
        got=got,
        remedy=f"correct {name}; lengths are in mm and angles in degrees",
    )


def _say(angles: np.ndarray) -> str:
    bad = int((~np.isfinite(angles)).sum()) if angles.size else 0
    return f"shape {list(angles.shape)}" + (f", {bad} not finite" if bad else "")
