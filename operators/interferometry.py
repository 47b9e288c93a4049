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
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian, WeightedNoise
from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec

UAS = math.pi / 180 / 3600 / 1e6  # radians per µas
Pixel = Literal["point", "square", "triangle"]
# power of sinc(pixel · frequency) that each pixel shape multiplies the visibility with
PIXELS = {"point": 0, "square": 1, "triangle": 2}


class SkyTransform(torch.nn.Module):
    """The separable direct Fourier transform from a pixel grid to (u, v) points.

    exp(2πi(ul + vm)) is a product of a factor of the column and one of the row, so that one
    matrix product over columns and one sum over rows give all visibilities, from tables of
    2N(H + W) numbers where the dense matrix has 2NHW. Phases are computed in float64.

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F, Jy.
        pixel: Shape of a pixel's light: "point" (default; the image's samples are delta
            functions), "square" or "triangle" (bilinear, eht-imaging's default).
    """

    def __init__(
        self,
        u: Tensor,
        v: Tensor,
        image_size: int,
        field_of_view_uas: float,
        flux_unit_jy: float,
        pixel: Pixel,
    ) -> None:
        super().__init__()
        size = field_of_view_uas / image_size * UAS
        offset = (torch.arange(image_size, dtype=torch.float64) - (image_size - 1) / 2) * size
        # east is left and north is up, so both sky coordinates fall along their axis
        for name, frequency, unit in (("columns", u, flux_unit_jy), ("rows", v, 1.0)):
            phase = -2 * math.pi * offset[:, None] * frequency
            gain = unit * torch.sinc(size * frequency) ** PIXELS[pixel]
            table = torch.cat([gain * phase.cos(), gain * phase.sin()], 1)  # [W, 2N], [H, 2N]
            self.register_buffer(name, table)
            self.register_buffer(f"{name}_32", table.float())
        self.n = len(u)

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables of columns and rows in the dtype and on the device of `like`."""
        suffix = "" if like.dtype == torch.float64 else "_32"
        columns, rows = getattr(self, f"columns{suffix}"), getattr(self, f"rows{suffix}")
        return columns.to(like), rows.to(like)

    def forward(self, x: Tensor) -> Tensor:
        """Return the visibilities [B, 2, N] (real, imaginary) of images [B, 1, H, W], Jy."""
        columns, rows = self.tables(x)
        part = x[:, 0] @ columns  # [B, H, 2N]
        a, b = part[..., : self.n], part[..., self.n :]
        c, s = rows[:, : self.n], rows[:, self.n :]
        return torch.stack([(a * c - b * s).sum(1), (a * s + b * c).sum(1)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the exact transpose of `forward`: [B, 2, N] to [B, 1, H, W]."""
        columns, rows = self.tables(y)
        c, s = rows[:, : self.n], rows[:, self.n :]
        a, b = y[:, :1], y[:, 1:]
        part = torch.cat([a * c + b * s, b * c - a * s], 2)  # [B, H, 2N]
        return (part @ columns.mT)[:, None]

    def rows_of(self, index: Tensor, weight: Tensor) -> Tensor:
        """Return rows Σ_leg w · ∂V/∂x of a Jacobian as images [B, M, H, W].

        Args:
            index: Visibilities of the legs, [M, L].
            weight: Weight of each leg's real and imaginary part, [B, 2, M, L].
        """
        columns, rows = self.tables(weight)
        c, s = rows[:, index], rows[:, self.n + index]  # [H, M, L]
        p, q = weight[:, 0, None], weight[:, 1, None]  # [B, 1, M, L]
        left = torch.cat([p * c + q * s, q * c - p * s], -1)  # [B, H, M, 2L]
        right = torch.cat([columns[:, index], columns[:, self.n + index]], -1)  # [W, M, 2L]
        return torch.einsum("bhmk,wmk->bmhw", left, right)


def _image_spec(image_size: int, field_of_view_uas: float, flux_unit_jy: float) -> ImageSpec:
    size = field_of_view_uas / image_size
    offset = -(np.arange(image_size) - (image_size - 1) / 2) * size
    units = "Jy/pixel" if flux_unit_jy == 1 else f"{flux_unit_jy:g} Jy/pixel"
    return ImageSpec(
        shape=(1, image_size, image_size),
        units=units,
        y=offset,
        x=offset.copy(),
        axis_units="µas",
        axis_names=("relative declination", "relative right ascension"),
    )


def _fail(what: str, expected: str, got: object, remedy: str) -> OperatorError:
    return OperatorError(what, where="interferometry", expected=expected, got=got, remedy=remedy)


