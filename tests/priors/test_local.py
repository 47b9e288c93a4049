"""Local widths: what is known of the errors comes back, and files and samplers carry it."""

from __future__ import annotations

import math

import pytest
import torch
from support.toys import toy
from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.errors import PriorError
from sciinv.priors.learned import files
from sciinv.priors.widths import local

LEVELS = torch.tensor([0.4, 0.6, 0.8, 1.0])


def discs(count: int, seed: int = 0) -> torch.Tensor:
    """Bright discs of random places in empty images [count, 1, 32, 32]."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centre = 8 + 16 * torch.rand(count, 2, 1, 1, generator=g)
    far = torch.hypot(y - centre[:, :1], x - centre[:, 1:])
    return (far < 7).float()


@pytest.fixture(scope="module")
def fitted() -> local.LocalWidths:
    """Images = a disc + white texture of sd 0.3 inside and 0.01 outside; D returns the disc."""
    clean = discs(48)
    g = torch.Generator().manual_seed(5)
    images = clean + torch.where(clean > 0.5, 0.3, 0.01) * torch.randn(clean.shape, generator=g)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return clean[torch.cdist(x.flatten(1), images.flatten(1)).argmin(1)]

    return local.fit(denoise, images, LEVELS, pairs=512, steps=400, crop=32, batch=16, seed=1)


def test_the_width_is_that_of_the_errors_inside_and_outside(fitted):
    # A constant width would be 0.11: 3 × too small inside, 11 × too large outside. 10 and 35 %
    # hold for a fit this short; outside is found from squares 900 × smaller.
    image = discs(1, seed=9)
    sd = fitted.variance(image, 1.0).sqrt()
    far = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    assert float(sd[far > 0.99].mean()) == pytest.approx(0.3, rel=0.1)
    assert float(sd[far < 0.01].mean()) == pytest.approx(0.01, rel=0.35)


def test_white_errors_have_a_flat_spectrum(fitted):
    # 48 different textures: the lowest ring's single mode is known to √(2/48) = 20 %, so 3 of
    # these; rings of ten modes and more to 6 %. Disc-shaped errors would have 100 in the lowest.
    assert bool(((fitted.correlation[:, 2:] - 1).abs() < 0.2).all())
    assert bool(((fitted.correlation[:, :2] - 1).abs() < 0.6).all())


def test_the_covariance_never_exceeds_the_noise(fitted):
    image = discs(2, seed=3)
    for sigma in (1e-3, 0.5, 3.0, 50.0):
        c = fitted.covariance(image, sigma, inflate=1e6)
        assert float(c.sd.max()) <= sigma * (1 + 1e-6)
        assert bool(torch.isfinite(c.sqrt(torch.randn_like(image))).all())


def test_complex_images_have_one_width_whatever_their_phase():
    torch.manual_seed(0)
    network = local.WidthNetwork()
    torch.nn.init.normal_(network.last.weight)
    x = torch.randn(1, 2, 24, 20, dtype=torch.float64)
    turned = torch.view_as_real(torch.view_as_complex(x.movedim(1, -1).contiguous()) * 1j)
    level = torch.zeros(1, 1, 1, 1)
    a, b = (network(v.float(), level) for v in (x, turned.movedim(-1, 1)))
    assert a.shape == (1, 1, 24, 20)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_prior_file_keeps_its_local_widths_to_the_bit(fitted, tmp_path):
    prior = toy()
    prior.local = fitted
    files.save(prior, tmp_path / "toy.safetensors")
    again = files.load(tmp_path / "toy.safetensors").local
    image = discs(1, seed=4)
    assert torch.equal(again.variance(image, 0.9), fitted.variance(image, 0.9))
    assert torch.equal(again.spectrum(0.9, (32, 32)), fitted.spectrum(0.9, (32, 32)))
    assert (again.offset, again.unit) == (fitted.offset, fitted.unit)


def test_a_prior_without_local_widths_says_how_to_get_them():
    with pytest.raises(PriorError, match="fit-widths"):
        toy().local_covariance(torch.zeros(1, 1, 32, 32), 0.1)


def test_broken_local_widths_are_refused(fitted, tmp_path):
    prior = toy()
    prior.local = fitted
    tensors = fitted.tensors()
    tensors.pop("local.mean")
    fitted_tensors = type(fitted).tensors
    try:
        type(fitted).tensors = lambda self: tensors
        files.save(prior, tmp_path / "toy.safetensors")
    finally:
        type(fitted).tensors = fitted_tensors
    with pytest.raises(PriorError, match="local widths"):
        files.load(tmp_path / "toy.safetensors")


def test_levels_between_those_of_the_table_are_interpolated(fitted):
    low, high = fitted.mean_at(float(LEVELS[1])), fitted.mean_at(float(LEVELS[2]))
    middle = fitted.mean_at(math.sqrt(float(LEVELS[1] * LEVELS[2])))
    assert min(low, high) <= middle <= max(low, high)


def test_fit_widths_adds_them_to_a_file_and_keeps_the_weights(tmp_path):
    path = tmp_path / "toy.safetensors"
    files.save(toy(), path, storage=torch.float16)
    before = files.load(path).state_dict()
    assert CliRunner().invoke(
        app, ["fit-widths", str(path), "--images", "16", "--pairs", "64", "--steps", "3"]
    ).exit_code == 0  # fmt: skip
    after = files.load(path)
    assert after.local is not None
    assert after.metadata["local"] == {"images": 16, "pairs": 64, "steps": 3, "seed": 0}
    assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.items())


def test_levels_above_a_sigma_are_measured_anew_and_the_others_stay(fitted):
    images = 0.2 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    again = local.refitted(fitted, lambda x, s: 0 * x, images, 0.7, count=64, seed=2)
    assert torch.equal(again.mean[:2], fitted.mean[:2])
    assert torch.equal(again.correlation[:2], fitted.correlation[:2])
    assert again.network is fitted.network
    # some 40 of 64 images × 1024 squares of sd √2: 0.7 % of one standard error
    assert again.mean[2:].tolist() == pytest.approx([0.04, 0.04], rel=0.03)
    # what h says of an empty estimate is wrong by some factor, which κ takes up: s² κ is the error
    sd2 = float(again.variance(0 * images[:1], 0.8).mean())
    assert float((sd2 * again.correlation[2, 4:]).mean()) == pytest.approx(0.04, rel=0.05)
