"""A coarse expert for strong noise: what it sees, where it serves, and that files keep it."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.errors import PriorError
from sciinv.priors.learned import evaluation, files, generic
from sciinv.priors.learned.bands import share
from sciinv.priors.learned.coarse import join
from sciinv.priors.learned.network import (
    EDMNetwork,
    HighSpec,
    LearnedPrior,
    NetworkSpec,
    Preconditioning,
)

LOW = NetworkSpec(nc=(8, 8, 8, 16), nb=1, patch=2)
EXPERT = NetworkSpec(nc=(8, 8, 8, 16), nb=1, patch=1, coarse=4)
UNITS = Preconditioning(0.5, 0.01, 20.0, offset=0.1, scale=0.02)
ABOVE, ALONE = 3.0, 6.0


def made(spec: NetworkSpec, constants: Preconditioning = UNITS, seed: int = 0, **more):
    torch.manual_seed(seed)
    metadata = {"training": {"steps": 7, "images": 56, "seconds": 60, "sigma_min": 2.5}}
    return LearnedPrior(
        spec, constants, train_shape=(spec.channels, 64, 64), metadata=metadata, **more
    )


@pytest.fixture(scope="module")
def parts() -> tuple[LearnedPrior, LearnedPrior]:
    low = made(LOW, high=HighSpec(NetworkSpec(nc=(8, 8, 8, 16), nb=1, patch=4), 1.5))
    return low, made(EXPERT, Preconditioning(0.5, 2.5, 20.0, 0.1, 0.02), seed=1)


@pytest.fixture(scope="module")
def prior(parts) -> LearnedPrior:
    return join(*parts, ABOVE, ALONE)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_weight_rises_from_0_to_1_and_is_half_in_the_middle_of_the_logarithm():
    spec = HighSpec(EXPERT, ABOVE, ALONE)
    sigma = torch.tensor([0.1, ABOVE, math.sqrt(ABOVE * ALONE), ALONE, 40.0], dtype=torch.float64)
    # the middle is a root, rounded
    expected = torch.tensor([0, 0, 0.5, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(share(sigma, spec), expected, rtol=0, atol=1e-14)
    assert bool((share(torch.linspace(3, 6, 50), spec).diff() > 0).all())
    step = HighSpec(EXPERT, ABOVE)
    assert share(torch.tensor([2.99, ABOVE]), step).tolist() == [0, 1]


@pytest.mark.parametrize("sigma", [0.5, 2.0, ABOVE])
def test_below_the_blend_the_prior_is_what_it_was_to_the_bit(prior, parts, x, sigma):
    assert torch.equal(prior(x, sigma * 0.02), parts[0](x, sigma * 0.02))


@pytest.mark.parametrize("sigma", [ALONE, 15.0])
def test_above_the_blend_the_expert_serves_alone(prior, x, sigma):
    u = (x - 0.1) / 0.02
    alone = 0.1 + 0.02 * prior.coarse(u, torch.full((2, 1, 1, 1), sigma))
    torch.testing.assert_close(prior(x, sigma * 0.02), alone)


def test_within_it_the_estimates_are_mixed_by_the_weight(prior, parts, x):
    sigma = 4.0
    w = float(share(torch.tensor(sigma, dtype=torch.float64), HighSpec(EXPERT, ABOVE, ALONE)))
    u = (x - 0.1) / 0.02
    top = 0.1 + 0.02 * prior.coarse(u, torch.full((2, 1, 1, 1), sigma))
    mixed = (1 - w) * parts[0](x, sigma * 0.02) + w * top
    assert 0.1 < w < 0.9
    # float32, values of about 1
    torch.testing.assert_close(prior(x, sigma * 0.02), mixed, rtol=1e-5, atol=1e-6)


def test_only_networks_with_a_weight_are_called(prior, x, monkeypatch):
    called: list[str] = []
    hooks = [
        getattr(prior, name).register_forward_pre_hook(lambda *_, n=name: called.append(n))
        for name in ("network", "high", "coarse")
    ]
    found = []
    for sigma in (0.5, 2.0, 4.0, 8.0):
        called.clear()
        prior(x, sigma * 0.02)
        found.append(sorted(called))
    for hook in hooks:
        hook.remove()
    assert found == [["network"], ["high"], ["coarse", "high"], ["coarse"]]


def test_a_batch_of_mixed_levels_gets_what_each_level_gets_alone(prior, x):
    levels = torch.tensor([4.0, 9.0]) * 0.02
    alone = torch.cat([prior(x[i : i + 1], float(levels[i])) for i in range(2)])
    # Batches of other sizes round differently: float32, values of about 1.
    torch.testing.assert_close(prior(x, levels), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sigma", [4.0, 9.0])
def test_the_derivative_is_that_of_finite_differences(prior, x, sigma):
    twin = join(
        made(LOW).double(),
        made(EXPERT, Preconditioning(0.5, 2.5, 20.0, 0.1, 0.02), 1).double(),
        ABOVE,
        ALONE,
    )
    x, step = x.double(), 1e-6
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    _, along = torch.func.jvp(lambda z: twin(z, sigma * 0.02), (x,), (v,))
    ends = [twin(x + s * step * v, sigma * 0.02) for s in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * step)
    # relative error of central differences in float64, away from the kinks of a few ReLUs
    assert float((along - difference).norm() / along.norm()) < 1e-3
    assert float(along.norm()) > 0.01


def test_a_coarse_network_sees_the_means_of_blocks_alone(x):
    torch.manual_seed(0)
    network = EDMNetwork(EXPERT, 0.5, (1.0, 40.0))
    sigma = torch.full((2, 1, 1, 1), 5.0)
    fine = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    fine -= torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(fine, 4), scale_factor=4)
    skip = 0.25 / (25 + 0.25)  # c_skip
    with torch.no_grad():
        change = network(x + fine, sigma) - network(x, sigma)
        other = network(x + 0.1, sigma) - network(x, sigma)
    torch.testing.assert_close(change, skip * fine, rtol=1e-3, atol=1e-5)  # float32 sums of blocks
    assert float((other - 0.1 * skip).abs().max()) > 1e-3


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (9, 130)])
def test_images_of_any_size_are_computed(prior, size):
    z = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(4))
    out = prior(z, 9 * 0.02)
    assert out.shape == z.shape
    assert bool(torch.isfinite(out).all())


def test_with_a_mean_a_fresh_expert_is_the_filter_about_it():
    g = torch.Generator().manual_seed(0)
    mean = 3 + torch.randn(1, 32, 32, generator=g)
    images = mean + torch.randn(64, 1, 32, 32, generator=g)  # white: W = 1/(1 + σ²) at each wave
    spec = NetworkSpec(1, (8, 8, 8, 8), 1, 1, linear=True, mean_size=(32, 32), coarse=4)
    network = EDMNetwork(spec, 1.0, (1.0, 40.0))
    network.mean.copy_(mean)
    network.linear.fit(images - mean)
    y = images[:2] + 2 * torch.randn(2, 1, 32, 32, generator=g)
    with torch.no_grad():
        found = network(y, torch.full((2, 1, 1, 1), 2.0))
    # a ring's power is known to √(2/64) = 18 % where it has one wave, its gain to 14 %
    assert float((found - (mean + (y - mean) / 5)).square().mean().sqrt()) < 0.05
    assert torch.equal(network(mean[None], torch.full((1, 1, 1, 1), 9.0)), mean[None])


def test_a_file_keeps_the_expert(prior, x, tmp_path):
    files.save(prior, tmp_path / "p.safetensors")
    again = files.load(tmp_path / "p.safetensors")
    assert again.coarse_spec == prior.coarse_spec
    assert again.high_spec == prior.high_spec
    for sigma in (0.5, 2.0, 4.0, 12.0):
        # Convolutions of other memory layouts round differently: float32.
        torch.testing.assert_close(again(x, sigma * 0.02), prior(x, sigma * 0.02))


def test_a_prior_of_other_units_and_a_complex_one_keep_it(prior, x):
    larger = generic.scaled(prior, 10.0)
    torch.testing.assert_close(
        larger(10 * x, 9 * 0.2), 10 * prior(x, 9 * 0.02), rtol=1e-4, atol=1e-4
    )
    both = generic.complex_of(prior, phase=False)
    out = both(torch.cat([x, x.flip(0)], 1), 9 * 0.02)
    # Batches of other sizes round differently: float32.
    torch.testing.assert_close(out[:, :1], prior(x, 9 * 0.02), rtol=1e-4, atol=1e-5)


def test_the_card_says_from_where_it_serves(parts):
    rows = evaluation.uppers(join(made(LOW), parts[1], ABOVE, ALONE))
    assert len(rows) == 1
    assert "from σ = 3 u, alone from 6 u" in rows[0]
    assert "means of 4 × 4 pixels" in rows[0]
    assert "trained on σ ≥ 2.5 u in 7 steps, 56 images" in rows[0]


@pytest.mark.parametrize(("above", "alone"), [(2.0, 6.0), (6.0, 5.0), (3.0, 30.0)])
def test_levels_that_the_expert_cannot_serve_are_refused(parts, above, alone):
    with pytest.raises(PriorError, match="cannot serve these noise levels"):
        join(*parts, above, alone)


@pytest.mark.parametrize(
    ("constants", "what"),
    [(Preconditioning(0.4, 2.5, 20.0, 0.1, 0.02), "root mean square"),
     (Preconditioning(0.5, 2.5, 20.0, 0.0, 0.02), "offset")],
)  # fmt: skip
def test_an_expert_of_other_images_is_refused(parts, constants, what):
    with pytest.raises(PriorError, match=what):
        join(parts[0], made(EXPERT, constants), ABOVE, ALONE)
