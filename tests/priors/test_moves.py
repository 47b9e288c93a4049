"""Displacements beside the local widths: what is known of them comes back, and files carry them."""

from __future__ import annotations

import pytest
import torch
from support.toys import toy

from sciinv.displaced import Displaced, Moves
from sciinv.errors import PriorError
from sciinv.priors.learned import files, generic
from sciinv.priors.learned.copies import remade
from sciinv.priors.widths import moves
from sciinv.priors.widths.local import LocalWidths, WidthNetwork

LEVELS = torch.tensor([1e-6, 2e-6])  # D sees the image as it is: its errors are those made here


def images(count: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    centre = 18 + 12 * torch.rand(count, 2, 1, 1, generator=g)
    far = torch.hypot(y - centre[:, :1], x - centre[:, 1:])
    return torch.sigmoid((11 - far) / 2)


def widths(sd: float) -> LocalWidths:
    flat = torch.ones(2, 32, dtype=torch.float64)
    mean = torch.full((2,), sd**2, dtype=torch.float64)
    table = LocalWidths(WidthNetwork(), LEVELS.double(), mean, flat, 0.0, 1.0)
    table.covariance = lambda x, sigma, inflate=1.0: _white(x, sd)  # type: ignore[method-assign]
    return table


def _white(x: torch.Tensor, sd: float) -> object:
    from sciinv.covariances import Pixelwise

    return Pixelwise(torch.full_like(x, sd))


def found(sizes: dict[float, float], brightness: float, sd: float = 0.01) -> moves.MovedEdges:
    g = torch.Generator().manual_seed(4)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        move = Moves.of(x, sizes, brightness)
        z = torch.randn(len(x), move.count, generator=g)
        return x - move(z) - sd * torch.randn(x.shape, generator=g)

    return moves.fit(denoise, widths(sd), images(96), LEVELS, lengths=(6.0, 15.0), seed=1)


def test_sizes_of_displacements_and_brightness_are_found() -> None:
    fitted = found({15.0: 0.3}, 0.05, sd=0.003)
    # 192 images, each a handful of independent displacements along its edge and one brightness:
    # a size is known to about √(1/(2 · 192 · 3)) = 3 %, brightness to √(1/(2 · 96)) = 7 % a level;
    # three of these. Both fields answer to one another along a short edge: the sum is what is told.
    assert float(fitted.sizes.square().sum(1).sqrt().mean()) == pytest.approx(0.3, rel=0.1)
    assert float(fitted.sizes[:, 1].mean()) > 1.5 * float(fitted.sizes[:, 0].mean())
    assert float(fitted.brightness.mean()) == pytest.approx(0.05, rel=0.2)


def test_errors_that_the_widths_know_need_no_moves() -> None:
    fitted = found({}, 0.0)
    # White errors of the widths' own size: moments of 96 images scatter by some 3 %, and a size
    # is the root of what is left.
    assert float(fitted.sizes.max()) < 0.05
    assert float(fitted.brightness.max()) < 0.005


def table() -> moves.MovedEdges:
    sizes = torch.tensor([[0.1, 0.5], [0.2, 1.0]], dtype=torch.float64)
    levels, bright = torch.tensor([0.01, 1.0]).double(), torch.tensor([0.02, 0.04]).double()
    return moves.MovedEdges(levels, (6.0, 15.0), sizes, bright)


def test_levels_between_those_of_the_table_are_interpolated_and_beyond_are_held() -> None:
    sizes, brightness = table().at(0.1)
    assert sizes == pytest.approx({6.0: 0.15, 15.0: 0.75})
    assert brightness == pytest.approx(0.03)
    assert table().at(50.0)[1] == pytest.approx(0.04)


def test_a_prior_file_keeps_them_and_the_covariance_has_them(tmp_path) -> None:
    prior = toy()
    prior.local, prior.moves = widths(0.1), table()
    files.save(prior, tmp_path / "toy.safetensors")
    again = files.load(tmp_path / "toy.safetensors")
    assert torch.equal(again.moves.sizes, prior.moves.sizes)
    x = images(2)[:, :, :32, :32]
    c = again.local_covariance(x, 0.1, 4.0)
    assert isinstance(c, Displaced)
    # κ is a factor on variances, of moves as of widths.
    assert [f.size for f in c.moves.fields] == pytest.approx([0.3, 1.5])
    assert c.moves.brightness == pytest.approx(0.06)
    assert remade(again).moves is again.moves
    assert generic.scaled(again, 3.0).moves.at(0.3)[1] == pytest.approx(0.03)


def test_a_file_that_lacks_a_part_of_them_is_refused(tmp_path, monkeypatch) -> None:
    prior = toy()
    prior.moves = table()
    tensors = table().tensors()
    tensors.pop("moves.sizes")
    monkeypatch.setattr(moves.MovedEdges, "tensors", lambda self: tensors)
    files.save(prior, tmp_path / "toy.safetensors")
    with pytest.raises(PriorError, match="displacements"):
        files.load(tmp_path / "toy.safetensors")


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2), torch.full((2, 2), float("nan"))])
def test_displacements_that_do_not_belong_together_are_refused(wrong, tmp_path, monkeypatch):
    prior = toy()
    prior.moves = table()
    tensors = table().tensors() | {"moves.sizes": wrong}
    monkeypatch.setattr(moves.MovedEdges, "tensors", lambda self: tensors)
    files.save(prior, tmp_path / "toy.safetensors")
    with pytest.raises(PriorError, match="displacements") as told:
        files.load(tmp_path / "toy.safetensors")
    assert "take a whole copy" in str(told.value)
