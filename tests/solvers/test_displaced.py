"""Covariances of displaced edges: the matrix that is written down, and solves with it."""

from __future__ import annotations

import math

import torch

from sciinv.covariances import Fourier, Pixelwise
from sciinv.displaced import Displaced, Moves, bumps, slopes

SIZE = (14, 11)


def picture(lanes: int = 2, channels: int = 2) -> torch.Tensor:
    g = torch.Generator().manual_seed(7)
    return torch.randn(lanes, channels, *SIZE, generator=g, dtype=torch.float64)


def displaced(x: torch.Tensor, sizes: dict[float, float] | None = None) -> Displaced:
    g = torch.Generator().manual_seed(8)
    sd = 0.2 + torch.rand(x.shape, generator=g, dtype=torch.float64)
    ky, kx = (torch.fft.fftfreq(n)[:, None] for n in SIZE)
    power = 1.0 / (0.05 + ky**2 + kx.T**2)
    base = Pixelwise(sd, Fourier((power / power.mean()).double()), 0.5)
    return Displaced(base, Moves.of(x, {2.0: 0.3, 5.0: 1.2} if sizes is None else sizes, 0.4))


def columns(c: Displaced, like: torch.Tensor) -> torch.Tensor:
    """Return L' of the first lane, [D, coordinates]."""
    (count,) = c.coordinates(like)
    out = []
    for j in range(count):
        z = c.origin(like)
        z[:, j] = 1.0
        out.append(c.sqrt(z)[0].flatten())
    return torch.stack(out, 1)


def test_every_product_is_that_of_the_written_out_root() -> None:
    x = picture()
    c = displaced(x)
    root = columns(c, x)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    flat = v[0].flatten()
    # Rounding of double precision alone; bumps are stored in single and used as they are.
    torch.testing.assert_close(c.sqrt_t(v)[0], root.T @ flat)
    torch.testing.assert_close(c(v)[0].flatten(), root @ (root.T @ flat))
    rows = torch.stack([v, 2 * v.flip(-1)], 1)
    torch.testing.assert_close(c.rows_root(rows)[:, 0], c.sqrt_t(v))
    torch.testing.assert_close(c.rows(rows)[:, 1], c(rows[:, 1]))


def test_a_field_has_its_size_at_every_pixel() -> None:
    p, q = bumps(40, 3.0).double(), bumps(33, 3.0).double()
    squares = p.square().sum(1)[:, None] * q.square().sum(1)[None]
    # Bumps 1.25 lengths apart: by Poisson's sum the squares ripple by 2 e^{−(π/1.25)²} an axis,
    # 0.4 %, and the ends have one bump beyond them, of which the next would be e^{−1.25²…} less.
    inner = squares[4:-4, 4:-4]
    assert float(inner.max() / inner.min()) < 1 + 4 * 2 * math.exp(-((math.pi / 1.25) ** 2))
    assert float(squares.min()) > 0.9


def test_a_constant_field_moves_the_picture() -> None:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")

    def blob(at: float) -> torch.Tensor:
        return torch.exp(-((y - at) ** 2 + (x - 20) ** 2) / 50)[None, None].double()

    down, _ = slopes(blob(20.0))
    # By 0.1 pixels: the second order is (0.1)²/2 · 1/25, the difference's own error (1/6) · 3/125.
    torch.testing.assert_close(blob(20.0) - 0.1 * down, blob(20.1), rtol=0, atol=2e-3)


def test_draws_have_the_covariance() -> None:
    x = picture(1, 1)
    c = displaced(x)
    root = columns(c, x)
    z = torch.randn(4000, root.shape[1], dtype=torch.float64,
                    generator=torch.Generator().manual_seed(2))  # fmt: skip
    many = Displaced(
        Pixelwise(c.base.sd.expand(4000, -1, -1, -1), c.base.correlation),
        Moves.of(x.expand(4000, -1, -1, -1), {2.0: 0.3, 5.0: 1.2}, 0.4),
    )
    found = many.sqrt(z).flatten(1).square().mean(0)
    expected = root.square().sum(1)
    # A variance from 4,000 draws is known to √(2/4000) = 2.2 %; 4.5 of these for 154 pixels.
    assert float((found / expected - 1).abs().max()) < 0.1


def test_small_displacements_cost_nothing() -> None:
    x = picture()
    assert Moves.of(x, {2.0: 0.001}, 0.1).count == 2  # brightness, and the row kept even
