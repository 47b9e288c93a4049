"""The solve behind an exact draw where Ā is too large for a matrix, with its preconditioner."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.covariances import Covariance, Fourier, Pixelwise
from sciinv.displaced import Displaced, Moves
from sciinv.solvers.bands import Bands, half_plane, remaining
from sciinv.solvers.conjugate import cg_steps, conjugate_gradient
from sciinv.solvers.linearised import Linearised
from sciinv.solvers.rough import Coarse, nested

EVERY = 3  # iterations of a solve between two looks at its error
ENOUGH = 1e-4  # relative residual at which a solve of few steps has nothing left to do


def normal_symbol(lin: Linearised, like: Tensor) -> Tensor:
    """Return H(k) ≥ 0, the stationary part of Āᵀ Ā in Fourier, [C, H, W] unshifted.

    The mean response to impulses at five places, as in circulant preconditioning of tomography
    (Clinthorne et al. 1993; Fessler & Booth 1999).
    """
    _, c, h, w = like.shape
    places = [(h // 2, w // 2), *((h * i // 8, w * j // 8) for i in (3, 5) for j in (3, 5))]
    total = torch.zeros(c, h, w, dtype=like.dtype, device=like.device)
    for channel in range(c):
        for i, j in places:
            impulse = torch.zeros(like.shape, dtype=like.dtype, device=like.device)
            impulse[:, channel, i, j] = 1.0
            response = lin.adjoint(lin.forward(impulse), like)[0, channel]
            total[channel] += torch.fft.fft2(response.roll((-i, -j), (0, 1))).real
    return (total / len(places)).clamp_min(0)


class Whitened:
    """The solve behind an exact draw in coordinates z where p(x0 | x_t) is N(0, I).

    M z = Lᵀ Āᵀ r,  M = I + Lᵀ Āᵀ Ā L / T,  d = L z,  C = L Lᵀ.

    As M ≥ I, an error is largest where the data say little, and there the annealing noises it anew.
    So an iterate is good enough when, in every band of spatial frequency, its error is a small
    share of the noise of the next level. A mean over the image would hide the few large structures
    that limited angles leave open: they converge last, and they decide what the chain becomes.

    The error of z_k is read off the differences of iterates `EVERY` steps apart, continued as a
    geometric series; under a preconditioner P that is near M⁻¹, also off L P r.

    Args:
        lin: Ā at the point.
        covariance: C.
        like: An image batch [B, C, H, W]: shape, dtype, device.
        temper: T ≥ 1, factor on the noise variance.
        symbol: H(k) of Āᵀ Ā, see `normal_symbol`; preconditions by
            F⁻¹ (1 + a P H / T)⁻¹ F with (a, P) the covariance's typical spectrum. None: by nothing.
        rough: The same H(k), where the solve is to go through coarse pixels (`rough.nested`) if the
            operator has them.
    """

    def __init__(
        self,
        lin: Linearised,
        covariance: Covariance,
        like: Tensor,
        temper: float = 1.0,
        symbol: Tensor | None = None,
        rough: Tensor | None = None,
    ) -> None:
        self.lin, self.c, self.like, self.temper = lin, covariance, like, temper
        self.root = _root(covariance, like)
        self.gain: Tensor | None = None
        typical = covariance.typical_spectrum(like)
        if symbol is not None and typical is not None:
            scale, power = typical
            self.gain = self.root.diagonal(1.0 / (1.0 + scale * power * symbol / temper))
        self.coarse = None if rough is None else self._coarse(rough)

    def _coarse(self, symbol: Tensor) -> Coarse | None:
        """Return M̃⁻¹ where operator and covariance are those that it is made for."""
        rough, noise = self.lin.rough, self.lin.precision
        c, moves = self.c, None
        if isinstance(self.c, Displaced):
            c, moves = self.c.base, self.c.moves
        if rough is None or noise is None or not isinstance(c, Pixelwise):
            return None
        if c.correlation is None or any(n % (2 * rough.side) for n in c.sd.shape[-2:]):
            return None
        weight = noise / self.temper
        return Coarse(rough, weight, c.sd, c.correlation.power, symbol / self.temper, moves)

    def matvec(self, z: Tensor) -> Tensor:
        """Return M z."""
        return z + self.root.transposed(self.lin.normal(self.root(z))) / self.temper

    def precondition(self, r: Tensor) -> Tensor:
        """Return P r."""
        return r if self.gain is None else self.root.scaled(self.gain, r)

    def energy(self, r: Tensor, iterations: int) -> float:
        """Return min ½ zᵀ M z − zᵀ b over `iterations` steps, summed over the lanes."""
        b = self.root.transposed(self.lin.adjoint(r, self.like))
        z, residual = cg_steps(self.matvec, b, self.precondition, iterations)
        return -0.5 * float((z * (b + residual)).sum())

    def some(self, r: Tensor, steps: int) -> tuple[Tensor, Tensor, int]:
        """Return d after a few steps of conjugate gradients, the relative residual [B], the steps.

        What the data tell best is conditioned on within the first steps; directions that they tell
        least stay as p(x0 | x_t) drew them. Where C is a model, these are what it knows least of.

        Args:
            r: Whitened residual ÷ T, shape of the measurement.
            steps: Most steps.
        """
        b = self.root.transposed(self.lin.adjoint(r, self.like))
        z, left, done = conjugate_gradient(self.matvec, b, ENOUGH, steps, self.precondition)
        return self.root(z), left, done

    def solve(
        self,
        r: Tensor,
        scale: float,
        tol: float,
        max_iter: int,
        nats: float | None = None,
        expected: int = 0,
    ) -> tuple[Tensor, Tensor, int]:
        """Return d, its error ÷ `scale` in the worst band of frequency per lane [B], iterations.

        Args:
            r: Whitened residual ÷ T, shape of the measurement.
            scale: What an error is measured by, units of the image: the next level's noise.
            tol: The share of it that may be left.
            max_iter: Most iterations.
            nats: What ½ eᵀ M e may be of an error e besides, where residuals decide on more than
                the image: what they lack reads as noise. Up to `max_iter`, and no error beyond.
            expected: Iterations of the last solve like this, see `conjugate_gradient`.
        """
        bands = Bands(self.like)
        if self.coarse is not None:
            return self._nested(r, scale, tol, max_iter, nats, bands)
        last: Tensor | None = None
        before: Tensor | float = 0.0
        energies: list[Tensor] = []

        def error(z: Tensor, residual: Tensor, step: int) -> Tensor | None:
            nonlocal last, before
            if step % EVERY:
                return None
            change = bands(self.root(z - before))
            left = remaining(change, last)
            if self.gain is not None:
                left = torch.minimum(left, bands(self.root(self.precondition(residual))))
            last, before = change, z
            if nats is None:
                return left.amax(1) / scale
            energies.append(0.5 * (z.double() * (b + residual).double()).flatten(1).sum(1))
            more = torch.full_like(energies[-1], 2 * tol)
            if len(energies) > 2:
                gain, previous = energies[-1] - energies[-2], energies[-2] - energies[-3]
                fall = (gain / previous.clamp_min(1e-30)).clamp(0.0, 0.9)
                more = tol * (gain.clamp_min(0) * fall / (1 - fall) / nats).clamp_max(2.0)
            return torch.maximum(left.amax(1) / scale, more.to(left))

        b = self.root.transposed(self.lin.adjoint(r, self.like))
        z, left, iterations = conjugate_gradient(
            self.matvec, b, tol, max_iter, self.precondition, error=error, expected=expected
        )
        return self.root(z), left, iterations

    def _nested(
        self,
        r: Tensor,
        scale: float,
        tol: float,
        max_iter: int,
        nats: float | None,
        bands: Bands,
    ) -> tuple[Tensor, Tensor, int]:
        """Return what `solve` does, by `nested`: y = M̃⁻¹ (b − M z) is the error of z, so ½ yᵀ r."""
        coarse = self.coarse
        assert coarse is not None

        def measure(y: Tensor, residual: Tensor | None) -> Tensor:
            left = bands(self.root(y)).amax(1) / scale
            if nats is None or residual is None:
                return left
            energy = 0.5 * (y.double() * residual.double()).flatten(1).sum(1)
            return torch.maximum(left, (tol * energy / nats).to(left))

        b = self.root.transposed(self.lin.adjoint(r, self.like))
        z, left, products = nested(
            self.matvec, b, lambda v, first: coarse(v, scale, tol, first), measure, tol, max_iter
        )
        return self.root(z), left, products


class _Pixels:
    """L of a covariance whose coordinates are those of an image."""

    def __init__(self, covariance: Covariance) -> None:
        self.c = covariance

    def coordinates(self, like: Tensor) -> tuple[int, ...]:
        """Return the shape of one lane's z."""
        return self.c.coordinates(like)

    def __call__(self, z: Tensor) -> Tensor:
        """Return L z."""
        return self.c.sqrt(z)

    def transposed(self, v: Tensor) -> Tensor:
        """Return Lᵀ v."""
        return self.c.sqrt_t(v)

    def diagonal(self, gain: Tensor) -> Tensor:
        """Return g(k) as `scaled` takes it."""
        return gain

    def scaled(self, gain: Tensor, z: Tensor) -> Tensor:
        """Return F⁻¹ g F z."""
        return filtered(gain, z)


