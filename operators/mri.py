"""Multi-coil Cartesian MRI: y_c = M F Σ_s S_sc x_s + n, measured samples only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import Declared, MeasurementSpec, ModelError, error_width, groups_by
from sciinv.operators.parts import mri_arguments
from sciinv.operators.parts.model_errors import modulus_around
from sciinv.operators.parts.mri_unknowns import ScanAt, Scanner
from sciinv.operators.parts.transposed import Linear
from sciinv.solvers import conjugate_gradient

CACHE_ELEMENTS = 1 << 19  # complex numbers that the CPU transforms at once: stays in its cache
DEVICE_ELEMENTS = 1 << 26  # the same on an accelerator: bounds its memory (0.5 GB in complex64)
FEW_LINES = 0.7  # below this share of sampled lines, transforming only these is faster


class MultiCoilMRI(Declared, LinearPhysics):
    """Multi-coil Cartesian MRI, y_c = M F S_c x + n.

    F is the orthonormal centred 2-D DFT (centre of k-space and of the image at index N // 2):
        (F z)[k] = 1/√(HW) Σ_r z[r] exp(−2πi (k − k0)·(r − r0) / N).
    M keeps the measured samples and no others: y is packed, [B, 2, coil, sample], samples in
    row-major order of the mask, part 0 real and part 1 imaginary. So the noise is white, and
    samples that were not measured neither count in a likelihood nor cost memory. `pack` and
    `unpack` convert from and to the full grid [B, coil, ky, kx] (complex).
    x is [B, 2, H, W] (real, imaginary). With Σ_c |S_c|² = 1, ‖A‖ ≤ 1.

    With several sets of maps (soft-SENSE; ESPIRiT gives a second one where the field of view is too
    small or the maps are not smooth) every set has a complex image of its own, as in BART:
    y_c = M F Σ_s S_sc x_s + n, and x is [B, 2·set, H, W] = (real 1, imaginary 1, real 2, …). The
    object is their sum; `combined` gives the usual root of the sum of squares.

    Args:
        mask: Measured samples, [ky, kx], bool; the centre of k-space at index N // 2.
        coil_maps: Sensitivities S_c: complex [coil, H, W] or [set, coil, H, W], or real with a
            first axis of 2 (real and imaginary part); a leading axis of length 1 is dropped.
            Where the maps are smaller than the mask, the image is 0 outside of them (centres
            coincide).
        noise_sd: Standard deviation per real component of y: a number, one per coil, or one per
            sample (where samples were measured a different number of times).
        image_shape: Crop the maps to this (H, W) around their centre.
        pixel_mm: Pixel size in mm, a number or (row, column); None where it is not known.
        scale: The k-space was divided by this: x · scale is in the scanner's units.
        units: What a pixel of value 1 is.
        unknowns: What is drawn with the image, by name with its prior standard deviation:
            "coil_maps" (smooth corrections of the maps) and "line_phase" (rad, one for each line),
            see `parts.mri_unknowns`; "model_error" is the half-width of the prior of an error by a
            fraction of the samples around each, as maps that are not exact leave it.
        noise_by: "coil" draws a scale of the noise for each coil, where it is drawn.
        map_order: How many half-periods the maps' corrections may have over the image.
        shots: Number of the shot that measured each line of the grid, where lines share a phase.

    Raises:
        OperatorError: Shapes that do not fit, an empty mask, values that are not finite, a noise
            that is not positive, or unknowns that these data cannot know.

    Source: Pruessmann et al., "SENSE", Magnetic Resonance in Medicine 42:952, 1999; several sets:
    Uecker et al., "ESPIRiT", Magnetic Resonance in Medicine 71:990, 2014.
    """

    mask: Tensor
    scale: float

    def __init__(
        self,
        mask: Any,
        coil_maps: Any,
        noise_sd: Any,
        image_shape: Sequence[int] | None = None,
        pixel_mm: float | Sequence[float] | None = 1.0,
        scale: float = 1.0,
        units: str = "arbitrary units",
        unknowns: Mapping[str, float] | None = None,
        map_order: int = 4,
        shots: Sequence[int] | None = None,
        noise_by: str | None = None,
    ) -> None:
        kept = mri_arguments.as_mask(mask)
        maps = mri_arguments.as_maps(coil_maps, image_shape)
        sets, coils, h, w = maps.shape
        grid_h, grid_w = kept.shape
        if h > grid_h or w > grid_w:
            raise OperatorError(
                "The coil maps are larger than the k-space grid",
                where="coil_maps",
                expected=f"at most {grid_h} × {grid_w}, the shape of the mask",
                got=f"{h} × {w}",
                remedy="give maps on the image grid of the mask, or an image_shape",
            )
        noise_model = mri_arguments.noise(noise_sd, coils, int(kept.sum()))
        super().__init__(noise_model=noise_model, img_size=(2 * sets, h, w))
        self.scale = float(torch.as_tensor(scale))
        self.grid = (grid_h, grid_w)
        self.samples = int(kept.sum())
        self._pads = (grid_w // 2 - w // 2, grid_h // 2 - h // 2)  # left, top
        # The maps are kept with the image's centre at index (0, 0), and times the phase ramp
        # that brings the centre of k-space to N // 2, so that no shift is made per coil; real
        # and imaginary part are the last axis, since Module.to drops imaginary parts.
        maps = torch.fft.ifftshift(self._pad(maps), dim=(-2, -1)) * self._ramp(maps)
        self.register_buffer("mask", kept)
        self.register_buffer("_maps", torch.view_as_real(maps).contiguous())
        self._index_samples(kept)
        self.image_spec = mri_arguments.image_spec(h, w, pixel_mm, sets, units)
        self.measurement_spec = MeasurementSpec(
            ("part", "coil", "sample"), (2, coils, self.samples), units
        )
        drawn = unknowns not in (None, {})
        self._scanner = Scanner(self, unknowns, map_order, shots) if drawn else None
        self.unknowns = self._scanner.unknowns if self._scanner else ()
        self.model_error = error_width(unknowns)
        self.noise_groups = groups_by(self.measurement_spec, noise_by)

    def at(self, theta: Tensor) -> ScanAt:
        """Return the scan with the maps' corrections and the phases in theta [B, P]."""
        assert self._scanner is not None
        return ScanAt(self, self._scanner, theta)

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return an error by a fraction of the samples around each, see `parts.model_errors`."""
        if self.model_error is None:
            return None
        variance = self.noise_model.sigma.to(y).square()
        return ModelError(self.model_error, modulus_around(y, variance, self.mask))

    @property
    def coil_maps(self) -> Tensor:
        """The sensitivities on the image grid, complex [coil, H, W], or [set, coil, H, W]."""
        maps = torch.view_as_complex(self._maps)
        maps = self._crop(torch.fft.fftshift(maps * self._ramp(maps).conj(), dim=(-2, -1)))
        return maps[0] if len(maps) == 1 else maps

    def combined(self, x: Tensor) -> Tensor:
        """Return √Σ_s |x_s|² of images [B, 2·set, H, W], [B, H, W]: the magnitude, if one set."""
        self.check_image(x)
        return x.square().sum(1).sqrt()

    def A(self, x: Tensor) -> Tensor:
        """Return y = M F S x: image [B, 2·set, H, W] to packed samples [B, 2, coil, sample]."""
        self.check_image(x)
        return Linear.apply(x, self._forward, self._adjoint)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return Aᵀ y = Σ_c S_c* Fᴴ Mᵀ y_c, the exact transpose: [B, 2·set, H, W]."""
        self.check_measurement(y)
        return Linear.apply(y, self._adjoint, self._forward)

    def A_adjoint_A(self, x: Tensor) -> Tensor:
        """Return Aᵀ A x without packing; along fully sampled lines F cancels and is left out."""
        self.check_image(x)
        return Linear.apply(x, self._normal, self._normal)

    def pack(self, kspace: Tensor) -> Tensor:
        """Return the measured samples [B, 2, coil, sample] of a complex grid [B, coil, ky, kx]."""
        k = kspace[..., self.mask]
        return torch.stack([k.real, k.imag], dim=1)

    def unpack(self, y: Tensor) -> Tensor:
        """Return the complex grid [B, coil, ky, kx], 0 where nothing was measured."""
        self.check_measurement(y)
        k = torch.complex(y[:, 0], y[:, 1])
        out = k.new_zeros(*k.shape[:2], *self.grid)
        out[..., self.mask] = k
        return out

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return the usual reconstructions, each [B, 2·set, H, W].

        "zero-filled" is Aᵀ y. "CG-SENSE" minimises ½‖A x − y‖² + λ/2 ‖x‖² by at most 100
        conjugate-gradient steps (relative residual 1e-4), with λ = σ² / p: σ the noise and p
        the mean square of a component of the zero-filled image, which is the posterior mean
        under a white Gaussian prior of that power.
        """
        zero_filled = self.A_adjoint(y)
        power = zero_filled.square().mean(dim=(1, 2, 3), keepdim=True)
        variance = self.noise_model.sigma.to(y).square().mean()
        lam = variance / power.clamp_min(torch.finfo(y.dtype).tiny)
        solution, _, _ = conjugate_gradient(
            lambda x: self.A_adjoint_A(x) + lam * x, zero_filled, tol=1e-4, max_iter=100
        )
        return {"zero-filled": zero_filled, "CG-SENSE": solution}

    def _ramp(self, like: Tensor) -> Tensor:
        # exp(2πi k0·r / N) on the grid: the DFT of z · ramp is that of z, moved by k0 = N // 2.
        turns = [(torch.arange(n) * (n // 2)).remainder(n).double() / n for n in self.grid]
        phase = 2 * torch.pi * (turns[0][:, None] + turns[1])
        return torch.polar(torch.ones_like(phase), phase).to(like)

    def _index_samples(self, mask: Tensor) -> None:
        h, w = self.grid
        ky, kx = mask.nonzero(as_tuple=True)
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        # The axis of which only some lines are sampled; 0: leaving lines out is not worth it.
        self._axis = -2 if len(rows) / h < len(columns) / w else -1
        self._lines_shape = (len(rows), w) if self._axis == -2 else (h, len(columns))
        lines = rows if self._axis == -2 else columns
        if self._lines_shape[0] * self._lines_shape[1] > FEW_LINES * h * w:
            self._axis, self._lines_shape, lines = 0, (h, w), lines[:0]
        places = torch.zeros(h, w, dtype=torch.long)
        lined = places if self._axis == 0 else places.index_select(self._axis, lines)
        lined.copy_(torch.arange(lined.numel()).reshape(self._lines_shape))
        if self._axis != 0:
            places.index_copy_(self._axis, lines, lined)
        self._every = self.samples == lined.numel()  # every place of these lines is a sample
        self.register_buffer("_lines", lines)
        self.register_buffer("_position", places[ky, kx])

    def _forward(self, x: Tensor) -> Tensor:
        grid, maps = self._to_grid(x), self._complex_maps(x)
        out = x.new_empty(len(x), *self.measurement_spec.shape)
        for b, c in self._blocks(x):
            k = self._sampled(_weighted(grid[b], maps[:, c]))
            out[b, 0, c] = k.real
            out[b, 1, c] = k.imag
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        # In conjugates, Σ_c S_c F̄ᴴ k̄_c with F̄ᴴ = F: so no conjugate maps are made or kept.
        maps = self._complex_maps(y)
        total = maps.new_zeros(len(y), len(maps), *self.grid)
        for b, c in self._blocks(y):
            z = self._placed(torch.complex(y[b, 0, c], -y[b, 1, c]))
            _accumulate(total[b], maps[:, c], z)
        return self._from_conjugate(total)

    def _normal(self, x: Tensor) -> Tensor:
        grid, maps = self._to_grid(x), self._complex_maps(x)
        total = torch.zeros_like(grid)
        kept = self.mask.to(x.dtype)
        kept = torch.stack([kept, -kept], dim=-1)  # mask and conjugate at once
        axes = (self._axis,) if self._every and self._axis else (-2, -1)
        for b, c in self._blocks(x):
            k = torch.fft.fftn(_weighted(grid[b], maps[:, c]), dim=axes, norm="ortho")
            torch.view_as_real(k).mul_(kept)
            _accumulate(total[b], maps[:, c], torch.fft.fftn(k, dim=axes, norm="ortho"))
        return self._from_conjugate(total)

    def _sampled(self, z: Tensor) -> Tensor:
        # M F z of coil images [B, coil, H, W], [B, coil, sample].
        k = self._transform(z).flatten(-2)
        return k if self._every else k.index_select(-1, self._position)

    def _placed(self, k: Tensor) -> Tensor:
        # The conjugate of Fᴴ Mᵀ k̄ of samples [B, coil, sample], [B, coil, H, W].
        if not self._every:
            lines = k.new_zeros(*k.shape[:2], self._lines_shape[0] * self._lines_shape[1])
            k = lines.index_copy_(-1, self._position, k)
        return self._transform_adjoint(k.unflatten(-1, self._lines_shape))

    def _transform(self, z: Tensor) -> Tensor:
        # F z on the sampled lines only.
        if self._axis == 0:
            return torch.fft.fft2(z, norm="ortho")
        lines = torch.fft.fft(z, dim=self._axis, norm="ortho")
        lines = lines.index_select(self._axis, self._lines)
        return torch.fft.fft(lines, dim=-3 - self._axis, norm="ortho")

    def _transform_adjoint(self, k: Tensor) -> Tensor:
        # F k of k on the sampled lines, the conjugate of Fᴴ k̄.
        if self._axis == 0:
            return torch.fft.fft2(k, norm="ortho")
        lines = torch.fft.fft(k, dim=-3 - self._axis, norm="ortho")
        full = k.new_zeros(*k.shape[:-2], *self.grid)
        full.index_copy_(self._axis, self._lines, lines)
        return torch.fft.fft(full, dim=self._axis, norm="ortho")

    def _blocks(self, value: Tensor) -> Iterator[tuple[slice, slice]]:
        # One item at a time on a CPU: its bits do not depend on the batch around it.
        area, coils = self.grid[0] * self.grid[1], self.measurement_spec.shape[1]
        on_cpu = value.device.type == "cpu"
        room = max(1, (CACHE_ELEMENTS if on_cpu else DEVICE_ELEMENTS) // area)
        per_items = 1 if on_cpu else max(1, room // coils)
        for b in range(0, len(value), per_items):
            for c in range(0, coils, room):
                yield slice(b, b + per_items), slice(c, c + room)

    def _complex_maps(self, like: Tensor) -> Tensor:
        return torch.view_as_complex(self._maps.to(like.dtype))

    def _to_grid(self, x: Tensor) -> Tensor:
        z = torch.complex(x[:, ::2], x[:, 1::2])  # [B, set, H, W]
        return torch.fft.ifftshift(self._pad(z), dim=(-2, -1))

    def _from_conjugate(self, z: Tensor) -> Tensor:
        z = self._crop(torch.fft.fftshift(z, dim=(-2, -1)))
        return torch.stack([z.real, -z.imag], dim=2).flatten(1, 2)

    def _pad(self, z: Tensor) -> Tensor:
        (h, w), (left, top) = z.shape[-2:], self._pads
        if (h, w) == self.grid:
            return z
        right, bottom = self.grid[1] - w - left, self.grid[0] - h - top
        return torch.nn.functional.pad(z, (left, right, top, bottom))

    def _crop(self, z: Tensor) -> Tensor:
        (left, top), (_, h, w) = self._pads, self.img_size
        return z[..., top : top + h, left : left + w]


def _weighted(image: Tensor, maps: Tensor) -> Tensor:
    # Σ_s S_sc x_s: images [B, set, H, W] and maps [set, coil, H, W] to [B, coil, H, W].
    z = image[:, :1] * maps[0]
    for s in range(1, len(maps)):
        z.addcmul_(image[:, s : s + 1], maps[s])
    return z


def _accumulate(total: Tensor, maps: Tensor, z: Tensor) -> None:
    # total [B, set, H, W] += Σ_c S_sc z_c over the coils of a block.
    for s, of_set in enumerate(maps):
        if total.device.type != "cpu":
            total[:, s] += (of_set * z).sum(1)
            continue
        one = total[:, s]
        for coil_map, coil in zip(of_set, z.unbind(1), strict=True):
            one.addcmul_(coil_map, coil)
