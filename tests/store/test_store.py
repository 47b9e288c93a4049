"""Stores: what was written is read back, and nothing half-written is ever taken for whole."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciinv import store
from sciinv.errors import SciinvError, StoreError
from sciinv.store import blocks
from sciinv.store.linking import Shard


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A test outlives no power cut: flushing to the disk would only take time."""
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)


def measurement(items=3, seed=0):
    rng = np.random.default_rng(seed)
    return xr.Dataset(
        {
            "y": (("item", "angle", "detector"), rng.normal(size=(items, 4, 6)).astype("f4")),
            "noise_sd": (("item", "angle"), np.full((items, 4), 0.1, "f4")),
            "angles": ("angle", np.linspace(0, 3, 4)),
            "mask": (("angle", "detector"), rng.random((4, 6)) > 0.5),
        },
        coords={"item": np.arange(items), "sample": ("item", [f"tooth {i}" for i in range(items)])},
        attrs={
            "operator": "ct",
            "params": json.dumps({"pixel_mm": 0.2}),
            "units": "1",
            "source": "made for this test",
        },
    )


def draws(draw=range(4), item=range(3), seed=0, channel=("intensity",), size=8):
    """Draw i of item j has the same values in whatever selection, as a sampler's has."""
    image = np.stack(
        [
            np.stack(
                [
                    np.random.default_rng([seed, j, i]).normal(size=(len(channel), size, size))
                    for j in item
                ]
            )
            for i in draw
        ]
    ).astype("f4")
    grid = np.array([[100.0 * j + i for j in item] for i in draw])
    return xr.Dataset(
        {
            "image": (("draw", "item", "channel", "y", "x"), image, {"units": "1/mm"}),
            "chi2": (("draw", "item"), grid),
            "nfe": (("draw", "item"), np.full(grid.shape, 50)),
        },
        coords={
            "draw": list(draw),
            "item": list(item),
            "channel": list(channel),
            "y": ("y", np.arange(size) * 0.2, {"units": "mm"}),
            "x": ("x", np.arange(size) * -0.2, {"units": "mm"}),
            "name": ("item", [f"slice {j}" for j in item]),
        },
        attrs={"sampler": "daps", "seed": seed},
    )


def observed(item=range(3)):
    y = np.stack([np.random.default_rng(j).normal(size=5) for j in item]).astype("f4")
    return xr.Dataset({"y": (("item", "detector"), y)}, coords={"item": list(item)})


def write_jobs(folder, draw_edges, item_edges, shard, **settings):
    paths = []
    for a, b in itertools.pairwise(draw_edges):
        for c, d in itertools.pairwise(item_edges):
            path = folder / f"draws{a}-{b}_items{c}-{d}.zarr"
            store.write_posterior(
                draws(range(a, b), range(c, d)),
                path,
                observed=observed(range(c, d)),
                provenance={"config_hash": "abc", "host": f"node{a}"},
                shard=shard,
                **settings,
            )
            paths.append(path)
    return paths


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def chunk_files(array):
    return sorted(array.glob("c.*"))


# --- measurement store -------------------------------------------------------------------------


def test_a_measurement_is_read_back_with_its_values_coordinates_and_attributes(tmp_path):
    dataset = measurement()
    store.write_measurement(dataset, tmp_path / "m.zarr")
    found = store.open_measurement(tmp_path / "m.zarr")
    xr.testing.assert_equal(found.load(), dataset)
    assert found["y"].dtype == np.float32
    assert found["mask"].dtype == bool
    assert {k: found.attrs[k] for k in dataset.attrs} == dataset.attrs


def test_a_measurement_is_chunked_by_item_and_kept_in_few_files(tmp_path):
    dataset = measurement(items=40)
    dataset["y"] = dataset["y"].expand_dims(coil=20, axis=1)
    store.write_measurement(dataset, tmp_path / "m.zarr")
    encoding = store.open_measurement(tmp_path / "m.zarr")["y"].encoding
    assert encoding["chunks"] == (1, 20, 4, 6)
    assert encoding["shards"] == (40, 20, 4, 6)


