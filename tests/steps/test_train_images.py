"""A prior of one's own images: from a folder to a file, its card and its calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.errors import ConfigError, DataError
from sciinv.images.inspect import inspect
from sciinv.images.split import split
from sciinv.priors.learned import files, own
from sciinv.steps import train_images as step


def discs(count: int = 96, n: int = 24) -> np.ndarray:
    """Soft discs of random place and brightness."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:n, :n]
    cy, cx, r, b = (rng.uniform(*p, (count, 1, 1)) for p in ((8, 16), (8, 16), (3, 6), (1, 2)))
    return (b / (1 + np.exp(2 * (np.hypot(y - cy, x - cx) - r)))).astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    for k, image in enumerate(discs()):
        np.save(place / f"case{k // 8}_{k % 8}.npy", image)
    return place


def test_from_a_folder_to_prior_card_and_calibration_and_again_without_work(
    folder, tmp_path, small_training, monkeypatch
):
    lines: list[str] = []
    out = tmp_path / "mine.safetensors"
    step.train_images(folder, out, 0.001, step.Choices(units="mK", pixel=2.0), say=lines.append)
    prior = files.load(out)
    assert prior.shape == (1, 24, 24)
    assert prior.units == "mK"
    assert prior.metadata["pixel"] == {"side": 2.0, "unit": "mm"}
    assert prior.widths is not None
    assert prior.local is not None
    card = out.with_suffix(".md").read_text()
    for words in ("spread ÷ RMSE", "Memorisation", "10 subjects to train on", "sciinv train"):
        assert words in card
    for name in ("mine-samples.png", "mine-training.png", "mine-calibration.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert any("network" in line for line in lines)

    monkeypatch.setattr(step.training, "train", lambda *a, **k: pytest.fail("trained again"))
    before = out.read_bytes()
    step.train_images(folder, out, 0.001, step.Choices(units="mK", pixel=2.0))
    assert out.read_bytes() == before
    with pytest.raises(ConfigError, match="--fresh"):
        step.train_images(folder, out, 0.001, step.Choices(units="mK", pixel=2.0, augment="none"))


def test_a_stopped_run_goes_on_to_the_same_weights(folder, tmp_path, small_training, monkeypatch):
    whole, halves = tmp_path / "a" / "p.safetensors", tmp_path / "b" / "p.safetensors"
    step.train_images(folder, whole, 0.001)
    train = step.training.train

    def stopped(config, **more):
        train(config, **more, max_steps=3)
        raise KeyboardInterrupt

    monkeypatch.setattr(step.training, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        step.train_images(folder, halves, 0.001)
    assert not halves.exists()
    monkeypatch.setattr(step.training, "train", train)
    step.train_images(folder, halves, 0.001)
    first, second = (files.load(p).network.state_dict() for p in (whole, halves))
    assert all(torch.equal(first[k], second[k]) for k in first)


class TestFamily:
    def family(self, values: np.ndarray, **more: object) -> own.OwnImages:
        return own.family_of(values[:60], values[60:], offset=1.0, scale=2.0, crop=None, **more)

    def test_units_are_kept(self):
        values = discs()
        kind = self.family(values)
        back = kind.offset + kind.scale * kind.pool(0, 0, 36, None).float()
        # half precision of values below 2
        assert np.abs(back[:, 0].numpy() - values[60:]).max() < 2e-3

    def test_held_out_images_are_never_trained_on(self):
        values = discs()
        kind = self.family(values)
        shown = torch.cat([kind.pool(0, b, 60, None) for b in (1, 2, 3)]).flatten(1)
        held = kind.pool(0, 0, 36, None).flatten(1)
        assert torch.cdist(shown.float(), held.float()).min() > 1e-2

    def test_measured_phase_is_turned_and_magnitude_kept(self):
        values = discs() * np.exp(0.3j)
        kind = own.family_of(
            values[:60], values[60:], offset=0.0, scale=2.0, crop=(16, 16), phase="measured"
        )
        pool = kind.pool(0, 1, 8, None).float()
        out = kind.augment(pool, torch.Generator().manual_seed(0))
        assert out.shape == (8, 2, 16, 16)
        assert out.norm(dim=1).max() <= pool.norm(dim=1).max() + 1e-5
        angles = torch.atan2(out[:, 1], out[:, 0]).flatten(1).median(1).values
        assert angles.std() > 0.5


class TestPlan:
    def test_noise_levels_come_from_the_images_own_spread(self, tmp_path):
        values = discs()
        np.save(tmp_path / "a.npy", values)
        found = step.looked_at(tmp_path / "a.npy", step.Choices(), lambda line: None)
        kind, _ = step._kind(found, split(found.images), step.Choices())
        config, lines = own.plan(kind, 0.01, name="p", strongest=found.strongest)
        assert config.sigma_max == pytest.approx(
            np.clip(3 * found.strongest / found.spread, 10, 80), rel=1e-6
        )
        assert kind.scale == pytest.approx(float(values.std()), rel=1e-3)
        assert config.nc == own.SIZES[-1]
        assert any("smallest" in line for line in lines)

    @pytest.mark.parametrize(("seconds", "few"), [(1e-9, False), (1e3, True)])
    def test_a_short_run_adds_to_the_wiener_filter_a_long_one_learns_anew(
        self, monkeypatch, seconds, few
    ):
        monkeypatch.setattr(own, "seconds_per_image", lambda *a: seconds)
        values = discs()
        kind = own.family_of(values[:60], values[60:], offset=0.0, scale=1.0, crop=None)
        config, lines = own.plan(kind, 1.0, name="p", strongest=5.0)
        assert config.linear == few
        assert any("Wiener filter" in line for line in lines) == few

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"crop": 500}, "do not fit"),
            ({"augment": "upside"}, "no such orientation"),
            ({"phase": "wild"}, "no such phase"),
        ],
    )
    def test_wrong_choices_are_named(self, more, message):
        values = discs()
        found = inspect(_set(values), Path("x"))
        with pytest.raises(ConfigError, match=message):
            step._kind(found, split(found.images), step.Choices(**more))

    def test_images_that_cannot_be_used_stop_before_any_training(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((80, 32, 32)))
        with pytest.raises(DataError, match="constant"):
            step.train_images(tmp_path, tmp_path / "p.safetensors", 1.0)
        with pytest.raises(ConfigError, match="suffix"):
            step.train_images(tmp_path, tmp_path / "p.pt", 1.0)
        assert json.loads("[]") == [p.name for p in tmp_path.iterdir() if p.is_dir()]


def _set(values: np.ndarray):
    from sciinv.images.collect import ImageSet

    names = tuple(str(k) for k in range(len(values)))
    return ImageSet(values, names, names)
