"""A prior trained on crops serves images of 256² and 512², and volumes as stacks of slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sciinv import operators, priors, readers, samplers
from sciinv.operators.parts import mri_masks
from sciinv.priors.base import Prior


@pytest.fixture(scope="module")
def prior(repo: Path) -> Prior:
    """The shipped MRI prior, trained on crops of 128²."""
    return priors.load(repo / "data/priors/mri.safetensors")


@pytest.fixture(scope="module")
def brain(repo: Path) -> Tensor:
    """The measured brain, the coils combined, in a field of 256², [1, 2, 256, 256]."""
    physics, y = operators.from_measurement(
        readers.find("kspace")(repo / "data/mri/cartesian_ksp.npy")
    )
    image = physics.A_adjoint(y)
    image = image / image.square().sum(1).sqrt().quantile(0.99)
    h, w = image.shape[-2:]
    rows, columns = 256 - h, 256 - w
    return torch.nn.functional.pad(
        image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    )


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_the_denoiser_errs_no_more_on_512_than_on_256(
    prior: Prior, brain: Tensor, sigma: float
) -> None:
    """Four copies side by side: only the seams differ, about 1 % of the pixels."""
    noise = sigma * torch.randn(brain.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one = prior(brain + noise, sigma) - brain
        four = prior((brain + noise).tile(1, 1, 2, 2), sigma) - brain.tile(1, 1, 2, 2)
    assert four.shape[-2:] == (512, 512)
    assert float(four.square().mean() / one.square().mean()) == pytest.approx(1, abs=0.03)


def test_draws_of_512_fit_their_measurements(prior: Prior, brain: Tensor) -> None:
    truth = brain.tile(1, 1, 2, 2)
    mask = mri_masks.random_lines((512, 512), 4, 0.08, seed=0)
    physics = operators.load(
        "mri", mask=mask, coil_maps=np.ones((1, 512, 512), complex), noise_sd=0.05
    )
    torch.manual_seed(0)
    y = physics.noise_model(physics.A(truth))
    sampler = samplers.DAPS(
        prior, conditional="local", inflate=2, levels=6, sigma_max=3, micro_batch=1
    )
    found = sampler.sample(y, physics, draws=1, seed=0)
    image = torch.as_tensor(found["image"].values[0])
    zero_filled = physics.A_adjoint(y)
    assert image.shape == (1, 2, 512, 512)
    assert float(found["chi2"].item()) == pytest.approx(1, abs=0.3)  # six levels leave some misfit
    assert (image - truth).square().mean() < 0.7 * (zero_filled - truth).square().mean()