def test_a_large_measurement_is_streamed_in_blocks_of_items(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.store.measurement._SHARD_BYTES", 500)  # 5 items of 96 bytes
    import dask.array

    dataset = measurement(items=12)
    expected = dataset["y"].values
    seen = []

    def block(values):
        seen.append(values.shape[0])
        return values

    lazy = dask.array.from_array(expected, chunks=(1, 4, 6)).map_blocks(block, dtype="f4")
    dataset["y"] = (dataset["y"].dims, lazy)
    seen.clear()
    store.write_measurement(dataset, tmp_path / "m.zarr")
    np.testing.assert_array_equal(store.open_measurement(tmp_path / "m.zarr")["y"], expected)
    assert len(seen) == 12  # every item was computed once
    assert len(chunk_files(tmp_path / "m.zarr" / "y")) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.drop_vars("y"), "no measurement"),
        (lambda d: d.assign(y=d["y"].transpose("angle", "item", "detector")), "no measurement"),
        (lambda d: d.assign(y=d["y"].astype(complex)), "not real floating point"),
        (lambda d: d.drop_attrs(), "lacks attributes"),
        (lambda d: d.assign(y=d["y"].where(d["y"] < 0.5)), "not finite"),
        (lambda d: d.isel(item=slice(0)), "empty"),
    ],
)
def test_what_is_no_measurement_is_refused_and_leaves_nothing(tmp_path, spoil, message):
    with pytest.raises(StoreError, match=message):
        store.write_measurement(spoil(measurement()), tmp_path / "m.zarr")
    assert list(tmp_path.iterdir()) == []


# --- whole or not there ------------------------------------------------------------------------


def test_a_name_that_is_taken_is_not_overwritten_unless_asked(tmp_path):
    path = tmp_path / "m.zarr"
    store.write_measurement(measurement(seed=1), path)
    with pytest.raises(StoreError, match="there already"):
        store.write_measurement(measurement(seed=2), path)
    xr.testing.assert_equal(store.open_measurement(path).load(), measurement(seed=1))
    store.write_measurement(measurement(seed=2), path, overwrite=True)
    xr.testing.assert_equal(store.open_measurement(path).load(), measurement(seed=2))
    assert leftovers(tmp_path) == []


def test_of_two_writers_of_one_name_the_first_to_end_wins(tmp_path):
    path = tmp_path / "m.zarr"
    slow = store.written_aside(path, "measurement")
    (slow.__enter__() / "content").write_text("second")
    store.write_measurement(measurement(), path)
    with pytest.raises(StoreError, match="there already"):
        slow.__exit__(None, None, None)
    xr.testing.assert_equal(store.open_measurement(path).load(), measurement())
    assert leftovers(tmp_path) == []


def test_an_empty_folder_is_not_taken(tmp_path):
    (tmp_path / "m.zarr").mkdir()
    store.write_measurement(measurement(), tmp_path / "m.zarr")
    assert store.verify(tmp_path / "m.zarr").ok


def test_a_store_without_its_seal_is_refused(tmp_path):
    path = store.write_measurement(measurement(), tmp_path / "m.zarr")
    (path / store.SEAL).unlink()
    with pytest.raises(StoreError, match="not whole"):
        store.open_measurement(path)


