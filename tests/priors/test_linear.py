"""The linear skip is the Wiener filter of the class, and the network starts from it."""

from __future__ import annotations

import math

import pytest
import torch

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
