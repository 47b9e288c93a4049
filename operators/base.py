"""What every operator says of itself: the image it maps from, the measurement it maps to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, cast

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv.errors import OperatorError
from sciinv.operators.parts.model_errors import MODEL_ERROR, ModelError, error_width, modulus
from sciinv.operators.parts.specs import ImageSpec, MeasurementSpec, Unknown, groups_by, widths_of
from sciinv.solvers.rough import Rough

__all__ = [
    "MODEL_ERROR",
    "Declared",
    "ImageSpec",
    "LinearOperator",
    "MeasurementSpec",
    "ModelError",
    "Operator",
    "ReducedOperator",
    "Undeclared",
    "Unknown",
    "declared",
    "error_width",
    "groups_by",
    "image_shape",
    "refuse_data",
    "widths_of",
]


class Operator(Protocol):
    """What samplers, kernels and reports ask of a forward operator: a deepinv `Physics` with these.

    `Declared` has a default for each but A. Noise is said once: in `noise_model` (deepinv) or in an
    attribute `likelihood` (`sciinv.likelihoods`), which counts where there is one.
    """

    image_spec: ImageSpec | None
    measurement_spec: MeasurementSpec | None
    img_size: tuple[int, ...] | None
    noise_model: Any
    differentiable: bool
    float64_parameters: ClassVar[tuple[str, ...]]
    unknowns: tuple[Unknown, ...]
    noise_groups: Tensor | None
    model_error: float | None
    at: Callable[[Tensor], Physics] | None

    @property
    def coordinates(self) -> Tensor | None: ...  # noqa: D102

    def A(self, x: Tensor) -> Tensor: ...  # noqa: D102
    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor: ...  # noqa: D102
    def jacobian(self, x: Tensor) -> Tensor | None: ...  # noqa: D102
    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]: ...  # noqa: D102
    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]: ...  # noqa: D102
    def error_of(self, y: Tensor) -> ModelError | None: ...  # noqa: D102
    def sensitivity(self, x: Tensor) -> Any: ...  # noqa: D102
    def normal(self, weights: Tensor) -> Callable[[Tensor], Tensor] | None: ...  # noqa: D102
    def rough(self, weights: Tensor) -> Rough | None: ...  # noqa: D102
    def classical(self, y: Tensor) -> dict[str, Tensor]: ...  # noqa: D102
    def check_image(self, x: Tensor) -> None: ...  # noqa: D102
    def check_measurement(self, y: Tensor) -> None: ...  # noqa: D102
    def check_data(self, y: Tensor) -> None: ...  # noqa: D102


class LinearOperator(Operator, Protocol):
    """An operator with a transpose: a deepinv `LinearPhysics`."""

    def A_adjoint(self, y: Tensor) -> Tensor: ...  # noqa: D102
    def A_adjoint_A(self, x: Tensor) -> Tensor: ...  # noqa: D102


class ReducedOperator(Operator, Protocol):
    """An operator with `coordinates` F: A(x) = g(F x), with g and its Jacobian for p = F x."""

    def of_coordinates(self, p: Tensor) -> Tensor: ...  # noqa: D102
    def jacobian_of_coordinates(self, p: Tensor) -> Tensor: ...  # noqa: D102


class Declared:
    """Mixin for deepinv physics whose domain and codomain are declared and checked.

    A class sets `image_spec` and `measurement_spec` in its constructor, and `likelihood`, a
    `sciinv.likelihoods` object, where `noise_model` cannot say the noise. The rest has defaults,
    see `Operator`.

    `unknowns` are numbers of the instrument that are drawn with the image. Those without `groups`
    enter through `at(theta) -> Physics`, a cheap view of the operator with the values theta [B, P]
    (in the order declared, one row per lane): it has A, and A_adjoint or A_vjp, as the operator
    itself. `noise_groups`, integers that broadcast to the measurement without its batch, says
    which data share a noise scale where that is drawn. `model_error`, τ, says that an error beside
    the noise is drawn too, of size t about τ of what `error_of` says.

    Attributes:
        differentiable: False where A has no derivative: it then comes from differences, or a kernel
            that needs none is taken.
        float64_parameters: The constructor's arrays that decide where the samples lie (angles, a
            trajectory): `from_measurement` hands them over in float64 whatever the data's dtype.
        single: Whether it computes in float32 whatever it is given.
    """

    float64_parameters: ClassVar[tuple[str, ...]] = ()
    unknowns: tuple[Unknown, ...] = ()
    noise_groups: Tensor | None = None
    model_error: float | None = None
    at: Callable[[Tensor], Physics] | None = None
    single: bool = False

    image_spec: ImageSpec | None = None
    measurement_spec: MeasurementSpec | None = None
    img_size: Any = None
    differentiable: bool = True

    @property
    def coordinates(self) -> Tensor | None:
        """F [P, C, H, W] where A(x) = g(F x) with few rows; see `interferometry.Closures`."""
        return None

    def jacobian(self, x: Tensor) -> Tensor | None:
        """Return ∂A/∂x, [B, M, C·H·W], where the operator knows it; None otherwise."""
        return None

    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and the function v → Jᵀ v."""
        own: Any = self
        return own.A(x), lambda v: own.A_vjp(x, v)

    def predictions(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return θ ↦ A_θ x of fixed images x [B, C, H, W] at parameters θ [B, P].

        Override it where a part of A_θ x does not depend on θ, which is then computed once. What it
        returns may also take θ [B, P] for K·B images, where image k·B + b meets θ_b: that is used
        where it works.
        """
        at = self.at
        assert at is not None
        return lambda theta: declared(at(theta)).A(x)

    def error_of(self, y: Tensor) -> ModelError | None:
        """Return the error beside the noise at these data or predictions; None: there is none.

        By default an error by a fraction of each value, of complex ones (whose first dimension is
        "part") of their modulus. Override it where data share their errors.
        """
        if self.model_error is None:
            return None
        if self.measurement_spec is not None and self.measurement_spec.dims[0] == "part":
            return ModelError(self.model_error, modulus(y))
        return ModelError(self.model_error, y.abs())

    def sensitivity(
        self, x: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None:
        """Return δ ↦ G δ and r ↦ Gᵀ r with G = ∂A_θ x/∂θ, where this is a view at some θ.

        None: by differences, parameter by parameter. Override it where these are many.
        """
        return None

    def normal(self, weights: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return x ↦ Aᵀ diag(w) A x of w [1, …] where a linear operator has a way of its own."""
        return None

    def rough(self, weights: Tensor) -> Rough | None:
        """Return Aᵀ diag(w) A on coarse pixels where that is a small part of the price.

        A draw's solve then needs few products with the operator itself; see `solvers.rough`.
        """
        return None

    def classical(self, y: Tensor) -> dict[str, Tensor]:
        """Return the field's usual reconstructions by name, each [B, C, H, W]."""
        return {}

    def check_image(self, x: Tensor) -> None:
        """Raise `OperatorError` unless x is a finite-dtype batch [B, C, H, W] of this image."""
        if self.image_spec is not None:
            _check(self, "image", x, self.image_spec.shape)

    def check_measurement(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y is a batch [B, …] of this measurement."""
        if self.measurement_spec is not None:
            _check(self, "measurement", y, self.measurement_spec.shape)

    def check_data(self, y: Tensor) -> None:
        """Raise `OperatorError` unless y can have been measured; not for residuals or gradients.

        Data are finite; an operator that knows more of them extends this.
        """
        self.check_measurement(y)
        refuse_data(self, ~torch.isfinite(y), y, "finite values; infinite noise where no data are")


def refuse_data(physics: object, bad: Tensor, y: Tensor, expected: str) -> None:
    """Raise `OperatorError` where any value of the data y is `bad`."""
    if bool(bad.any()):
        first = [int(i) for i in bad.nonzero()[0]]
        raise OperatorError(
            f"The data cannot be those of {type(physics).__name__}",
            where=f"y at {first}",
            expected=expected,
            got=f"{float(y[tuple(first)]):.6g}, and {int(bad.sum())} of {y.numel()} values like it",
            remedy="check the units and the reader's options",
        )


def _check(physics: object, what: str, value: Tensor, shape: tuple[int, ...]) -> None:
    name = type(physics).__name__
    if not isinstance(value, Tensor):
        raise OperatorError(
            f"The {what} given to {name} is not a tensor",
            expected="torch.Tensor",
            got=type(value).__name__,
            remedy="convert it with torch.as_tensor",
        )
    if tuple(value.shape[1:]) != tuple(shape):
        raise OperatorError(
            f"The {what} does not match the operator {name}",
            expected=f"[B, {', '.join(map(str, shape))}]",
            got=list(value.shape),
            remedy=f"check the parameters of {name} against the data, or reshape the {what}",
        )
    if value.dtype not in (torch.float32, torch.float64):
        raise OperatorError(
            f"The {what} given to {name} has the wrong dtype",
            expected="float32 or float64 (complex values as two real channels)",
            got=value.dtype,
            remedy="convert it with .float(), complex values with torch.view_as_real",
        )


# What an operator that is not `Declared` may say all the same.
_SAID = (
    "image_spec", "measurement_spec", "img_size", "differentiable", "jacobian", "linearize",
    "classical", "check_image", "check_measurement", "check_data", "likelihood",
    "float64_parameters", "unknowns", "noise_groups", "model_error", "error_of", "at",
    "predictions", "sensitivity",
)  # fmt: skip


class Undeclared(Declared, Physics):
    """A deepinv operator that declares nothing but A and its noise, behind the one door.

    Made by `declared`; the class is named as the operator's own, for messages.
    """

    def __init__(self, inner: Physics) -> None:
        super().__init__(noise_model=inner.noise_model)
        self.inner = inner
        self._copies: dict[torch.dtype, Any] = {}  # of `inner`, by the dtype of what it is given
        for name in _SAID:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the operator's own A x."""
        return self._own("A", x, **kwargs)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the operator's own Jᵀ v; its real part where the operator takes complex images."""
        back = self._own("A_vjp", x, v)
        return back.real if back.is_complex() and not x.is_complex() else back

    def _own(self, name: str, x: Tensor, *more: Tensor, **kwargs: Any) -> Tensor:
        """Call the operator; where its weights have another dtype than x, a copy that has x's.

        Many operators keep float32 weights whatever they are given. One that takes complex images
        gets the real image with no imaginary part.
        """
        if x.dtype not in self._copies:
            try:
                return getattr(self.inner, name)(x, *more, **kwargs)
            except RuntimeError as error:
                if not any(word in str(error) for word in _OTHER_DTYPE):
                    raise
                self._copies[x.dtype] = _with_dtype(self.inner, x.dtype)
        inner = self._copies[x.dtype] = self._copies[x.dtype].to(x.device)
        kind = getattr(inner, "dtype", None)
        taken = x.to(kind) if isinstance(kind, torch.dtype) and kind.is_complex else x
        out = getattr(inner, name)(taken, *more, **kwargs)
        if not out.is_complex() and out.dtype != x.dtype:  # a part of it stays in float32
            self.single = True  # found out, not said
            out = out.to(x.dtype)
        return out


class UndeclaredLinear(Undeclared, LinearPhysics):
    """The same for a linear operator."""

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return the operator's own Aᵀ y."""
        return self._own("A_adjoint", y, **kwargs)

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the operator's own Aᵀ A x."""
        return self._own("A_adjoint_A", x, **kwargs)


# What torch says where a product meets another dtype than its own.
_OTHER_DTYPE = ("expected scalar type", "same dtype", "type (torch.", "should be the same")
_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def _with_dtype(physics: Physics, dtype: torch.dtype) -> Any:
    """Return a copy of an operator whose weights are of this precision, real or complex."""
    other = copy.deepcopy(physics)
    for module in other.modules():
        kind = getattr(module, "dtype", None)
        if isinstance(kind, torch.dtype):  # what deepinv's operators cast their input to
            module.dtype = _COMPLEX[dtype] if kind.is_complex else dtype  # type: ignore[assignment]
    return other._apply(
        lambda t: (
            t.to(_COMPLEX[dtype]) if t.is_complex() else t.to(dtype) if t.is_floating_point() else t
        )
    )


def declared(
    physics: Physics, y: Tensor | None = None, shape: Sequence[int] | None = None
) -> Operator:
    """Return the operator as it is where it is `Declared`, else wrapped, with its image's shape.

    Args:
        physics: A deepinv operator.
        y: A measurement [B, …]: a linear operator's Aᵀ y has the shape of an image.
        shape: (C, H, W) from who knows it, as the prior does.
    """
    if isinstance(physics, Declared):
        return cast(Operator, physics)
    base = UndeclaredLinear if isinstance(physics, LinearPhysics) else Undeclared
    wrapped = type(type(physics).__name__, (base,), {"__doc__": type(physics).__doc__})(physics)
    own = wrapped.image_spec.shape if wrapped.image_spec is not None else wrapped.img_size
    if own is None or len(own) != 3:
        if shape is not None:
            wrapped.img_size = tuple(int(n) for n in shape)
        elif y is not None and base is UndeclaredLinear:
            with torch.no_grad():
                wrapped.img_size = tuple(physics.A_adjoint(y[:1]).shape[1:])
    return cast(Operator, wrapped)


def image_shape(physics: Physics) -> tuple[int, int, int]:
    """Return (C, H, W) of an operator's image, from `image_spec` or deepinv's `img_size`.

    Raises:
        OperatorError: The operator says neither.
    """
    operator = declared(physics)
    shape = operator.img_size if operator.image_spec is None else operator.image_spec.shape
    if shape is None or len(shape) != 3:
        raise OperatorError(
            "The operator does not say the shape of its image",
            where=type(physics).__name__,
            expected="image_spec, or img_size = (C, H, W)",
            got=shape,
            remedy="set self.image_spec, or img_size, in the operator's constructor",
        )
    return int(shape[0]), int(shape[1]), int(shape[2])