def test_a_store_that_lost_a_file_is_refused(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    chunk = chunk_files(path / "posterior/image")[0]
    chunk.unlink()
    with pytest.raises(StoreError, match="not whole"):
        store.open_posterior(path)


def test_a_store_with_a_cut_file_is_refused(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    chunk = chunk_files(path / "posterior/image")[0]
    os.truncate(chunk, chunk.stat().st_size // 2)
    with pytest.raises(StoreError, match="not whole"):
        store.open_posterior(path)


def test_a_seal_that_is_cut_is_refused(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    (path / store.SEAL).write_text((path / store.SEAL).read_text()[:40])
    with pytest.raises(StoreError, match="cannot be read"):
        store.open_posterior(path)


def test_a_store_of_another_kind_is_refused(tmp_path):
    path = store.write_measurement(measurement(), tmp_path / "m.zarr")
    with pytest.raises(StoreError, match="another kind"):
        store.open_posterior(path)
    with pytest.raises(StoreError, match="not there"):
        store.open_posterior(tmp_path / "nothing.zarr")


KILLED = """
import sys, pathlib
import numpy as np
from sciinv.store import atomic, blocks, posterior
import importlib.util
spec = importlib.util.spec_from_file_location("helper", {helper!r})
helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)
phase = {phase!r}
def wait(*args, **kwargs):
    pathlib.Path({flag!r}).touch()
    import time; time.sleep(60)
if phase == "fill":
    blocks.fill = wait
elif phase == "seal":
    atomic.seal = wait
elif phase == "rename":
    atomic._move = wait
posterior.write_posterior(helper.draws(), {target!r}, overwrite=True)
"""


@pytest.mark.parametrize("phase", ["fill", "seal", "rename"])
def test_a_writer_that_is_killed_leaves_no_store_and_the_next_one_cleans_up(tmp_path, phase):
    target, flag = tmp_path / "out" / "p.zarr", tmp_path / "flag"
    code = KILLED.format(helper=__file__, phase=phase, flag=str(flag), target=str(target))
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        for _ in range(600):
            if flag.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert flag.exists(), "the writer ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not target.exists()
    assert len(leftovers(target.parent)) == 1
    store.write_posterior(draws(), target)
    assert store.verify(target).ok
    assert leftovers(target.parent) == []


def test_a_file_size_limit_ends_in_a_store_error_and_leaves_nothing(tmp_path):
    # A limit on file sizes (setrlimit) stops the write inside Zarr, as a full disk does.
    code = f"""
import resource, signal
import importlib.util
spec = importlib.util.spec_from_file_location("helper", {__file__!r})
helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)
from sciinv import store
from sciinv.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.write_posterior(helper.draws(size=64), {str(tmp_path / "p.zarr")!r})
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "could not be written" in done.stdout, done.stderr
    assert "remedy" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EDQUOT"])
def test_a_full_or_read_only_disk_ends_in_a_store_error(tmp_path, monkeypatch, code):
    import errno

    def fails(*args, **kwargs):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(blocks, "fill", fails)
    with pytest.raises(StoreError, match="could not be written") as caught:
        store.write_posterior(draws(), tmp_path / "p.zarr")
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(StoreError, match="could not be written"):
        store.write_file(tmp_path / "report.html", b"text")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_runs_full_ends_in_a_store_error(tmp_path):
    """A file system of 100 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"may not mount a file system: {done.stderr.strip()}")
    try:
        with pytest.raises(StoreError, match="No space left"):
            store.write_posterior(draws(size=64), disk / "p.zarr")
        assert list(disk.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="Read-only"):
            store.write_posterior(draws(), disk / "p.zarr")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_writers_killed_at_any_moment_leave_a_whole_store_or_none(tmp_path):
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("helper", {__file__!r})
helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)
from sciinv import store
data = helper.draws(range(32), range(8), size=64)
print("ready", flush=True)
store.write_posterior(data, {str(tmp_path / "p.zarr")!r}, overwrite=True)
"""
    rng = np.random.default_rng(0)
    there = 0
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 1.2))
        process.kill()
        process.wait()
        process.stdout.close()
        if (tmp_path / "p.zarr").exists():
            there += 1
            assert store.verify(tmp_path / "p.zarr").ok
            shutil.rmtree(tmp_path / "p.zarr")
    assert there < 20  # else the kill never came before the end
    store.write_posterior(draws(), tmp_path / "p.zarr")
    assert leftovers(tmp_path) == []


def test_a_file_is_replaced_whole(tmp_path):
    store.write_file(tmp_path / "a" / "report.html", b"one")
    store.write_file(tmp_path / "a" / "report.html", b"two")
    assert (tmp_path / "a" / "report.html").read_bytes() == b"two"
    assert leftovers(tmp_path / "a") == []


# --- posterior store ---------------------------------------------------------------------------


def test_draws_are_read_back_bit_by_bit(tmp_path):
    dataset = draws()
    store.write_posterior(dataset, tmp_path / "p.zarr", observed=observed())
    tree = store.open_posterior(tmp_path / "p.zarr")
    found = store.to_dataset(tree).load()
    xr.testing.assert_equal(found, dataset)
    assert found["image"].values.tobytes() == dataset["image"].values.tobytes()
    assert found["image"].attrs["units"] == "1/mm"
    assert found["x"].attrs["units"] == "mm"
    assert tree.attrs["sampler"] == "daps"
    xr.testing.assert_equal(tree["observed_data"].to_dataset().load()["y"], observed()["y"])


def test_the_tree_and_the_flat_dataset_are_inverse_to_each_other():
    dataset = draws().assign(prior_sd=(("item", "channel"), np.ones((3, 1))))
    xr.testing.assert_equal(store.to_dataset(store.to_tree(dataset)), dataset)
    assert store.to_tree(dataset)["posterior"]["image"].dims == (
        "chain", "draw", "item", "channel", "y", "x",
    )  # fmt: skip


def test_an_image_is_one_chunk_and_a_job_is_one_file(tmp_path):
    path = store.write_posterior(draws(size=32), tmp_path / "p.zarr", shard=(4, 3))
    encoding = store.open_posterior(path)["posterior"]["image"].encoding
    assert encoding["chunks"] == (1, 1, 1, 1, 32, 32)
    assert encoding["shards"] == (1, 4, 3, 1, 32, 32)
    assert len(chunk_files(path / "posterior/image")) == 1
    assert not [p for p in path.rglob("c") if p.is_dir()]  # no folders within an array


def test_a_draw_that_is_not_finite_is_refused(tmp_path):
    dataset = draws()
    dataset["image"][2, 1, 0, 3, 3] = np.nan
    with pytest.raises(StoreError, match="not finite") as caught:
        store.write_posterior(dataset, tmp_path / "p.zarr")
    assert "in draw 2" in str(caught.value)
    assert "item 1" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_images_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no posterior draws"):
        store.write_posterior(draws().drop_vars("image"), tmp_path / "p.zarr")
    with pytest.raises(StoreError, match="no posterior draws"):
        store.write_posterior(draws().transpose("item", ...), tmp_path / "p.zarr")


def test_opening_a_store_warns_of_nothing(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    (path / ".snakemake_timestamp").touch()  # as Snakemake leaves one in each folder it owns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.open_posterior(path)
        xr.open_datatree(path, engine="zarr").load()
    assert store.verify(path).ok


def test_arviz_reads_the_store(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        az = pytest.importorskip("arviz")
    dataset = draws(range(50))
    path = store.write_posterior(dataset, tmp_path / "p.zarr")
    tree = xr.open_datatree(path, engine="zarr")
    data = az.InferenceData.from_datatree(tree) if hasattr(az, "InferenceData") else tree
    pixel = data["posterior"][["image"]].isel(item=[1], y=[2], x=[3])
    data = az.convert_to_inference_data(pixel) if hasattr(az, "InferenceData") else pixel
    table = az.summary(data, round_to="none", kind="stats")
    values = dataset["image"].isel(item=1, channel=0, y=2, x=3).values.astype("f8")
    # arviz computes in float32: 1e-6 relative of values of order 1.
    assert table["mean"].iloc[0] == pytest.approx(values.mean(), abs=1e-6)
    assert table["sd"].iloc[0] == pytest.approx(values.std(ddof=1), abs=1e-6)


def test_provenance_keeps_hashes_and_leaves_out_what_is_not_known(tmp_path):
    (tmp_path / "prior.safetensors").write_bytes(b"weights")
    about = store.provenance(
        operator="ct", prior_file=tmp_path / "prior.safetensors", config={"b": 1, "a": 2}, seed=3,
        sampling=1.5,
    )  # fmt: skip
    # printf weights | sha256sum
    assert about["prior_hash"].startswith("9a129038")
    assert about["config"] == '{"a": 2, "b": 1}'
    assert about["seconds_sampling"] == 1.5
    assert "operator_hash" not in about
    same = store.provenance(config={"a": 2, "b": 1})
    assert same["config_hash"] == about["config_hash"]
    path = store.write_posterior(draws(), tmp_path / "p.zarr", provenance=about)
    assert store.open_posterior(path).attrs["prior_hash"] == about["prior_hash"]


# --- merging -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw_edges", "item_edges", "shard", "linked"),
    [
        ([0, 4, 8], [0, 3, 6], (4, 3), 4),  # equal jobs
        ([0, 4, 8, 9], [0, 3, 4], (4, 3), 6),  # smaller last jobs, laid out like the full ones
        ([0, 4, 7], [0, 3], None, 1),  # a smaller last job of its own layout: copied
        ([0, 3, 4, 8], [0, 1, 3], (4, 3), 0),  # no grid at all
    ],
)
def test_merged_jobs_are_what_one_job_would_have_written(
    tmp_path, draw_edges, item_edges, shard, linked
):
    paths = write_jobs(tmp_path, draw_edges, item_edges, shard)
    merged = store.merge_posteriors(reversed(paths), tmp_path / "all.zarr")
    whole = draws(range(draw_edges[-1]), range(item_edges[-1]))
    tree = store.open_posterior(merged)
    xr.testing.assert_equal(store.to_dataset(tree).load(), whole)
    found = tree["observed_data"].to_dataset().load()
    xr.testing.assert_equal(found["y"], observed(range(item_edges[-1]))["y"])
    files = chunk_files(merged / "posterior/image")
    assert sum(p.stat().st_nlink > 1 for p in files) == linked
    assert store.verify(merged).ok
    assert tree.attrs["config_hash"] == "abc"
    shards = json.loads(tree.attrs["shards"])
    assert len(shards) == len(paths)
    assert {s["host"] for s in shards} == {f"node{a}" for a in draw_edges[:-1]}
    for path in paths:  # the whole lives on without the parts
        assert store.verify(path).ok
        shutil.rmtree(path)
    assert store.verify(merged).ok


def test_merging_across_file_systems_copies(tmp_path, monkeypatch):
    paths = write_jobs(tmp_path, [0, 4, 8], [0, 3], (4, 3))

    def refuses(*args, **kwargs):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("sciinv.store.linking._hard_link", refuses)
    merged = store.merge_posteriors(paths, tmp_path / "all.zarr")
    xr.testing.assert_equal(store.to_dataset(store.open_posterior(merged)).load(), draws(range(8)))
    assert store.verify(merged).ok


def test_merged_stores_merge_again(tmp_path):
    one = write_jobs(tmp_path, [0, 4, 8], [0, 3], (4, 3))
    two = write_jobs(tmp_path, [0, 4, 8], [3, 6], (4, 3))
    store.merge_posteriors(one, tmp_path / "one.zarr")
    store.merge_posteriors(two, tmp_path / "two.zarr")
    merged = store.merge_posteriors([tmp_path / "two.zarr", tmp_path / "one.zarr"], tmp_path / "a")
    xr.testing.assert_equal(
        store.to_dataset(store.open_posterior(merged)).load(), draws(range(8), range(6))
    )


def test_the_work_of_merging_grows_with_the_jobs_and_not_with_their_square(tmp_path, monkeypatch):
    calls = {}
    for jobs in (2, 4, 8):
        count = 0
        original = Shard.overlap

        def counted(self, block, original=original):
            nonlocal count
            count += 1
            return original(self, block)

        shards = write_jobs(tmp_path / str(jobs), range(jobs + 1), (0, 3), (1, 3))
        with monkeypatch.context() as patch:
            patch.setattr(Shard, "overlap", counted)
            store.merge_posteriors(shards, tmp_path / f"{jobs}.zarr")
        calls[jobs] = count
    assert calls[8] - calls[4] == 2 * (calls[4] - calls[2]) > 0


def test_a_missing_job_is_found(tmp_path):
    paths = write_jobs(tmp_path, [0, 2, 4, 6], [0, 2, 4], (2, 2))
    with pytest.raises(StoreError, match="gap") as caught:
        store.merge_posteriors(paths[:3] + paths[4:], tmp_path / "all.zarr")
    assert "no draw 2 of item 2" in str(caught.value)
    with pytest.raises(StoreError, match="no store holds draw 2"):
        store.merge_posteriors(paths[:2] + paths[4:], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="no store holds draw 0"):
        store.merge_posteriors(paths[2:], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="expected number of draws"):
        store.merge_posteriors(paths[:4], tmp_path / "all.zarr", draws=6)
    assert not (tmp_path / "all.zarr").exists()


def test_an_overlap_is_found(tmp_path):
    paths = write_jobs(tmp_path, [0, 2, 4], [0, 3], (2, 3))
    store.write_posterior(
        draws(range(1, 3)), tmp_path / "more.zarr", provenance={"config_hash": "abc"},
        observed=observed(),
    )  # fmt: skip
    with pytest.raises(StoreError, match="same draws"):
        store.merge_posteriors([*paths, tmp_path / "more.zarr"], tmp_path / "all.zarr")


@pytest.mark.parametrize("key", ["config_hash", "prior_hash", "seed"])
def test_jobs_of_another_run_are_refused(tmp_path, key):
    store.write_posterior(draws(range(2)), tmp_path / "a.zarr", provenance={key: 1})
    store.write_posterior(draws(range(2, 4)), tmp_path / "b.zarr", provenance={key: 2})
    with pytest.raises(StoreError, match=f"{key} differs"):
        store.merge_posteriors([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "all.zarr")


def test_jobs_of_another_measurement_are_refused(tmp_path):
    store.write_posterior(draws(range(2)), tmp_path / "a.zarr", observed=observed())
    store.write_posterior(draws(range(2, 4)), tmp_path / "b.zarr", observed=observed() + 1)
    with pytest.raises(StoreError, match="observed_data/y differs"):
        store.merge_posteriors([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "all.zarr")


def test_a_job_that_is_not_whole_is_refused(tmp_path):
    paths = write_jobs(tmp_path, [0, 2, 4], [0, 3], (2, 3))
    (paths[1] / store.SEAL).unlink()
    with pytest.raises(StoreError, match="not whole"):
        store.merge_posteriors(paths, tmp_path / "all.zarr")


def test_nothing_to_merge_is_an_error(tmp_path):
    with pytest.raises(SciinvError, match="no stores"):
        store.merge_posteriors([], tmp_path / "all.zarr")


# --- verification ------------------------------------------------------------------------------


def test_a_changed_bit_is_found(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    assert store.verify(path).ok
    chunk = chunk_files(path / "posterior/image")[0]
    content = bytearray(chunk.read_bytes())
    content[40] ^= 1
    chunk.write_bytes(content)
    found = store.verify(path)
    assert not found.ok
    assert "posterior/image" in str(found)
    with pytest.raises(StoreError, match="damaged"):
        found.check()


def test_a_foreign_file_is_found(tmp_path):
    path = store.write_posterior(draws(), tmp_path / "p.zarr")
    (path / "posterior/image/c.9").write_bytes(b"x")
    assert any("does not belong" in p for p in store.verify(path).problems)


def test_a_store_that_is_not_there_is_a_finding(tmp_path):
    assert not store.verify(tmp_path / "nothing.zarr").ok


def test_the_command_line_does_not_need_torch_to_look_at_a_store():
    code = "import sciinv.store, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_paths_may_be_text(tmp_path):
    path = str(tmp_path / "p.zarr")
    assert store.write_posterior(draws(), path) == Path(path)
    assert store.verify(path).kind == "posterior"
