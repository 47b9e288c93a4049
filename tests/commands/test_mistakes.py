"""A newcomer's mistakes, one by one: each ends in a message that names it and what to do.

The table of docs/guides/mistakes.md has a row for each; a test holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from support.cli import REPO
from typer.testing import CliRunner

from sciinv import store
from sciinv.cli import app
from sciinv.config import Config
from sciinv.errors import SciinvError

GAUSSIAN = {"kind": "gaussian"}


@dataclass(frozen=True)
class Mistake:
    """What was done, how, and words of the answer.

    Attributes:
        what: As the table says it.
        do: Command line, or a text that becomes the configuration `run.yaml` of `sciinv run`.
        words: Parts of the message.
    """

    what: str
    do: list[str] | str
    words: tuple[str, ...]


def changed(**change: object) -> str:
    """Return a small right configuration with a change in its problem."""
    problem = {"data": {"reader": "tiny.py:read"}, "prior": GAUSSIAN, "draws": 4} | change
    return yaml.safe_dump({"run": {"name": "a"}, "problems": {"p": problem}})


SAMPLE = ["sample", "m.zarr", "-o", "new.zarr", "--prior"]
MISTAKES = [
    # the file
    Mistake("a misspelt path", ["inspect", "scna.npz"], ("not there", "check the path")),
    Mistake(
        "a file that is no measurement",
        ["inspect", "notes.txt"],
        ("No reader knows", "begins with"),
    ),
    Mistake(
        "a download that was cut off",
        ["inspect", "half.h5"],
        ("a whole HDF5 file", "download it again"),
    ),
    Mistake(
        "a folder without data", ["inspect", "empty"], ("No reader knows", "a folder with nothing")
    ),
    Mistake(
        "a misspelt reader",
        ["inspect", "scan.npz", "--reader", "sinograms"],
        ("did you mean 'sinogram'",),
    ),
    Mistake(
        "the wrong reader",
        ["inspect", "scan.npz", "--reader", "kspace"],
        ("format is not known", ".npz"),
    ),
    Mistake(
        "no view angles",
        ["init", "bare.npy", "--yes"],
        ("told more than the file says", "--option angles="),
    ),
    Mistake(
        "view angles as 0-180",
        ["inspect", "bare.npy", "--option", "angles=0-180"],
        ("angles", "0-180"),
    ),
    Mistake(
        "fewer view angles than views",
        ["inspect", "bare.npy", "--option", "angles=[0, 90]"],
        ("angles", "2"),
    ),
    Mistake(
        "a misspelt option of the reader",
        ["inspect", "scan.npz", "--option", "noise=0.1"],
        ("noise_sd",),
    ),
    Mistake(
        "an option without its value",
        ["inspect", "scan.npz", "--option", "noise_sd"],
        ("KEY=VALUE",),
    ),
    Mistake(
        "a negative noise", ["inspect", "scan.npz", "--option", "noise_sd=-1"], ("noise_sd", "-1")
    ),
    Mistake(
        "axes in the wrong order",
        ["inspect", "scan.npz", "--option", "axes=[detector, angle]"],
        ("angle",),
    ),
    Mistake("photon counts taken for line integrals", ["inspect", "counts.npz"], ("counts", "log")),
    # the first configuration
    Mistake(
        "a prior of another field",
        ["init", "scan.npz", "-o", "b.yaml", "--prior", "MRI"],
        ("does not fit",),
    ),
    Mistake(
        "a configuration that is there already",
        ["init", "scan.npz", "-o", "there.yaml"],
        ("there already",),
    ),
    Mistake(
        "a misspelt name of the configuration",
        ["run", "--config", "thre.yaml"],
        ("did you mean", "there.yaml"),
    ),
    Mistake(
        "a misspelt profile", ["run", "--config", "there.yaml", "--profile", "slrm"], ("slurm",)
    ),
    Mistake("an empty configuration", "", ("an empty file",)),
    Mistake("a tab in the configuration", "run:\n\tname: a\n", ("no valid YAML", "line 2")),
    Mistake(
        "a key given twice", "run: {name: a}\nrun: {name: b}\n", ("given twice", "lines 1 and 2")
    ),
    Mistake("a misspelt key", changed(drws=3), ("drws", "did you mean 'draws'")),
    Mistake("one draw", changed(draws=1), ("minimum 2", "problems.p.draws")),
    Mistake("a number in quotes", changed(draws="20"), ("problems.p.draws", "'20'")),
    Mistake("a misspelt sampler", changed(sampler={"kind": "dap"}), ("did you mean 'daps'",)),
    Mistake(
        "a setting of another sampler",
        changed(sampler={"kind": "dps", "levels": 3}),
        ("no such setting",),
    ),
    Mistake(
        "a misspelt setting", changed(sampler={"level": 30}), ("level", "did you mean 'levels'")
    ),
    Mistake(
        "a quantity that does not exist", changed(domain=["rings"]), ("ring", "problems.p.domain")
    ),
    Mistake(
        "a prior that is not there",
        changed(prior="data/priors/brian.safetensors"),
        ("brian.safetensors",),
    ),
    Mistake("a prior without its kind", changed(prior={"sd": 1.0}), ("kind", "problems.p.prior")),
    Mistake(
        "raw data that are not there",
        changed(data={"reader": "sinogram", "path": "scna.npz"}),
        ("scna.npz",),
    ),
    Mistake(
        "a format of export that does not exist",
        changed(export=["nifty"]),
        ("nifti", "problems.p.export"),
    ),
    # by hand
    Mistake("a picture given as prior", [*SAMPLE, "photo.png"], ("photo.png",)),
    Mistake(
        "a prior's file that was cut off", [*SAMPLE, "half.safetensors"], ("half.safetensors",)
    ),
    Mistake("a GPU by its maker's name", [*SAMPLE, "PRIOR", "--device", "gpu"], ("take cuda",)),
    Mistake("more items than there are", [*SAMPLE, "PRIOR", "--items", "9"], ("at most 1", "9")),
    Mistake(
        "a word for a number", [*SAMPLE, "PRIOR", "--setting", "levels=ten"], ("levels", "ten")
    ),
    Mistake(
        "raw data where a store is wanted",
        ["sample", "scan.npz", "-o", "n.zarr", "--prior", "PRIOR"],
        ("scan.npz", "store"),
    ),
    Mistake(
        "a store of the wrong kind",
        ["summarize", "m.zarr", "-o", "s.zarr"],
        ("m.zarr", "posterior"),
    ),
    Mistake(
        "a name that is taken", ["convert", "scan.npz", "-o", "m.zarr"], ("m.zarr", "--overwrite")
    ),
    Mistake(
        "a misspelt format",
        ["export", "m.zarr", "--to", "nifty", "-o", "a.nii"],
        ("did you mean 'nifti'",),
    ),
    Mistake(
        "a measurement exported as an image",
        ["export", "m.zarr", "--to", "npy", "-o", "a.npy"],
        ("neither a posterior nor a summary",),
    ),
    Mistake(
        "a table exported as an image",
        ["export", "q.json", "--to", "fits", "-o", "a.fits"],
        ("--to csv",),
    ),
    Mistake("an operator's file without its class", ["check-operator", "tiny.py"], ("FILE.py:",)),
    Mistake("a misspelt class", ["check-operator", "tiny.py:Blurr"], ("did you mean 'Blur'",)),
    Mistake(
        "parameters that are no JSON",
        ["check-operator", "tiny.py:Blur", "--params", "{size: 8}"],
        ("no valid JSON", "quote it"),
    ),
    Mistake(
        "a misspelt parameter",
        ["check-operator", "tiny.py:Blur", "--params", '{"sise": 8}'],
        ("sise",),
    ),
    Mistake("a store that is not there", ["verify", "gone.zarr"], ("gone.zarr",)),
    Mistake(
        "a prior's name without its suffix",
        ["train", "images", "--hours", "1", "--output", "mine"],
        (".safetensors",),
    ),
    Mistake(
        "an empty folder to train on",
        ["train", "empty", "--hours", "1", "--output", "m.safetensors"],
        ("empty",),
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies in the newcomer's folder."""
    here = tmp_path_factory.mktemp("newcomer")
    (here / "tiny.py").write_text((REPO / "workflows/configs/tiny.py").read_text())
    x = np.arange(64) - 31.5
    line = 0.04 * np.sqrt(np.maximum(20**2 - x**2, 0))
    rays = (line + np.random.default_rng(0).normal(0, 0.01, (30, 64))).astype("f4")
    turn = np.linspace(0, 180, 30, endpoint=False)
    np.savez(here / "scan.npz", sinogram=rays, angles=turn)
    np.savez(here / "counts.npz", sinogram=np.rint(2e4 * np.exp(-rays)), angles=turn)
    np.save(here / "bare.npy", rays)
    (here / "notes.txt").write_text("Tuesday: beam down\n")
    with h5py.File(here / "whole.h5", "w") as file:
        file["exchange/data"] = np.ones((9, 9, 9))
    (here / "half.h5").write_bytes((here / "whole.h5").read_bytes()[:3000])
    (here / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    weights = (REPO / "data/priors/ct.safetensors").read_bytes()
    (here / "half.safetensors").write_bytes(weights[: len(weights) // 2])
    (here / "empty").mkdir()
    (here / "images").mkdir()
    (here / "q.json").write_text("[]")
    (here / "there.yaml").write_text(changed())
    y = np.zeros((1, 1, 6, 12), dtype=np.float32)
    dataset = xr.Dataset(
        {"y": (("item", "channel", "angle", "detector"), y), "angles": ("angle", np.arange(6.0))},
        attrs={
            "operator": "ct", "units": "1",
            "params": '{"image_size": 8, "pixel_mm": 1.0, "detectors": 12, "detector_mm": 1.0,'
            ' "noise_sd": 0.01}',
        },
    )  # fmt: skip
    store.write_measurement(dataset, here / "m.zarr")
    return here


def told(mistake: Mistake) -> str:
    """Return what is said of a mistake made in the working directory."""
    if isinstance(mistake.do, str):
        Path("run.yaml").write_text(mistake.do)
        with pytest.raises(SciinvError) as caught:
            Config.of_file("run.yaml")
        assert caught.value.remedy
        return str(caught.value)
    files = {"PRIOR": "data/priors/ct.safetensors", "MRI": "data/priors/mri.safetensors"}
    words = [str(REPO / files[w]) if w in files else w for w in mistake.do]
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, SciinvError):
        assert done.exception.remedy, "no remedy"
        return str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


@pytest.mark.parametrize("mistake", MISTAKES, ids=[m.what.replace(" ", "-") for m in MISTAKES])
def test_a_mistake_is_named_with_what_to_do(
    mistake: Mistake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said = told(mistake)
    for word in mistake.words:
        assert word in said, said
    assert "Traceback" not in said


def test_the_table_of_the_docs_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(MISTAKES) >= 40
    table = (REPO / "docs/guides/mistakes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    assert [m.what for m in MISTAKES] == [r for r in rows if r not in ("what was done", "---")]
