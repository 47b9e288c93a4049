"""Latent priors: p(z) and a decoder x0 = G(z); the posterior of z under A∘G, decoded.

    z | y ~ p(z) p(y | A(G(z))),   x0 = G(z)

Any sampler draws z, as it would an image, with the operator A∘G. Source: Rombach et al. 2022
(arXiv 2112.10752) for the prior; DAPS in latent space: Zhang et al. 2025 (arXiv 2407.01521), §3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.models.base import Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv import likelihoods
from sciinv.errors import OperatorError, PriorError
from sciinv.operators.base import Declared, declared, image_shape
from sciinv.samplers import checks
from sciinv.samplers.base import Sampler
from sciinv.samplers.counts import Progress
from sciinv.samplers.lanes import as_dataset


@dataclass(frozen=True)
class Autoencoder:
    """The map between latent variables and images.

    Attributes:
        decode: G, z [B, c, h, w] → x0 [B, C, H, W] in physical units; torch.func.jvp and vjp work
            through it.
        latent_shape: (c, h, w).
        encode: x0 → z, or None; only training and `round_trip` need it.
        linear: Whether G is linear, G(0) = 0 included.
    """

    decode: Callable[[Tensor], Tensor]
    latent_shape: tuple[int, int, int]
    encode: Callable[[Tensor], Tensor] | None = None
    linear: bool = False

    def round_trip(self, images: Tensor) -> Tensor:
        """Return the root mean square of G(encode(x)) − x per image, [B], units of x.

        No latent prior can come closer to such images than about this.

        Raises:
            PriorError: There is no encoder.
        """
        if self.encode is None:
            raise PriorError("There is no encoder", where="Autoencoder", expected="encode",
                             got=None, remedy="give encode")  # fmt: skip
        with torch.no_grad():
            error = self.decode(self.encode(images)) - images
        return error.square().flatten(1).mean(1).sqrt()


class LatentOperator(Declared, Physics):
    """A∘G: from latent variables to the measurement, with the noise of A.

    Args:
        physics: A, a deepinv operator that carries its noise.
        autoencoder: G.

    Raises:
        OperatorError: G does not give the operator's image, or is not linear though it says so.
    """

    def __init__(self, physics: Physics, autoencoder: Autoencoder) -> None:
        physics = declared(physics)
        super().__init__(noise_model=physics.noise_model)
        self.physics, self.decode = physics, autoencoder.decode
        self.img_size = tuple(autoencoder.latent_shape)
        self.likelihood = likelihoods.of(physics)
        self.differentiable = physics.differentiable

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return the measurement of G(z), z [B, c, h, w]."""
        return self.physics.A(self.decode(x), **kwargs)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return (∂A(G(z))/∂z)ᵀ v at z = x."""
        found: Any = torch.func.vjp(self.decode, x)
        return found[1](self.physics.A_vjp(found[0], v))[0]

    def check_measurement(self, y: Tensor) -> None:
        """Raise where A's own check of a measurement does."""
        self.physics.check_measurement(y)


class LinearLatentOperator(LatentOperator, LinearPhysics):
    """A∘G where both are linear, so that p(z | z_t, y) is drawn exactly."""

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """Return Gᵀ Aᵀ y."""
        zero = torch.zeros(len(y), *self.img_size, dtype=y.dtype, device=y.device)
        pull: Any = torch.func.vjp(self.decode, zero)[1]
        return pull(self.physics.A_adjoint(y, **kwargs))[0]

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Gᵀ Aᵀ v."""
        return self.A_adjoint(v)


def operator_of(physics: Physics, autoencoder: Autoencoder, like: Tensor) -> LatentOperator:
    """Return A∘G, linear where both are; `like` has the dtype and device to check G with.

    Raises:
        OperatorError: G does not give the operator's image, or is not linear though it says so.
    """
    z = torch.arange(1.0, 1 + int(np.prod(autoencoder.latent_shape))).to(like)
    z = (z / z.max()).reshape(1, *autoencoder.latent_shape)
    with torch.no_grad():
        x = autoencoder.decode(z)
        if tuple(x.shape[1:]) != image_shape(physics):
            raise OperatorError(
                "The decoder does not give the operator's image",
                where=type(physics).__name__,
                expected=f"(C, H, W) = {image_shape(physics)}",
                got=tuple(x.shape[1:]),
                remedy="choose the decoder of this image size, or the operator's pixel grid",
            )
        if autoencoder.linear:
            gap = (autoencoder.decode(-2 * z) + 2 * x).abs().max()
            if float(gap) > 1e-3 * float(x.abs().max()):
                raise OperatorError(
                    "The decoder is not linear",
                    where="Autoencoder.decode",
                    expected="G(−2 z) = −2 G(z)",
                    got=f"a difference of {float(gap):.3g}",
                    remedy="leave linear out",
                )
    linear = autoencoder.linear and isinstance(physics, LinearPhysics)
    return (LinearLatentOperator if linear else LatentOperator)(physics, autoencoder)


class LatentSampler(Reconstructor):
    """Draws of x0 = G(z) from a sampler of z.

    Args:
        sampler: A sampler made with the prior of z.
        autoencoder: G.
    """

    def __init__(self, sampler: Sampler, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.sampler, self.autoencoder = sampler, autoencoder

    def forward(self, y: Tensor, physics: Physics, seed: int = 0) -> Tensor:
        """Return one draw per item, [B, C, H, W] (deepinv's reconstructor call)."""
        images = self.sample(y, physics, draws=1, seed=seed)["image"].values
        return torch.as_tensor(images[0]).to(y)

    def sample(
        self,
        y: Tensor,
        physics: Physics,
        draws: int | Sequence[int] = 1,
        seed: int = 0,
        items: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Return posterior draws of x0 given y; arguments and errors as of `Sampler.sample`.

        Returns:
            The data set of `Sampler.sample`, its "image" decoded draw by draw, and the draws of z
            as "latent" [draw, item, latent_channel, latent_y, latent_x].
        """
        physics = declared(physics, y)
        checks.all_known(physics, "the latent sampler")
        inner = operator_of(physics, self.autoencoder, y)
        found = self.sampler.sample(y, inner, draws, seed, items=items, progress=progress)
        z = found["image"].values
        numbers, rows = found["draw"].values.tolist(), range(z.shape[1])
        images: dict[tuple[int, int], np.ndarray] = {}
        with torch.no_grad():
            for i, number in enumerate(numbers):
                for row in rows:  # one by one, so that no draw depends on what else is asked
                    one = torch.as_tensor(z[i, row][None]).to(y)
                    images[number, row] = self.autoencoder.decode(one)[0].cpu().numpy()
        stats = {
            str(key): {(n, r): v[i, r] for i, n in enumerate(numbers) for r in rows}
            for key, v in ((k, found[k].values) for k in found.data_vars if k != "image")
        }
        where = found["item"].values.tolist()
        out = as_dataset(images, stats, numbers, where, physics, self.sampler.about(seed))
        dims = ("draw", "item", "latent_channel", "latent_y", "latent_x")
        return out.assign(latent=(dims, z))
