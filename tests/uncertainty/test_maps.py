"""Summaries of draws: numpy's numbers, in bounded memory, however the blocks are cut."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sciinv import store, uncertainty
from sciinv.errors import ConfigError, StoreError
from sciinv.steps.summarize import summarize
from sciinv.uncertainty import maps


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)


def draws(n=7, items=3, channel=("intensity",), shape=(6, 5), dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(2.0, 1.0, size=(n, items, len(channel), *shape)).astype(dtype)
    return xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), image, {"units": "1/mm"}),
            "chi2": (("draw", "item"), rng.random((n, items))),
        },
        coords={
            "draw": np.arange(n),
            "item": np.arange(items) + 10,
            "channel": list(channel),
            "y": ("y", np.arange(shape[0]) * 0.5, {"units": "mm"}),
            "x": ("x", np.arange(shape[1]) * 0.5, {"units": "mm"}),
        },
        attrs={"sampler": "daps"},
    )


def test_summaries_are_numpys_own_numbers():
    data = draws(n=11)
    found = uncertainty.summarize(data, quantiles=(0.1, 0.5, 0.8), thresholds=(2.0,))
    x = data["image"].values
    # float32 results: half a unit in the last place is 6e-8 relative.
    close = {"rtol": 2e-7, "atol": 0}
    np.testing.assert_allclose(found["mean"], x.astype("f8").mean(0), **close)
    np.testing.assert_allclose(found["sd"], x.astype("f8").std(0, ddof=1), **close)
    expected = np.quantile(x, (0.1, 0.5, 0.8), axis=0).astype("f4")
    np.testing.assert_array_equal(found["quantiles"], expected)
    np.testing.assert_array_equal(found["interval_width"], expected[-1] - expected[0])
    np.testing.assert_allclose(found["probability"][0], (x > 2).mean(0), **close)
    np.testing.assert_allclose(found["mcse_mean"], found["sd"] / np.sqrt(11), **close)
    np.testing.assert_allclose(found["mcse_sd"], found["sd"] / np.sqrt(20), **close)
    assert found["mean"].attrs["units"] == "1/mm"
    assert found["y"].attrs["units"] == "mm"
    assert found["item"].values.tolist() == [10, 11, 12]
    assert found.attrs["draws"] == 11
    assert found["interval_width"].attrs["level"] == pytest.approx(0.7)


def test_the_draws_of_the_caller_are_left_as_they_are():
    data = draws()
    before = data.copy(deep=True)
    uncertainty.summarize(data)
    xr.testing.assert_identical(data, before)


def test_monte_carlo_errors_are_those_of_many_repetitions():
    # 2000 pixels are 2000 repetitions of n = 40 draws of N(2, 1): the scatter of their means and
    # sds is the standard error. Its own relative error is 1/√(2·2000) = 1.6 %; 5 sigma = 8 %.
    found = uncertainty.summarize(draws(n=40, items=1, shape=(40, 50), dtype="f8"))
    assert float(found["mean"].std()) == pytest.approx(float(found["mcse_mean"].mean()), rel=0.08)
    assert float(found["sd"].std()) == pytest.approx(float(found["mcse_sd"].mean()), rel=0.08)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(2, 9),
    items=st.integers(1, 4),
    rows=st.integers(1, 6),
    budget=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_the_memory_limit_never_changes_a_bit(n, items, rows, budget, seed):
    data = draws(n=n, items=items, shape=(rows, 3), seed=seed)
    row = 1 + int(n * 3 * 4 * maps._COPIES * maps._WORKERS)
    whole = uncertainty.summarize(data, memory=10**9)
    parts = uncertainty.summarize(data, memory=row * budget).compute(scheduler="synchronous")
    xr.testing.assert_identical(whole, parts)


def test_a_stored_posterior_is_summarized_in_bounded_memory(tmp_path):
    data = draws(n=32, items=4, shape=(192, 192))  # 19 MB of draws, 4.7 MB for one item
    path = store.write_posterior(data, tmp_path / "p.zarr", shard=(16, 2))
    whole = uncertainty.summarize(data)
    del data
    limit = 4 * 2**20
    for name in ("warm.zarr", "s.zarr"):  # what is imported and cached once does not count
        tracemalloc.start()
        lazy = uncertainty.summarize(path, memory=limit)
        assert lazy["mean"].chunks is not None
        uncertainty.write_summary(lazy, tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The draws being read stay within the limit (the slices of two blocks within their share, see
    # _SLICES). On top come the maps of one file, held twice while it is written: stacked as they
    # were computed, and one by one.
    result = 2 * sum(v.nbytes for v in lazy.data_vars.values())
    assert peak < limit + result, f"{peak} bytes"
    found = uncertainty.open_summary(tmp_path / "s.zarr")
    xr.testing.assert_equal(found.load(), whole)
    assert store.verify(tmp_path / "s.zarr").ok


def test_complex_draws_are_summarized_by_magnitude_and_phase():
    data = draws(n=9, channel=("real", "imag"), dtype="f8")
    z = data["image"].values[:, :, 0] + 1j * data["image"].values[:, :, 1]
    found = uncertainty.summarize(data)
    np.testing.assert_allclose(found["mean"][:, 0], np.abs(z).mean(0), rtol=1e-14)
    unit = (z / np.abs(z)).mean(0)
    np.testing.assert_allclose(found["phase_mean"][:, 0], np.angle(unit), rtol=1e-12, atol=1e-14)
    circular = np.sqrt(-2 * np.log(np.abs(unit)))
    np.testing.assert_allclose(found["phase_sd"][:, 0], circular, rtol=1e-12)
    assert found["channel"].values.tolist() == ["magnitude"]
    parts = uncertainty.summarize(data, transform="identity")
    assert parts["mean"].shape == (3, 2, 6, 5)
    np.testing.assert_allclose(parts["mean"][:, 1], z.imag.mean(0), rtol=1e-13)


def test_a_function_of_ones_own_is_summarized():
    data = draws(dtype="f8")
    found = uncertainty.summarize(data, transform=np.exp)
    np.testing.assert_allclose(found["mean"], np.exp(data["image"].values).mean(0), rtol=1e-14)
    assert found.attrs["transform"] == "exp"
    with pytest.raises(ConfigError, match="pixel by pixel"):
        uncertainty.summarize(data, transform=lambda v: v[..., :1, :2])


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"quantiles": (0.5, 0.1)}, ConfigError, "not levels"),
        ({"quantiles": (0.5, 1.5)}, ConfigError, "not levels"),
        ({"transform": "magnitude"}, ConfigError, "cannot be transformed"),
        ({"transform": "logarithm"}, ConfigError, "cannot be transformed"),
        ({"memory": 10}, ConfigError, "do not fit"),
    ],
)
def test_wrong_settings_are_errors(settings_, error, message):
    with pytest.raises(error, match=message):
        uncertainty.summarize(draws(), **settings_)


def test_one_draw_and_values_that_are_not_finite_are_errors():
    with pytest.raises(StoreError, match="One draw"):
        uncertainty.summarize(draws(n=1))
    data = draws()
    data["image"][3, 2, 0, 1, 1] = np.inf
    with pytest.raises(StoreError, match="draw 3, item 12"):
        uncertainty.summarize(data)
    with pytest.raises(StoreError, match="no posterior draws"):
        uncertainty.summarize(data.drop_vars("image"))


def test_an_unfinished_summary_is_refused(tmp_path):
    path = uncertainty.write_summary(uncertainty.summarize(draws()), tmp_path / "s.zarr")
    (path / store.SEAL).unlink()
    with pytest.raises(StoreError, match="not whole"):
        uncertainty.open_summary(path)


def test_workers_of_a_dask_scheduler_give_the_same_maps(tmp_path):
    distributed = pytest.importorskip("distributed")
    values = np.random.default_rng(3).normal(size=(6, 5, 1, 8, 8)).astype("f4")
    dataset = xr.Dataset({"image": (("draw", "item", "channel", "y", "x"), values)})
    path = store.write_posterior(dataset, tmp_path / "posterior.zarr")
    alone = summarize(path, tmp_path / "alone.zarr")
    options = {"processes": False, "n_workers": 1, "dashboard_address": None}
    with distributed.LocalCluster(protocol="tcp://", **options) as cluster:
        address = cluster.scheduler_address
        shared = summarize(path, tmp_path / "shared.zarr", scheduler=address)
    a, b = (uncertainty.open_summary(p) for p in (alone, shared))
    for name in a.data_vars:
        assert np.array_equal(a[name], b[name]), name


def test_scheduler_that_does_not_answer_is_said(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(uncertainty, "CONNECT", 0.2)
    with (
        pytest.raises(ConfigError, match="does not answer"),
        uncertainty.workers("tcp://127.0.0.1:9"),
    ):
        pass
