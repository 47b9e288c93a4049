"""Wrong settings on the command line: each is told, and nothing is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from sciinv import store
from sciinv.cli import app
from sciinv.errors import ConfigError, SciinvError
from sciinv.priors.learned import files
from sciinv.priors.learned.network import LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.widths import FittedWidths


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small CT measurement of one item, and a prior of its size with weights by chance."""
    monkeypatch.chdir(tmp_path)
    angles = np.linspace(0, 180, 6, endpoint=False)
    y = np.zeros((1, 1, 6, 12), dtype=np.float32)
    dataset = xr.Dataset(
        {"y": (("item", "channel", "angle", "detector"), y), "angles": ("angle", angles)},
        attrs={
            "operator": "ct", "units": "1",
            "params": '{"image_size": 8, "pixel_mm": 1.0, "detectors": 12, "detector_mm": 1.0,'
            ' "noise_sd": 0.01}',
        },
    )  # fmt: skip
    store.write_measurement(dataset, "m.zarr")
    sigmas = torch.logspace(-2, 1, 8, dtype=torch.float64)
    widths = FittedWidths(
        sigmas, sigmas**2, (sigmas**2)[:, None].repeat(1, 4), torch.arange(4).double() / 6
    )
    spec, scales = NetworkSpec(nc=(4, 4, 4, 4), nb=1), Preconditioning(0.5, 0.01, 20.0)
    files.save(LearnedPrior(spec, scales, train_shape=(1, 8, 8), widths=widths), "p.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--items", "9"], ["--items", "at most 1", "9"]),
        (["--device", "gpu"], ["device", "cpu, or cuda", "take cuda"]),
        (["--device", "cuda:0"], ["device", "take cuda"]),
        (["--setting", "levels=ten"], ["levels", "integer", "ten"]),
        (["--setting", "levels=5", "--setting", "sigma_max=1e-4"], ["sigma_max", "0.0001"]),
        (["--setting", "micro_batch=-2"], ["micro_batch", "-2"]),
        (["--setting", "inflate=-1"], ["inflate", "-1"]),
        (["--params", '{"image_size": "big"}'], ["image_size", "big"]),
    ],
)
def test_a_wrong_setting_of_sample_is_named_with_what_is_expected(folder, arguments, words):
    command = ["sample", "m.zarr", "-o", "a.zarr", "--prior", "p.safetensors", "--draws", "2"]
    done = CliRunner().invoke(app, [*command, *arguments])
    assert isinstance(done.exception, SciinvError)
    told = str(done.exception)
    assert all(word in told for word in words), told
    assert done.exception.remedy
    assert not (folder / "a.zarr").exists()


@pytest.mark.parametrize("draws", ["0", "1"])
def test_too_few_draws_are_refused_with_the_least_that_works(folder, draws):
    command = ["sample", "m.zarr", "-o", "a.zarr", "--prior", "p.safetensors", "--draws", draws]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "greater than or equal to 2" in " ".join(done.output.split()) or "x>=2" in done.output


def test_options_for_a_store_that_is_read_as_it_is_are_refused(folder):
    command = ["convert", "m.zarr", "-o", "z.zarr", "--option", "angles=0:180:60"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError)
    assert "angles" in str(done.exception)
    assert not (folder / "z.zarr").exists()
