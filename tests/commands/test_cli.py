"""The command line: help, exit codes, and errors that a person can act on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.cli import REPO, cli
from typer.testing import CliRunner

from sciinv import __version__, priors, store
from sciinv.cli import app
from sciinv.errors import SciinvError

TINY = REPO / "workflows/configs/tiny.py"
READER = """
def mine(path, noise_sd=0.1):
    like = read(8, 1.5, noise_sd)
    return xr.Dataset({"y": (like["y"].dims, np.load(path))}, attrs=like.attrs)
"""
COMMANDS = {
    "inspect",
    "init",
    "run",
    "import-prior",
    "doctor",
    "convert",
    "sample",
    "summarize",
    "report",
    "export",
    "verify",
    "check-operator",
    "new-operator",
    "train",
    "calibrate",
    "calibrate-prior",
    "check-prior",
    "compare",
    "fit-widths",
    "benchmark",
}


def invoke(*arguments: object):
    """Run a command in this process; failures of the package are raised."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, SciinvError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_lists_all_commands():
    from typer.main import get_command

    assert set(get_command(app).commands) == COMMANDS


def test_version():
    assert invoke("--version").output.strip() == f"sciinv {__version__}"


def test_shells_get_their_completion(monkeypatch):
    monkeypatch.setenv("_SCIINV_COMPLETE", "source_bash")
    from typer.main import get_command

    result = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="sciinv")
    assert "_SCIINV_COMPLETE" in result.output
    assert get_command(app)


def test_wrong_call_ends_with_code_2(tmp_path):
    assert cli("sample", "--no-such-option", cwd=tmp_path).returncode == 2


