"""A measurement store in a bucket of an object store: a server that speaks S3, on this machine."""

from __future__ import annotations

import shutil

import pytest
import xarray as xr

from sciinv import store
from sciinv.config import Data
from sciinv.errors import StoreError
from sciinv.steps.prepare import prepare

s3fs = pytest.importorskip("s3fs", reason='needs s3fs (pip install "sciinv[s3]")')
backends = pytest.importorskip("moto.backends", reason='needs pip install "moto[server]"')


@pytest.fixture
def bucket(tmp_path, written, s3_server):
    """Copy the store into a bucket; keys and server are given as to every S3 client."""
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("scans")
    system.put(str(tmp_path / "m.zarr"), "scans/", recursive=True)
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    backends.get_backend("s3").reset()  # the server keeps its buckets in this process


def test_store_in_a_bucket_is_read_as_the_local_one(bucket, written):
    xr.testing.assert_identical(store.open_measurement("s3://scans/m.zarr").load(), written)


def test_store_in_a_bucket_is_prepared_into_a_local_one(bucket, written, tmp_path):
    shutil.rmtree(tmp_path / "m.zarr")
    data = Data("store", "s3://scans/m.zarr")
    out = prepare(data, tmp_path / "copy.zarr", items=4, say=lambda line: None)
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
