from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from sciinv import store

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _one_thread():
    # Rounding depends on the number of threads; tests of equal bits need it fixed.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def written(tmp_path) -> xr.Dataset:
    """A measurement store m.zarr in the test's folder, as read back."""
    y = np.random.default_rng(0).normal(size=(4, 64, 64)).astype("f4")
    dataset = xr.Dataset(
        {"y": (("item", "row", "column"), y), "mask": ("row", np.arange(64) % 2 == 0)},
        coords={"item": np.arange(4)},
        attrs={"operator": "mri", "params": "{}", "units": "1"},
    )
    store.write_measurement(dataset, tmp_path / "m.zarr")
    return store.open_measurement(tmp_path / "m.zarr").load()


@pytest.fixture
def s3_server(monkeypatch) -> Iterator[str]:
    """A server that speaks S3, given to every client through the environment."""
    reason = 'needs pip install "moto[server]"'
    server = pytest.importorskip("moto.server", reason=reason)
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield f"http://{host}:{port}"
    running.stop()
