"""The linear skip is the Wiener filter of the class, and the network starts from it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from deepinv.models import DRUNet

from sciinv.errors import PriorError
from sciinv.priors.learned import gains, planes
from sciinv.priors.learned.linear import LinearSkip
from sciinv.priors.learned.network import EDMNetwork, NetworkSpec


@pytest.fixture
def images() -> torch.Tensor:
    """Complex images with power ∝ 1/(|k|² + k0²)."""
    g = torch.Generator().manual_seed(0)
    k = torch.hypot(torch.fft.fftfreq(40)[:, None], torch.fft.fftfreq(32)[None])
    white = torch.complex(*torch.randn(2, 64, 40, 32, generator=g))
    z = torch.fft.ifft2(white * (0.05 / (k**2 + 0.05**2).sqrt()), norm="ortho")
    return torch.stack([z.real, z.imag], 1)


def test_error_is_that_of_the_filter_made_from_the_same_spectrum(images):
    skip = LinearSkip()
    skip.fit(images)
    sigma = torch.full((64, 1, 1, 1), 0.5)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    filtered, size, error = skip(images + 0.5 * noise, sigma)
    assert float((filtered - images).square().mean().sqrt()) == pytest.approx(
        float(error[0]), rel=0.03
    )
    assert float(filtered.square().mean().sqrt()) == pytest.approx(float(size[0]), rel=0.03)


@pytest.mark.parametrize("phase", ["phase", "turn"])
def test_a_fresh_network_is_the_filter_and_keeps_constant_phases(images, phase):
    spec = NetworkSpec(2, (8, 8, 8, 8), 1, 4, linear=True, **{phase: True})
    network = EDMNetwork(spec, 1.0, (0.1, 10.0))
    network.linear.fit(images)
    x, sigma = images[:3], torch.tensor([0.2, 1.0, 5.0]).reshape(3, 1, 1, 1)
    assert torch.equal(network(x, sigma), network.linear(x, sigma)[0])
    with torch.no_grad():
        network.unet.m_tail.weight.normal_()
    c, s = math.cos(0.7), math.sin(0.7)

    def turned(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([c * z[:, 0] - s * z[:, 1], s * z[:, 0] + c * z[:, 1]], 1)

    assert torch.allclose(network(turned(x), sigma), turned(network(x, sigma)), atol=1e-3)
    assert not torch.allclose(network(x, sigma), network.linear(x, sigma)[0], atol=1e-2)


def banded(**more) -> EDMNetwork:
    torch.manual_seed(0)
    spec = NetworkSpec(2, (8, 8, 8, 8), 1, 1, linear=True, coarse=2, gains=4, **more)
    return EDMNetwork(spec, 1.0, (0.1, 10.0))


@pytest.mark.parametrize("shape", [(32, 32), (5, 12)])
def test_octave_bands_sum_to_one_and_the_first_holds_the_mean(shape):
    weights = gains.octaves(shape, 4, torch.zeros(1, dtype=torch.float64))
    # a telescoping sum in float64
    torch.testing.assert_close(weights.sum(0), torch.ones(shape, dtype=torch.float64), atol=1e-14,
                               rtol=0)  # fmt: skip
    assert weights[:, 0, 0].tolist() == [1, 0, 0, 0]
    assert bool((weights >= 0).all())


def test_the_expected_sizes_of_bands_are_those_of_noise_of_that_power():
    g = torch.Generator().manual_seed(2)
    k = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)[None])
    power = (1 / (k + 0.05))[None, None]
    white = torch.randn(128, 1, 64, 64, generator=g)
    y = torch.fft.ifft2(torch.fft.fft2(white) * power[0].sqrt()).real
    weights = gains.octaves((64, 64), 4, y)
    found = gains.bands(y, weights).square().mean((0, 2, 3, 4)).sqrt()
    # the widest band has some ten waves in each of 128 images: √(2/1280)/2 = 2 % standard error
    torch.testing.assert_close(found, gains.sizes(power, weights)[0, :, 0, 0], rtol=0.08, atol=0)


@pytest.mark.parametrize("phase", [False, True])
def test_scaled_bands_begin_as_the_filter_and_keep_any_constant_phase_exactly(images, phase):
    network = banded(phase=phase)
    network.linear.fit(images)
    x, sigma = images[:3], torch.tensor([0.2, 1.0, 5.0]).reshape(3, 1, 1, 1)
    assert torch.equal(network(x, sigma), network.linear(x, sigma)[0])
    with torch.no_grad():
        network.unet.m_tail.weight.normal_()
        z = torch.complex(x[:, 0], x[:, 1]) * torch.exp(torch.tensor(2.1j))
        turned = network(torch.stack([z.real, z.imag], 1), sigma)
        out = network(x, sigma)
    w = torch.complex(out[:, 0], out[:, 1]) * torch.exp(torch.tensor(2.1j))
    # float32, values of about 1 to 10
    torch.testing.assert_close(turned, torch.stack([w.real, w.imag], 1), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(out, network.linear(x, sigma)[0], atol=1e-2)


def test_equal_factors_multiply_what_the_blocks_show_of_the_filtered_image(images, monkeypatch):
    network = banded()
    network.linear.fit(images)
    x, sigma = images[:2], torch.full((2, 1, 1, 1), 2.0)
    monkeypatch.setattr(network.unet, "forward_unet", lambda z: torch.ones_like(z[:, :4]))
    filtered = network.linear(x, sigma)[0]
    padded = planes.pad(filtered, 16)
    blocks = F.interpolate(F.avg_pool2d(padded, 2), scale_factor=2, mode="bilinear")
    with torch.no_grad():
        out = network(x, sigma)
    # float32 through four transforms
    torch.testing.assert_close(out, filtered + blocks[..., :40, :32], rtol=1e-4, atol=1e-4)


def test_what_is_added_has_the_phase_of_the_blocks_of_the_filtered_image(images, monkeypatch):
    network = banded(phase=True)
    network.linear.fit(images)
    x, sigma = images[:2], torch.full((2, 1, 1, 1), 2.0)
    seen = []

    def one(z):
        seen.append(z)
        out = torch.zeros(len(z), 6, *z.shape[-2:])  # no band is scaled
        out[:, 4] = 1
        return out

    monkeypatch.setattr(network.unet, "forward_unet", one)
    filtered, _, error = network.linear(x, sigma)
    blocks = F.avg_pool2d(planes.pad(filtered, 16), 2)
    along = F.interpolate(planes.unit(blocks), scale_factor=2, mode="bilinear")[..., :40, :32]
    with torch.no_grad():
        torch.testing.assert_close(network(x, sigma), filtered + error * along, rtol=1e-4,
                                   atol=1e-5)  # fmt: skip
    # what it sees: the magnitudes of four bands, the noisy image in that frame, |Wx|, two maps
    noisy = torch.complex(*F.avg_pool2d(planes.pad(x, 16), 2).unbind(1))
    frame = noisy * torch.complex(*planes.unit(blocks).unbind(1)).conj()
    shown = torch.complex(*seen[0][:, 4:6].unbind(1))
    torch.testing.assert_close(shown, 2 * frame / 5**0.5, rtol=1e-3, atol=1e-4)
    level = blocks.norm(dim=1)
    torch.testing.assert_close(seen[0][:, 6] * level.mean() / seen[0][:, 6].mean(), level,
                               rtol=1e-3, atol=1e-4)  # fmt: skip


def test_a_begun_network_passes_the_signal_through_every_scale():
    torch.manual_seed(1)
    unet = DRUNet(in_channels=6, out_channels=6, nc=(16, 16, 32, 32), nb=1, act_mode="r",
                  pretrained=None)  # fmt: skip
    z = torch.randn(4, 7, 64, 64)

    def deepest():
        with torch.no_grad():
            return float(unet.m_down3(unet.m_down2(unet.m_down1(unet.m_head(z)))).std())

    silent = deepest()
    gains.begin(unet)
    # unit input; four linear maps of random weights with 16 to 128 inputs each scatter by some 10 %
    assert 0.7 < deepest() < 1.4
    assert silent < 0.05


def test_scaled_bands_take_no_other_input():
    with pytest.raises(PriorError, match="no other input"):
        banded(turn=True)


@pytest.mark.parametrize("phase", [False, True])
def test_scaled_bands_have_derivatives_on_an_empty_image(images, phase):
    network = banded(phase=phase)
    network.linear.fit(images)
    x = torch.zeros(1, 2, 32, 32, requires_grad=True)
    network(x, torch.full((1, 1, 1, 1), 3.0)).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float(x.grad.abs().sum()) > 0
