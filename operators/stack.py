"""Several measurements of one image as one operator: y = (A_1 x, A_2 x, …), parts flattened.

For measurements with their own noise, say several days or bands, or closures with amplitudes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian, Likelihood
from sciinv.operators.base import Declared, MeasurementSpec, declared
from sciinv.seeds import Streams


class StackedLikelihood(Likelihood):
    """Independent parts: −log p(y | u) = Σ_i −log p_i(y_i | u_i).

    Args:
        parts: The likelihood of each part.
        shapes: The shape of each part's measurement, without the batch.
    """

    parts: Any  # a ModuleList of likelihoods

    def __init__(self, parts: Sequence[Likelihood], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(d=None)
        self.parts = torch.nn.ModuleList(parts)
        self.shapes = list(shapes)

    def _each(self, method: str, *values: Tensor) -> list[Tensor]:
        pieces = zip(self.parts, *(split(v, self.shapes) for v in values), strict=True)
        return [getattr(part, method)(*args) for part, *args in pieces]

    def nll(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the parts' −log p, [B]."""
        return torch.stack(self._each("nll", u, y)).sum(0)

    def whiten(self, r: Tensor, u: Tensor) -> Tensor:
        """Return W r, part by part."""
        return join(self._each("whiten", r, u))

    def whiten_t(self, r: Tensor, u: Tensor) -> Tensor:
        """Return Wᵀ r, part by part."""
        return join(self._each("whiten_t", r, u))

    def residual(self, u: Tensor, y: Tensor) -> Tensor:
        """Return the whitened residuals, part by part."""
        return join(self._each("residual", u, y))

    def simulate(self, u: Tensor, streams: Streams) -> Tensor:
        """Return data of every part; the parts share each item's stream in turn."""
        pieces = zip(self.parts, split(u, self.shapes), strict=True)
        return join([part.simulate(piece, streams) for part, piece in pieces])


