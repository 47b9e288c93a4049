"""What an operator has to fulfil, tested one by one: each check says what failed and how to mend.

Linear operators: shape, dtype, device, determinism, linearity, dot-product, vjp against central
finite differences, batch consistency. Nonlinear ones: the same without linearity and dot-product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import SciinvError
from sciinv.operators.base import declared, image_shape

# Relative error allowed by the dtype: round-off grows with the length of the sums, which in these
# operators is at most some 1e6 terms (√1e6 · eps ≈ 1e-4 in float32, 2e-13 in float64).
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        ok: Whether it holds; None where it does not apply.
        expected: What would be right.
        got: What was found.
        remedy: How to mend it.
    """

    name: str
    ok: bool | None
    expected: str
    got: str
    remedy: str


def check_operator(physics: Physics, y: Tensor | None = None, seed: int = 0) -> list[Check]:
    """Run all checks of an operator.

    Args:
        physics: A deepinv Physics with `image_spec`, or `img_size` = (C, H, W).
        y: A measurement [1, …] that the operator has to fit, where there is one.
        seed: Seed of the random test images.

    Returns:
        One `Check` per property; a check that raises counts as failed.

    Raises:
        OperatorError: The operator does not say the shape of its image.
    """
    from deepinv.physics import LinearPhysics

    bench = _Bench(physics, y, seed)
    checks: list[Callable[[], Check]] = [bench.shape]
    if y is not None:
        checks.append(bench.measurement)
    checks += [bench.dtype, bench.device, bench.repeat, bench.noise]
    if isinstance(physics, LinearPhysics):
        checks += [bench.linearity, bench.dot_product]
    checks += [bench.vjp, bench.batch]
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    name = check.__name__.replace("_", "-")
    try:
        return check()
    except SciinvError as error:
        return Check(
            name, False, str(error.expected), f"{error.what}: {error.got}", error.remedy or ""
        )
    except Exception as error:
        return Check(
            name,
            False,
            "no exception",
            f"{type(error).__name__}: {error}",
            "call the method by hand with a random image and mend what it says",
        )


