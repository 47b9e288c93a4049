"""Nothing is replaced that is not a sealed store of ours, and nothing unless it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from sciinv import store
from sciinv.cli import app
from sciinv.config import Data, Operator, Prior, Sampler
from sciinv.errors import StoreError
from sciinv.steps.merge import merge
from sciinv.steps.prepare import prepare
from sciinv.steps.sample import sample_shard
from sciinv.steps.summarize import summarize

TINY = Path(__file__).resolve().parents[2] / "workflows/configs/tiny.py"


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)


def data(seed: int = 0) -> xr.Dataset:
    y = np.random.default_rng(seed).normal(size=(1, 3)).astype("f4")
    return xr.Dataset(
        {"y": (("item", "d"), y)}, attrs={"operator": "ct", "params": "{}", "units": "1"}
    )


def thesis(folder: Path) -> Path:
    (folder / "figures").mkdir(parents=True)
    (folder / "chapter1.tex").write_text("years of work")
    return folder


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_the_users_is_never_replaced(tmp_path, overwrite):
    folder = thesis(tmp_path / "thesis")
    with pytest.raises(StoreError, match=r"no sciinv store, with chapter1\.tex, figures"):
        store.write_measurement(data(), folder, overwrite=overwrite)
    assert (folder / "chapter1.tex").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_a_store_with_a_file_of_the_users_in_it_is_not_replaced(tmp_path):
    path = store.write_measurement(data(), tmp_path / "m.zarr")
    (path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"files that are not its own: notes\.txt"):
        store.write_measurement(data(1), path, overwrite=True)
    assert (path / "notes.txt").is_file()


def test_a_folder_that_only_calls_itself_a_store_is_not_replaced(tmp_path):
    folder = thesis(tmp_path / "thesis")
    (folder / store.SEAL).write_text('{"files": {}}')
    with pytest.raises(StoreError, match="no sciinv store"):
        store.write_measurement(data(), folder, overwrite=True)


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("name", [".", "..", "../..", "~"])
def test_the_working_directory_home_and_what_is_above_are_never_replaced(
    tmp_path, monkeypatch, name, empty
):
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    if not empty:
        (place / "notes.txt").write_text("mine")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    with pytest.raises(StoreError, match=r"working directory|home folder"):
        store.write_measurement(data(), name, overwrite=True)
    assert place.is_dir()
    assert (place / "notes.txt").exists() is not empty


def test_a_sealed_store_is_kept_too_where_it_is_the_working_directory(tmp_path, monkeypatch):
    path = store.write_measurement(data(), tmp_path / "m.zarr")
    monkeypatch.chdir(path)
    with pytest.raises(StoreError, match="working directory"):
        store.write_measurement(data(1), ".", overwrite=True)
    assert store.verify(path).ok


def test_symbolic_links_and_files_are_not_replaced(tmp_path):
    path = store.write_measurement(data(), tmp_path / "m.zarr")
    (tmp_path / "link.zarr").symlink_to(path)
    (tmp_path / "file").write_text("mine")
    for name, found in (("link.zarr", "symbolic link"), ("file", "a file")):
        with pytest.raises(StoreError, match=found):
            store.write_measurement(data(1), tmp_path / name, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link.zarr", "m.zarr"]
    np.testing.assert_array_equal(store.open_measurement(path)["y"], data()["y"])


def test_a_store_of_ours_is_replaced_when_asked_even_a_damaged_one(tmp_path):
    path = store.write_measurement(data(), tmp_path / "m.zarr")
    next(p for p in (path / "y").iterdir() if p.name != "zarr.json").unlink()
    (path / ".snakemake_timestamp").touch()
    with pytest.raises(StoreError, match="there already"):
        store.write_measurement(data(1), path)
    store.write_measurement(data(1), path, overwrite=True)
    np.testing.assert_array_equal(store.open_measurement(path)["y"], data(1)["y"])
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_a_folder_that_is_named_like_a_leftover_is_not_removed(tmp_path):
    mine = thesis(tmp_path / ".m.zarr.old-0123abcd")
    store.write_measurement(data(), tmp_path / "m.zarr")
    store.write_measurement(data(), tmp_path / "m.zarr", overwrite=True)
    assert (mine / "chapter1.tex").is_file()


def test_every_step_refuses_before_its_work_and_replaces_only_when_asked(tmp_path, monkeypatch):
    source = Data(f"{TINY}:read", None, {"items": 1, "size": 8})
    thesis(tmp_path / "thesis")
    m = prepare(source, tmp_path / "m.zarr", say=lambda line: None)
    method = {
        "operator": Operator(f"{TINY}:Blur"),
        "prior": Prior(kind="gaussian", length=2.0),
        "sampler": Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 2}),
    }

    def steps(out, **asked):
        yield lambda: prepare(source, out, say=lambda line: None, **asked)
        yield lambda: sample_shard(m, out, draws=range(2), items=[0], **method, **asked)
        yield lambda: merge([tmp_path / "p.zarr"], out, draws=2, items=1, **asked)
        yield lambda: summarize(tmp_path / "p.zarr", out, **asked)

    sample_shard(m, tmp_path / "p.zarr", draws=range(2), items=[0], **method)
    for step in steps(tmp_path / "thesis", overwrite=True):
        with pytest.raises(StoreError, match="no sciinv store"):
            step()
    for step in steps(tmp_path / "m.zarr"):
        with pytest.raises(StoreError, match="there already"):
            step()
    for step in steps(tmp_path / "new.zarr", overwrite=True):
        assert store.verify(step()).ok
    assert (tmp_path / "thesis/chapter1.tex").is_file()


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return str(result.exception or result.output)


def test_convert_on_the_command_line_keeps_what_stands_there(tmp_path):
    folder = thesis(tmp_path / "thesis")
    given = ("x", "--reader", f"{TINY}:read", "-o")
    (tmp_path / "own.py").write_text(
        f"{TINY.read_text()}\ndef mine(path):\n    return read(1, 8)\n"
    )
    given = (TINY, "--reader", f"{tmp_path / 'own.py'}:mine", "-o")
    for extra in ((), ("--overwrite",)):
        assert "no sciinv store" in invoke("convert", *given, folder, *extra)
    assert (folder / "chapter1.tex").is_file()
    out = tmp_path / "m.zarr"
    assert str(out) in invoke("convert", *given, out)
    assert "--overwrite" in invoke("convert", *given, out)
    assert str(out) in invoke("convert", *given, out, "--overwrite")


def test_three_processes_may_replace_one_store_and_each_ends_well(tmp_path):
    code = (
        "import sys, numpy as np\nfrom sciinv import store\n"
        "store.atomic._flush = lambda path: None\n"
        f"import importlib.util as u\ns = u.spec_from_file_location('t', {__file__!r})\n"
        "t = u.module_from_spec(s); s.loader.exec_module(t)\n"
        "for k in range(12):\n"
        f"    store.write_measurement(t.data(k), {str(tmp_path / 'm.zarr')!r}, overwrite=True)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [p.communicate()[1] for p in started]
    assert [p.returncode for p in started] == [0, 0, 0], "\n".join(ends)
    assert store.verify(tmp_path / "m.zarr").ok
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


@pytest.mark.parametrize("name", ["n" * 250, "file/m.zarr", "/proc/sciinv/m.zarr"])
def test_paths_that_cannot_be_written_end_in_a_store_error(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    for write in (
        lambda p: store.write_measurement(data(), p),
        lambda p: store.write_file(p, b"text"),
    ):
        with pytest.raises(StoreError) as caught:
            write(tmp_path / name)
        assert caught.value.remedy


def test_a_file_is_not_written_over_a_folder(tmp_path):
    with pytest.raises(StoreError, match="could not be written"):
        store.write_file(thesis(tmp_path / "thesis"), b"text")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"bytes"', '"bytez"'),
        ('"sha256"', '"sha255"'),
        ('"format": 1', '"format": 3'),
        ('"format"', '"formaT"'),
        ('"zarr.json"', '"../../etc/passwd"'),
        ('"zarr.json"', '"/etc/passwd"'),
        ('"files": {', '"files": {"a": 1, '),
    ],
)
def test_a_seal_that_was_changed_is_a_finding(tmp_path, old, new):
    path = store.write_measurement(data(), tmp_path / "m.zarr")
    seal = path / store.SEAL
    assert old in seal.read_text()
    seal.write_text(seal.read_text().replace(old, new))
    finding = store.verify(path)
    assert not finding.ok
    assert "passwd:" not in str(finding)
    with pytest.raises(StoreError):
        store.open_measurement(path)
