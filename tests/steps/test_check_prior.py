"""The verdict on a measurement, and the tournament of priors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sciinv import store
from sciinv.cli import app
from sciinv.config import Data, Operator, Prior, Sampler
from sciinv.errors import ConfigError
from sciinv.steps import check_prior as step
from sciinv.steps.build import build, load_prior
from sciinv.steps.prepare import prepare

TINY = Path(__file__).parents[2] / "workflows/configs/tiny.py"
BLUR = Operator(f"{TINY}:Blur")
RIGHT = Prior(kind="gaussian", mean=0.2, sd=0.4, length=2.0)
WRONG = Prior(kind="gaussian", mean=0.2, sd=0.02, length=2.0)
SAMPLER = Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 39})


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    """A measurement whose object is a draw of RIGHT."""
    folder = tmp_path_factory.mktemp("data")
    prepare(Data(f"{TINY}:read", None, {"items": 1, "size": 12}), folder / "first.zarr", items=1)
    dataset = store.open_measurement(folder / "first.zarr").load()
    physics, y = build(dataset, BLUR)
    prior = load_prior(RIGHT, physics.image_spec.shape)
    from sciinv import calibration

    truth = calibration.prior_draws(prior, 1, physics.image_spec.shape, seed=8)
    dataset["y"] = (dataset["y"].dims, calibration.simulate(physics, truth.to(y), 8).numpy())
    return store.write_measurement(dataset, folder / "measurement.zarr")


def test_right_prior_fits_and_wins_the_tournament(measurement, tmp_path):
    found = step.compare(
        measurement, [WRONG, RIGHT], tmp_path / "c.json", operator=BLUR, sampler=SAMPLER
    )
    assert [f["answer"] for f in found] == ["fits", "does not fit"]
    assert found[0]["prior"] == "gaussian of sd 0.4, length 2"
    assert found[0]["behind"] == 0
    assert found[1]["behind"] > 50
    assert json.loads((tmp_path / "c.json").read_text()) == found
    with pytest.raises(ConfigError, match="several priors"):
        step.compare(measurement, [RIGHT], operator=BLUR, sampler=SAMPLER)


def test_particles_bring_their_own_evidence(measurement):
    both = [
        step.check_prior(measurement, operator=BLUR, prior=RIGHT, sampler=s)["log_evidence"]
        for s in (SAMPLER, Sampler("particles", {"levels": 8, "group": 39}))
    ]
    assert both[0] == pytest.approx(both[1], abs=8)  # 39 draws in 144 dimensions: ± 2 nats


def test_item_and_rate_out_of_range_are_refused(measurement):
    for wrong in ({"item": 5}, {"rate": 5.0}):
        with pytest.raises(ConfigError):
            step.check_prior(measurement, operator=BLUR, prior=RIGHT, sampler=SAMPLER, **wrong)


def test_commands_print_a_row_for_each_prior(monkeypatch, measurement):
    one = step.check_prior(measurement, operator=BLUR, prior=RIGHT, sampler=SAMPLER)
    monkeypatch.setattr(step, "check_prior", lambda *a, **k: dict(one))
    done = CliRunner().invoke(app, ["check-prior", str(measurement), "--prior", "a.safetensors"])
    assert done.exit_code == 0
    assert one["sentence"] in done.output
    two = ["--prior", "a.safetensors", "--prior", "b.safetensors"]
    done = CliRunner().invoke(app, ["compare", str(measurement), *two])
    assert done.exit_code == 0
    assert "nats behind" in done.output
    assert done.output.count("fits") >= 4


def test_evidence_is_not_known_of_a_sampler_without_moments(measurement):
    found = step.check_prior(
        measurement, operator=BLUR, prior=RIGHT, draws=2,
        sampler=Sampler("dps", {"steps": 20, "micro_batch": 2}),
    )  # fmt: skip
    assert found["log_evidence"] is None
    assert found["answer"] in ("fits", "does not fit", "cannot tell")