def split(y: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Cut [B, ΣM] into parts [B, *shape]."""
    sizes = [int(torch.Size(s).numel()) for s in shapes]
    pieces = zip(y.split(sizes, 1), shapes, strict=True)
    return [piece.reshape(len(y), *shape) for piece, shape in pieces]


def join(parts: Sequence[Tensor]) -> Tensor:
    """Flatten and concatenate parts [B, …] to [B, ΣM]."""
    return torch.cat([p.flatten(1) for p in parts], 1)


class Stacked(Declared, Physics):
    """y = (A_1 x, …, A_n x), each part flattened, [B, ΣM]; the parts' noise is independent.

    The likelihood is one `Gaussian` where all parts are Gaussian, else a `StackedLikelihood`.
    Use `stack`, which takes `StackedLinear` where it can.

    Args:
        parts: Declared operators on one and the same image.

    Raises:
        OperatorError: No parts, or parts with different images.
    """

    parts: Any  # a ModuleList; its type says nothing of the operators in it

    def __init__(self, parts: Sequence[Any]) -> None:
        super().__init__()
        self._setup(parts)

    def _setup(self, parts: Sequence[Any]) -> None:
        parts = [declared(p) for p in parts]
        specs: list[Any] = [p.image_spec for p in parts]
        if not parts or any(s is None for s in specs):
            raise OperatorError(
                "There is nothing to stack",
                where="operators.stack",
                expected="one or more operators that declare image_spec and measurement_spec",
                got=[type(p).__name__ for p in parts],
                remedy="derive your operator from sciinv.operators.base.Declared",
            )
        first = specs[0]
        for part, spec in zip(parts, specs, strict=True):
            same = spec.shape == first.shape and spec.units == first.units
            if not same or abs(spec.y - first.y).max() + abs(spec.x - first.x).max() > 1e-9:
                raise OperatorError(
                    "The stacked operators do not see the same image",
                    where=type(part).__name__,
                    expected=f"{first.shape} in {first.units}, pixels at the same places",
                    got=f"{spec.shape} in {spec.units}",
                    remedy="build all parts with one image grid and one unit",
                )
        self.parts = torch.nn.ModuleList(parts)
        self.shapes = [tuple(p.measurement_spec.shape) for p in parts]
        sizes = [int(torch.Size(s).numel()) for s in self.shapes]
        self.image_spec = first
        self.measurement_spec = MeasurementSpec(
            dims=("datum",),
            shape=(sum(sizes),),
            units=", ".join(dict.fromkeys(p.measurement_spec.units for p in parts)),
        )
        self.likelihood = _likelihood([likelihoods.of(p) for p in parts], self.shapes)

    def split(self, y: Tensor) -> list[Tensor]:
        """Return the parts of a measurement [B, ΣM], each in its own shape."""
        self.check_measurement(y)
        return split(y, self.shapes)

    @staticmethod
    def join(parts: Sequence[Tensor]) -> Tensor:
        """Return one measurement [B, ΣM] from the parts' own."""
        return join(parts)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return all parts' measurements, [B, ΣM]."""
        return join([p.A(x) for p in self.parts])

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Σ_i J_iᵀ v_i."""
        pairs = zip(self.parts, self.split(v), strict=True)
        return torch.stack([p.A_vjp(x, piece) for p, piece in pairs]).sum(0)

    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and v → Jᵀ v."""
        done = [p.linearize(x) for p in self.parts]

        def vjp(v: Tensor) -> Tensor:
            pairs = zip(done, self.split(v), strict=True)
            return torch.stack([back(piece) for (_, back), piece in pairs]).sum(0)

        return join([y for y, _ in done]), vjp

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return every part's usual reconstructions, numbered."""
        out: dict[str, Tensor] = {}
        for i, (part, piece) in enumerate(zip(self.parts, self.split(y), strict=True), 1):
            found = part.classical(piece)
            out |= {f"{name} {i}": image for name, image in found.items()}
        return out


class StackedNonlinear(Stacked):
    """`Stacked` of parts that all know their Jacobian."""

    def jacobian(self, x: Tensor) -> Tensor:
        """Return ∂A/∂x, [B, ΣM, C·H·W]."""
        return torch.cat([p.jacobian(x) for p in self.parts], 1)


class StackedLinear(Stacked, LinearPhysics):
    """`Stacked` of linear parts."""

    def __init__(self, parts: Sequence[Any]) -> None:
        spec = declared(parts[0]).image_spec if parts else None
        shape = None if spec is None else spec.shape
        LinearPhysics.__init__(self, img_size=shape)
        self._setup(parts)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Σ_i A_iᵀ y_i."""
        pairs = zip(self.parts, self.split(y), strict=True)
        return torch.stack([p.A_adjoint(piece) for p, piece in pairs]).sum(0)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Aᵀ v."""
        return self.A_adjoint(v)


def stack(parts: Sequence[Any]) -> Stacked:
    """Return the operator y = (A_1 x, A_2 x, …): linear where all parts are."""
    if parts and all(isinstance(p, LinearPhysics) for p in parts):
        return StackedLinear(parts)
    if all(type(declared(p)).jacobian is not Declared.jacobian for p in parts):
        return StackedNonlinear(parts)
    return Stacked(parts)


def _likelihood(parts: list[Likelihood], shapes: list[tuple[int, ...]]) -> Likelihood:
    if not all(isinstance(p, Gaussian) for p in parts):
        return StackedLikelihood(parts, shapes)
    gaussians = [p for p in parts if isinstance(p, Gaussian)]
    sizes = [int(torch.Size(s).numel()) for s in shapes]
    plain = all(g.sd is not None for g in gaussians)
    if plain and all(g.period is None for g in gaussians):
        return Gaussian(_sds(gaussians, shapes))
    periods = [
        torch.zeros(n, dtype=torch.float64) if g.period is None else g.period.expand(s).flatten()
        for g, s, n in zip(gaussians, shapes, sizes, strict=True)
    ]
    if plain:
        return Gaussian(_sds(gaussians, shapes), period=torch.cat(periods))
    blocks = []
    for g, shape in zip(gaussians, shapes, strict=True):
        if g.cholesky is not None and g.cholesky.ndim == 2:
            blocks.append(g.cholesky.double())
            continue
        sd = g.sd.double().expand(shape).flatten() if g.sd is not None else None
        if sd is None or not bool(torch.isfinite(sd).all()):
            return StackedLikelihood(parts, shapes)
        blocks.append(torch.diag(sd))
    return Gaussian(cholesky=torch.block_diag(*blocks), period=torch.cat(periods))


def _sds(gaussians: list[Gaussian], shapes: list[tuple[int, ...]]) -> Tensor:
    return torch.cat(
        [g.sd.double().expand(s).flatten() for g, s in zip(gaussians, shapes, strict=True)]
    )
