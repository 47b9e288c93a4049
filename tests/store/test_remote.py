"""Measurement stores behind a URL, on a server of this machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from sciinv import store
from sciinv.config import Config, Data
from sciinv.errors import ConfigError, StoreError
from sciinv.steps.prepare import prepare

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


class Plain(SimpleHTTPRequestHandler):
    """Serves whole files only, as Python's own server does."""

    def log_message(self, *args: object) -> None:
        pass


class Ranges(Plain):
    """Serves byte ranges too, as web servers and object stores do."""

    sent = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = self.headers.get("Range", "")
        if not asked or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if first:
            part = content[int(first) : int(last) + 1 if last else None]
        else:
            part = content[-int(last) :]
        Ranges.sent += len(part)
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@contextlib.contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler] = Ranges) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_store_behind_a_url_is_read_as_the_local_one(tmp_path, written):
    with served(tmp_path) as url:
        xr.testing.assert_identical(store.open_measurement(f"{url}/m.zarr").load(), written)


def test_one_item_of_a_remote_store_is_read_without_the_others(tmp_path, written):
    with served(tmp_path) as url:
        remote = store.open_measurement(f"{url}/m.zarr")
        Ranges.sent = 0
        assert np.array_equal(remote["y"][2], written["y"][2])
        # One item's 16 KiB and the shard's index, not the four items' 64 KiB.
        assert 0 < Ranges.sent < 1.5 * written["y"][2].nbytes


def test_remote_store_is_prepared_into_a_local_one(tmp_path, written):
    with served(tmp_path) as url:
        data = Data("store", f"{url}/m.zarr")
        out = prepare(data, tmp_path / "copy.zarr", items=4, say=lambda line: None)
    assert store.verify(out).ok
    xr.testing.assert_identical(store.open_measurement(out).load(), written)


def test_remote_store_that_is_not_whole_is_refused(tmp_path, written):
    with served(tmp_path) as url:
        with pytest.raises(StoreError, match="not there, or not whole"):
            store.open_measurement(f"{url}/none.zarr")
        chunk = next((tmp_path / "m.zarr/y").glob("c*"))
        chunk.write_bytes(chunk.read_bytes()[:-1])
        with pytest.raises(StoreError, match="not whole"):
            store.open_measurement(f"{url}/m.zarr")


def test_server_without_byte_ranges_and_one_that_is_gone_are_refused(tmp_path, written):
    with (
        served(tmp_path, Plain) as url,
        pytest.raises(StoreError, match="does not serve parts of files"),
    ):
        store.open_measurement(f"{url}/m.zarr")
    with pytest.raises(StoreError, match="does not give the store"):
        store.open_measurement(f"{url}/m.zarr")
    with pytest.raises(StoreError, match="cannot be read here"):
        store.open_measurement("nonsense://host/m.zarr")


def test_only_stores_are_configured_by_url(repo):
    config = yaml.safe_load((repo / "workflows/configs/ci.yaml").read_text())
    url = "http://127.0.0.1/m.zarr"
    config["problems"]["blur"]["data"] = {"reader": "store", "path": url}
    problem = Config.of_mapping(config).problem("blur")
    assert problem.data.paths == (url,)
    assert problem.inputs("data") == []  # no file that a scheduler could look at
    config["problems"]["blur"]["prior"] = "http://127.0.0.1/prior.safetensors"
    with pytest.raises(ConfigError, match="Only a measurement store"):
        Config.of_mapping(config)
