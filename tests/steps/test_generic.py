"""Where no prior is named: the scale comes from the data, and the report says so."""

from __future__ import annotations

from pathlib import Path

import deepinv as dinv
import pytest
import torch

from sciinv import store
from sciinv.config import Config, Data, Operator, Prior, Sampler
from sciinv.errors import ConfigError, DataError, OperatorError, PriorError
from sciinv.priors.learned import files, generic
from sciinv.priors.learned.network import LearnedPrior, NetworkSpec, Preconditioning
from sciinv.steps.build import generic_file, load_prior
from sciinv.steps.check import check
from sciinv.steps.generic import object_scale, scale_for
from sciinv.steps.prepare import prepare
from sciinv.steps.report import Stores, make_report
from sciinv.steps.sample import sample_shard
from sciinv.steps.summarize import summarize

TINY = Path(__file__).parents[2] / "workflows/configs/tiny.py"
BLUR = Operator(f"{TINY}:Blur")
GENERIC = Prior(kind="generic")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """The file of a small network with random weights, in place of the shipped one."""
    torch.manual_seed(0)
    spec = NetworkSpec(1, (8, 8, 8, 8), 1, 2)
    prior = LearnedPrior(spec, Preconditioning(0.5, 0.02, 20.0), train_shape=(1, 16, 16))
    path = tmp_path_factory.mktemp("prior") / "generic.safetensors"
    files.save(prior, path)
    return path


@pytest.fixture
def shipped(monkeypatch, network):
    monkeypatch.setattr("sciinv.steps.build.GENERIC", {1: str(network)})


@pytest.fixture(scope="module")
def measurement(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return prepare(Data(f"{TINY}:read", None, {"items": 2, "size": 12}), folder / "m.zarr", items=2)


class Mask(dinv.physics.LinearPhysics):
    """Every second pixel, with white noise."""

    def __init__(self, size: int, sd: float) -> None:
        super().__init__(noise_model=dinv.physics.GaussianNoise(sd))
        self.img_size = (1, size, size)

    def A(self, x, **kwargs):
        return x[..., ::2]

    def A_adjoint(self, y, **kwargs):
        out = y.new_zeros(len(y), *self.img_size)
        out[..., ::2] = y
        return out


class TestScale:
    def disc(self, size: float) -> torch.Tensor:
        row, column = torch.meshgrid(*[torch.arange(32.0) - 15.5] * 2, indexing="ij")
        x = size * (torch.hypot(row, column) < 11).float()[None, None]
        g = torch.Generator().manual_seed(0)
        return Mask(32, 0.1 * size).A(x) + 0.1 * size * torch.randn(1, 1, 32, 16, generator=g)

    def test_is_that_of_the_object_to_a_factor_of_two(self):
        assert 0.5 < object_scale(Mask(32, 0.1), self.disc(1.0)) < 2

    def test_changes_with_the_unit_as_the_object_does(self):
        small, large = (object_scale(Mask(32, 0.1 * s), self.disc(s)) for s in (1.0, 5e-3))
        assert large == pytest.approx(5e-3 * small, rel=1e-4)

    def test_of_noise_alone_is_below_the_noise(self):
        y = 0.1 * torch.randn(1, 1, 32, 16, generator=torch.Generator().manual_seed(4))
        assert 0 < object_scale(Mask(32, 0.1), y) < 0.1

    def test_is_not_taken_from_data_that_are_not_linear_in_it(self):
        physics = dinv.physics.PhaseRetrieval(B=dinv.physics.Denoising())
        physics.noise_model = dinv.physics.GaussianNoise(0.1)
        with pytest.raises(OperatorError, match="linear in it"):
            object_scale(physics, torch.ones(1, 1, 8, 8))

    def test_data_that_nothing_changes_are_refused(self):
        physics = Mask(32, 0.1)
        physics.A = lambda x: 0 * x[..., ::2]
        with pytest.raises(DataError, match="do not tell the scale"):
            object_scale(physics, self.disc(1.0))

    def test_is_the_first_items_whichever_is_sampled(self, measurement):
        dataset = store.open_measurement(measurement)
        (first,) = scale_for(GENERIC, dataset, BLUR)
        (again,) = scale_for(GENERIC, dataset.isel(item=[0]), BLUR)
        assert first == again
        # what the check wrote down is not computed again
        assert scale_for(GENERIC, dataset, BLUR, {"scale": 1.7}) == (1.7,)
        assert scale_for(GENERIC, dataset, BLUR, {"micro_batch": 4}) == (first,)
        assert scale_for(Prior(kind="generic", scale=2.0), dataset, BLUR) == ()
        assert scale_for(Prior(kind="gaussian"), dataset, BLUR) == ()


class TestConfiguration:
    def problem(self, **more) -> dict:
        data = {"reader": f"{TINY}:read", "options": {"size": 12}}
        return {"run": {"name": "a"}, "problems": {"p": {"data": data, "draws": 2, **more}}}

    def test_no_prior_is_the_generic_one(self, monkeypatch, network):
        monkeypatch.setattr("sciinv.config.spec.GENERIC", {1: str(network)})
        found = Config.of_mapping(self.problem()).problem("p").prior
        assert found == GENERIC
        assert found.files == (str(network),)

    def test_a_scale_belongs_to_it_alone(self):
        wrong = self.problem(prior={"kind": "gaussian", "scale": 2.0})
        with pytest.raises(ConfigError, match="no scale of its own"):
            Config.of_mapping(wrong)


@pytest.mark.usefixtures("shipped")
class TestRun:
    def test_check_store_and_page_say_that_nothing_is_known_of_the_object(
        self, measurement, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)
        found = check(measurement, BLUR, GENERIC, tmp_path / "c.json")
        assert found["doubts"] == [generic.WARNING]
        settings = {"levels": 3, "kernel": "exact", "conditional": "tweedie", "micro_batch": 2}
        stores = [
            sample_shard(
                measurement, tmp_path / f"p{i}.zarr", operator=BLUR, draws=range(2), items=[i],
                prior=GENERIC, sampler=Sampler("daps", settings),
            )
            for i in (0, 1)
        ]  # fmt: skip
        from sciinv.uncertainty import as_dataset

        attrs = [as_dataset(s).attrs for s in stores]
        assert attrs[0]["prior_scale"] == attrs[1]["prior_scale"] == found["prior"]["scale"]
        assert attrs[0]["prior_hash"] == attrs[1]["prior_hash"]
        summary = summarize(stores[0], tmp_path / "s.zarr")
        page = make_report(Stores(measurement, stores[0], summary, operator=BLUR), tmp_path / "r")
        assert "a generic one was used, which knows nothing of this object" in page.read_text()

    def test_units_are_the_operators(self):
        assert load_prior(GENERIC, (1, 8, 8), "1/mm", 0.04).units == "1/mm"

    def test_without_a_scale_it_is_refused(self):
        with pytest.raises(PriorError, match="nothing says theirs"):
            load_prior(GENERIC, (1, 8, 8))


def test_other_channels_are_refused():
    with pytest.raises(PriorError, match="this many channels"):
        generic_file(3)
