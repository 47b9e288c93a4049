"""A newcomer's mistakes, made in a YAML configuration: each names its key, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.cli import cli

from sciinv import store
from sciinv.config import Config
from sciinv.errors import SciinvError
from sciinv.readers.parts.looks import warnings_of
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare
from sciinv.steps.sample import sample_shard

TINY = Path(__file__).resolve().parents[2] / "workflows/configs/tiny.py"


def written(folder: Path, change: dict[str, Any], run: dict[str, Any] | None = None) -> Config:
    """Write a right configuration with a change in its problem, and read it."""
    problem = {
        "data": {"reader": f"{TINY}:read", "options": {"items": 4, "size": 8}},
        "operator": {"name": f"{TINY}:Blur"},
        "prior": {"kind": "gaussian", "length": 2.0},
        "sampler": {"kind": "daps", "levels": 4, "kernel": "exact", "micro_batch": 4},
        "draws": 4,
    } | change
    path = folder / "mine.yaml"
    raw = {"run": {"name": "a"} | (run or {}), "problems": {"p": problem}}
    path.write_text(yaml.safe_dump(raw))
    return Config.of_file(path)


def carried_out(config: Config, folder: Path) -> list[str]:
    """Carry the problem out as the workflow does, one shard; return the doubts of its store."""
    problem, said = config.problem("p"), []
    m = prepare(problem.data, folder / "m.zarr", problem.items, say=lambda line: None)
    said += warnings_of(store.open_measurement(m))
    check(m, problem.operator, problem.prior, folder / "c.json", problem.sampler, config.run.device)
    sample_shard(
        m,
        folder / "p.zarr",
        operator=problem.operator,
        prior=problem.prior,
        sampler=problem.sampler,
        draws=range(problem.draws),
        items=[0],
    )
    return said


def disc(views: int, detectors: int) -> np.ndarray:
    """Line integrals of a disc off the axis, with noise of 0.01."""
    theta = np.deg2rad(np.arange(views) * 180.0 / views)[:, None]
    t = np.arange(detectors) - (detectors - 1) / 2 - 0.1 * detectors * np.cos(theta + 0.4)
    y = 0.1 * np.sqrt(np.clip((detectors / 4) ** 2 - t**2, 0, None))
    return y + 0.01 * np.random.default_rng(0).standard_normal(y.shape)


def ct(folder: Path, y: np.ndarray, sampler: dict[str, Any] | None = None, **options: Any) -> dict:
    """A problem whose data are a plain sinogram in a file."""
    np.save(folder / "y.npy", y)
    given = {"angles": f"0:180:{len(y)}", "noise_sd": 0.01, "image_size": 8, **options}
    return {
        "data": {"reader": "sinogram", "path": str(folder / "y.npy"), "options": given},
        "operator": {},
        "prior": {"kind": "gaussian", "mean": 0.0, "sd": 0.05, "length": 2.0},
        "sampler": sampler or {"kind": "daps", "levels": 4, "kernel": "exact", "micro_batch": 4},
    }


# What is written into the configuration, and words of the answer: where, what is expected, what
# came, and the remedy.
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "levels: ten": (
        {"sampler": {"kind": "daps", "levels": "ten"}},
        ["problems.p.sampler.levels", "whole number", "'ten'"],
    ),
    "levels: 0": (
        {"sampler": {"kind": "daps", "levels": 0}},
        ["problems.p.sampler.levels", "0"],
    ),
    "micro_batch: 2.7": (
        {"sampler": {"kind": "daps", "micro_batch": 2.7}},
        ["problems.p.sampler.micro_batch", "2.7"],
    ),
    "micro_batch: -2": (
        {"sampler": {"kind": "daps", "micro_batch": -2}},
        ["problems.p.sampler.micro_batch", "-2"],
    ),
    "inflate: 0": (
        {"sampler": {"kind": "daps", "inflate": 0}},
        ["problems.p.sampler.inflate", "0"],
    ),
    "sigma_max: 0": (
        {"sampler": {"kind": "daps", "sigma_max": 0}},
        ["problems.p.sampler.sigma_max", "0"],
    ),
    "sigma_max: 1e-4": (
        {"sampler": {"kind": "daps", "conditional": "tweedie", "levels": 4, "sigma_max": 1.0e-4,
                     "sigma_min": 1.0e-5}},
        ["sigma_max", "0.0001", "far below"],
    ),
    "iterations: 0": (
        {"sampler": {"kind": "langevin", "iterations": 0}},
        ["problems.p.sampler.iterations", "0"],
    ),
    "draws: 0": ({"draws": 0}, ["problems.p.draws", "outside its range", "2 or more", "give "]),
    "draws: 1": ({"draws": 1}, ["problems.p.draws", "2 or more"]),
    "draws: many": ({"draws": "many"}, ["problems.p.draws", "'many'", "whole number"]),
    "items: 9": ({"items": 9}, ["items", "9", "4"]),
    "items: 0": ({"items": 0}, ["problems.p.items", "0"]),
    "thresholds: [.nan]": (
        {"display": {"thresholds": [float("nan")]}},
        ["thresholds", "nan"],
    ),
    "prior: sd: -1": (
        {"prior": {"kind": "gaussian", "sd": -1.0}},
        ["problems.p.prior.sd", "-1"],
    ),
    "params: size: big": (
        {"operator": {"name": f"{TINY}:Blur", "params": {"size": "big"}}},
        ["size", "big"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_in_the_configuration_names_its_key(tmp_path: Path, mistake: str) -> None:
    change, words = REFUSED[mistake]
    with pytest.raises(SciinvError) as caught:
        carried_out(written(tmp_path, change), tmp_path)
    told = str(caught.value)
    assert not [word for word in words if word not in told], told
    assert caught.value.expected
    assert caught.value.remedy
    assert not (tmp_path / "p.zarr").exists()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"device": "gpu"}, ["run.device", "gpu", "cuda"]),
        ({"device": "tpu"}, ["run.device", "tpu", "cuda"]),
        ({"seed": 1.5}, ["run.seed", "1.5", "give a whole number"]),
        ({"seed": "x"}, ["run.seed", "'x'", "give a whole number"]),
        ({"name": "main\n"}, ["run.name"]),
        ({"name": "../other"}, ["run.name"]),
        ({"results": "out {x}"}, ["run.results", "{x}"]),
    ],
    ids=str,
)
def test_a_mistake_in_the_run_names_its_key(
    tmp_path: Path, run: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SciinvError) as caught:
        written(tmp_path, {}, run)
    told = str(caught.value)
    assert not [word for word in words if word not in told], told
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["logs", "benchmarks", "blur\n", "a/b", "{x}", ""])
def test_a_problem_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    raw = yaml.safe_load(TINY.with_name("ci.yaml").read_text())
    raw["problems"] = {name: next(iter(raw["problems"].values()))}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SciinvError) as caught:
        Config.of_file(tmp_path / "a.yaml")
    assert caught.value.remedy


DATA: dict[str, tuple[dict[str, Any], list[str]]] = {
    "counts for line integrals": (
        {"y": np.round(1000 * np.exp(-disc(60, 48)))},
        ["no line integrals", "whole numbers", "dxchange"],
    ),
    "a square sinogram on its side": (
        {"y": disc(48, 48).T, "noise_sd": None},
        ["look exchanged", "axes=["],
    ),
    "angles that are not as many": (
        {"y": disc(60, 48), "angles": "0:180:7"},
        ["view angles", "60", "0:180:7"],
    ),
    "angles in radians": (
        {"y": disc(60, 48), "angles": [float(a) for a in np.arange(60) * np.pi / 60]},
        ["look like radians", "angle_unit"],
    ),
    "a misspelt option": ({"y": disc(60, 48), "noise": 0.1}, ["noise_sd", "noise"]),
    "a noise of 0": ({"y": disc(60, 48), "noise_sd": 0}, ["noise_sd", "0"]),
    "an image of no pixels": ({"y": disc(60, 48), "image_size": 0}, ["image_size", "0"]),
}


@pytest.mark.parametrize("mistake", DATA)
def test_a_mistake_about_the_data_is_told_when_they_are_read(tmp_path: Path, mistake: str) -> None:
    options, words = DATA[mistake]
    options = {k: v for k, v in options.items() if v is not None}
    problem = ct(tmp_path, **options)
    with pytest.raises(SciinvError) as caught:
        carried_out(written(tmp_path, problem), tmp_path)
    told = str(caught.value)
    assert not [word for word in words if word not in told], told
    assert "y.npy" in told or "reader sinogram" in told
    assert caught.value.remedy
    assert not (tmp_path / "m.zarr").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"detector_mm": 0.0002, "pixel_mm": 0.001}, "in mm?"),
        ({"noise_sd": 10.0}, "noise"),
        ({"noise_sd": 1e-5}, "noise"),
    ],
    ids=str,
)
def test_what_may_be_meant_is_doubted_and_drawn(
    tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    doubts = carried_out(written(tmp_path, ct(tmp_path, disc(60, 48), **options)), tmp_path)
    assert word in " ".join(doubts)


def test_a_right_sinogram_is_drawn_by_every_sampler_without_a_doubt(tmp_path: Path) -> None:
    for kind, settings in (
        ("dps", {"steps": 3}), ("daps", {"levels": 3, "kernel": "exact"}),
        ("daps", {"levels": 3, "kernel": "langevin"}),
    ):  # fmt: skip
        folder = tmp_path / f"{kind}{settings.get('kernel', '')}"
        folder.mkdir()
        problem = ct(folder, disc(60, 48), {"kind": kind, "micro_batch": 4, **settings})
        assert carried_out(written(folder, problem), folder) == []
        image = store.open_posterior(folder / "p.zarr")["posterior/image"].values
        assert np.isfinite(image).all()


def test_a_zarr_store_of_another_program_is_told_what_it_is(tmp_path: Path) -> None:
    foreign = tmp_path / "theirs.zarr"
    foreign.mkdir()
    (foreign / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(SciinvError, match=r"theirs\.zarr") as caught:
        carried_out(
            written(tmp_path, {"data": {"reader": "store", "path": str(foreign)}}), tmp_path
        )
    assert "remove" not in str(caught.value.remedy)
    assert (foreign / ".zgroup").exists()


def test_a_name_for_the_shell_is_a_name(tmp_path: Path) -> None:
    """A results folder with quotes, blanks and a command plans a run and runs nothing."""
    name = f"a b'c\"d;touch {tmp_path}/pwned$(touch {tmp_path}/pwned2)"
    raw = yaml.safe_load(TINY.with_name("ci.yaml").read_text())
    raw["run"]["results"] = str(tmp_path / name.replace("/", "_"))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(raw))
    done = cli("run", tmp_path / "a.yaml", "--dry-run", cwd=tmp_path)
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("pwned*"))
