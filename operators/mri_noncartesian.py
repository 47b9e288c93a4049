"""Multi-coil non-Cartesian MRI (radial, spiral): y_c = F_k S_c x + n at arbitrary k, by finufft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import (
    MODEL_ERROR,
    Declared,
    MeasurementSpec,
    error_width,
    groups_by,
    widths_of,
)
from sciinv.operators.parts import mri_arguments
from sciinv.operators.parts.transposed import Linear
from sciinv.solvers import conjugate_gradient

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}  # relative error that finufft may make


class NonCartesianMRI(Declared, LinearPhysics):
    """Multi-coil MRI along a trajectory, y_c = F_k S_c x + n.

        (F_k z)[j] = 1/√(HW) Σ_r z[r] exp(−2πi (k_j / N)·(r − r0)),   r0 = N // 2,
    so that whole-numbered k are the samples of `MultiCoilMRI`. Runs on the CPU.

    Args:
        trajectory: (ky, kx) of each sample in cycles per field of view, real [sample, 2], from
            −N/2 to N/2.
        coil_maps: Sensitivities S_c: complex [coil, H, W] or [set, coil, H, W], or real with a
            first axis of 2; several sets as in `MultiCoilMRI`.
        noise_sd: Standard deviation per real component of y: a number, or one per coil.
        pixel_mm: Pixel size in mm, a number or (row, column); None where it is not known.
        units: What a pixel of value 1 is.
        unknowns: {"model_error": τ}: draw the size of an error by a fraction of each sample; τ is
            the half-width of its prior.
        noise_by: "coil" draws a scale of the noise for each coil, where it is drawn.

    Raises:
        OperatorError: finufft is not installed, or parameters that do not fit.

    Source: Barnett, Magland & af Klinteberg, SIAM J. Sci. Comput. 41:C479, 2019 (finufft).
    """

    trajectory: Tensor
    float64_parameters = ("trajectory",)

    def __init__(
        self,
        trajectory: Any,
        coil_maps: Any,
        noise_sd: Any,
        pixel_mm: float | Sequence[float] | None = 1.0,
        units: str = "arbitrary units",
        unknowns: Mapping[str, float] | None = None,
        noise_by: str | None = None,
    ) -> None:
        _finufft()
        maps = mri_arguments.as_maps(coil_maps, None)
        sets, coils, h, w = maps.shape
        points = _as_trajectory(trajectory, h, w)
        noise_model = mri_arguments.noise(noise_sd, coils)
        super().__init__(noise_model=noise_model, img_size=(2 * sets, h, w))
        self.register_buffer("trajectory", points)
        # real and imaginary part last, since Module.to drops imaginary parts
        self.register_buffer("_maps", torch.view_as_real(maps.contiguous()))
        self.image_spec = mri_arguments.image_spec(h, w, pixel_mm, sets, units)
        self.measurement_spec = MeasurementSpec(
            ("part", "coil", "sample"), (2, coils, len(points)), units
        )
        widths_of(unknowns, (MODEL_ERROR,), "MRI along a trajectory")
        self.model_error = error_width(unknowns)
        self.noise_groups = groups_by(self.measurement_spec, noise_by)

    def A(self, x: Tensor) -> Tensor:
        """Return y = F_k S x: image [B, 2·set, H, W] to samples [B, 2, coil, sample]."""
        self.check_image(x)
        return Linear.apply(x, self._forward, self._adjoint)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y = Σ_c S_c* F_kᴴ y_c, [B, 2·set, H, W]."""
        self.check_measurement(y)
        return Linear.apply(y, self._adjoint, self._forward)

    def density_compensation(self, steps: int = 15) -> Tensor:
        """Return the weight of each sample, [sample]: w ← w / |F_k F_kᴴ w| until it is even.

        Source: Pipe & Menon, Magnetic Resonance in Medicine 41:179, 1999 (without their kernel).
        """
        weights = np.ones(len(self.trajectory), np.complex128)
        for _ in range(steps):
            image = self._type1(weights[None], np.float64)
            weights = weights / np.maximum(np.abs(self._type2(image, np.float64)[0]), 1e-12)
        return torch.from_numpy(weights.real) / float(np.mean(weights.real))

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return "gridding" (density-compensated adjoint) and "CG-SENSE", like an image.

        "CG-SENSE" minimises ½‖A x − y‖² + λ/2 ‖x‖² with λ as in `MultiCoilMRI.classical`; the
        gridded image is scaled to fit the data best.
        """
        gridded = self.A_adjoint(y * self.density_compensation().to(y))
        fit = self.A(gridded)
        over = fit.square().sum(dim=(1, 2, 3)).clamp_min(torch.finfo(y.dtype).tiny)
        gridded = gridded * ((fit * y).sum(dim=(1, 2, 3)) / over)[:, None, None, None]
        power = gridded.square().mean(dim=(1, 2, 3), keepdim=True)
        variance = self.noise_model.sigma.to(y).square().mean()
        lam = variance / power.clamp_min(torch.finfo(y.dtype).tiny)
        solution, _, _ = conjugate_gradient(
            lambda x: self.A_adjoint(self.A(x)) + lam * x, self.A_adjoint(y), tol=1e-4, max_iter=100
        )
        return {"gridding": gridded, "CG-SENSE": solution}

    def _forward(self, x: Tensor) -> Tensor:
        maps = torch.view_as_complex(self._maps.to(x.dtype))
        out = x.new_empty(len(x), *self.measurement_spec.shape)
        for b in range(len(x)):
            z = (maps * torch.complex(x[b, ::2], x[b, 1::2])[:, None]).sum(0).numpy()
            k = torch.from_numpy(self._type2(z, _real_type(x)))
            out[b, 0], out[b, 1] = k.real, k.imag
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        maps = torch.view_as_complex(self._maps.to(y.dtype))
        out = y.new_empty(len(y), *self.img_size)
        for b in range(len(y)):
            k = torch.complex(y[b, 0], y[b, 1]).numpy()
            z = (maps.conj() * torch.from_numpy(self._type1(k, _real_type(y)))).sum(1)
            out[b, ::2], out[b, 1::2] = z.real, z.imag
        return out

    def _normal(self, x: Tensor) -> Tensor:
        return self._adjoint(self._forward(x))

    def _type2(self, z: np.ndarray, real: type) -> np.ndarray:
        # image [n, H, W] → samples [n, sample]
        y, x = self._angles(real)
        _, h, w = self.img_size
        eps = TOLERANCE[torch.float32 if real is np.float32 else torch.float64]
        return _finufft().nufft2d2(y, x, np.ascontiguousarray(z), isign=-1, eps=eps) / real(
            np.sqrt(h * w)
        )

    def _type1(self, k: np.ndarray, real: type) -> np.ndarray:
        # samples [n, sample] → image [n, H, W]
        y, x = self._angles(real)
        _, h, w = self.img_size
        eps = TOLERANCE[torch.float32 if real is np.float32 else torch.float64]
        k = np.ascontiguousarray(k)
        return _finufft().nufft2d1(y, x, k, (h, w), isign=1, eps=eps) / real(np.sqrt(h * w))

    def _angles(self, real: type) -> tuple[np.ndarray, np.ndarray]:
        _, h, w = self.img_size
        turns = self.trajectory.double().numpy() / np.array([h, w])
        y, x = (2 * np.pi * turns).T
        return np.ascontiguousarray(y, real), np.ascontiguousarray(x, real)


def radial_trajectory(shape: tuple[int, int], spokes: int, golden: bool = True) -> np.ndarray:
    """Return radial spokes, (ky, kx) in cycles per field of view, [spokes · max(shape), 2].

    Args:
        shape: (H, W) of the image.
        spokes: Number of spokes through the centre.
        golden: Successive spokes differ by the golden angle (111.25°), else by 180° / spokes.
    """
    step = np.pi * (np.sqrt(5) - 1) / 2 if golden else np.pi / spokes
    angle = step * np.arange(spokes)[:, None]
    count = max(shape)
    radius = (np.arange(count) - count // 2) / count  # cycles per pixel
    points = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1)
    return points.reshape(-1, 2) * np.array(shape)


def _real_type(value: Tensor) -> type:
    return np.float64 if value.dtype == torch.float64 else np.float32


def _finufft() -> Any:
    try:
        import finufft
    except ImportError as error:
        raise OperatorError(
            "Non-Cartesian MRI needs finufft, which is not installed",
            expected="the package finufft",
            remedy='pip install "sciinv[nufft]"',
        ) from error
    return finufft


def _as_trajectory(trajectory: Any, h: int, w: int) -> Tensor:
    points = torch.as_tensor(trajectory).detach().cpu().double()
    while points.ndim > 2 and points.shape[0] == 1:
        points = points[0]
    limits = torch.tensor([h / 2, w / 2], dtype=torch.float64)
    fits = points.ndim == 2 and points.shape[1:] == (2,) and len(points) > 0
    if not fits or not bool((points.abs() <= limits * (1 + 1e-6)).all()):
        raise OperatorError(
            "The trajectory does not fit the image",
            where="trajectory",
            expected=f"[sample, 2], |ky| ≤ {h / 2:g} and |kx| ≤ {w / 2:g} cycles per field of view",
            got=f"{list(points.shape)}, up to {points.abs().max() if points.numel() else 0:g}",
            remedy="scale it to cycles per field of view; put samples first, (ky, kx) last",
        )
    return points