def _baselines(u: Any, v: Any) -> tuple[Tensor, Tensor]:
    u, v = (torch.as_tensor(np.asarray(t, float)) for t in (u, v))
    if u.ndim != 1 or u.shape != v.shape or not len(u):
        raise _fail(
            "The baselines are not two lists of one length",
            "u [N] and v [N], N > 0, in wavelengths",
            f"{list(u.shape)} and {list(v.shape)}",
            "give one u and one v per visibility",
        )
    if not bool(torch.isfinite(u).all() & torch.isfinite(v).all()):
        raise _fail("A baseline is not finite", "finite wavelengths", "NaN or infinity",
                    "drop the flagged visibilities")  # fmt: skip
    return u, v


def _check_grid(image_size: int, fov: float, flux_unit: float, pixel: str) -> None:
    if image_size < 2 or not fov > 0 or not flux_unit > 0 or pixel not in PIXELS:
        raise _fail(
            "The image grid is not possible",
            "image_size ≥ 2, field_of_view_uas > 0, flux_unit_jy > 0, "
            f"pixel one of {', '.join(PIXELS)}",
            f"{image_size}, {fov}, {flux_unit}, {pixel!r}",
            "correct the operator's parameters",
        )


class Visibilities(Declared, LinearPhysics):
    """Complex visibilities of a sky image, y = (Re V, Im V) + noise, in Jy.

    V_k = F Σ_p x_p exp(+2πi (u_k l_p + v_k m_p)). Image [B, 1, H, W] in Jy/pixel ÷ F, measurement
    [B, 2, N] in Jy. White noise per visibility, its sd that of each real component. Station gains
    are taken as known (calibrated or self-calibrated data); else use `Closures`.

    Args:
        u: Baselines to the east, wavelengths, [N].
        v: Baselines to the north, wavelengths, [N].
        noise_sd: σ per real component, Jy: [N], or one number.
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F: flux in Jy of an image of pixel sum 1.
        pixel: Shape of a pixel's light, see `SkyTransform`.

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
    ) -> None:
        u, v = _baselines(u, v)
        _check_grid(image_size, field_of_view_uas, flux_unit_jy, pixel)
        super().__init__(
            noise_model=WeightedNoise(_noise_sd(noise_sd, len(u))),
            img_size=(1, image_size, image_size),
        )
        self.transform = SkyTransform(u, v, image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.flux_unit_jy = flux_unit_jy
        self.image_spec = _image_spec(image_size, field_of_view_uas, flux_unit_jy)
        self.measurement_spec = MeasurementSpec(
            dims=("part", "baseline"),
            shape=(2, len(u)),
            units="Jy",
            coords={"u": u.numpy(), "v": v.numpy()},
        )

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the visibilities [B, 2, N] of images [B, 1, H, W]."""
        self.check_image(x)
        return self.transform(x)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return the transpose, [B, 2, N] to [B, 1, H, W]."""
        self.check_measurement(y)
        return self.transform.adjoint(y)

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return {"dirty image": natural weighting, Jy/beam ÷ F}."""
        self.check_measurement(y)
        sd = self.noise_model.sigma
        return {"dirty image": dirty_image(self.transform, y, sd, self.flux_unit_jy)}


def dirty_image(transform: SkyTransform, vis: Tensor, sd: Tensor, flux_unit_jy: float) -> Tensor:
    """Return Σ w Re(V* e^{2πi(ul+vm)}) / Σ w, w = 1/σ²: 1 at a point source of unit flux."""
    w = sd.to(vis).expand(transform.n) ** -2
    return transform.adjoint(vis * w) / (w.sum() * flux_unit_jy**2)


