"""Training from the weights of a prior that exists, and putting the result in its place."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sciinv.errors import PriorError
from sciinv.priors.learned import evaluation, files, training
from sciinv.priors.learned.copies import with_network
from sciinv.priors.learned.network import HighSpec, LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.learned.recipes import TrainConfig
from sciinv.priors.phantoms import family

LOW = NetworkSpec(nc=(8, 8, 8, 8), nb=1, patch=2)
HIGH = NetworkSpec(nc=(8, 8, 8, 8), nb=1, patch=4)
KIND = family("blackholes")


@pytest.fixture
def prior(tmp_path) -> LearnedPrior:
    torch.manual_seed(0)
    made = LearnedPrior(
        LOW, Preconditioning(0.4, 0.01, 20.0, KIND.offset, KIND.scale), train_shape=KIND.shape,
        fixed_size=KIND.fixed_size, units=KIND.units, high=HighSpec(HIGH, 1.5),
        metadata={"training": {}},
    )  # fmt: skip
    files.save(made, tmp_path / "known.safetensors")
    return made


def config(tmp_path, **more) -> TrainConfig:
    return TrainConfig.of_mapping(
        {
            "name": "tuned", "family": "blackholes", "nc": [8, 8, 8, 8], "nb": 1, "patch": 4,
            "sigma_min": 0.5, "sigma_data": 0.4, "batch": 2, "pool": 4,
            "block": 2, "validation": 2, "output": str(tmp_path),
            "checkpoints": str(tmp_path / "c"), "init": str(tmp_path / "known.safetensors"),
            "init_network": "high", **more,
        }
    )  # fmt: skip


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(("role", "patch"), [("network", 2), ("high", 4)])
def test_a_fresh_run_starts_from_the_weights_of_the_file(prior, tmp_path, role, patch):
    state = training.start(config(tmp_path, init_network=role, patch=patch), KIND)
    for name, weight in getattr(prior, role).state_dict().items():
        assert torch.equal(state.network.state_dict()[name], weight)
        assert torch.equal(state.ema.state_dict()[name], weight)


def test_a_stopped_run_goes_on_from_its_checkpoint_and_not_from_the_file(prior, tmp_path):
    whole = training.train(config(tmp_path), max_steps=2, resume=False, log=quiet)
    training.train(config(tmp_path), max_steps=1, resume=False, log=quiet)
    again = training.train(config(tmp_path), max_steps=1, log=quiet)
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], weight)
    assert not torch.equal(whole.network.unet.m_head.weight, prior.high.unet.m_head.weight)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"init_network": "coarse"}, "no such network"), ({"init_network": "unet"}, "no such network"),
     ({"patch": 2}, "another kind"), ({"sigma_data": 0.5}, "another kind")],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(prior, tmp_path, change, what):
    with pytest.raises(PriorError, match=what):
        training.start(dataclasses.replace(config(tmp_path), **change), KIND)


def trained(tmp_path, **more) -> LearnedPrior:
    return training.train(config(tmp_path, **more), max_steps=1, resume=False, log=quiet)


def test_the_tuned_network_takes_its_place_and_a_file_keeps_it(prior, tmp_path):
    tuned = trained(tmp_path)
    out = with_network(prior, "high", tuned, 0.7, 1.4)
    files.save(out, tmp_path / "new.safetensors")
    again = files.load(tmp_path / "new.safetensors")
    assert again.high_spec == HighSpec(HIGH, 0.7, 1.4)
    x = torch.rand(2, *KIND.shape, generator=torch.Generator().manual_seed(0))
    # Convolutions of other memory layouts round differently: float32.
    for p in (out, again):
        torch.testing.assert_close(p(x, 3 * p.scale), tuned(x, 3 * p.scale))
        torch.testing.assert_close(p(x, 0.6 * p.scale), prior(x, 0.6 * p.scale))
    assert "alone from 1.4 u" in evaluation.uppers(again)[0]


def test_the_network_for_low_noise_is_replaced_alone(prior, tmp_path):
    tuned = trained(tmp_path, init_network="network", patch=2, sigma_min=0.01)
    out = with_network(prior, "network", tuned)
    x = torch.rand(2, *KIND.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(out(x, 0.3 * out.scale), tuned(x, 0.3 * out.scale))
    assert torch.equal(out(x, 3 * out.scale), prior(x, 3 * out.scale))


def test_a_network_between_two_others_is_blended_with_those_below(prior, tmp_path):
    tuned = trained(tmp_path)
    out = with_network(prior, "middle", tuned, 1.0, 4.0)
    files.save(out, tmp_path / "new.safetensors")
    again = files.load(tmp_path / "new.safetensors")
    assert again.uppers() == [("high", HighSpec(HIGH, 1.5)), ("middle", HighSpec(HIGH, 1.0, 4.0))]
    x = torch.rand(2, *KIND.shape, generator=torch.Generator().manual_seed(0))
    # half of ln 4 above 1 the weight is a half; float32, values up to about 1
    for sigma in (0.9, 2.0, 4.5):
        s = sigma * prior.scale
        w = {0.9: 0.0, 2.0: 0.5, 4.5: 1.0}[sigma]
        expected = (1 - w) * prior(x, s) + w * tuned(x, s)
        torch.testing.assert_close(again(x, s), expected, rtol=1e-4, atol=1e-5)


def test_levels_that_the_network_was_not_trained_on_are_refused(prior, tmp_path):
    tuned = trained(tmp_path)
    for role, levels in (("high", (0.2, 1.0)), ("high", (1.0, 0.8)), ("network", ())):
        with pytest.raises(PriorError, match="cannot serve"):
            with_network(prior, role, tuned, *levels)
    with pytest.raises(PriorError, match="no such network to replace"):
        with_network(prior, "coarse", tuned, 1.0)
