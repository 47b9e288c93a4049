"""Samplers on a stand-in for an accelerator: nothing mixes with host tensors, few waits.

No GPU is needed: see `support.device`. That the numbers of a real one are right is for tests on it.
Operators that are differentiated by torch.func (Poisson counts) do not run on the stand-in: forward
mode ends the process under a tensor subclass.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting
from support.device import Device, Remote

from sciinv import priors, samplers
from sciinv.config import Sampler
from sciinv.operators.ct import CT
from sciinv.operators.interferometry import Closures
from sciinv.operators.mri import MultiCoilMRI
from sciinv.steps.settings import find

LEVELS = 3
DATA = "data/priors"


def white(side, mean=0.0):
    return priors.Gaussian(
        torch.full((1, side, side), mean), power_spectrum=0.01 * torch.ones(side, side)
    )


def inpainting():
    mask = (torch.arange(64).reshape(1, 8, 8) % 3 > 0).float()
    return white(8), Inpainting((1, 8, 8), mask=mask, noise_model=GaussianNoise(0.1))


def sinogram():
    physics = CT(np.arange(0, 180, 20.0), 12, 1.0, 18, 1.0, noise_sd=0.05)
    return white(12, 0.2), physics


def closures():
    rng = np.random.default_rng(0)
    physics = Closures(
        rng.normal(size=6) * 2e9, rng.normal(size=6) * 2e9, [[0, 1, 2], [0, 3, 4], [1, 3, 5]],
        np.array([[1, 1, -1]] * 3), 0.1 * np.eye(6), amplitudes=[[0], [3]], image_size=8,
        field_of_view_uas=80.0,
    )  # fmt: skip
    return white(8, 0.02), physics


def brain():
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 32, 24, generator=rng, dtype=torch.complex64)
    maps = maps / maps.abs().square().sum(0, keepdim=True).sqrt()
    mask = torch.rand(32, 24, generator=rng) > 0.5
    return priors.load(f"{DATA}/mri.safetensors"), MultiCoilMRI(mask, maps, 0.05)


CASES = {
    "dense": (inpainting, {}),
    "metropolis": (inpainting, {"kernel": "metropolis"}),
    "score-langevin": (inpainting, {"conditional": "score", "kernel": "langevin"}),
    "hmc": (inpainting, {"kernel": "hmc"}),
    "langevin": (inpainting, {"kernel": "langevin"}),
    "noise-drawn": (inpainting, {"noise": "drawn"}),
    "bridge": (inpainting, {"renoise": "bridge"}),
    "isotropic": (inpainting, {"conditional": "isotropic"}),
    "ct": (sinogram, {}),
    "closures-newton": (closures, {}),
    "items-together": (inpainting, {"item_batch": 3}),
    "brain-local": (brain, {"sigma_max": 1.0}),
    "brain-spectral": (brain, {"conditional": "spectral", "sigma_max": 1.0}),
}


def drawn(make, settings, device=None):
    prior, physics = make()
    y = physics(prior.mean[None] if hasattr(prior, "mean") else torch.zeros(1, 2, 32, 24) + 0.1)
    sampler = samplers.DAPS(prior, levels=LEVELS, micro_batch=2, **settings)
    if device is None:
        return sampler.sample(y, physics, draws=2)
    with device:
        device.put(prior)
        device.put(physics)
        return sampler.sample(device.put(y), physics, draws=2)


@pytest.mark.parametrize("case", CASES)
def test_nothing_mixes_host_and_device_and_the_draws_are_the_same(case):
    make, settings = CASES[case]
    torch.manual_seed(0)
    here = drawn(make, settings)
    torch.manual_seed(0)
    device = Device()
    there = drawn(make, settings, device)
    size = float(abs(here["image"]).max())
    # dense algebra gives the same bits; a solve may stop up to LOOK iterations later
    assert float(abs(here["image"] - there["image"]).max()) < 5e-3 * size
    assert device.counts["to host"] > 0  # the draws, at the end


def test_a_dense_linear_problem_waits_for_the_device_twice_a_level_at_most():
    def reads(levels):
        device = Device()
        prior, physics = inpainting()
        y = physics(torch.zeros(1, 1, 8, 8))
        sampler = samplers.DAPS(prior, levels=levels, micro_batch=2)
        with device:
            device.put(prior)
            device.put(physics)
            sampler.sample(device.put(y), physics, draws=2)
        return device.counts["read"]

    assert (reads(13) - reads(3)) / 10 <= 2


def test_kappa_is_found_and_truths_are_drawn_where_the_prior_is():
    """What `inflate: auto` does before the first draw on a GPU."""
    prior, physics = brain()
    sampler = Sampler("daps", {"levels": 2, "inflate": "auto", "sigma_max": 1.0})
    device = Device()
    with device:
        device.put(prior)
        device.put(physics)
        found = find(sampler, prior, physics, 0, 4)
    assert found["inflate"] > 0


def test_other_samplers_run_on_the_device():
    for make in (samplers.DPS, samplers.Langevin, samplers.Particles):
        prior, physics = inpainting()
        y = physics(torch.zeros(1, 1, 8, 8))
        few = {samplers.DPS: {"steps": 3}, samplers.Langevin: {"iterations": 3}}.get(
            make, {"levels": 3, "group": 4}
        )
        sampler = make(prior, **few)
        device = Device()
        with device:
            device.put(prior)
            device.put(physics)
            post = sampler.sample(device.put(y), physics, draws=2)
        assert np.isfinite(post["image"].values).all()


def test_the_stand_in_refuses_what_a_device_refuses():
    with Device() as device:
        a = device.put(torch.ones(3))
        assert isinstance(a + 1, Remote)
        with pytest.raises(AssertionError, match="mixes host"):
            a + torch.ones(3)
        assert float(a.sum()) == 3
        assert device.counts == {"read": 1}
        assert a.cpu().tolist() == [1, 1, 1]
        assert device.counts["to host"] == 1
