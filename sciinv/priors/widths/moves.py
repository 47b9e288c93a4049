"""How far the denoiser misplaces edges, and by what share it errs in an image's brightness.

    C' = C + Σ_l s_l(σ)² E_l E_lᵀ + s_0(σ)² D Dᵀ          (see `sciinv.displaced`)

C is the local width. At each level s_l² ≥ 0 are found from moments of the error e = x0 − D: for the
columns g of each E_l, and for D,

    ⟨Σ (gᵀe)² ÷ Σ gᵀC g⟩ = ⟨Σ gᵀC' g ÷ Σ gᵀC g⟩,

means over images, least squares of the relative misfit. Widths per pixel fit how much pixels err,
and an edge that is off as a whole is off in all its pixels at once: of discs at 2 u and above such
errors have 2 to 5 times the variance that C gives them, and brightness 8 to 38 times.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from sciinv.covariances import Covariance
from sciinv.displaced import Displaced, Moves
from sciinv.priors.widths.local import LocalWidths, denoised

LENGTHS = (6.0, 15.0)  # pixels
REPEATS = 6  # draws of the model for each image, for its own moments


class MovedEdges:
    """The fitted displacements of one prior.

    Args:
        sigmas: Noise levels [S], rising, units of the image.
        lengths: Correlation lengths of the fields [L], pixels.
        sizes: s_l(σ) [S, L], pixels.
        brightness: s_0(σ) [S], shares of D.
    """

    def __init__(
        self, sigmas: Tensor, lengths: tuple[float, ...], sizes: Tensor, brightness: Tensor
    ) -> None:
        self.sigmas, self.lengths = sigmas, lengths
        self.sizes, self.brightness = sizes, brightness

    def at(self, sigma: float) -> tuple[dict[float, float], float]:
        """Return s_l by length, and s_0, at a level: linear in ln σ, constant beyond the ends."""
        at, grid = math.log(sigma), self.sigmas.double().log().numpy()
        every = torch.cat([self.sizes, self.brightness[:, None]], 1).double().numpy()
        *sizes, brightness = (float(np.interp(at, grid, column)) for column in every.T)
        return dict(zip(self.lengths, sizes, strict=True)), brightness

    def covariance(
        self, base: Covariance, x_hat: Tensor, sigma: float, inflate: float = 1.0
    ) -> Covariance:
        """Return C' for x̂ = D(x_t, σ) [B, C, H, W], the variance of moves × `inflate`.

        Args:
            base: C, with its factor.
            x_hat: D, units of the image.
            sigma: σ, units of the image.
            inflate: κ.
        """
        sizes, brightness = self.at(float(sigma))
        root = math.sqrt(inflate)
        moves = Moves.of(x_hat, {k: root * s for k, s in sizes.items()}, root * brightness)
        return Displaced(base, moves)

    def to(self, factor: float) -> MovedEdges:
        """Return the displacements for images `factor` times as large."""
        return MovedEdges(self.sigmas * factor, self.lengths, self.sizes, self.brightness)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by the names that files use; see `of_tensors`."""
        return {
            "moves.sigma": self.sigmas,
            "moves.lengths": torch.tensor(self.lengths, dtype=torch.float64),
            "moves.sizes": self.sizes,
            "moves.brightness": self.brightness,
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> MovedEdges:
        """Return the displacements from tensors named as by `tensors`.

        Raises:
            KeyError: One is missing.
            ValueError: They do not belong together, or are not finite.
        """
        sigmas, lengths, sizes, brightness = (
            tensors[f"moves.{k}"].double() for k in ("sigma", "lengths", "sizes", "brightness")
        )
        shape = (len(sigmas), len(lengths))
        if sizes.shape != shape or brightness.shape != shape[:1]:
            raise ValueError(f"sizes {list(sizes.shape)} of {shape[0]} levels, {shape[1]} lengths")
        if not all(bool(torch.isfinite(t).all()) for t in (sigmas, lengths, sizes, brightness)):
            raise ValueError("a value that is not finite")
        return cls(sigmas, tuple(lengths.tolist()), sizes, brightness)


def fit(
    denoise: Callable[[Tensor, Tensor], Tensor],
    local: LocalWidths,
    images: Tensor,
    sigmas: Tensor,
    *,
    lengths: tuple[float, ...] = LENGTHS,
    seed: int = 0,
    batch: int = 16,
    say: Callable[[str], None] = lambda line: None,
) -> MovedEdges:
    """Return the displacements of a denoiser on images.

    Args:
        denoise: D(x, σ), x [B, C, H, W] and σ [B], units of the image.
        local: Its local widths.
        images: Clean images [N, C, H, W] of the class, each noised once a level.
        sigmas: Levels of the table [S], rising.
        lengths: Correlation lengths, pixels.
        seed: Seed of the noise.
        batch: Images per call.
        say: Takes a line of progress.
    """
    g = torch.Generator().manual_seed(seed)
    found = []
    for sigma in sigmas.tolist():
        seen, model = [], []
        for x0 in images.split(batch):
            x_hat, error = denoised(denoise, x0, torch.full((len(x0),), sigma), g)
            a, b = _moments(error, x_hat, local.covariance(x_hat, sigma), lengths, g)
            seen.append(a)
            model.append(b)
        t, columns = torch.cat(seen).mean(0).numpy(), torch.cat(model).mean(0).numpy()
        # of C itself nothing is taken away: what it holds too much of it keeps
        want = 1 - columns[:, 0] / t
        each = columns[:, 1:] / t[:, None]
        size = np.abs(each).max(0)
        squares = nnls(each / size, want)[0] / size
        found.append(np.sqrt(squares))
        shown = ", ".join(f"{s:.3f}" for s in found[-1])
        say(f"σ {sigma:.3g}: errors along moves ÷ those of the widths "
            f"{np.round(t / columns[:, 0], 2).tolist()}; sizes {shown}")  # fmt: skip
    table = torch.from_numpy(np.array(found))
    return MovedEdges(sigmas.double(), tuple(lengths), table[:, :-1], table[:, -1])


def _moments(
    error: Tensor, x_hat: Tensor, c: Covariance, lengths: tuple[float, ...], g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return Σ (gᵀe)² of each kind of move [B, K], and of draws of C and each move [B, K, 1 + K].

    In units of what C has of it, image by image: an image with long edges then counts once.
    """
    unit = [
        Moves.of(x_hat, {length: 1.0}, 0.0) for length in lengths
    ] + [Moves.of(x_hat, {}, 1.0)]  # fmt: skip

    def seen(image: Tensor) -> Tensor:
        parts = [move.transposed(image).double().square().sum(1) for move in unit]
        return torch.stack(parts, 1)

    def noise(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(len(x_hat), *shape, generator=g, dtype=x_hat.dtype)

    def mean(draw: Callable[[], Tensor]) -> Tensor:
        return torch.stack([seen(draw()) for _ in range(REPEATS)]).mean(0)

    own = mean(lambda: c.sqrt(noise(c.coordinates(x_hat))))
    each = [mean(lambda m=move: m(noise((m.count,)))) for move in unit]  # type: ignore[misc]
    return seen(error) / own, torch.stack([own, *each], 2) / own[..., None]
