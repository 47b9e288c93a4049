"""Training: the loss is EDM's, a stopped run goes on to the same bits, and damage is named."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from sciinv.arithmetic import fixed_arithmetic
from sciinv.diffusion import edm_grid
from sciinv.errors import ConfigError, DivergenceError, PriorError
from sciinv.priors.learned import evaluation, files, precision, training
from sciinv.priors.learned.recipes import Pool, TrainConfig
from sciinv.priors.phantoms import family
from sciinv.seeds import stream_seed


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return TrainConfig(
        name="toy",
        family="blackholes",
        nc=(8, 8, 8, 8),
        nb=1,
        batch=2,
        pool=8,
        block=4,
        refresh=3,
        validation=4,
        warmup=2,
        decay=4,
        checkpoint_every=3,
        sigma_data=0.34,
        output=str(tmp_path / "priors"),
        checkpoints=str(tmp_path / "checkpoints"),
    )


def quiet(line: str) -> None:
    pass


class TestConfiguration:
    def test_unknown_keys_are_named(self):
        with pytest.raises(ConfigError, match="unknown: learning_rate"):
            TrainConfig.of_mapping({"name": "a", "family": "discs", "learning_rate": 1})

    def test_missing_keys_are_named(self):
        with pytest.raises(ConfigError, match="missing: family, name"):
            TrainConfig.of_mapping({})

    def test_missing_file_and_no_mapping(self, tmp_path):
        with pytest.raises(ConfigError, match="no such training configuration"):
            TrainConfig.of_file(tmp_path / "none.yaml")
        (tmp_path / "a.yaml").write_text("- 1\n")
        with pytest.raises(ConfigError, match="no mapping"):
            TrainConfig.of_file(tmp_path / "a.yaml")
        (tmp_path / "b.yaml").write_text("a: [1\n")
        with pytest.raises(ConfigError, match="not YAML"):
            TrainConfig.of_file(tmp_path / "b.yaml")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("rate", "1.5e-3x"),
            ("batch", 0),
            ("sigma_min", -1.0),
            ("nc", [8, 8]),
            ("marred", 50),
            ("marred", -0.1),
        ],
    )
    def test_values_of_the_wrong_kind_are_named(self, key, value):
        with pytest.raises(ConfigError, match=key):
            TrainConfig.of_mapping({"name": "a", "family": "discs", key: value})

    def test_an_exponent_without_a_point_is_a_number(self, tmp_path):
        (tmp_path / "a.yaml").write_text("name: a\nfamily: discs\nrate: 8e-4\n")
        assert TrainConfig.of_file(tmp_path / "a.yaml").rate == 8e-4

    @pytest.mark.parametrize("name", ["blackhole", "ct", "mri", "ct-mended", "blackhole-mended"])
    def test_the_shipped_configurations_are_valid(self, name):
        root = Path(__file__).parents[2]
        config = TrainConfig.of_file(root / f"workflows/configs/train-{name}.yaml")
        assert config.name == name
        assert family(config.family).shape[0] in (1, 2)


class TestLoss:
    def test_is_the_weighted_error_of_the_denoiser(self, config):
        # E λ(σ) ‖D − x0‖² with D from the network's own forward, in float32 against bfloat16:
        # 8 bits of mantissa in F, of order one.
        state = training.start(config, family("blackholes"))
        x0 = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        value = training.loss(state.network, x0, torch.Generator().manual_seed(7), config)
        stream = torch.Generator().manual_seed(7)
        ln = config.p_mean + config.p_std * torch.randn(4, 1, 1, 1, generator=stream)
        sigma = ln.exp()
        x = x0 + sigma * torch.randn(x0.shape, generator=stream)
        weight = (sigma**2 + 0.34**2) / (sigma * 0.34) ** 2
        expected = (weight * (state.network(x, sigma) - x0) ** 2).mean()
        assert value.item() == pytest.approx(expected.item(), rel=0.02)

    def test_of_a_silent_network_is_one_for_matching_white_images(self, config):
        # With F = 0 and x0 ~ N(0, σ_data²) the target of F has unit variance at every σ.
        state = training.start(config, family("blackholes"))
        with torch.no_grad():
            state.network.unet.m_tail.weight.zero_()
        x0 = 0.34 * torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        value = training.loss(state.network, x0, torch.Generator().manual_seed(1), config)
        # 262,144 pixels: sd of a mean of χ²₁ is 0.3 %; five of them.
        assert value.item() == pytest.approx(1.0, abs=0.014)


class TestPrecision:
    @pytest.mark.parametrize("inside", [False, True])
    def test_a_step_sees_the_weights_of_the_step_before(self, config, monkeypatch, inside):
        # Within another autocast, as the whole run is, torch keeps its bfloat16 copies of weights
        # until the outer one ends.
        monkeypatch.setattr(precision, "native", lambda device: True)
        state = training.start(config, family("blackholes"))
        x0 = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))

        def value() -> float:
            stream = torch.Generator().manual_seed(7)
            return training.loss(state.network, x0, stream, config).item()

        with fixed_arithmetic() if inside else contextlib.nullcontext():
            first = value()
            with torch.no_grad():
                state.network.unet.m_tail.weight.zero_()
            assert value() != first

    def test_bfloat16_within_a_run_learns(self, config, monkeypatch):
        monkeypatch.setattr(precision, "native", lambda device: True)
        one = dataclasses.replace(config, batch=4, pool=4, warmup=1, p_std=0.01, rate=3e-3)
        with fixed_arithmetic():
            state = training.start(one, family("blackholes"))
            losses = []
            for value in training.run(one, state, family("blackholes"), None):
                losses.append(value)
                if len(losses) == 30:
                    break
        # One batch of one noise level is learnt: 0.25 to 0.43 over five seeds, where steps that see
        # the first weights have 0.79 and more.
        assert sum(losses[-5:]) < 0.67 * sum(losses[:5])


class TestMarred:
    def test_noise_is_added_to_some_marred_images_and_the_clean_ones_are_found(self, config):
        kind = family("blackholes")
        half = dataclasses.replace(config, marred=0.5, batch=64)
        clean, held = Pool(half, kind, None).batch(0)
        plain, same = Pool(dataclasses.replace(config, batch=64), kind, None).batch(0)
        assert torch.equal(clean, plain)
        assert torch.equal(plain, same)
        changed = (clean != held).flatten(1).any(1).float().mean()
        assert 0.05 < float(changed) < 0.5  # half of the kinds that are perfect: 44 %
        stream = [torch.Generator().manual_seed(7) for _ in range(2)]
        state = training.start(config, kind)
        at_clean = training.loss(state.network, clean[:8], stream[0], config)
        at_held = training.loss(state.network, clean[:8], stream[1], config, held[:8] + 1)
        assert at_held > at_clean

    def test_a_family_without_such_images_is_refused(self, config):
        known = dataclasses.replace(config, family="generic", marred=0.5)
        with pytest.raises(ConfigError, match="no marred images"):
            Pool(known, family("generic"), None).batch(0)


class TestSchedule:
    def test_rises_stays_and_decays_to_nothing(self, config):
        rates = [training.rate_at(config, s, -1) / config.rate for s in (0, 1, 2, 1000)]
        assert rates == [0.5, 1, 1, 1]
        ends = [training.rate_at(config, 50 + s, 50) / config.rate for s in (0, 1, 4)]
        assert ends == [1, pytest.approx(0.5), 0]


class TestPool:
    def test_a_step_has_its_images_however_it_is_reached(self, config):
        kind = family("blackholes")
        walked = Pool(config, kind, None)
        batches = [walked.batch(s) for s in range(8)]
        for step in (0, 3, 7):
            again = Pool(config, kind, None).batch(step)
            assert all(torch.equal(a, b) for a, b in zip(again, batches[step], strict=True))

    def test_blocks_are_replaced_in_turn(self, config):
        pool = Pool(config, family("blackholes"), None)
        held = []
        for step in (0, 3, 6, 9):
            pool.batch(step)
            held.append(list(pool.held))
        assert held == [[0, 1], [2, 1], [2, 3], [4, 3]]


class TestRun:
    def test_a_stopped_run_goes_on_to_the_same_bits(self, config, tmp_path):
        whole = training.train(config, max_steps=7, log=quiet)
        halves = dataclasses.replace(config, checkpoints=str(tmp_path / "halves"))
        training.train(halves, max_steps=4, log=quiet)
        again = training.train(halves, max_steps=3, log=quiet)
        assert again.metadata["training"]["steps"] == 7
        for a, b in zip(whole.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_the_mean_of_the_class_survives_stop_and_file(self, config, monkeypatch, tmp_path):
        monkeypatch.setattr(training, "MEAN_OF", 16)
        known = dataclasses.replace(config, mean=True)
        first = training.train(known, max_steps=2, log=quiet)
        again = training.train(known, max_steps=1, log=quiet)
        assert torch.equal(first.network.mean, again.network.mean)
        # Sources of total flux 500 in u: so has their mean.
        assert float(again.network.mean.sum()) == pytest.approx(500, rel=1e-3)
        files.save(again, tmp_path / "a.safetensors")
        loaded = files.load(tmp_path / "a.safetensors")
        x = torch.rand(2, 1, 64, 64) / 500
        assert torch.equal(loaded(x, 1e-3), again(x, 1e-3))
        with pytest.raises(PriorError, match="holds for their size alone"):
            loaded(x[..., :32], 1e-3)

    def test_images_are_counted_over_stretches_of_other_batches(self, config):
        training.train(config, max_steps=3, log=quiet)
        prior = training.train(dataclasses.replace(config, batch=5), max_steps=2, log=quiet)
        assert prior.metadata["training"]["images"] == 3 * 2 + 2 * 5
        assert [s["from"] for s in prior.metadata["training"]["stretches"]] == [0, 3]

    def test_finishing_decays_and_ships_prior_card_and_pictures(self, config, tmp_path):
        training.train(config, max_steps=3, log=quiet)
        lines: list[str] = []
        prior = training.train(config, finish=True, log=lines.append)
        assert prior.metadata["training"]["steps"] == 3 + config.decay
        again = files.load(tmp_path / "priors" / "toy.safetensors")
        x = torch.rand(1, 1, 64, 64) / 500
        assert torch.equal(again(x, 1e-3), prior(x, 1e-3))
        assert again.shape == (1, 64, 64)
        assert again.units.startswith("Jy/pixel")
        assert again.widths is not None
        assert len(again.widths.sigmas) == 24
        assert float(again.widths.sigmas[0]) == pytest.approx(again.sigma_min)
        text = (tmp_path / "priors" / "toy.md").read_text()
        for part in ("Wiener", "Not good for", "toy-samples.png", "held-out", "sciinv train"):
            assert part in text
        for picture in ("toy-samples.png", "toy-training.png"):
            assert (tmp_path / "priors" / picture).read_bytes()[1:4] == b"PNG"
        assert any("resumed at step 3" in line for line in lines)

    def test_a_finished_run_is_exported_again_or_decays_once_more(self, config, monkeypatch):
        monkeypatch.setattr(training, "export", lambda config, **others: None)
        training.train(config, finish=True, log=quiet)
        checkpoint = Path(config.checkpoints) / "toy.safetensors"
        state = training.start(config, family("blackholes"))
        training.train(config, log=quiet)
        state.restore(checkpoint)
        assert state.step == config.decay
        training.train(config, finish=True, log=quiet)
        state.restore(checkpoint)
        assert state.step == 2 * config.decay

    def test_no_path_of_the_machine_is_in_the_description(self, config, tmp_path):
        prior = training.train(config, max_steps=1, log=quiet)
        assert str(tmp_path) not in str(prior.describe())

    def test_divergence_stops_the_run(self, config):
        wild = dataclasses.replace(config, rate=1e30, warmup=1)
        with pytest.raises(DivergenceError, match=r"toy, step \d"):
            training.train(wild, max_steps=10, log=quiet)

    def test_a_damaged_checkpoint_is_named(self, config, tmp_path):
        training.train(config, max_steps=1, log=quiet)
        path = tmp_path / "checkpoints" / "toy.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(PriorError, match="checkpoint cannot be taken up"):
            training.train(config, max_steps=1, log=quiet)

    def test_a_checkpoint_of_another_network_is_refused(self, config):
        training.train(config, max_steps=1, log=quiet)
        wider = dataclasses.replace(config, nc=(8, 8, 8, 16))
        with pytest.raises(PriorError, match="same network"):
            training.train(wider, max_steps=1, log=quiet)

    def test_nothing_to_export_is_an_error(self, config):
        with pytest.raises(PriorError, match="no checkpoint"):
            training.export(config, log=quiet)


class _White:
    """The exact denoiser of N(mean, variance), with what `unconditional` asks of a prior."""

    sigma_min, sigma_max, offset = 0.002, 40.0, 0.0
    mean, variance = 0.3, 0.25

    def __call__(self, x, sigma):
        s2 = sigma**2
        return (self.variance * x + s2 * self.mean) / (self.variance + s2)


class TestEvaluation:
    def test_samples_have_the_mean_and_sd_of_the_prior(self):
        x = evaluation.unconditional(_White(), 40, (1, 32, 32), steps=40, seed=2)
        # 40,960 pixels: se of the mean 0.0025, of the sd 0.0017; Heun's error below 1 %.
        assert float(x.mean()) == pytest.approx(0.3, abs=0.0125)
        assert float(x.std()) == pytest.approx(0.5, abs=0.0085 + 0.005)

    def test_levels_are_edms(self):
        levels = edm_grid(80.0, 0.002, 18).tolist()
        # Karras et al. 2022, table 1 with ρ = 7: ends exact, and the second level 57.586.
        assert levels[0] == pytest.approx(80.0)
        assert levels[-1] == pytest.approx(0.002)
        assert levels[1] == pytest.approx(57.586, abs=1e-3)

    def test_wiener_filter_is_exact_for_white_images(self):
        x0 = 1.0 + 0.5 * torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        wiener = evaluation.Wiener.of_images(x0)
        rows = evaluation.error_table(_OneMean(), x0[:500], wiener, [0.2, 1.0])
        for row in rows:
            exact = 0.5 * row.sigma / math.hypot(0.5, row.sigma)
            # 32,000 pixels: 0.4 % of the error; the fitted spectrum adds less.
            assert row.wiener == pytest.approx(exact, rel=0.02)
            assert row.network == pytest.approx(0.5, rel=0.02)


class _OneMean:
    def __call__(self, x, sigma):
        return torch.ones_like(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blackhole", "ct"])
def test_the_shipped_priors_beat_the_wiener_filter(name):
    root = Path(__file__).parents[2]
    path = root / f"data/priors/{name}.safetensors"
    prior = files.load(path)
    kind = family({"blackhole": "blackholes", "ct": "discs"}[name])
    seed = stream_seed("never trained on") % 2**31
    images, known = (
        kind.offset + kind.scale * kind.pool(seed, b, n, None).float()
        for b, n in ((0, 32), (1, 256))
    )
    sigmas = [s * kind.scale for s in (0.05, 0.2, 1.0)]
    for row in evaluation.error_table(prior, images, evaluation.Wiener.of_images(known), sigmas):
        assert row.network < 0.6 * row.wiener
