"""X-ray CT, parallel and fan beam: line integrals of attenuation, or the counts themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, NoiseModel, Physics
from deepinv.physics import PoissonNoise as _DeepinvPoisson
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import Poisson, WeightedNoise
from sciinv.operators.base import (
    Declared,
    ImageSpec,
    MeasurementSpec,
    ModelError,
    error_width,
    groups_by,
    refuse_data,
)
from sciinv.operators.parts.ct_classical import fbp, sirt
from sciinv.operators.parts.ct_counts import CountsAt, unknowns_of_counts
from sciinv.operators.parts.ct_geometry import Geometry
from sciinv.operators.parts.ct_projector import Projector
from sciinv.operators.parts.ct_rough import rough
from sciinv.operators.parts.ct_unknowns import (
    Parts,
    Projections,
    ScannerAt,
    scale_and_shift,
    unknowns_of,
)
from sciinv.operators.parts.model_errors import mean_around
from sciinv.operators.parts.transposed import Linear
from sciinv.solvers.rough import Rough


class CT(Declared, LinearPhysics):
    """Line integrals of attenuation: y = A x + n, n ~ N(0, noise_sd²).

    y_{θk} = ∫ x along the ray to detector element k (its mean over the element's width), without
    unit; x in 1/mm. A counting detector with N counts gives noise_sd ≈ 1/√N.

    Args:
        angles: View angles in degrees, [angle].
        image_size: Rows and columns, or one number for a square image.
        pixel_mm: Side of a pixel, mm.
        detectors: Number of detector elements.
        detector_mm: Pitch of the elements on the detector, mm.
        geometry: "parallel" or "fan".
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        detector_offset_mm: Shift of the detector from the centred position, mm; see
            `Geometry` for its sign and for the axes.
        noise_sd: Standard deviation of y, a number or [angle, detector]; infinite where a sample
            carries no data. The default is that of 10,000 counts.
        model: "strip", "line" or "joseph"; see `ct_projector`.
        memory_limit_mb: Most memory for the stored system matrix, MB; beyond it, weights are
            built again for each product.
        sirt_iterations: Iterations of `classical`'s SIRT.
        length_unit: What the lengths are in: "pixel" where only the detector's pitch is known.
        unknowns: What is drawn with the image, by name with its prior standard deviation:
            "attenuation_scale", "detector_shift" (elements), "air_offset", "element_offset"; see
            `parts.ct_unknowns`. The detector must see air on both sides for a shift.
            "model_error" is the half-width of the prior of an error by a fraction of y, as beam
            hardening and scatter leave it.
        noise_by: Where the noise's scale is drawn, one for each "angle" or "detector".

    Image [B, 1, rows, columns], measurement [B, 1, angle, detector]; float32 or float64.

    Raises:
        OperatorError: The scan cannot be, or the noise does not match it.
    """

    float64_parameters = ("angles",)

    def __init__(
        self,
        angles: Any,
        image_size: int | Sequence[int],
        pixel_mm: float,
        detectors: int,
        detector_mm: float,
        geometry: str = "parallel",
        source_origin_mm: float | None = None,
        origin_detector_mm: float | None = None,
        detector_offset_mm: float = 0.0,
        noise_sd: Any = 0.01,
        model: str = "strip",
        memory_limit_mb: float = 2048.0,
        sirt_iterations: int = 100,
        length_unit: str = "mm",
        unknowns: Mapping[str, float] | None = None,
        noise_by: str | None = None,
    ) -> None:
        scan = Geometry(
            _numbers(angles, "angles"),
            _size(image_size),
            float(pixel_mm),
            int(detectors),
            float(detector_mm),
            geometry,
            None if source_origin_mm is None else float(source_origin_mm),
            None if origin_detector_mm is None else float(origin_detector_mm),
            float(detector_offset_mm),
        )
        shape = (len(scan.angles), scan.detectors)
        super().__init__(img_size=(1, *scan.image_size), noise_model=_noise(noise_sd, shape))
        self.geometry = scan
        self.projector = Projector(scan, model, memory_limit_mb)
        self.sirt_iterations = int(sirt_iterations)
        self.image_spec = _image_spec(scan, length_unit)
        self.measurement_spec = _measurement_spec(scan, "1")
        self.unknowns = unknowns_of(unknowns, shape)
        self.model_error = error_width(unknowns)
        self.noise_groups = groups_by(self.measurement_spec, noise_by)

    def at(self, theta: Tensor) -> ScannerAt:
        """Return the scan with the attenuation scale and detector shift in theta [B, P]."""
        return ScannerAt(self, *scale_and_shift(self.unknowns, theta))

    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return θ ↦ A_θ x with the line integrals of x computed once."""
        names = {u.name for u in self.unknowns}
        projections = self.projections(x, "detector_shift" in names)
        return lambda theta: projections.at(*scale_and_shift(self.unknowns, theta))

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return an error by a fraction of the line integrals around each."""
        if self.model_error is None:
            return None
        variance = self.noise_model.sigma.to(y).square()
        return ModelError(self.model_error, mean_around(y, variance))

    @cached_property
    def parts(self) -> Parts:
        """The same scan onto parts of its elements, made where its detector moves."""
        return Parts(self.projector)

    def projections(self, x: Tensor, moving: bool) -> Projections:
        """Return the line integrals of x to be scaled, and shifted if `moving`."""
        if not moving:
            return Projections(self.A(x))
        self.check_image(x)
        return self.parts.of(x)

    def A(self, x: Tensor) -> Tensor:
        """Return the line integrals of x [B, 1, rows, columns], [B, 1, angle, detector]."""
        self.check_image(x)
        return Linear.apply(x, self.projector.forward, self.projector.adjoint)

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch of finite line integrals below 1e4."""
        super().check_data(y)
        refuse_data(self, y.abs() > 1e4, y, "line integrals −log(I/I0), of the order of 1")

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y, mm, [B, 1, rows, columns]: the exact transpose of `A`."""
        self.check_measurement(y)
        return Linear.apply(y, self.projector.adjoint, self.projector.forward)

    def normal(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Return x ↦ Aᵀ diag(w) A x, [B, 1, rows, columns], of w [1, 1, angle, detector]."""
        self.check_measurement(weights)
        return self.projector.normal_of(weights[0, 0])

    def rough(self, weights: Tensor) -> Rough | None:
        """Return Aᵀ diag(w) A on coarse pixels, see `ct_rough`."""
        self.check_measurement(weights)
        return rough(self.projector, weights[0, 0])

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return "FBP" (Ram–Lak) and "SIRT" (not negative), 1/mm, each [B, 1, rows, columns].

        Samples without data (infinite noise) must hold a plausible value for FBP, such as the
        readers' interpolation; SIRT leaves them out.
        """
        self.check_measurement(y)
        sd = torch.as_tensor(self.noise_model.sigma).to(y)
        used = torch.isfinite(sd).expand(1, *y.shape[-2:])[0]
        with torch.no_grad():
            return {
                "FBP": fbp(y, self.geometry),
                "SIRT": sirt(y, self.projector, used, self.sirt_iterations),
            }


class CTCounts(Declared, Physics):
    """Photon counts: u = I0 exp(−A x) + dark, y ~ Poisson(u). Nonlinear.

    At low dose −log of the counts is biased and its noise is not Gaussian; here the likelihood is
    that of the counts themselves, zero counts included.

    Args:
        angles: View angles in degrees, [angle].
        image_size: Rows and columns, or one number for a square image.
        pixel_mm: Side of a pixel, mm.
        detectors: Number of detector elements.
        detector_mm: Pitch of the elements on the detector, mm.
        blank_counts: I0, expected counts without the object: a number, [detector] or
            [angle, detector].
        dark_counts: Expected counts without a beam, the same forms.
        geometry: "parallel" or "fan".
        source_origin_mm: Source to rotation axis, mm (fan).
        origin_detector_mm: Rotation axis to detector, mm (fan).
        detector_offset_mm: Shift of the detector, mm.
        model: "strip", "line" or "joseph".
        memory_limit_mb: Most memory for the stored system matrix, MB.
        sirt_iterations: Iterations of `classical`'s SIRT.
        length_unit: What the lengths are in: "pixel" where only the detector's pitch is known.
        unknowns: What is drawn with the image, by name with its prior standard deviation:
            "blank_log_scale", "element_log_gain", "dark_log_scale", "attenuation_scale",
            "detector_shift"; see `parts.ct_counts`.

    Image [B, 1, rows, columns] in 1/mm, measurement [B, 1, angle, detector] in counts.

    Raises:
        OperatorError: The scan cannot be, or the blank or dark counts do not match it.
    """

    float64_parameters = ("angles",)

    def __init__(
        self,
        angles: Any,
        image_size: int | Sequence[int],
        pixel_mm: float,
        detectors: int,
        detector_mm: float,
        blank_counts: Any,
        dark_counts: Any = 0.0,
        geometry: str = "parallel",
        source_origin_mm: float | None = None,
        origin_detector_mm: float | None = None,
        detector_offset_mm: float = 0.0,
        model: str = "strip",
        memory_limit_mb: float = 2048.0,
        sirt_iterations: int = 100,
        length_unit: str = "mm",
        unknowns: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(noise_model=_DeepinvPoisson(gain=1.0))
        self.likelihood = Poisson()
        self.linear = CT(
            angles,
            image_size,
            pixel_mm,
            detectors,
            detector_mm,
            geometry,
            source_origin_mm,
            origin_detector_mm,
            detector_offset_mm,
            model=model,
            memory_limit_mb=memory_limit_mb,
            sirt_iterations=sirt_iterations,
            length_unit=length_unit,
        )
        shape = self.linear.measurement_spec.shape
        for name, value, low in (
            ("blank_counts", blank_counts, 1e-9),
            ("dark_counts", dark_counts, 0),
        ):
            counts = torch.as_tensor(_numbers(value, name))
            _broadcasts(counts, shape[1:], name)
            if not bool(torch.isfinite(counts).all()) or float(counts.min()) < low:
                raise _refused(name, f"finite counts of {low:g} or more", f"minimum {counts.min()}")
            self.register_buffer(name, counts)
        self.image_spec = self.linear.image_spec
        self.measurement_spec = _measurement_spec(self.linear.geometry, "counts")
        self.unknowns = unknowns_of_counts(unknowns, shape[-1], self.dark_counts)

    def at(self, theta: Tensor) -> CountsAt:
        """Return the scan with the blank, dark and scanner parameters in theta [B, P]."""
        return CountsAt(self, theta)

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch of counts, finite and not negative."""
        super().check_data(y)
        refuse_data(self, y < 0, y, "counts of 0 or more, the dark field not subtracted below 0")

    def A(self, x: Tensor) -> Tensor:
        """Return the expected counts, [B, 1, angle, detector]."""
        return self.blank_counts.to(x) * torch.exp(-self.linear.A(x)) + self.dark_counts.to(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Jᵀ v at x, J = −diag(I0 exp(−A x)) A; shape of x."""
        with torch.no_grad():
            slope = self.blank_counts.to(x) * torch.exp(-self.linear.A(x))
        return self.linear.A_adjoint(-slope * v)

    def line_integrals(self, y: Tensor) -> Tensor:
        """Return −log((y − dark)/I0); counts below half a photon are taken as half of one."""
        return -torch.log((y - self.dark_counts.to(y)).clamp_min(0.5) / self.blank_counts.to(y))

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return "FBP" and "SIRT" of the line integrals, 1/mm, each [B, 1, rows, columns]."""
        self.check_measurement(y)
        return self.linear.classical(self.line_integrals(y))


def _image_spec(scan: Geometry, unit: str) -> ImageSpec:
    return ImageSpec(
        shape=(1, *scan.image_size),
        units=f"1/{unit}",
        y=scan.y,
        x=scan.x,
        axis_units=unit,
        channels=("attenuation",),
    )


def _measurement_spec(scan: Geometry, units: str) -> MeasurementSpec:
    return MeasurementSpec(
        dims=("channel", "angle", "detector"),
        shape=(1, len(scan.angles), scan.detectors),
        units=units,
        coords={"angle": scan.angles, "detector": scan.u},
    )


def _numbers(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise _refused(name, "numbers", type(value).__name__) from None


def _size(image_size: int | Sequence[int]) -> tuple[int, int]:
    size = np.atleast_1d(np.asarray(image_size))
    if size.size not in (1, 2) or not np.issubdtype(size.dtype, np.integer):
        raise _refused("image_size", "rows and columns, or one number", image_size)
    return int(size[0]), int(size[-1])


def _broadcasts(value: Tensor, shape: tuple[int, ...], name: str) -> None:
    try:
        good = torch.broadcast_shapes(value.shape, shape) == torch.Size(shape)
    except RuntimeError:
        good = False
    if not good:
        raise _refused(
            name, f"a number or [angle, detector] = {list(shape)}", f"shape {list(value.shape)}"
        )


def _noise(noise_sd: Any, shape: tuple[int, int]) -> NoiseModel:
    sd = torch.as_tensor(_numbers(noise_sd, "noise_sd")).float()
    _broadcasts(sd, shape, "noise_sd")
    if bool(sd.isnan().any()) or float(sd.min()) <= 0 or not bool(torch.isfinite(sd).any()):
        raise _refused(
            "noise_sd",
            "above 0, and finite where there are data",
            f"minimum {float(sd.min())}, {int(torch.isfinite(sd).sum())} finite",
        )
    if sd.numel() == 1:
        return GaussianNoise(float(sd))
    return WeightedNoise(sd.expand(shape)[None].clone())


def _refused(name: str, expected: str, got: object) -> OperatorError:
    return OperatorError(
        f"The parameter {name} does not fit the scan",
        where="CT",
        expected=expected,
        got=got,
        remedy=f"give {name} in the stated form",
    )
