"""`inspect` and `init`: what a person with a file meets first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from support.cli import REPO
from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.config import Config
from sciinv.errors import ConfigError, SciinvError

M87 = REPO / "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits"
HELSINKI = REPO / "data/ct/htc2022_ta_full.mat"
BRAIN = REPO / "data/mri/cartesian_ksp.npy"


def invoke(*arguments: object):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, SciinvError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def sinogram(tmp_path: Path) -> Path:
    """A disc of 0.02 per pixel and of radius 20 pixels, with noise."""
    x = np.arange(64) - 31.5
    line = 2 * 0.02 * np.sqrt(np.maximum(20**2 - x**2, 0))
    noise = np.random.default_rng(0).normal(0, 0.01, (30, 64))
    values = (np.tile(line, (30, 1)) + noise).astype("f4")
    np.savez(tmp_path / "disc.npz", sinogram=values, angles=np.linspace(0, 180, 30, endpoint=False))
    np.save(tmp_path / "bare.npy", values)
    return tmp_path / "disc.npz"


def test_inspect_says_axes_units_noise_and_image(sinogram: Path, tmp_path: Path) -> None:
    said = invoke("inspect", sinogram, "--picture", tmp_path / "seen.png").output
    for words in (
        "sinogram (by its content)",
        "0:180:30",
        "30 angle × 64 detector",
        "64 × 64 pixels",
        "1/pixel",
        "noise",
    ):
        assert words in said, words
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_shows_the_doubts_of_a_reader(sinogram: Path, tmp_path: Path) -> None:
    values = np.load(sinogram.with_name("bare.npy"))
    np.save(tmp_path / "loud.npy", values)
    asked = ("--option", "angles=0:180", "--option", "noise_sd=1e-5")
    result = invoke("inspect", tmp_path / "loud.npy", *asked)
    assert "doubt: " in result.stderr


def test_inspect_without_angles_says_what_is_missing(sinogram: Path) -> None:
    result = invoke("inspect", sinogram.with_name("bare.npy"))
    assert result.exit_code == 0
    assert "30 × 64 of float32" in result.output
    assert "--option angles=VALUE" in result.output


def test_init_of_a_plain_sinogram_gives_a_configuration_that_runs(
    sinogram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sinogram.parent)
    result = invoke("init", sinogram, "--draws", 20, "--name", "mine", "--yes")
    assert "Next: sciinv run --config run.yaml" in result.output
    text = Path("run.yaml").read_text()
    config = Config.of_file("run.yaml")
    problem = config.problem("disc")
    assert config.run.name == "mine"
    assert problem.draws == 20
    assert problem.data.path == "disc.npz"  # beside the configuration
    assert problem.data.options["angles"] == "0:180:30"
    assert problem.prior.kind == "generic"
    assert "nothing of this object" in " ".join(text.replace("#", " ").split())
    assert "# does not fit: data/priors/ct.safetensors" in text
    invoke("init", sinogram, "--yes", "-o", "smooth.yaml", "--prior", "gaussian")
    smooth = Config.of_file("smooth.yaml").problem("disc").prior
    # A uniform square that fits a disc over 31 % of it: of its value, but smaller.
    assert 0.002 < smooth.mean < 0.02


def test_init_refuses_to_guess_angles_and_to_replace_a_file(
    sinogram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--option angles=VALUE"):
        invoke("init", "bare.npy", "--yes")
    invoke("init", "bare.npy", "--option", "angles=0:180")
    with pytest.raises(ConfigError, match="there already"):
        invoke("init", "bare.npy", "--option", "angles=0:180")
    prior = "data/priors/mri.safetensors"
    with pytest.raises(ConfigError, match="does not fit"):
        invoke("init", sinogram, "-o", "b.yaml", "--prior", prior)


@pytest.mark.parametrize(
    ("path", "reader", "prior", "options"),
    [
        (M87, "uvfits", "blackhole", {"kind": "amplitudes", "gain_sd": {"*": 0.1, "LM": 0.35}}),
        (HELSINKI, "htc2022", "ct", {"image_size": 128}),
        (BRAIN, "kspace", "mri", {}),
    ],
)
def test_init_proposes_the_prior_and_settings_of_the_shipped_examples(
    path: Path, reader: str, prior: str, options: dict, tmp_path: Path
) -> None:
    out = tmp_path / "run.yaml"
    invoke("init", path, "-o", out)
    (problem,) = Config.of_file(out).problems.values()
    main = yaml.safe_load((REPO / "workflows/configs/main.yaml").read_text())["problems"]
    shipped = next(v for v in main.values() if v["prior"] == f"data/priors/{prior}.safetensors")
    assert problem.data.reader == reader
    assert str(problem.prior.path).endswith(f"data/priors/{prior}.safetensors")
    assert problem.sampler.kind == shipped.get("sampler", {}).get("kind", "daps")
    assert problem.sampler.settings == {
        k: v for k, v in shipped.get("sampler", {}).items() if k != "kind"
    }
    assert problem.shards.draws == shipped["shards"]["draws"]  # whole micro-batches
    assert list(problem.domain) == shipped.get("domain", [])
    assert options.items() <= dict(problem.data.options).items()


def test_convert_needs_no_reader(sinogram: Path, tmp_path: Path) -> None:
    from sciinv import store

    out = tmp_path / "m.zarr"
    invoke("convert", tmp_path / "bare.npy", "-o", out, "--option", "angles=0:180")
    invoke("convert", sinogram, "-o", tmp_path / "beside.zarr")  # its angles lie beside it
    assert dict(store.open_measurement(tmp_path / "beside.zarr")["y"].sizes)["angle"] == 30
    assert dict(store.open_measurement(out)["y"].sizes)["angle"] == 30


@pytest.mark.parametrize("name", [".", "folder", "..", "folder/nested"])
def test_a_folder_of_anything_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here/folder/nested").mkdir(parents=True)
    (tmp_path / "here/folder/note.txt").write_text("Tuesday")
    monkeypatch.chdir(tmp_path / "here")
    for command in (["inspect", name], ["convert", name, "-o", "m.zarr"], ["init", name, "--yes"]):
        with pytest.raises(SciinvError, match="No reader knows") as caught:
            invoke(*command)
        assert caught.value.remedy
        assert not (tmp_path / "here/m.zarr").exists()


def test_a_pixel_that_nobody_told_is_not_said_to_fit(monkeypatch):
    from types import SimpleNamespace

    from sciinv.steps import propose

    seen = SimpleNamespace(image=SimpleNamespace(axis_units="mm"))
    for pixel, said in (
        ({"side": 1.0, "unit": "mm"}, ", and so does its pixel"),
        ({"side": 1.0, "unit": "pixel"}, "not known"),
        (None, "not known"),
    ):
        monkeypatch.setattr(propose, "_pixel_of", lambda path, pixel=pixel: pixel)
        assert said in propose._beside("prior.safetensors", seen)