def _noise_sd(noise_sd: Any, n: int) -> Tensor:
    sd = torch.as_tensor(np.asarray(noise_sd, float))
    if sd.shape not in ((), (1,), (n,)) or not bool((sd > 0).all()):
        raise _fail(
            "The noise does not match the visibilities",
            f"one σ > 0 per visibility, [{n}], or one number",
            f"{list(sd.shape)}, minimum {float(sd.min()) if sd.numel() else None}",
            "check the weights of the data",
        )
    return sd


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
        visibilities: Calibrated visibilities, Jy, [2, N]; only for the dirty image.
        noise_sd: Their σ, Jy, [N].
        image_size: Pixels along each side.
        field_of_view_uas: Angle along each side, µas.
        flux_unit_jy: F: flux in Jy of an image of pixel sum 1. With the compact flux here, a
            prior for sources of pixel sum 1 serves a source of any flux.
        pixel: Shape of a pixel's light, see `SkyTransform`.

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
        visibilities: Any = None,
        noise_sd: Any = None,
        image_size: int = 64,
        field_of_view_uas: float = 128.0,
        flux_unit_jy: float = 1.0,
        pixel: Pixel = "point",
    ) -> None:
        super().__init__()
        u, v = _baselines(u, v)
        _check_grid(image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.register_buffer("triangles", _legs("triangles", triangles, 3, len(u)))
        self.register_buffer("quadrangles", _legs("quadrangles", quadrangles, 4, len(u)))
        signs = torch.as_tensor(np.asarray(triangle_signs, float)).reshape(-1, 3)
        if signs.shape != self.triangles.shape or not bool((signs.abs() == 1).all()):
            raise _fail("The signs do not match the triangles", f"±1, {list(self.triangles.shape)}",
                        list(signs.shape), "give one sign per leg")  # fmt: skip
        self.register_buffer("triangle_signs", signs)
        self.register_buffer("amplitudes", _legs("amplitudes", amplitudes, 1, len(u)))
        t, m = len(self.triangles), sum(map(len, self._data())) + 1
        self.transform = SkyTransform(u, v, image_size, field_of_view_uas, flux_unit_jy, pixel)
        self.flux_unit_jy = flux_unit_jy
        period = torch.zeros(m, dtype=torch.float64)
        period[:t] = 2 * math.pi
        self.likelihood = Gaussian(cholesky=_cholesky(cholesky, m), period=period)
        self.register_buffer("visibilities", None)
        if visibilities is not None and noise_sd is not None:
            stored = torch.as_tensor(np.asarray(visibilities, float))
            if stored.shape != (2, len(u)):
                raise _fail("The visibilities do not match the baselines", f"[2, {len(u)}]",
                            list(stored.shape), "give real and imaginary parts")  # fmt: skip
            self.visibilities = stored
            self.register_buffer("noise_sd", _noise_sd(noise_sd, len(u)))
        self.image_spec = _image_spec(image_size, field_of_view_uas, flux_unit_jy)
        self.measurement_spec = MeasurementSpec(dims=("closure",), shape=(m,), units="rad, 1, Jy")

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return closures and flux [B, M] of images [B, 1, H, W]."""
        self.check_image(x)
        return self._closures(x, self.transform(x))

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
        """Return {"dirty image": …} of the calibrated visibilities, where they were given."""
        self.check_measurement(y)
        if self.visibilities is None:
            return {}
        vis = self.visibilities.to(y)[None].expand(len(y), -1, -1)
        return {"dirty image": dirty_image(self.transform, vis, self.noise_sd, self.flux_unit_jy)}

    def _closures(self, x: Tensor, vis: Tensor) -> Tensor:
        re, im, power = self._parts(vis)
        total = (torch.atan2(im, re)[:, self.triangles] * self.triangle_signs.to(x)).sum(2)
        phase = total - 2 * math.pi * torch.round(total / (2 * math.pi))
        log = 0.5 * torch.log(power)
        closed = (log[:, self.quadrangles] * self._sides(x)).sum(2)
        flux = self.flux_unit_jy * x.sum((1, 2, 3))
        return torch.cat([phase, closed, log[:, self.amplitudes[:, 0]], flux[:, None]], 1)

    def _data(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.triangles, self.quadrangles, self.amplitudes

    def _parts(self, vis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        re, im = vis[:, 0] + self.floor_jy, vis[:, 1]
        return re, im, re * re + im * im + self.floor_jy**2

    @staticmethod
    def _sides(like: Tensor) -> Tensor:
        return torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=like.dtype, device=like.device)


def _legs(name: str, value: Any, legs: int, n: int) -> Tensor:
    value = [] if value is None else value
    index = torch.as_tensor(np.asarray(value, dtype=np.int64).reshape(-1, legs))
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= n):
        raise _fail(
            f"The {name} refer to visibilities that are not there",
            f"indices from 0 to {n - 1}, [number, {legs}]",
            f"{int(index.min())} to {int(index.max())}",
            f"make the {name} from the same list of visibilities as u and v",
        )
    return index


def _cholesky(value: Any, m: int) -> Tensor:
    factor = torch.as_tensor(np.asarray(value, float))
    diagonal = torch.diagonal(factor) if factor.shape == (m, m) else torch.zeros(1)
    if factor.shape != (m, m) or not bool((diagonal > 0).all()):
        raise _fail(
            "The covariance does not match the closure quantities",
            f"a lower Cholesky factor [{m}, {m}] with a positive diagonal (closures, then flux)",
            f"{list(factor.shape)}, smallest diagonal {float(diagonal.min()):g}",
            "use ClosureSet.cholesky of the same closure set",
        )
    return factor
