"""Two users at once, a source that is read-only, a disk that is full: refused, and nothing hurt."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.cli import cli, environment

from sciinv import store

pytest.importorskip("snakemake")


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Mount a small file system in memory on a folder; skip where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"may not mount a file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def saved(config: dict, path: Path, **run: object) -> Path:
    config = yaml.safe_load(yaml.safe_dump(config))
    config["run"] |= run
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


def test_of_two_users_who_start_the_same_run_at_once_one_is_refused(tmp_path, ci_config):
    shared = tmp_path / "shared"
    users = []
    for name in ("ann", "bob"):
        config = saved(ci_config, tmp_path / name / "run.yaml", results=str(shared))
        command = [sys.executable, "-m", "sciinv.cli", "run", "--config", str(config)]
        users.append(
            subprocess.Popen(
                [*command, "--cores", "1", "--snakemake=--until=prepare"],
                cwd=config.parent,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [user.communicate(timeout=300)[0] for user in users]
    codes = [user.returncode for user in users]
    assert sorted(codes) == [0, 1], said
    refused = said[codes.index(1)]
    for word in ("A run is under way in this folder", str(shared), "wait for it"):
        assert word in refused
    assert "Traceback" not in refused
    assert store.verify(shared / "ci/blur/measurement.zarr").ok


SOURCE = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, str(Path(__file__).parent))
import tiny

def read(path):
    found = tiny.read(items=2)
    found["y"][:] = np.load(path)
    return found
"""


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_source_that_is_read_only_is_read_and_left_as_it_is(tmp_path, ci_config, repo):
    import numpy as np

    raw = tmp_path / "raw"
    with mounted(raw, "1m"):
        (raw / "own.py").write_text(SOURCE)
        (raw / "tiny.py").write_bytes((repo / "workflows/configs/tiny.py").read_bytes())
        np.save(raw / "scan.npy", np.full((2, 16, 16), 0.5, np.float32))
        config = yaml.safe_load(yaml.safe_dump(ci_config))
        data = {"reader": str(raw / "own.py:read"), "path": str(raw / "scan.npy")}
        config["problems"]["blur"]["data"] = data
        saved(config, raw / "run.yaml")  # the configuration beside the data, as on an archive
        remount(raw, "ro")
        before = digests(raw)
        work = tmp_path / "work"
        work.mkdir()
        option = "--snakemake=--until=prepare"
        done = cli("run", "--config", raw / "run.yaml", "--cores", 1, option, cwd=work)
        assert done.returncode == 0, done.stderr
        assert digests(raw) == before
        y = store.open_measurement(work / "results/ci/blur/measurement.zarr")["y"]
        assert (y == 0.5).all()
        # Results beside the data are refused before the first job.
        refused = cli("run", "--config", raw / "run.yaml", cwd=raw)
        assert refused.returncode == 1
        assert "Read-only file system" in refused.stderr
        assert "choose another" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert digests(raw) == before


def test_disk_that_is_full_is_said_before_the_first_job(tmp_path, ci_config):
    disk = tmp_path / "disk"
    with mounted(disk, "4m"):
        config = saved(ci_config, tmp_path / "run.yaml", results=str(disk / "results"))
        refused = cli("run", "--config", config, cwd=tmp_path)
        assert refused.returncode == 1
        assert "The disk is full" in refused.stderr
        assert "run.results" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_run_whose_disk_fills_up_goes_on_to_the_same_bits_when_there_is_room(tmp_path, ci_config):
    # A shard of 32 draws × 2 items × 128² float32 is 4 MiB; ROOM of 8 MiB lets the run start.
    config = yaml.safe_load(yaml.safe_dump(ci_config))
    problem = config["problems"]["blur"]
    problem["data"]["options"]["size"] = 128
    problem |= {"draws": 96, "shards": {"draws": 32, "items": 2}}
    disk = tmp_path / "disk"
    option = "--snakemake=--until=merge"
    with mounted(disk, "10m"):
        path = saved(config, tmp_path / "run.yaml", results=str(disk / "results"))
        full = cli("run", "--config", path, "--cores", 1, option, cwd=tmp_path)
        assert full.returncode == 1
        assert "No space left on device" in full.stderr
        assert "free some space" in full.stderr
        assert "Traceback" not in full.stderr
        shards = sorted((disk / "results/ci/blur/shards").glob("items-*.zarr"))
        assert 0 < len(shards) < 3
        assert all(store.verify(p).ok for p in shards)
        assert not (disk / "results/ci/blur/posterior.zarr").exists()
        remount(disk, "size=64m")
        asked = ("--resume", "--verbose", option)
        done = cli("run", "--config", path, "--cores", 1, *asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("rule sample:") == 3 - len(shards)
        ours = store.open_posterior(disk / "results/ci/blur/posterior.zarr").load()
        elsewhere = tmp_path / "elsewhere"
        problem["shards"] = {"draws": 96, "items": 2}
        path = saved(config, elsewhere / "run.yaml")
        calm = cli("run", "--config", path, "--cores", 1, option, cwd=elsewhere)
        assert calm.returncode == 0, calm.stderr
        theirs = store.open_posterior(elsewhere / "results/ci/blur/posterior.zarr")
        image = "posterior/image"
        assert (ours[image].values == theirs[image].values).all()
        assert os.listdir(disk) == ["results"]
