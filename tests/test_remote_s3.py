"""A measurement store in a bucket of an object store: a server that speaks S3, on this machine."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import xarray as xr

from sciinv import pipeline, store
from sciinv.config import Data
from sciinv.errors import StoreError

s3fs = pytest.importorskip("s3fs", reason='needs s3fs (pip install "sciinv[s3]")')
server = pytest.importorskip("moto.server", reason='needs pip install "moto[server]"')
backends = pytest.importorskip("moto.backends")


@pytest.fixture
def written(tmp_path) -> xr.Dataset:
    y = np.random.default_rng(0).normal(size=(4, 64, 64)).astype("f4")
    dataset = xr.Dataset(
        {"y": (("item", "row", "column"), y), "mask": ("row", np.arange(64) % 2 == 0)},
        coords={"item": np.arange(4)},
        attrs={"operator": "mri", "params": "{}", "units": "1"},
    )
    store.write_measurement(dataset, tmp_path / "m.zarr")
    return store.open_measurement(tmp_path / "m.zarr").load()


@pytest.fixture
def bucket(tmp_path, written, monkeypatch):
    """Copy the store into a bucket; keys and server are given as to every S3 client."""
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("scans")
    system.put(str(tmp_path / "m.zarr"), "scans/", recursive=True)
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()
    backends.get_backend("s3").reset()  # the server keeps its buckets in this process


def test_store_in_a_bucket_is_read_as_the_local_one(bucket, written):
    xr.testing.assert_identical(store.open_measurement("s3://scans/m.zarr").load(), written)


def test_store_in_a_bucket_is_prepared_into_a_local_one(bucket, written, tmp_path):
    shutil.rmtree(tmp_path / "m.zarr")
    data = Data("store", "s3://scans/m.zarr")
    out = pipeline.prepare(data, tmp_path / "copy.zarr", items=4, say=lambda line: None)
    assert store.verify(out).ok
    xr.testing.assert_identical(store.open_measurement(out).load(), written)


def test_store_in_a_bucket_that_is_not_whole_is_refused(bucket, written):
    with pytest.raises(StoreError, match="not there, or not whole"):
        store.open_measurement("s3://scans/none.zarr")
    chunk = next(k for k in bucket.find("scans/m.zarr/y") if "/c" in k)
    bucket.rm_file(chunk)
    bucket.invalidate_cache()
    with pytest.raises(StoreError, match="not whole") as refused:
        store.open_measurement("s3://scans/m.zarr")
    assert "no file" in str(refused.value)
