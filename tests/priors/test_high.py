"""Priors with a second network for high noise: which one serves, and that files keep both."""

from __future__ import annotations

import pytest
import torch

from sciinv.errors import PriorError
from sciinv.priors.learned import files, training
from sciinv.priors.learned.network import HighSpec, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.learned.recipes import TrainConfig

LOW = NetworkSpec(nc=(8, 8, 8, 16), nb=1, patch=2)
HIGH = NetworkSpec(nc=(8, 8, 8, 16), nb=1, patch=4)
ABOVE = 1.5


@pytest.fixture(scope="module")
def prior() -> LearnedPrior:
    torch.manual_seed(0)
    return LearnedPrior(
        LOW,
        Preconditioning(0.5, 0.01, 20.0, offset=0.1, scale=0.02),
        train_shape=(1, 32, 32),
        high=HighSpec(HIGH, ABOVE),
    )


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def one(prior: LearnedPrior, network: torch.nn.Module, x: torch.Tensor, sigma: float):
    u = (x - prior.offset) / prior.scale
    level = torch.full((len(x), 1, 1, 1), sigma)
    return prior.offset + prior.scale * network(u, level)


@pytest.mark.parametrize(("sigma", "name"), [(1.4, "network"), (ABOVE, "high"), (9.0, "high")])
def test_each_level_is_served_by_its_network(prior, x, sigma, name):
    torch.testing.assert_close(
        prior(x, sigma * prior.scale), one(prior, getattr(prior, name), x, sigma)
    )


def test_a_batch_of_mixed_levels_gets_what_each_level_gets_alone(prior, x):
    levels = torch.tensor([0.3, 4.0]) * prior.scale
    alone = torch.cat([prior(x[i : i + 1], float(levels[i])) for i in range(2)])
    # Batches of other sizes round differently: float32, values of about 1.
    torch.testing.assert_close(prior(x, levels), alone, rtol=1e-4, atol=1e-6)


def test_a_file_keeps_both_networks(prior, x, tmp_path):
    files.save(prior, tmp_path / "p.safetensors")
    again = files.load(tmp_path / "p.safetensors")
    assert again.high_spec == prior.high_spec
    for sigma in (0.5, 5.0):
        # Convolutions of other memory layouts round differently: float32.
        torch.testing.assert_close(again(x, sigma * 0.02), prior(x, sigma * 0.02))


def small(tmp_path, **more) -> TrainConfig:
    return TrainConfig.of_mapping(
        {
            "family": "blackholes", "nc": [8, 8, 8, 8], "nb": 1, "batch": 2, "steps": 1,
            "decay": 1, "pool": 4, "block": 2, "validation": 2, "output": str(tmp_path),
            "checkpoints": str(tmp_path), **more,
        }
    )  # fmt: skip


def test_a_trained_network_for_high_noise_joins_the_prior_of_its_family(tmp_path):
    high = small(tmp_path, name="high", patch=4, sigma_min=1.5, sigma_data=0.4)
    training.train(high, max_steps=1, log=lambda line: None)
    kind = training.family("blackholes")
    state = training.start(high, kind)
    state.restore(tmp_path / "high.safetensors")
    files.save(training.prior_of(high, state, kind), tmp_path / "joined.safetensors")
    low = small(tmp_path, name="low", high=str(tmp_path / "joined.safetensors"), sigma_data=0.4)
    both = training.prior_of(low, training.start(low, kind), kind)
    assert both.high_spec is not None
    assert both.high_spec.above == 1.5
    for name, weight in both.high.state_dict().items():
        assert torch.equal(weight, state.ema.state_dict()[name])
    assert both.metadata["training_high"]["steps"] == 1


def test_networks_of_two_scales_are_not_joined(tmp_path):
    kind = training.family("blackholes")
    high = small(tmp_path, name="high", sigma_data=0.4)
    files.save(
        training.prior_of(high, training.start(high, kind), kind), tmp_path / "h.safetensors"
    )
    low = small(tmp_path, name="low", high=str(tmp_path / "h.safetensors"), sigma_data=0.5)
    with pytest.raises(PriorError, match="another scale"):
        training.prior_of(low, training.start(low, kind), kind)
