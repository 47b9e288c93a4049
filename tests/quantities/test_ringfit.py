"""Ring parameters of images whose rings are known."""

import numpy as np
import pytest
import torch

from sciinv import priors
from sciinv.errors import DataError
from sciinv.quantities.ringfit import ring_parameters

N, PIXEL = 64, 2.0
AXIS = -(np.arange(N) - (N - 1) / 2) * PIXEL
NORTH, EAST = np.meshgrid(AXIS, AXIS, indexing="ij")


def ring(diameter=42.0, width=10.0, asymmetry=0.0, angle=0.0, east=0.0, north=0.0, floor=0.0):
    """A ring of Gaussian section, brightness 1 + 2 · asymmetry · cos(θ − angle)."""
    r = np.hypot(EAST - east, NORTH - north)
    theta = np.arctan2(EAST - east, NORTH - north)
    section = np.exp(-4 * np.log(2) * ((r - diameter / 2) / width) ** 2)
    out = section * (1 + 2 * asymmetry * np.cos(theta - np.radians(angle)))
    return out + floor * (r < diameter)


@pytest.mark.parametrize("diameter", [30.0, 42.0, 60.0])
@pytest.mark.parametrize("width", [8.0, 14.0])
def test_diameter_and_width_of_an_even_ring(diameter, width):
    found = ring_parameters(ring(diameter, width), PIXEL)
    assert found.found
    # pixels of 2 µas, bicubic between them
    assert found.diameter == pytest.approx(diameter, abs=0.3)
    assert found.width == pytest.approx(width, abs=0.6)
    assert found.asymmetry < 0.01
    assert found.spread < 0.02


@pytest.mark.parametrize("angle", [0.0, 75.0, 160.0, 250.0, 355.0])
@pytest.mark.parametrize("asymmetry", [0.2, 0.45])
def test_position_angle_runs_from_north_through_east(angle, asymmetry):
    found = ring_parameters(ring(asymmetry=asymmetry, angle=angle, east=6, north=-9), PIXEL)
    turn = (found.position_angle - angle + 180) % 360 - 180
    assert abs(turn) < 3
    assert found.asymmetry == pytest.approx(asymmetry, abs=0.03)
    assert found.diameter == pytest.approx(42, abs=0.7)
    assert found.centre_east == pytest.approx(6, abs=0.7)
    assert found.centre_north == pytest.approx(-9, abs=0.7)


