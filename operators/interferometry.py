"""Radio interferometry (VLBI): complex visibilities and closure quantities of a sky image.

V_k = F Σ_p x_p exp(+2πi (u_k l_p + v_k m_p)) with l to the east and m to the north: the sign of
the EHT's files as eht-imaging reads them, u and v being site 1 minus site 2. Row 0 of an image is
its northern edge and column 0 its eastern edge, as the sky is seen. F = `flux_unit_jy` is the flux
of an image whose pixels sum to 1.

Source: Thompson, Moran & Swenson, "Interferometry and Synthesis in Radio Astronomy", chapters 2-3;
EHT Collaboration 2019, ApJL 875, L4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv.likelihoods import Gaussian, WeightedNoise
from sciinv.operators.base import (
    MODEL_ERROR,
    Declared,
    MeasurementSpec,
    ModelError,
    error_width,
    groups_by,
    refuse_data,
    widths_of,
)
from sciinv.operators.parts.clean import clean
from sciinv.operators.parts.closure_arguments import factor_of, legs_matrix, legs_of
from sciinv.operators.parts.maximum_entropy import maximum_entropy
from sciinv.operators.parts.model_errors import modulus
from sciinv.operators.parts.sky_transform import (
    Pixel,
    SkyTransform,
    baselines,
    check_grid,
    check_noise_sd,
    dirty_image,
    refuse,
    sky_image_spec,
)
from sciinv.operators.parts.vlbi_gains import ArrayAt, corrupted, pairs_of
from sciinv.operators.parts.vlbi_unknowns import ArrayUnknowns


class Visibilities(Declared, LinearPhysics):
    """Complex visibilities of a sky image, y = (Re V, Im V) + noise, in Jy.

    V_k = F Σ_p x_p exp(+2πi (u_k l_p + v_k m_p)). Image [B, 1, H, W] in Jy/pixel ÷ F, measurement
    [B, 2, N] in Jy. White noise per visibility, its sd that of each real component. Station gains
    are taken as known (calibrated or self-calibrated data) unless they are among the `unknowns`,
    which are drawn with the image: y = g_a g_b* V + noise. `Closures` do without them.

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        noise_sd: σ per real component, Jy: [N], or one number.
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F: flux in Jy of an image of pixel sum 1.
        pixel: Shape of a pixel's light, see `SkyTransform`.
        unknowns: What is drawn with the image, by name with its prior standard deviation:
            "gain_log_amplitude", "gain_phase" (rad), per station and scan, and "position" (µas, of
            the phase centre); see `parts.vlbi_unknowns`. "model_error" is the half-width of the
            prior of an error by a fraction of |V|, as leakage and what does not close leave it.
        stations: The two stations of each visibility, [N, 2]; for unknown gains.
        scans: The scan of each visibility, [N]; for unknown gains.
        noise_by: "stations" draws a scale of the noise for each pair of stations, where it is
            drawn; "baseline" for each visibility.

    Raises:
        OperatorError: Arrays that do not match, or parameters out of range.
    """

    def __init__(
        self,
        u: Any,
        v: Any,
        noise_sd: Any,
        image_size: int = 64,
        field_of_view_uas: float = 128.0,
        flux_unit_jy: float = 1.0,
        pixel: Pixel = "point",
        unknowns: Mapping[str, float] | None = None,
        stations: Any = None,
        scans: Any = None,
        noise_by: str | None = None,
    ) -> None:
        u, v = baselines(u, v)
        check_grid(image_size, field_of_view_uas, flux_unit_jy, pixel)
        super().__init__(
            noise_model=WeightedNoise(check_noise_sd(noise_sd, len(u))),
            img_size=(1, image_size, image_size),
        )
        self.transform = SkyTransform(u, v, image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.flux_unit_jy = flux_unit_jy
        self.image_spec = sky_image_spec(image_size, field_of_view_uas, flux_unit_jy)
        self.measurement_spec = MeasurementSpec(
            dims=("part", "baseline"),
            shape=(2, len(u)),
            units="Jy",
            coords={"u": u.numpy(), "v": v.numpy()},
        )

        self.instrument = ArrayUnknowns(u, v, stations, scans, unknowns)
        self.unknowns = self.instrument.unknowns
        self.model_error = error_width(unknowns)
        pairs = pairs_of(stations, len(u)) if noise_by == "stations" else None
        self.noise_groups = groups_by(self.measurement_spec, noise_by) if pairs is None else pairs

    def at(self, theta: Tensor) -> ArrayAt:
        """Return the array with the gains and the position in theta [B, P]."""
        return ArrayAt(self, self.instrument.factors(theta))

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return an error by a fraction of |V|."""
        if self.model_error is None:
            return None
        return ModelError(self.model_error, modulus(y, self.noise_model.sigma.to(y).square()))

    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return θ ↦ A_θ x of fixed images, with V computed once.

        Of K·B images θ may have B rows: image k·B + b then has the gains b.
        """
        vis, instrument = self.A(x), self.instrument

        def predict(theta: Tensor) -> Tensor:
            each = vis.unflatten(0, (-1, len(theta)))
            return corrupted(each, instrument.factors(theta)).flatten(0, 1)

        return predict

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the visibilities [B, 2, N] of images [B, 1, H, W]."""
        self.check_image(x)
        return self.transform(x)

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch of finite visibilities below 1e9 Jy."""
        super().check_data(y)
        refuse_data(self, y.abs() > 1e9, y, "visibilities in Jy; the active Sun has 1e7")

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return the transpose, [B, 2, N] to [B, 1, H, W]."""
        self.check_measurement(y)
        return self.transform.adjoint(y)

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return {"dirty image": natural weighting, F Jy/beam; "CLEAN": F Jy/pixel}."""
        self.check_measurement(y)
        given = self.transform, y, self.noise_model.sigma
        return {"dirty image": dirty_image(*given), "CLEAN": clean(*given)}


class Closures(Declared, Physics):
    """Closure phases, log (closure) amplitudes and the total flux of a sky image.

    y = (ψ_1 … ψ_T in rad, ln CA_1 … ln CA_Q, ln|V_1| … ln|V_K|, flux in Jy), [B, T + Q + K + 1],
    with ψ = arg(V_12 V_23 V_31) and ln CA = ln(|V_12||V_34| / |V_13||V_24|), V in Jy. Station gains
    drop out of closures. Log amplitudes, in place of the closure amplitudes, are for gains known
    to some per cent: a gain adds to them, so that a Gaussian log gain is marginalised exactly by
    its term in the covariance (`closure_sets.amplitude_cholesky`).

    The likelihood is Gaussian with the first-order covariance of quantities that share baselines,
    phases wrapped to the nearest turn. Closures do not change with total flux, which is a datum of
    its own, nor with position: an image may sit anywhere in the field.

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        triangles: Visibilities of the legs 12, 23, 31, [T, 3].
        triangle_signs: −1 where the leg is the conjugate of the stored one, else +1, [T, 3].
        cholesky: Lower factor of the covariance of y, [M, M].
        quadrangles: Visibilities 12, 34 (numerator), 13, 24 (denominator), [Q, 4].
        amplitudes: Visibilities whose log amplitudes are data, [K].
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F: flux in Jy of an image of pixel sum 1. With the compact flux here, a
            prior for sources of pixel sum 1 serves a source of any flux.
        pixel: Shape of a pixel's light, see `SkyTransform`.
        unknowns: {"model_error": τ}: draw the size of an error of each visibility by a fraction of
            |V|, which data of the same baselines share; τ is the half-width of its prior.

    Raises:
        OperatorError: Arrays that do not match, or parameters out of range.

    Source: Chael et al. 2018, ApJ 857, 23; Blackburn et al. 2020, ApJ 894, 31.
    """

    floor_jy = 1e-9  # far below any noise; keeps ln|V| and its gradient finite at a null

    def __init__(
        self,
        u: Any,
        v: Any,
        triangles: Any,
        triangle_signs: Any,
        cholesky: Any,
        quadrangles: Any = None,
        amplitudes: Any = None,
        image_size: int = 64,
        field_of_view_uas: float = 128.0,
        flux_unit_jy: float = 1.0,
        pixel: Pixel = "point",
        unknowns: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        u, v = baselines(u, v)
        check_grid(image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.register_buffer("triangles", legs_of("triangles", triangles, 3, len(u)))
        self.register_buffer("quadrangles", legs_of("quadrangles", quadrangles, 4, len(u)))
        signs = torch.as_tensor(np.asarray(triangle_signs, float)).reshape(-1, 3)
        if signs.shape != self.triangles.shape or not bool((signs.abs() == 1).all()):
            raise refuse(
                "The signs do not match the triangles",
                f"±1, {list(self.triangles.shape)}",
                list(signs.shape),
                "give one sign per leg",
            )
        self.register_buffer("triangle_signs", signs)
        # of log amplitudes 1, 2 over 3, 4; on the device once, not once a product
        self.register_buffer("sides", torch.tensor([1.0, 1.0, -1.0, -1.0]), persistent=False)
        self.register_buffer("amplitudes", legs_of("amplitudes", amplitudes, 1, len(u)))
        t, m = len(self.triangles), sum(map(len, self._data())) + 1
        self.transform = SkyTransform(u, v, image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.flux_unit_jy = flux_unit_jy
        period = torch.zeros(m, dtype=torch.float64)
        period[:t] = 2 * math.pi
        self.likelihood = Gaussian(cholesky=factor_of(cholesky, m), period=period)
        self.image_spec = sky_image_spec(image_size, field_of_view_uas, flux_unit_jy)
        self.measurement_spec = MeasurementSpec(dims=("closure",), shape=(m,), units="rad, 1, Jy")
        widths_of(unknowns, (MODEL_ERROR,), "closures")
        self.model_error = error_width(unknowns)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return closures and flux [B, M] of images [B, 1, H, W]."""
        self.check_image(x)
        return self._closures(x, self.transform(x))

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch of finite closures: phases within ±2π."""
        super().check_data(y)
        phases = torch.arange(y.shape[1], device=y.device) < len(self.triangles)
        refuse_data(self, (y.abs() > 6.2832) & phases, y, "closure phases in radians")

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Jᵀ v, the gradient of ⟨v, A(x)⟩; v [B, M], result [B, 1, H, W]."""
        return self.linearize(x)[1](v)

    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and the function v → Jᵀ v, at the price of two Fourier transforms."""
        self.check_image(x)
        vis = self.transform(x)
        y = self._closures(x, vis)

        def vjp(v: Tensor) -> Tensor:
            self.check_measurement(v)
            phases, logs, single, flux = v.split([*map(len, self._data()), 1], 1)
            angle, log = torch.zeros_like(vis[:, 0]), torch.zeros_like(vis[:, 0])
            for total, value, index, signs in (
                (angle, phases, self.triangles, self.triangle_signs.to(v)),
                (log, logs, self.quadrangles, self._sides(v)),
                (log, single, self.amplitudes, 1.0),
            ):
                if len(index):
                    total.index_add_(1, index.flatten(), (value[..., None] * signs).flatten(1))
            re, im, power = self._parts(vis)
            angle, log = angle / power, log / power
            g = torch.stack([re * log - im * angle, im * log + re * angle], 1)
            return self.transform.adjoint(g) + self.flux_unit_jy * flux[..., None, None]

        return y, vjp

    def jacobian(self, x: Tensor) -> Tensor:
        """Return ∂A/∂x, [B, M, H·W] (one channel)."""
        self.check_image(x)
        re, im, power = self._parts(self.transform(x))
        d_angle = torch.stack([-im / power, re / power], 1)  # [B, 2, N]: by Re V and Im V
        d_log = torch.stack([re / power, im / power], 1)
        phases = self.transform.rows_of(
            self.triangles, d_angle[:, :, self.triangles] * self.triangle_signs.to(x)
        )
        logs = self.transform.rows_of(
            self.quadrangles, d_log[:, :, self.quadrangles] * self._sides(x)
        )
        single = self.transform.rows_of(self.amplitudes, d_log[:, :, self.amplitudes])
        flux = torch.full_like(x, self.flux_unit_jy)
        return torch.cat([phases, logs, single, flux], 1).flatten(2)

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return an error by a fraction of each |V|: in arg V and in ln|V|, [M, 2 N].

        The total flux is a datum of its own and has none.
        """
        if self.model_error is None:
            return None
        signs = (self.triangle_signs, self.sides, self.sides[:1])
        factor = legs_matrix(self._data(), signs, self.transform.n)
        return ModelError(self.model_error, factor=factor)

    @property
    def coordinates(self) -> Tensor:
        """F with A(x) = g(F x): rows of Re V, Im V and the flux, [2 N + 1, 1, H, W], float64."""
        n, size = self.transform.n, self.transform.image_size
        unit = torch.eye(2 * n, dtype=torch.float64, device=self.transform.u.device)
        rows = self.transform.adjoint(unit.reshape(-1, 2, n))
        flux = torch.full((1, 1, size, size), self.flux_unit_jy, dtype=torch.float64)
        return torch.cat([rows, flux.to(rows)])

    def of_coordinates(self, v: Tensor) -> Tensor:
        """Return g(v), the data [B, M] of coordinates v = F x [B, 2 N + 1], Jy."""
        return self._data_of(v[:, :-1].unflatten(1, (2, -1)), v[:, -1])

    def jacobian_of_coordinates(self, v: Tensor) -> Tensor:
        """Return ∂g/∂v, [B, M, 2 N + 1]."""
        vis = v[:, :-1].unflatten(1, (2, -1))
        re, im, power = self._parts(vis)
        d_angle = torch.stack([-im / power, re / power], 1)  # [B, 2, N]: by Re V and Im V
        d_log = torch.stack([re / power, im / power], 1)
        one = torch.ones(1, dtype=v.dtype, device=v.device)
        signs = (self.triangle_signs.to(v), self._sides(v), one)
        n, blocks = self.transform.n, []
        for index, slope, sign in zip(self._data(), (d_angle, d_log, d_log), signs, strict=True):
            block = v.new_zeros(len(v), 2, len(index), n)
            # A leg may come twice in one quantity: its parts add.
            legs = index.expand(len(v), 2, *index.shape)
            blocks.append(block.scatter_add_(3, legs, slope[:, :, index] * sign))
        stacked = torch.cat(blocks, 2).movedim(1, 2).flatten(2)  # [B, M − 1, 2 N]
        out = torch.nn.functional.pad(stacked, (0, 1, 0, 1))
        out[:, -1, -1] = 1.0
        return out

    def chi2(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return χ² by quantity, [B] each, as the field publishes it, and as the likelihood has it.

        "closure phase": mean 2(1 − cos Δψ)/σ²; "log closure amplitude" and "log amplitude": mean
        (Δ/σ)², all with the diagonal of the covariance, and only of the quantities that there are;
        "reduced": mean squared residual whitened by the whole covariance.
        """
        u = self.A(x)
        variance = self.likelihood.cholesky.to(y).square().sum(1)
        phase = 2 * (1 - torch.cos(y - u)) / variance
        log = (y - u).square() / variance
        out, start = {}, 0
        for index, (name, value) in zip(
            self._data(),
            (("closure phase", phase), ("log closure amplitude", log), ("log amplitude", log)),
            strict=True,
        ):
            if len(index):
                out[name] = value[:, start : start + len(index)].mean(1)
            start += len(index)
        return out | {"reduced": self.likelihood.chi2(u, y)}

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return {"maximum entropy": …}: there is no dirty image without visibility phases."""
        self.check_measurement(y)
        flux = y[:, -1].clamp_min(1e-3 * self.flux_unit_jy) / self.flux_unit_jy
        return {"maximum entropy": maximum_entropy(self, y, flux)}

    def _closures(self, x: Tensor, vis: Tensor) -> Tensor:
        return self._data_of(vis, self.flux_unit_jy * x.sum((1, 2, 3)))

    def _data_of(self, vis: Tensor, flux: Tensor) -> Tensor:
        re, im, power = self._parts(vis)
        total = (torch.atan2(im, re)[:, self.triangles] * self.triangle_signs.to(vis)).sum(2)
        phase = total - 2 * math.pi * torch.round(total / (2 * math.pi))
        log = 0.5 * torch.log(power)
        closed = (log[:, self.quadrangles] * self._sides(vis)).sum(2)
        return torch.cat([phase, closed, log[:, self.amplitudes[:, 0]], flux[:, None]], 1)

    def _data(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.triangles, self.quadrangles, self.amplitudes

    def _parts(self, vis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        re, im = vis[:, 0] + self.floor_jy, vis[:, 1]
        return re, im, re * re + im * im + self.floor_jy**2

    def _sides(self, like: Tensor) -> Tensor:
        return self.sides.to(like)
