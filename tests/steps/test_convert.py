"""Conversion of many items: in parallel, in order, and without holding them all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import xarray as xr

from sciinv import store
from sciinv.config import Data
from sciinv.errors import ConfigError, DataError
from sciinv.steps import convert

READER = """
import h5py
import numpy as np
import xarray as xr


def items(path):
    with h5py.File(path) as file:
        return len(file["raw"])


def read(path, item=0, scale=1.0, odd=None):
    with h5py.File(path) as file:
        y = np.stack([file["raw"][i] for i in np.atleast_1d(item)]) * scale
    mask = np.ones(4) if odd not in np.atleast_1d(item) else np.zeros(4)
    return xr.Dataset(
        {"y": (("item", "row", "column"), y.astype("f4")), "mask": ("column", mask)},
        coords={"item": np.atleast_1d(item), "height": ("item", 0.5 * np.atleast_1d(item))},
        attrs={"operator": "mine", "params": "{}", "units": "1"},
    )


def whole(path):
    return read(path, range(items(path)))
"""


@pytest.fixture
def raw(tmp_path):
    values = np.random.default_rng(0).normal(size=(7, 3, 4)).astype("f4")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["raw"] = values
    (tmp_path / "mine.py").write_text(READER)
    return tmp_path, values


def data(folder, function="read", **options):
    return Data(f"{folder / 'mine.py'}:{function}", str(folder / "raw.h5"), options)


def test_parallel_conversion_writes_every_item_in_order(raw):
    folder, values = raw
    told = []
    out = convert.convert(
        data(folder, scale=2.0),
        folder / "out.zarr",
        workers=2,
        progress=lambda done, total: told.append((done, total)),
    )
    found = store.open_measurement(out)
    assert np.array_equal(found["y"].values, 2 * values)
    assert found["item"].values.tolist() == list(range(7))
    assert found["height"].values.tolist() == [0.5 * i for i in range(7)]
    assert told == [(i, 7) for i in range(1, 8)]
    assert store.verify(out).ok


def test_chosen_items_keep_their_numbers(raw):
    folder, values = raw
    out = convert.convert(data(folder), folder / "out.zarr", items=range(2, 5))
    found = store.open_measurement(out)
    assert np.array_equal(found["y"].values, values[2:5])
    assert found["item"].values.tolist() == [2, 3, 4]


def test_reader_without_items_is_read_in_one_go(raw):
    folder, values = raw
    out = convert.convert(data(folder, "whole"), folder / "out.zarr")
    assert np.array_equal(store.open_measurement(out)["y"].values, values)
    with pytest.raises(ConfigError, match="cannot select items"):
        convert.convert(data(folder, "whole"), folder / "out.zarr", items=[1])


def test_items_that_share_no_mask_are_refused(raw):
    folder, _ = raw
    with pytest.raises(DataError, match=r"Item 3 does not go into one store.*mask differs"):
        convert.convert(data(folder, odd=3), folder / "out.zarr")
    assert not (folder / "out.zarr").exists()


def test_no_more_items_are_held_than_the_limit(monkeypatch):
    alive, most = set(), 0

    def read(data, item):
        alive.add(item)
        return xr.Dataset({"y": (("item", "row"), np.full((1, 2), item))})

    monkeypatch.setattr(convert, "_read", read)
    first = read(None, 0)
    alive.clear()
    with ThreadPoolExecutor(2) as pool:
        ahead = convert.Ahead(pool, Data("x"), range(20), first, 4)
        for position in range(20):
            assert ahead.take(position)["y"].values[0, 0] == position
            most = max(most, len(ahead.pending))
            alive.discard(position)
    assert most <= 3
    assert not alive