def test_a_ring_bright_in_the_south_and_east_says_so():
    image = np.zeros((N, N))
    image[:] = ring(asymmetry=0.3, angle=180)
    assert image[N // 2 :].sum() > image[: N // 2].sum()  # south is below
    assert ring_parameters(image, PIXEL).position_angle == pytest.approx(180, abs=2)
    image = ring(asymmetry=0.3, angle=90)
    assert image[:, : N // 2].sum() > image[:, N // 2 :].sum()  # east is left
    assert ring_parameters(image, PIXEL).position_angle == pytest.approx(90, abs=2)


@pytest.mark.parametrize("blur", [8.0, 12.0, 16.0])
def test_a_blurred_thin_ring_shrinks_as_it_must(blur):
    """d = d0 − α²/(4 ln 2 · d0) after a blur of FWHM α, to second order in α/d0: the maximum of
    exp(−(r² + r0²)/2s²) I0(r r0/s²) is at r0 − s²/2r0."""
    from scipy.ndimage import gaussian_filter

    fine = 8  # drawn 8 times finer, so that the ring is thin against the blur
    axis = -(np.arange(N * fine) - (N * fine - 1) / 2) * PIXEL / fine
    r = np.hypot(*np.meshgrid(axis, axis))
    image = np.exp(-(((r - 22.0) / 0.5) ** 2))
    image = gaussian_filter(image, blur / 2.3548 / (PIXEL / fine))
    image = image.reshape(N, fine, N, fine).mean((1, 3))
    found = ring_parameters(image, PIXEL)
    assert found.diameter == pytest.approx(44 - blur**2 / (4 * np.log(2) * 44), abs=0.4)


@pytest.mark.parametrize(("diameter", "width"), [(42.0, 8.0), (60.0, 14.0)])
def test_a_sharp_ring_and_what_the_prior_makes_of_it_have_one_diameter(repo, diameter, width):
    """Truths come from a formula and draws from a network: both must be measured alike."""
    prior = priors.load(repo / "data/priors/blackhole.safetensors")
    image = ring(diameter, width)
    x = torch.as_tensor(image / image.sum(), dtype=torch.float32)[None, None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    sigma = 5 * prior.sigma_min
    with torch.no_grad():
        denoised = prior(x + sigma * noise, sigma)[0, 0]
    found = ring_parameters(torch.stack([x[0, 0], denoised]), PIXEL)
    # at this noise the family's rings change by 0.18 µas rms (docs/evidence/unknowns.md)
    assert found.diameter[1] == pytest.approx(found.diameter[0], abs=0.4)
    assert found.width[1] == pytest.approx(found.width[0], abs=0.6)


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_central_depression(floor):
    found = ring_parameters(ring(width=8.0, floor=floor), PIXEL)
    assert found.central_fraction == pytest.approx(floor / (1 + floor), abs=0.01)
    assert found.depression == pytest.approx(1 / floor + 1 if floor else np.inf, rel=0.05)


def test_many_images_at_once_are_the_same_as_one_by_one():
    rng = np.random.default_rng(0)
    sizes, angles = rng.uniform(30, 60, 20), rng.uniform(0, 360, 20)
    images = np.array([ring(d, 9, 0.3, a) for d, a in zip(sizes, angles, strict=True)])
    stack = torch.as_tensor(images.reshape(4, 5, 1, N, N), dtype=torch.float32)
    found = ring_parameters(stack, PIXEL)
    assert found.diameter.shape == (4, 5, 1)
    one = ring_parameters(images[7], PIXEL)
    assert found.diameter.flatten()[7] == pytest.approx(float(one.diameter), abs=1e-3)
    assert found.position_angle.flatten()[7] == pytest.approx(float(one.position_angle), abs=1e-2)


def test_brightness_scale_and_noise_do_not_matter():
    rng = np.random.default_rng(0)
    image = ring(asymmetry=0.3, angle=200)
    noisy = 1e-6 * (image + 0.02 * rng.standard_normal(image.shape))
    found = ring_parameters(noisy, PIXEL)
    assert found.diameter == pytest.approx(42, abs=1)
    assert found.position_angle == pytest.approx(200, abs=3)


def test_images_without_a_ring_are_nan_and_the_others_are_not():
    from scipy.ndimage import gaussian_filter

    r = np.hypot(EAST, NORTH)
    rng = np.random.default_rng(0)
    images = np.array([
        np.zeros((N, N)),
        np.full((N, N), np.nan),
        -ring(),
        np.ones((N, N)),
        np.exp(-0.5 * (r / 12) ** 2),
        (r < 25) * 1.0,
        np.exp(-0.5 * (np.hypot(EAST - 20, NORTH) / 5) ** 2)
        + np.exp(-0.5 * (np.hypot(EAST + 20, NORTH) / 5) ** 2),
        rng.standard_normal((N, N)),
        gaussian_filter((r < 28) * (0.6 + 0.4 * (r / 28) ** 4), 2.0),
        ring(),
    ])  # fmt: skip
    found = ring_parameters(images, PIXEL)
    assert found.found.tolist() == [False] * 9 + [True]
    for name in ("width", "position_angle", "asymmetry", "central_fraction", "depression"):
        assert np.isnan(getattr(found, name)[:9]).all(), name


def test_wrong_arrays_are_errors():
    with pytest.raises(DataError, match="cannot be measured"):
        ring_parameters(np.zeros(5), PIXEL)
    with pytest.raises(DataError, match="cannot be measured"):
        ring_parameters(np.zeros((N, N)), 0.0)
    assert ring_parameters(np.zeros((0, N, N)), PIXEL).diameter.shape == (0,)