class _Bench:
    """Random test images for one operator, and a method per check."""

    def __init__(self, physics: Physics, y: Tensor | None, seed: int) -> None:
        self.physics = physics = declared(physics, y)
        self.y = y
        self.c, self.h, self.w = image_shape(physics)
        self.generator = torch.Generator().manual_seed(seed)
        tensors = [*physics.parameters(), *physics.buffers()]
        self.at = tensors[0].device if tensors else torch.device("cpu")

    def image(self, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return random images; positive, since some operators take logarithms."""
        shape = (batch, self.c, self.h, self.w)
        return torch.rand(shape, generator=self.generator, dtype=dtype).to(self.at)

    def like(self, u: Tensor) -> Tensor:
        return torch.randn(u.shape, generator=self.generator, dtype=u.dtype).to(self.at)

    @property
    def derived(self) -> bool:
        """Whether the operator has a derivative to check; an outside simulator has none."""
        return bool(self.physics.differentiable)

    @property
    def precision(self) -> torch.dtype:
        """Float64 where the operator takes it, as tests are sharper then."""
        try:
            x = self.image(1, torch.float64)
            u = self.physics.A(x)
            if self.derived:
                self._back(x, u)
        except Exception:
            return torch.float32
        if self.physics.single:
            return torch.float32
        return torch.float64 if u.dtype == torch.float64 else torch.float32

    def shape(self) -> Check:
        u = self.physics.A(self.image())
        spec = self.physics.measurement_spec
        want = (2, *spec.shape) if spec is not None else (2, *u.shape[1:])
        finite = bool(torch.isfinite(u).all())
        return Check(
            "shape",
            tuple(u.shape) == want and finite and not u.is_complex(),
            f"A(x) real and finite, {list(want)} for two images",
            f"{list(u.shape)}{'' if finite else ', not finite'}"
            f"{', complex' if u.is_complex() else ''}",
            "return [B, …] as measurement_spec says, complex values as two real components",
        )

    def measurement(self) -> Check:
        assert self.y is not None
        u = self.physics.A(self.image(1))
        return Check(
            "measurement",
            u.shape == self.y.shape,
            f"A(x) like y, {list(self.y.shape)}",
            str(list(u.shape)),
            "give the operator the parameters that the data were measured with",
        )

    def dtype(self) -> Check:
        found = {}
        for dtype in (torch.float32, torch.float64):
            x = self.image(1, dtype)
            u = self.physics.A(x)
            found[dtype] = (u.dtype, self._back(x, u).dtype if self.derived else u.dtype)
        ok = all(v == (k, k) for k, v in found.items())
        got = "; ".join(f"{_short(k)} → {', '.join(map(_short, v))}" for k, v in found.items())
        return Check(
            "dtype",
            ok,
            "A and its transpose keep float32 and float64",
            got,
            "cast the operator's own arrays to the input: self.kernel.to(x)",
        )

    def device(self) -> Check:
        x = self.image(1)
        devices = {(u := self.physics.A(x)).device}
        if self.derived:
            devices.add(self._back(x, u).device)
        where, ok, note = "cpu", devices == {x.device}, ""
        if torch.cuda.is_available() and x.device.type == "cpu":
            moved = self.physics.to("cuda")
            u = moved.A(x.cuda())
            ok = ok and u.device.type == "cuda"
            same = torch.allclose(u.cpu(), self.physics.to("cpu").A(x), rtol=1e-3, atol=1e-4)
            where, ok, note = "cpu and cuda", ok and same, "" if same else ", values differ"
        return Check(
            "device",
            ok,
            f"output on the input's device ({where})",
            ", ".join(sorted(map(str, devices))) + note,
            "register arrays with register_buffer, make new ones with device=x.device",
        )

    def repeat(self) -> Check:
        x = self.image(1)
        first = self.physics.A(x)
        self.physics.A(self.image(1))
        same = bool((self.physics.A(x) == first).all())
        return Check(
            "repeat",
            same,
            "A(x) gives the same bits again",
            "the same" if same else "a change after another call",
            "put noise into noise_model, and keep no state between calls",
        )

    def noise(self) -> Check:
        found = likelihoods.of(self.physics)
        return Check("noise", True, "a noise level", type(found).__name__, "")

    def linearity(self) -> Check:
        dtype = self.precision
        a, b = self.image(1, dtype), self.image(1, dtype)
        left = self.physics.A(2.0 * a - 3.0 * b)
        right = 2.0 * self.physics.A(a) - 3.0 * self.physics.A(b)
        scale = 2.0 * self.physics.A(a).norm() + 3.0 * self.physics.A(b).norm()
        error = float((left - right).norm() / scale.clamp_min(1e-300))
        zero = float(self.physics.A(torch.zeros_like(a)).norm() / scale.clamp_min(1e-300))
        return Check(
            "linearity",
            max(error, zero) <= TOLERANCE[dtype],
            f"A(2a − 3b) = 2A(a) − 3A(b), A(0) = 0, to {TOLERANCE[dtype]:.0e} ({_short(dtype)})",
            f"{error:.1e}, |A(0)| {zero:.1e}",
            "leave offsets and noise out of A, or derive from Physics instead of LinearPhysics",
        )

    def dot_product(self) -> Check:
        dtype = self.precision
        x = self.image(1, dtype) - 0.5
        u = self.physics.A(x)
        v = self.like(u)
        back = self.physics.A_adjoint(v)
        left, right = float((u * v).sum()), float((x * back).sum())
        # |⟨u, v⟩| may be small by chance: the bound ‖u‖‖v‖ is what round-off scales with.
        scale = max(float(u.norm() * v.norm()), float(x.norm() * back.norm()), 1e-300)
        error = abs(left - right) / scale
        return Check(
            "dot-product",
            error <= TOLERANCE[dtype],
            f"⟨A x, v⟩ = ⟨x, Aᵀ v⟩ to {TOLERANCE[dtype]:.0e} ({_short(dtype)})",
            f"{left:.6g} and {right:.6g}, relative difference {error:.1e}",
            "make A_adjoint the exact transpose (torch.func.vjp of A gives it)",
        )

    def vjp(self) -> Check:
        if not self.derived:
            return Check(
                "vjp",
                None,
                "an operator with a derivative",
                "differentiable = False: none is asked of it",
                "",
            )
        dtype = self.precision
        x = self.image(1, dtype)
        direction = self.like(x)
        u = self.physics.A(x)
        v = self.like(u)
        # Central differences: truncation ∝ h², round-off ∝ eps/h; h = eps^(1/3) balances them.
        h = float(torch.finfo(dtype).eps) ** (1 / 3)
        tolerance = 1e-2 if dtype == torch.float32 else 1e-6
        moved = self.physics.A(x + h * direction) - self.physics.A(x - h * direction)
        derivative = (moved * v).sum() / (2 * h)
        back = self._back(x, v)
        product = (back * direction).sum()
        scale = max(
            float(moved.norm() / (2 * h) * v.norm()), float(back.norm() * direction.norm()), 1e-300
        )
        error = float((derivative - product).abs()) / scale
        return Check(
            "vjp",
            error <= tolerance,
            f"A_vjp(x, v) agrees with central differences to {tolerance:.0e} ({_short(dtype)})",
            f"{float(derivative):.6g} and {float(product):.6g}, relative difference {error:.1e}",
            "mend A_vjp, or leave it out: deepinv then takes automatic derivatives of A",
        )

    def batch(self) -> Check:
        x = self.image(3)
        together = self.physics.A(x)
        alone = torch.cat([self.physics.A(x[i : i + 1]) for i in range(3)])
        if together.shape != alone.shape:
            return Check(
                "batch",
                False,
                f"A of three images like three calls, {list(alone.shape)}",
                str(list(together.shape)),
                "keep the first dimension as the batch throughout",
            )
        error = float((together - alone).norm() / alone.norm().clamp_min(1e-30))
        return Check(
            "batch",
            error <= TOLERANCE[torch.float32],
            f"A of three images like three calls, to {TOLERANCE[torch.float32]:.0e}",
            f"relative difference {error:.1e}",
            "let no image of a batch touch another; normalise per image or not at all",
        )

    def _back(self, x: Tensor, v: Tensor) -> Tensor:
        return self.physics.A_vjp(x, v)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
