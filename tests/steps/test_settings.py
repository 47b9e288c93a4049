"""inflate: auto, from the check before the first draw to the draws."""

from __future__ import annotations

import json

import pytest

from sciinv import store
from sciinv.config import Config, Data, Operator, Prior, Sampler
from sciinv.errors import ConfigError
from sciinv.run.job import probed
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare
from sciinv.steps.sample import sample_shard

TINY = "workflows/configs/tiny.py"
BLUR = Operator(f"{TINY}:Blur")
PRIOR = Prior(kind="gaussian", mean=0.2, sd=0.4, length=2.0)
AUTO = {"levels": 6, "conditional": "isotropic", "micro_batch": 4, "inflate": "auto"}


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "measurement.zarr"
    prepare(Data(f"{TINY}:read", None, {"items": 1, "size": 12}), out, items=1)
    return out


def test_the_check_finds_the_factor_and_the_draws_are_made_with_it(measurement, tmp_path):
    found = tmp_path / "check.json"
    check(measurement, BLUR, PRIOR, found, Sampler("daps", AUTO), seed=3)
    written = json.loads(found.read_text())
    tried = [p["inflate"] for p in written["inflate_search"]["passes"]]
    assert written["inflate"] in tried
    assert written["inflate_search"]["truths"] == 2
    assert probed(found) == {"inflate": written["inflate"]}
    options = {"operator": BLUR, "prior": PRIOR, "draws": range(2), "items": range(1)}
    out = tmp_path / "auto.zarr"
    sample_shard(
        measurement, out, sampler=Sampler("daps", AUTO), found=probed(found), seed=3, **options
    )
    same = tmp_path / "same.zarr"
    number = Sampler("daps", {**AUTO, "inflate": written["inflate"]})
    sample_shard(measurement, same, sampler=number, seed=3, **options)
    first, second = (store.to_dataset(store.open_posterior(p)) for p in (out, same))
    assert (first["image"].values == second["image"].values).all()
    assert first.attrs["inflate"] == written["inflate"]


def test_without_the_check_auto_is_refused_with_the_way_out(measurement, tmp_path):
    with pytest.raises(ConfigError, match="not found yet") as error:
        sample_shard(
            measurement, tmp_path / "x.zarr", operator=BLUR, prior=PRIOR, draws=range(2),
            items=range(1), sampler=Sampler("daps", AUTO),
        )  # fmt: skip
    assert "sciinv run" in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"conditional": "tweedie", "inflate": "auto"}, {"inflate": "auto"}]
)
def test_a_sampler_without_a_fitted_width_is_refused(measurement, tmp_path, settings):
    with pytest.raises(ConfigError, match="no width to inflate"):
        check(measurement, BLUR, PRIOR, tmp_path / "c.json", Sampler("daps", settings))


def test_a_configuration_may_leave_the_sampler_out():
    config = {
        "run": {"name": "x"},
        "problems": {
            "a": {
                "data": {"reader": f"{TINY}:read"},
                "operator": {"name": f"{TINY}:Blur"},
                "prior": {"kind": "gaussian"},
                "draws": 2,
            }
        },
    }
    problem = Config.of_mapping(config).problems["a"]
    assert problem.sampler == Sampler("daps", {})
    assert not problem.probes
    config["problems"]["a"]["sampler"] = {"inflate": "auto"}
    assert Config.of_mapping(config).problems["a"].probes
