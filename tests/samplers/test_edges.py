"""What the caller's process is set to, and settings that mean nothing, at the samplers' entry."""

from __future__ import annotations

import deepinv as dinv
import numpy as np
import pytest
import torch

from sciinv import calibration, likelihoods, priors, samplers
from sciinv.errors import ConfigError, OperatorError
from sciinv.seeds import stream_seed

SIDE = 48


def gaussian(side: int = SIDE, length: float = 0.08) -> priors.Gaussian:
    f = torch.fft.fftfreq(side)
    power = 1 / (1 + (f[:, None] ** 2 + f[None] ** 2) / length**2) ** 1.5 + 0.01
    return priors.Gaussian(torch.zeros(1, side, side), power_spectrum=power / power.mean())


def rough(side: int = SIDE, sd: float = 0.01):
    """A blur that only conjugate gradients solve: where they stop depends on rounding."""
    g = torch.Generator().manual_seed(0)
    weights = torch.rand(1, 1, side, side, generator=g) + 0.05
    physics = dinv.physics.LinearPhysics(
        A=lambda x, **_: torch.cumsum(x * weights, -1),
        A_adjoint=lambda y, **_: weights * y.flip(-1).cumsum(-1).flip(-1),
        noise_model=dinv.physics.GaussianNoise(sd),
    )
    physics.img_size = (1, side, side)
    return physics


def draw(**options) -> np.ndarray:
    physics = rough()
    y = physics.A(torch.ones(1, 1, SIDE, SIDE))
    sampler = samplers.DAPS(gaussian(), levels=3, micro_batch=2)
    return sampler.sample(y, physics, **{"draws": 2, "seed": 3, **options})["image"].values


def test_draws_do_not_depend_on_threads_autocast_or_inference_mode_which_stay_as_they_were():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = draw()
        torch.set_num_threads(2)
        np.testing.assert_array_equal(draw(), expected)
        assert torch.get_num_threads() == 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(draw(), expected)
            assert torch.is_autocast_enabled("cpu")
        with torch.inference_mode():
            np.testing.assert_array_equal(draw(), expected)
            assert torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(threads)


def test_threads_are_given_back_after_a_failure():
    torch.set_num_threads(2)
    with pytest.raises(ConfigError):
        draw(draws=0)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_dps_runs_under_inference_mode():
    physics = rough(8)
    with torch.inference_mode():
        y = physics.A(torch.ones(1, 1, 8, 8))
        assert samplers.DPS(gaussian(8), steps=3, micro_batch=1)(y, physics).isfinite().all()


def test_integers_of_numpy_name_the_same_streams():
    assert stream_seed(np.int64(7), np.uint8(1), "a") == stream_seed(7, 1, "a")
    expected = draw(seed=7, items=[1])
    np.testing.assert_array_equal(draw(seed=np.int64(7), items=np.arange(1, 2)), expected)
    np.testing.assert_array_equal(draw(seed=7, items=[1], draws=np.arange(2)), expected)
    np.testing.assert_array_equal(draw(seed=7, items=[1], draws=np.int32(2)), expected)


@pytest.mark.parametrize("value", [None, 1.5, "x", True, np.float64(2.0), np.bool_(True)])
def test_what_is_no_integer_names_no_stream(value):
    for given in ({"seed": value}, {"items": [value]}, {"draws": [value]}, {"draws": value}):
        with pytest.raises(ConfigError, match="no whole number"):
            draw(**given)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("langevin", {"iterations": 0}),
        ("langevin", {"iterations": -5}),
        ("langevin", {"sigma": 0}),
        ("langevin", {"sigma": -1}),
        *(
            ("daps", {key: value})
            for key, values in {
                "sigma_max": (0, -1, "x", float("nan")),
                "sigma_min": (0, float("inf")),
                "micro_batch": (0, 2.7, -2),
                "levels": ("abc", 0, 2.5),
                "rho": (-7, 0),
                "sweeps": (0, 1.5),
            }.items()
            for value in values
        ),
        ("daps", {"conditional": "isotropic", "inflate": 0}),
        ("daps", {"conditional": "isotropic", "inflate": -1}),
        ("dps", {"steps": 0}),
        ("dps", {"zeta": 0}),
        ("particles", {"group": 0}),
        ("particles", {"threshold": 2}),
        ("particles", {"conditional": "score"}),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind, settings):
    prior = gaussian(8)
    prior.widths = prior  # stands in for fitted widths: what is checked comes before their use
    with pytest.raises(ConfigError) as caught:
        samplers.build(kind, prior, **settings)
    assert caught.value.remedy


@pytest.mark.parametrize("size", ["x", -1, 0, 1.5])
def test_a_batch_size_that_means_nothing_is_refused(size):
    with pytest.raises(ConfigError):
        draw(batch_size=size)


def test_a_noise_level_per_item_is_each_items_own():
    """8 × 8 pixels of prior variance 1, y = x + n: sd of the posterior is σ/√(1+σ²)."""
    sigma = torch.tensor([0.01] * 4 + [3.0] * 4)
    for shape in ((8,), (8, 1, 1, 1)):
        physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(sigma.reshape(shape)))
        physics.img_size = (1, 8, 8)
        prior = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=torch.ones(8, 8))
        sampler = samplers.DAPS(prior, levels=12, kernel="exact", micro_batch=16)
        x = sampler.sample(torch.zeros(8, 1, 8, 8), physics, draws=16)["image"]
        found = np.sqrt(np.square(x.values).mean((0, 2, 3, 4)))
        exact = (sigma / (1 + sigma**2).sqrt()).numpy()
        np.testing.assert_allclose(found, exact, rtol=5 / np.sqrt(2 * 16 * 64))
    with pytest.raises(OperatorError, match="level per row"):
        likelihoods.of(physics, 0, 3)


def test_the_first_draws_of_a_group_are_no_relatives():
    """Two draws of a group are copies as often whatever their distance."""
    log_w = torch.full((64,), -5.0)
    log_w[:4] = 0.0
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=g)
    prior = priors.GaussianMixture(
        torch.stack([torch.full((1, 2, 2), -2.0), torch.full((1, 2, 2), 2.0)]),
        0.05 * torch.eye(4).expand(2, 4, 4),
        torch.tensor([0.5, 0.5]),
    )
    physics = dinv.physics.LinearPhysics(
        A=lambda x, **_: (x.flatten(1) @ matrix.mT).abs(),
        noise_model=dinv.physics.GaussianNoise(0.02),
    )
    physics.img_size = (1, 2, 2)
    y = physics.A(torch.full((1, 1, 2, 2), 2.0))
    near = far = 0
    for seed in range(6):
        x = samplers.Particles(prior, levels=8, group=64).sample(y, physics, draws=64, seed=seed)
        v = x["image"].values.reshape(64, 4)
        near += int((v[1:] == v[:-1]).all(1).sum())
        far += int((v[32:] == v[:32]).all(1).sum()) * 2
    assert near <= far + 6 * np.sqrt(far + 1)


@pytest.mark.parametrize(("draws", "bins"), [(4, 4), (8, 4), (16, 4), (10, 8), (2, 8)])
def test_ranks_of_right_posteriors_have_uniform_p_values(draws, bins):
    rng = np.random.default_rng(0)
    p = [
        calibration.rank_uniformity(rng.normal(size=(draws, 100)), rng.normal(size=100), bins, k)
        for k in range(400)
    ]
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)
