"""What is not exactly known in MRI: the coil maps, as smooth fields, and a phase of each line.

    y_c = e^{iφ_l} M F S_c(θ) x + n

The data know only products of map and image, so a factor common to all coils belongs to the image.
It is taken out of the maps: at every pixel they keep the declared maps' root sum of squares, and
⟨S, S(θ)⟩ real and positive. So the image keeps the magnitude and the phase that it has with the
declared maps. The phase of the line nearest the centre of k-space is 0, as one common to all lines
is the image's too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.base import MODEL_ERROR, Declared, Unknown, widths_of
from sciinv.seeds import whole

KNOWN = ("coil_maps", "line_phase")
TINY = 1e-12  # keeps 0/0 away where all maps are 0: there they stay 0
BATCH = 1 << 18  # complex numbers of coil images at once on a CPU


class Scanner:
    """Which maps and phases an MRI scan has at θ, and the prior of θ.

    S_c(θ) = a (S_c + Σ_k (θ_ck1 + i θ_ck2) b_k), with the common factor a of the head of this file.
    The fields b_k(r) ∝ cos(π p (row + ½)/H) cos(π q (column + ½)/W) / (1 + p² + q²), p + q < order,
    are scaled so that each part of a map's correction has the prior's standard deviation, in the
    root mean square over the image.

    Args:
        scan: The scan as declared: `operators.mri.MultiCoilMRI` with one set of maps.
        sds: Prior standard deviation by name: "coil_maps" (of real and imaginary part of a
            correction, where the maps' root sum of squares is 1) and "line_phase" (rad).
        order: How many half-periods a correction may have over the image, 1 for constants.
        shots: Number of the shot that measured each line of the grid; lines of one shot share a
            phase. By default each line has its own.

    Raises:
        OperatorError: Names, or a scan whose data cannot know them.
    """

    def __init__(
        self, scan: Any, sds: Mapping[str, float] | None, order: int, shots: Sequence[int] | None
    ) -> None:
        sds = widths_of(sds, (*KNOWN, MODEL_ERROR), "MRI")
        declared = torch.view_as_complex(scan._maps)
        sets, coils = declared.shape[:2]
        unknowns, self.maps, self.shot = [], None, None
        if "coil_maps" in sds:
            if sets > 1 or coils == 1:
                raise _refuse("These coil maps cannot be told from the image",
                              "one set of maps of two coils or more",
                              f"{sets} sets, {coils} coils", "leave coil_maps out")  # fmt: skip
            order = whole(order, "map_order")
            if not 1 <= order <= 16:
                raise _refuse("The order of the maps' corrections cannot be",
                              "1 … 16", order, "take 4")  # fmt: skip
            self.maps = declared[0]
            fields = smooth_fields(scan.img_size[1], scan.img_size[2], order).to(self.maps.real)
            fields = torch.fft.ifftshift(scan._pad(fields), dim=(-2, -1))
            self.fields = fields * scan._ramp(self.maps)
            count = 2 * coils * len(fields)
            unknowns.append(Unknown("coil_maps", 0.0, sds["coil_maps"], "1",
                                    dim="coil_map_coefficient", size=count))  # fmt: skip
        if "line_phase" in sds:
            self.shot, count = shots_of(scan.mask, shots)
            unknowns.append(Unknown("line_phase", 0.0, sds["line_phase"], "rad",
                                    dim="line_phase_of", size=count))  # fmt: skip
        self.unknowns = tuple(unknowns)

    def parts(self, theta: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the maps' coefficients, complex [B, coil, field], and the phases [B, sample]."""
        sizes = [u.size or 1 for u in self.unknowns]
        values = dict(zip((u.name for u in self.unknowns), theta.split(sizes, 1), strict=True))
        maps, phases = values.get("coil_maps"), values.get("line_phase")
        if maps is not None:
            assert self.maps is not None
            pairs = maps.reshape(len(theta), len(self.maps), -1, 2)
            maps = torch.complex(pairs[..., 0], pairs[..., 1])
        if phases is not None:
            assert self.shot is not None
            reference = phases.new_zeros(len(theta), 1)
            phases = torch.cat([reference, phases], 1)[:, self.shot.to(theta.device)]
        return maps, phases

    def maps_at(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return S(θ) as the scan keeps its maps, complex [B, coil, H, W], and a, [B, 1, H, W]."""
        assert self.maps is not None
        s0 = self.maps.to(coefficients)
        s = s0 + self.corrections(coefficients)
        size = s.abs().square().sum(1, keepdim=True)
        along = (s0.conj() * s).sum(1, keepdim=True)
        a = (s0.abs().square().sum(0) / size.clamp_min(TINY)).sqrt()
        a = along.conj() * (a / along.abs().clamp_min(TINY))
        return a * s, a

    def corrections(self, coefficients: Tensor) -> Tensor:
        """Return Σ_k c_k b_k of coefficients [B, coil, field], [B, coil, H, W]."""
        fields = self.fields.to(coefficients)
        return (coefficients @ fields.flatten(1)).unflatten(-1, fields.shape[1:])


class ScanAt(Declared, LinearPhysics):
    """An MRI scan with the maps and phases of θ [B, P], lane by lane; its transpose is exact.

    Args:
        scan: The scan as declared.
        scanner: What is unknown of it.
        theta: θ, [B, P].
    """

    def __init__(self, scan: Any, scanner: Scanner, theta: Tensor) -> None:
        super().__init__(img_size=scan.img_size, noise_model=scan.noise_model)
        self.scan, self.scanner, self.theta = scan, scanner, theta
        self.image_spec, self.measurement_spec = scan.image_spec, scan.measurement_spec
        coefficients, phases = scanner.parts(theta)
        self.factor: Tensor | None = None
        self.maps = scan._complex_maps(theta)
        if coefficients is not None:
            self.maps, self.factor = scanner.maps_at(coefficients)
        self.turn = None if phases is None else torch.polar(torch.ones_like(phases), phases)

    @property
    def coil_maps(self) -> Tensor:
        """The sensitivities on the image grid, complex [B, coil, H, W]."""
        maps = torch.fft.fftshift(self.maps * self.scan._ramp(self.maps).conj(), dim=(-2, -1))
        return self.scan._crop(maps)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return e^{iφ} M F S(θ) x, [B, 2, coil, sample]."""
        return self._turned(self._samples(self.maps, self._grid(x)))

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return the transpose, [B, 2, H, W]."""
        coils = self._coil_images(self._turned(y, back=True))
        maps = self.maps.to(coils)
        return self.scan._from_conjugate((coils.conj() * maps).sum(1, keepdim=True))

    def sensitivity(
        self, x: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return δ ↦ G δ, [B, P] to [B, 2, coil, sample], and r ↦ Gᵀ r, with G = ∂A_θ x/∂θ.

        Args:
            x: Images, [B, 2, H, W].
        """
        grid, u = self._grid(x), self.A(x)
        s, scanner = self.maps, self.scanner
        # δS = U − S (Re⟨S, U⟩/‖S‖² + i Im⟨S_0, U⟩/⟨S_0, S⟩) with U = a Σ_k δ_k b_k
        if self.factor is not None:
            assert scanner.maps is not None
            s0, factor = scanner.maps.to(s), self.factor
            size = s.abs().square().sum(1, keepdim=True).clamp_min(TINY)
            along = (s0.conj() * s).real.sum(1, keepdim=True).clamp_min(TINY)

        def forward(delta: Tensor) -> Tensor:
            change, turned = scanner.parts(delta.to(x))
            out = torch.zeros_like(u)
            if change is not None:
                moved = factor * scanner.corrections(change)
                size_of = (s.conj() * moved).real.sum(1, keepdim=True) / size
                turn_of = (s0.conj() * moved).imag.sum(1, keepdim=True) / along
                moved = moved - s * torch.complex(size_of, turn_of)
                out = self._turned(self._samples(moved, grid))
            if turned is not None:  # i δ u
                out = out + torch.stack([-u[:, 1], u[:, 0]], 1) * turned[:, None, None]
            return out

        def adjoint(r: Tensor) -> Tensor:
            parts = []
            if self.factor is not None:
                g = self._coil_images(self._turned(r, back=True)) * grid.conj()
                on = (s.conj() * g).sum(1, keepdim=True)
                g = g - s * (on.real / size) - 1j * s0 * (on.imag / along)
                fields = scanner.fields.to(g).flatten(1)
                each = (g * factor.conj()).flatten(2) @ fields.conj().mT
                parts.append(torch.view_as_real(each).flatten(1))
            if self.turn is not None:
                each = (u[:, 0] * r[:, 1] - u[:, 1] * r[:, 0]).sum(1)
                assert scanner.shot is not None
                shot = scanner.shot.to(r.device)
                count = int(scanner.shot.max()) + 1
                total = each.new_zeros(len(each), count).index_add(1, shot, each)
                parts.append(total[:, 1:])
            return torch.cat(parts, 1)

        return forward, adjoint

    def _grid(self, x: Tensor) -> Tensor:
        return self.scan._to_grid(x)  # [B, 1, H, W]

    def _samples(self, maps: Tensor, grid: Tensor) -> Tensor:
        """Return M F of maps [B or 1, coil, H, W] times an image, [B, 2, coil, sample]."""
        scan, out = self.scan, []
        for b in self._lanes(grid):
            some = maps[b] if len(maps) > 1 else maps
            k = scan._sampled(some.to(grid) * grid[b])
            out.append(torch.stack([k.real, k.imag], 1))
        return torch.cat(out)

    def _coil_images(self, y: Tensor) -> Tensor:
        """Return Fᴴ Mᵀ y of each coil, on the grid, complex [B, coil, H, W]."""
        lanes = self._lanes(y[:, 0])
        return torch.cat(
            [self.scan._placed(torch.complex(y[b, 0], -y[b, 1])) for b in lanes]
        ).conj()

    def _turned(self, y: Tensor, *, back: bool = False) -> Tensor:
        """Return y times e^{iφ}, or e^{−iφ}."""
        if self.turn is None:
            return y
        re, im = (part.to(y)[:, None] for part in (self.turn.real, self.turn.imag))
        im = -im if back else im
        return torch.stack([y[:, 0] * re - y[:, 1] * im, y[:, 0] * im + y[:, 1] * re], 1)

    def _lanes(self, like: Tensor) -> list[slice]:
        """Return lanes of which the coils' images fit into a CPU's cache together."""
        if like.device.type != "cpu":
            return [slice(0, len(like))]
        size = self.scan.grid[0] * self.scan.grid[1] * self.scan.measurement_spec.shape[1]
        step = max(1, BATCH // size)
        return [slice(b, b + step) for b in range(0, len(like), step)]


def smooth_fields(h: int, w: int, order: int) -> Tensor:
    """Return the fields b_k, [K, H, W] in double precision, Σ_k b_k² of mean 1 over the pixels."""
    rows, columns = ((torch.arange(n, dtype=torch.float64) + 0.5) * torch.pi / n for n in (h, w))
    fields = torch.stack([
        (p * rows).cos()[:, None] * (q * columns).cos() / (1 + p * p + q * q)
        for p in range(order)
        for q in range(order - p)
    ])  # fmt: skip
    return fields / fields.square().sum(0).mean().sqrt()


def shots_of(mask: Tensor, shots: Sequence[int] | None) -> tuple[Tensor, int]:
    """Return which phase each sample has, [sample], 0 for the reference, and the others' number.

    Args:
        mask: Measured samples [ky, kx], whole rows or whole columns (rows where all is measured).
        shots: Shot of each line of the grid.

    Raises:
        OperatorError: The samples are no lines, all are one shot, or `shots` does not fit.
    """
    rows, columns = mask.any(1), mask.any(0)
    if bool((mask == rows[:, None]).all()):
        axis, lines = 0, rows
    elif bool((mask == columns[None]).all()):
        axis, lines = 1, columns
    else:
        raise _refuse("A phase of each line needs samples that are whole lines",
                      "a mask of whole rows or whole columns", f"{int(mask.sum())} samples",
                      "leave line_phase out")  # fmt: skip
    n = len(lines)
    given = np.arange(n) if shots is None else np.asarray(shots)
    if given.shape != (n,):
        raise _refuse("The shots do not fit the lines", f"{n} numbers, one for each line",
                      list(given.shape), "give each line of the grid its shot")  # fmt: skip
    measured = lines.nonzero()[:, 0]
    centre = int(measured[(measured - n // 2).abs().argmin()])
    names, number = np.unique(given[lines.numpy()], return_inverse=True)
    if len(names) < 2:
        raise _refuse("A phase common to all data is the image's own",
                      "two shots or more", "one", "leave line_phase out")  # fmt: skip
    of_line = torch.zeros(n, dtype=torch.long)
    of_line[measured] = torch.as_tensor(number)
    reference = int(of_line[centre])
    of_line = torch.where(of_line == reference, -1, of_line) + (of_line < reference)
    of_line[of_line < 0] = 0
    place = mask.nonzero()[:, axis]
    return of_line[place.to(of_line.device)], len(names) - 1


def _refuse(what: str, expected: str, got: object, remedy: str) -> OperatorError:
    return OperatorError(what, where="MRI unknowns", expected=expected, got=got, remedy=remedy)