def test_failure_is_told_in_rows_without_a_traceback(tmp_path):
    done = cli("run", "--config", "none.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("DataError: ")
    for row in ("where:", "expected:", "got:", "remedy:"):
        assert row in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = cli("--debug", "run", "--config", "none.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_unknown_profile_lists_the_known_ones(tmp_path):
    done = cli(
        "run", "--config", REPO / "workflows/configs/ci.yaml", "--profile", "x", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "ci, default, kubernetes, slurm" in done.stderr


def test_second_run_in_a_folder_is_refused_while_the_first_lives(tmp_path, monkeypatch):
    from sciinv.run import launch

    monkeypatch.chdir(tmp_path)
    with launch._alone():
        done = cli("run", "--config", REPO / "workflows/configs/ci.yaml", "--resume", cwd=tmp_path)
    assert done.returncode == 1
    assert "A run is under way in this folder" in done.stderr


def test_check_operator_passes_a_right_one_and_fails_a_wrong_one(tmp_path):
    assert invoke("check-operator", f"{TINY}:Blur", "--params", '{"size": 8}').exit_code == 0
    wrong = TINY.read_text().replace("fft2(y) * self.gain.to(y)", "fft2(y) * self.gain.to(y) * 2")
    (tmp_path / "wrong.py").write_text(wrong)
    result = invoke("check-operator", f"{tmp_path / 'wrong.py'}:Blur")
    assert result.exit_code == 1
    assert "FAIL" in result.output
    assert "exact transpose" in result.output


def test_check_operator_names_misspelt_parameters():
    with pytest.raises(SciinvError, match="sise"):
        invoke("check-operator", f"{TINY}:Blur", "--params", '{"sise": 8}')
    with pytest.raises(SciinvError, match="no valid JSON"):
        invoke("check-operator", f"{TINY}:Blur", "--params", "{size: 8}")


def test_new_operator_passes_check_operator(tmp_path):
    path = tmp_path / "mine.py"
    assert invoke("new-operator", "MyScanner", "--path", path).exit_code == 0
    assert invoke("check-operator", f"{path}:MyScanner").exit_code == 0


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A measurement store made by `convert`."""
    folder = tmp_path_factory.mktemp("cli")
    raw = folder / "raw.npy"
    np.save(raw, np.random.default_rng(0).normal(size=(2, 8, 8)).astype("f4"))
    reader = folder / "mine.py"
    reader.write_text(f"{TINY.read_text()}\n{READER}")
    out = folder / "measurement.zarr"
    invoke("convert", raw, "--out", out, "--reader", f"{reader}:mine", "--option", "noise_sd=0.2")
    return out


def test_convert_passes_options_to_the_reader(measured):
    dataset = store.open_measurement(measured)
    assert json.loads(dataset.attrs["params"])["noise_sd"] == 0.2
    assert dict(dataset["y"].sizes) == {"item": 2, "row": 8, "column": 8}


def test_convert_refuses_what_is_no_option(measured, tmp_path):
    with pytest.raises(SciinvError, match="KEY=VALUE"):
        invoke("convert", "a", "-o", tmp_path / "b", "--reader", "kspace", "--option", "noise")


def test_steps_by_hand_lead_to_a_report(measured, tmp_path, monkeypatch):
    # The steps take a prior from a file; here a closed-form one stands in for it.
    gaussian = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=torch.ones(8, 8))
    monkeypatch.setattr(priors, "load", lambda path: gaussian)
    prior = tmp_path / "prior.safetensors"
    prior.touch()
    post, summary, page = (tmp_path / n for n in ("post.zarr", "summary.zarr", "report"))
    operator = ("--operator", f"{TINY}:Blur")
    settings = ("--setting", "levels=5", "--setting", "kernel=exact")
    done = invoke(
        "sample", measured, "-o", post, "--prior", prior, *operator, *settings, "--draws", 4
    )
    assert done.exit_code == 0
    quantities = tmp_path / "quantities.json"
    asked = ("--domain", "total", "--quantile", 0.1, "--quantile", 0.9, "--threshold", 0.5)
    invoke("summarize", post, "-o", summary, "--quantities", quantities, *asked)
    assert len(json.loads(quantities.read_text())[0]["Sum of the image"]["values"]) == 4
    invoke("report", measured, post, summary, "-o", page, *operator, "--quantities", quantities)
    assert (page / "index.html").is_file()
    assert (page / "item-0-mean.png").is_file()
    assert invoke("verify", measured, post, summary).exit_code == 0

    files = [p for p in (post / "posterior/image").rglob("*") if p.is_file()]
    shard = next(p for p in files if p.name != "zarr.json")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert invoke("verify", post).exit_code == 1


def test_calibrate_writes_figures_that_say_right(measured, tmp_path, monkeypatch):
    gaussian = priors.Gaussian(torch.zeros(1, 8, 8), power_spectrum=torch.ones(8, 8))
    monkeypatch.setattr(priors, "load", lambda path: gaussian)
    prior = tmp_path / "prior.safetensors"
    prior.touch()
    out = tmp_path / "calibration"
    settings = ("--setting", "levels=12", "--setting", "kernel=exact")
    given = ("--prior", prior, "--operator", f"{TINY}:Blur", *settings)
    invoke("calibrate", measured, "-o", out, *given, "--truths", 6, "--draws", 9)
    found = json.loads((out / "calibration.json").read_text())
    # Exact prior, conditional and kernel: right but for the error of 6 truths of 64 pixels.
    assert abs(found["spread_skill"] - 1) < 4 * found["spread_skill_error"] + 0.02
    assert np.load(out / "ranks.npy").shape == (6, 1, 8, 8)
    assert (out / "calibration.png").is_file()


def test_doctor_finds_torch_and_the_workflow():
    from sciinv.run import doctor

    found = {f.what: f for f in doctor.examine(REPO / "workflows/configs/ci.yaml")}
    for what in ("Python", "torch", "torch and torchvision", "workflow", "configuration"):
        assert found[what].level == "ok", found[what]
    assert found["blur: operator"].got.endswith("tiny.py")


def test_doctor_says_what_is_wrong_with_a_configuration(tmp_path):
    from sciinv.run import doctor

    path = tmp_path / "bad.yaml"
    path.write_text("run: {nme: a}\nproblems: {}\n")
    (bad,) = [f for f in doctor.examine(path) if f.level == "bad"]
    assert "did you mean 'name'?" in bad.remedy


def test_train_refuses_a_wrong_configuration(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("name: a\nfamly: discs\n")
    done = cli("train", path, cwd=tmp_path)
    assert done.returncode == 1
    assert "famly" in done.stderr
    assert "Traceback" not in done.stderr
