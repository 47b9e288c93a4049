"""What is unknown of a CT scanner, against operators that have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.operators.ct import CT
from sciinv.operators.parts import ct_unknowns
from sciinv.seeds import Streams

SIZE = 20


def scan(**more):
    angles = np.linspace(0, 180, 24, endpoint=False)
    return CT(angles, SIZE, 1.0, 36, 1.0, noise_sd=0.02, **more)


def blob():
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    y, x = axis[:, None] + 2, axis[None] - 1
    return (0.05 * torch.exp(-(x**2 + 0.5 * y**2) / 12))[None, None]


@pytest.mark.parametrize("shift", [-2.0, 0.4, 3.0])
def test_a_shift_is_that_of_the_detector_and_a_scale_multiplies(shift):
    view = scan(unknowns={"detector_shift": 3.0, "attenuation_scale": 0.1}).at(
        torch.tensor([[1.0, 0.0], [1.1, shift]])
    )
    both = view.A(blob().expand(2, -1, -1, -1))
    assert torch.allclose(both[:1], scan().A(blob()), atol=1e-6)
    moved = 1.1 * scan(detector_offset_mm=shift).A(blob())
    # what is left are the edges of square pixels within a quarter of an element
    assert float((both[1:] - moved).abs().max()) < 0.005 * float(moved.max())
    assert float((both[1:] - moved).square().mean().sqrt()) < 0.0005 * float(moved.max())


def sharp():
    x = torch.zeros(1, 1, SIZE, SIZE)
    x[..., 5:14, 6:13] = 0.05
    return x


@pytest.mark.parametrize("shift", [0.125, 0.4, 0.5, -1.7])
def test_no_shift_is_favoured_for_being_a_whole_number_of_elements(shift):
    """On samples of whole elements a translation of sharp edges errs by three times as much."""
    view = scan(unknowns={"detector_shift": 3.0}).at(torch.tensor([[shift]]))
    moved = scan(detector_offset_mm=shift).A(sharp())
    error = float((view.A(sharp()) - moved).square().mean().sqrt())
    assert error < 0.002 * float(moved.max())
    if shift == 0.5:  # two of four parts: exact
        assert error < 1e-6
    coarse = ct_unknowns.Projections(scan().A(sharp())).at(None, torch.tensor([shift]))
    assert float((coarse - moved).square().mean().sqrt()) > 3 * error


def test_a_lane_has_the_same_bits_whatever_its_neighbours_shift():
    physics = scan(unknowns={"detector_shift": 3.0})
    x = sharp().expand(2, -1, -1, -1)
    alone = physics.at(torch.tensor([[0.3], [0.3]])).A(x)
    beside = physics.at(torch.tensor([[0.3], [-7.7]])).A(x)
    assert torch.equal(alone[:1], beside[:1])


@pytest.mark.parametrize("model", ["line", "joseph"])
def test_models_of_lines_are_shifted_on_their_own_samples(model):
    physics = scan(unknowns={"detector_shift": 3.0}, model=model)
    view = physics.at(torch.tensor([[1.0]]))
    assert torch.allclose(
        view.A(blob()), scan(detector_offset_mm=1.0, model=model).A(blob()), atol=1e-6
    )


def test_the_transpose_of_a_shifted_scan_is_exact():
    view = scan(unknowns={"detector_shift": 3.0}).at(torch.tensor([[0.3], [-1.7]]).double())
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, SIZE, SIZE, generator=g).double()
    y = torch.randn(2, 1, 24, 36, generator=g).double()
    left = (view.A(x) * y).flatten(1).sum(1)
    right = (x * view.A_adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(left, right, rtol=1e-10)


def test_an_unknown_of_no_known_name_is_an_error_that_lists_them():
    with pytest.raises(OperatorError, match="attenuation_scale"):
        scan(unknowns={"attenuation": 0.1})
    with pytest.raises(OperatorError, match="above 0"):
        scan(unknowns={"air_offset": 0.0})


def test_shift_scale_air_and_rings_are_found_with_the_image():
    f = torch.fft.fftfreq(SIZE)
    power = 1 / (1 + (f[:, None] ** 2 + f[None] ** 2) / 0.06**2) ** 2
    window = torch.hann_window(SIZE, periodic=False)
    prior = priors.Gaussian(
        0.04 * (window[:, None] * window[None])[None], power_spectrum=4e-5 * power / power.mean()
    )
    sds = {"attenuation_scale": 0.1, "detector_shift": 2.0, "element_offset": 0.02}
    physics = scan(unknowns=sds)
    x0 = prior.sample(Streams.of_seed(4, 1), torch.zeros(1))
    g = torch.Generator().manual_seed(2)
    rings = 0.02 * torch.randn(36, generator=g)
    u = physics.at(torch.tensor([[1.08, 1.5]])).A(x0) + rings
    y = u + 0.02 * torch.randn(u.shape, generator=g)
    sampler = samplers.DAPS(prior, levels=12, micro_batch=10, noise="drawn")
    post = sampler.sample(y, physics, draws=10, seed=1)
    # each within four of its own posterior sd, which the data make smaller than the prior's
    for name, true, prior_sd in (("attenuation_scale", 1.08, 0.1), ("detector_shift", 1.5, 2.0)):
        sd = float(post[name].std())
        assert sd < 0.8 * prior_sd
        assert abs(float(post[name].mean()) - true) < 4 * sd
    found = post["element_offset"]
    assert found.dims == ("draw", "item", "detector")
    error = (found.mean("draw").values[0] - rings.numpy()) / found.std("draw").values[0]
    assert np.sqrt((error**2).mean()) < 1.8  # 10 draws: their sd is known to 24 %
    assert float(post["noise_scale"].mean()) == pytest.approx(1.0, abs=0.12)