class _Waves:
    """L = s F⁻¹ √K of coordinates that are Fourier coefficients: one transform a product, not two.

    z are the real and imaginary parts of an image's orthonormal half-plane transform, the columns
    that stand for two times √2, so that a sum of squares is that of the image; what is diagonal in
    Fourier costs no transform at all.
    """

    def __init__(self, sd: Tensor | None, power: Tensor, like: Tensor) -> None:
        self.size = like.shape[-2:]
        w = like.shape[-1]
        twice = half_plane(w).to(like)
        self.sd = sd
        power = power.to(like).expand(*power.shape[:-2], *self.size)
        amplitude = power[..., : w // 2 + 1].sqrt()
        self.into, self.out = amplitude * twice.sqrt(), amplitude / twice.sqrt()

    def coordinates(self, like: Tensor) -> tuple[int, ...]:
        """Return the shape of one lane's z."""
        return (*like.shape[1:-1], like.shape[-1] // 2 + 1, 2)

    def __call__(self, z: Tensor) -> Tensor:
        """Return L z."""
        k = torch.view_as_complex(z) * self.out
        x = torch.fft.irfft2(k, s=self.size, norm="ortho")
        return x if self.sd is None else self.sd * x

    def transposed(self, v: Tensor) -> Tensor:
        """Return Lᵀ v."""
        k = torch.fft.rfft2(v if self.sd is None else self.sd * v, norm="ortho")
        return torch.view_as_real(k * self.into)

    def diagonal(self, gain: Tensor) -> Tensor:
        """Return g(k) as `scaled` takes it."""
        return gain.expand(*gain.shape[:-2], *self.size)[..., : self.size[1] // 2 + 1, None]

    def scaled(self, gain: Tensor, z: Tensor) -> Tensor:
        """Return g z."""
        return gain * z


class _Joined:
    """L' = [L, M] of coordinates in one row: those of L, then those of the moves."""

    def __init__(self, base: _Pixels | _Waves, moves: Moves, shape: tuple[int, ...]) -> None:
        self.base, self.moves, self.shape = base, moves, shape
        self.count = math.prod(shape)

    def _own(self, z: Tensor) -> Tensor:
        """Return the coordinates of L."""
        return z[:, : self.count].reshape(len(z), *self.shape)

    def __call__(self, z: Tensor) -> Tensor:
        """Return L' z."""
        return self.base(self._own(z)) + self.moves(z[:, self.count :])

    def transposed(self, v: Tensor) -> Tensor:
        """Return L'ᵀ v."""
        return torch.cat([self.base.transposed(v).flatten(1), self.moves.transposed(v)], 1)

    def diagonal(self, gain: Tensor) -> Tensor:
        """Return g(k) as `scaled` takes it."""
        return self.base.diagonal(gain)

    def scaled(self, gain: Tensor, z: Tensor) -> Tensor:
        """Return g z, and what moves as it is."""
        own = self.base.scaled(gain, self._own(z))
        return torch.cat([own.flatten(1), z[:, self.count :]], 1)


def _root(covariance: Covariance, like: Tensor) -> _Pixels | _Waves | _Joined:
    """Return L in the coordinates in which it is cheapest."""
    if isinstance(covariance, Displaced):
        base = _root(covariance.base, like)
        assert not isinstance(base, _Joined)
        return _Joined(base, covariance.moves, base.coordinates(like))
    if isinstance(covariance, Pixelwise) and covariance.correlation is not None:
        return _Waves(covariance.sd, covariance.correlation.power, like)
    if isinstance(covariance, Fourier):
        return _Waves(None, covariance.power, like)
    return _Pixels(covariance)


def filtered(gain: Tensor, v: Tensor) -> Tensor:
    """Return F⁻¹ g F v for a g(k) in unshifted FFT order, even in k, that broadcasts over v."""
    g = gain[..., : v.shape[-1] // 2 + 1] if gain.ndim > 1 and gain.shape[-1] > 1 else gain
    return torch.fft.irfft2(torch.fft.rfft2(v) * g, s=v.shape[-2:])
