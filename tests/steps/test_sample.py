"""The jobs' functions: draws that do not depend on shards, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import store
from sciinv.config import Data, Operator, Prior, Sampler
from sciinv.errors import ConfigError, DataError, OperatorError, StoreError, WorkflowError
from sciinv.steps import redraw
from sciinv.steps.build import build, gaussian_power
from sciinv.steps.check import check
from sciinv.steps.merge import merge
from sciinv.steps.prepare import prepare
from sciinv.steps.sample import sample_shard

TINY = "workflows/configs/tiny.py"
BLUR = Operator(f"{TINY}:Blur")
PRIOR = Prior(kind="gaussian", mean=0.2, sd=0.4, length=2.0)
SAMPLER = Sampler("daps", {"levels": 6, "kernel": "exact", "micro_batch": 4})


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "measurement.zarr"
    data = Data(f"{TINY}:read", None, {"items": 3, "size": 12})
    prepare(data, out, items=3)
    return out


def shard(measurement, out, draws, items, **changes):
    options = {"operator": BLUR, "prior": PRIOR, "sampler": SAMPLER, "seed": 5} | changes
    sample_shard(measurement, out, draws=draws, items=items, **options)
    return out


def values(path):
    data = store.to_dataset(store.open_posterior(path))
    return {k: v.values for k, v in data.data_vars.items() if k != "seconds"}


def test_draws_have_the_same_bits_for_any_shards(measurement, tmp_path):
    whole = values(shard(measurement, tmp_path / "whole.zarr", range(6), range(2)))
    for draws, items in ((4, 1), (3, 2)):
        folder = tmp_path / f"{draws}-{items}"
        parts = [
            shard(
                measurement,
                folder / f"{d}-{i}.zarr",
                range(d, min(d + draws, 6)),
                range(i, min(i + items, 2)),
                shard=(draws, items),
            )
            for d in range(0, 6, draws)
            for i in range(0, 2, items)
        ]
        merged = values(merge(parts, folder / "merged.zarr", draws=6, items=2))
        assert all(np.array_equal(merged[k], whole[k]) for k in whole)


def test_items_together_have_the_same_bits_for_any_shards(measurement, tmp_path):
    together = Sampler("daps", SAMPLER.settings | {"item_batch": 2})
    whole = values(shard(measurement, tmp_path / "a.zarr", range(5), range(3), sampler=together))
    for items in ([0], [1, 2]):
        part = shard(measurement, tmp_path / f"{items[0]}.zarr", range(5), items, sampler=together)
        assert np.array_equal(values(part)["image"], whole["image"][:, items])
        assert "drawn again: equal" in redraw.redraw(part, operator=BLUR.name)


def test_draws_of_other_seeds_items_and_numbers_differ(measurement, tmp_path):
    a = values(shard(measurement, tmp_path / "a.zarr", range(4), range(2)))["image"]
    b = values(shard(measurement, tmp_path / "b.zarr", range(4), range(2), seed=6))["image"]
    assert len(np.unique(np.concatenate([a, b]).reshape(16, -1)[:, 0])) == 16


def test_store_says_where_the_draws_come_from(measurement, tmp_path):
    tree = store.open_posterior(shard(measurement, tmp_path / "a.zarr", range(4), [1]))
    for key in ("config_hash", "operator_hash", "seed", "device", "sciinv_version"):
        assert key in tree.attrs
    y = store.open_measurement(measurement)["y"].isel(item=[1]).values
    assert np.array_equal(tree["observed_data/y"].values, y)


def test_gaussian_power_has_the_variance_that_was_asked_for():
    for length in (0.0, 1.5, 4.0):
        power = gaussian_power((16, 12), 0.7, length)
        # The mean of the orthonormal spectrum is the variance of a pixel; float32 sums.
        assert torch.allclose(power.mean(), torch.tensor(0.49), rtol=1e-5)
        assert (power > 0).all()


def test_correlation_of_the_gaussian_prior_falls_as_its_length_says():
    power = gaussian_power((64, 64), 1.0, 3.0).double()
    covariance = torch.fft.ifft2(power).real  # C(r) = mean over k of P(k) e^{2πikr}
    # exp(−r²/2ℓ²) at r = ℓ; the periodic images are e^{-200} away, the floor 1e-6.
    assert abs(float(covariance[0, 3]) - np.exp(-0.5)) < 1e-4


def test_check_finds_an_operator_that_does_not_fit(measurement, tmp_path):
    wrong = Operator(BLUR.name, {"size": 10})
    with pytest.raises(OperatorError, match="does not match"):
        check(measurement, wrong, PRIOR, tmp_path / "check.json")
    assert not (tmp_path / "check.json").exists()


def test_check_writes_what_it_found(measurement, tmp_path):
    found = check(measurement, BLUR, PRIOR, tmp_path / "check.json")
    assert found["image"]["shape"] == [1, 12, 12]
    assert (tmp_path / "check.json").is_file()


def test_prepare_refuses_data_with_too_few_items(tmp_path):
    with pytest.raises(DataError, match="fewer items"):
        prepare(Data(f"{TINY}:read", None, {"items": 2}), tmp_path / "m.zarr", items=3)


def test_prepare_refuses_an_option_that_the_reader_does_not_have(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'size'"):
        prepare(Data(f"{TINY}:read", None, {"sizes": 2}), tmp_path / "m.zarr")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_said(measurement, tmp_path):
    with pytest.raises(ConfigError, match="no GPU"):
        shard(measurement, tmp_path / "a.zarr", range(2), [0], device="cuda")


@pytest.fixture
def crowded(monkeypatch):
    """An operator that has room for so many draws at once."""

    def room(limit):
        original = build

        def made(*arguments, **options):
            physics, y = original(*arguments, **options)
            forward = physics.A

            def A(x):
                if len(x) > limit:
                    raise torch.OutOfMemoryError(f"{len(x)} draws, room for {limit}")
                return forward(x)

            physics.A = A
            return physics, y

        monkeypatch.setattr("sciinv.steps.sample.build", made)
        monkeypatch.setattr("sciinv.steps.check.build", made)

    return room


def test_micro_batch_is_halved_where_it_does_not_fit(measurement, tmp_path, crowded):
    whole = values(shard(measurement, tmp_path / "whole.zarr", range(6), range(2)))
    crowded(2)
    said = []
    path = shard(measurement, tmp_path / "halved.zarr", range(6), range(2), say=said.append)
    tree = store.open_posterior(path)
    assert (tree.attrs["micro_batch"], tree.attrs["micro_batch_at_start"]) == (2, 4)
    assert len(said) == 1
    assert "out of memory" in said[0]
    # The same random numbers; float32 rounding over 6 levels of images of order 1.
    assert np.allclose(values(path)["image"], whole["image"], atol=1e-4)


def test_draw_that_does_not_fit_alone_is_refused(measurement, tmp_path, crowded):
    crowded(0)
    with pytest.raises(WorkflowError, match="One draw does not fit"):
        shard(measurement, tmp_path / "a.zarr", range(2), [0])


def test_probe_finds_the_largest_micro_batch_that_fits(measurement, tmp_path, crowded):
    crowded(20)
    sampler = Sampler("daps", {"levels": 6, "kernel": "exact", "micro_batch": "auto"})
    # The check of the operator itself takes few images.
    found = check(measurement, BLUR, PRIOR, tmp_path / "check.json", sampler)
    assert found["micro_batch"] == 16


def test_published_setting_can_be_named(measurement, tmp_path):
    sampler = Sampler("daps-published", {"levels": 3, "langevin_steps": 2, "micro_batch": 2})
    tree = store.open_posterior(
        shard(measurement, tmp_path / "a.zarr", range(2), [0], sampler=sampler)
    )
    assert tree.attrs["conditional"] == "published"


def test_store_can_be_drawn_again_from_its_own_record(measurement, tmp_path):
    parts = [
        shard(measurement, tmp_path / f"{i}.zarr", range(2, 4), [i], shard=(2, 1)) for i in range(2)
    ]
    parts += [shard(measurement, tmp_path / f"{i}b.zarr", range(2), [i]) for i in range(2)]
    whole = merge(parts, tmp_path / "whole.zarr", draws=4, items=2)
    assert redraw.gaps(store.open_posterior(whole).attrs) == []
    assert "2 draws of 1 items drawn again: equal" in redraw.redraw(whole, operator=BLUR.name)


def test_draws_of_another_measurement_are_not_taken_for_these(measurement, tmp_path):
    path = shard(measurement, tmp_path / "a.zarr", range(2), [0])
    other = tmp_path / "other.zarr"
    prepare(Data(f"{TINY}:read", None, {"items": 3, "size": 12, "seed": 1}), other)
    with pytest.raises(StoreError, match="measurement store is not the one"):
        redraw.redraw(path, measurement=other, operator=BLUR.name)


def test_altered_draws_are_found_by_drawing_again(measurement, tmp_path):
    tree = store.open_posterior(shard(measurement, tmp_path / "a.zarr", range(2), [0]))
    data = store.to_dataset(tree).load()
    data["image"][0, 0, 0, 3, 3] += 1e-3
    store.write_posterior(data, tmp_path / "altered.zarr")
    with pytest.raises(StoreError, match="otherwise than they are stored"):
        redraw.redraw(tmp_path / "altered.zarr", operator=BLUR.name)


@pytest.mark.parametrize("key", ["seed", "measurement_hash", "config"])
def test_record_with_a_gap_says_so(measurement, tmp_path, key):
    attrs = dict(store.open_posterior(shard(measurement, tmp_path / "a.zarr", [0, 1], [0])).attrs)
    assert redraw.gaps(attrs) == []
    del attrs[key]
    assert key in redraw.gaps(attrs)[0]
    attrs["config"] = "{}"
    assert "hash that stands beside it" in " ".join(redraw.gaps(attrs))
