"""Units of prior and operator: those of the shipped problems agree, and others are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv import operators, priors, readers, samplers, units
from sciinv.config import Config, Data, Operator, Prior
from sciinv.errors import PriorError
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare


@pytest.mark.parametrize(
    ("prior", "operator"),
    [
        ("1/mm", "1/mm"),
        ("", "kPa"),
        ("1/mm", ""),
        ("1", "arbitrary units"),
        ("Jy/pixel (total flux 1 Jy)", "0.6 Jy/pixel"),
        ("Jy/pixel (total flux 1 Jy)", "Jy/pixel"),
        ("99th percentile of the slice's magnitude", "1 = 99th percentile"),
        ("2 Jy/pixel", "2.0 Jy/pixel"),
    ],
)
def test_the_same_unit_in_other_words_passes(prior: str, operator: str) -> None:
    units.check(prior, operator)


@pytest.mark.parametrize(
    ("prior", "operator"),
    [
        ("1/mm", "1/cm"),
        ("1", "1/mm"),
        ("Jy/pixel", "0.6 Jy/pixel"),
        ("Jy/beam (total flux 1 Jy)", "0.6 Jy/pixel"),
        ("99th percentile of the slice's magnitude", "1/mm"),
        ("1/mm", "1 = 99th percentile"),
    ],
)
def test_another_unit_is_an_error_that_names_both(prior: str, operator: str) -> None:
    with pytest.raises(PriorError, match="different units") as caught:
        units.check(prior, operator, where="here")
    assert operator in str(caught.value)
    assert prior in str(caught.value)
    assert caught.value.remedy


def test_the_shipped_problems_say_the_same_on_both_sides(repo: Path, monkeypatch) -> None:
    monkeypatch.chdir(repo)
    for problem in Config.of_file("workflows/configs/main.yaml").problems.values():
        data = readers.find(problem.data.reader)(*problem.data.paths, **problem.data.options)
        physics, _ = operators.from_measurement(data)
        prior = priors.load(repo / str(problem.prior.path))
        own = physics.image_spec.units
        assert own not in units.SILENT, problem.name
        units.check(prior.units, own)
        with pytest.raises(PriorError):
            units.check(prior.units, f"k{own}")


def test_the_check_before_the_first_draw_refuses_another_unit(repo: Path, tmp_path, monkeypatch):
    """The MRI prior on an operator of two channels whose pixels are lengths."""
    monkeypatch.chdir(repo)
    (tmp_path / "two.py").write_text(
        "import numpy as np\nimport torch\nimport xarray as xr\n"
        "from deepinv.physics import GaussianNoise, LinearPhysics\n"
        "from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec\n"
        "class Two(Declared, LinearPhysics):\n"
        "    def __init__(self, size=16):\n"
        "        super().__init__(noise_model=GaussianNoise(0.1))\n"
        "        a = np.arange(size)\n"
        "        self.image_spec = ImageSpec((2, size, size), 'mm', a, a, 'mm', ('real', 'imag'))\n"
        "        dims = ('part', 'row', 'column')\n"
        "        self.measurement_spec = MeasurementSpec(dims, (2, size, size), 'mm')\n"
        "    def A(self, x):\n        return 2 * x\n"
        "    def A_adjoint(self, y):\n        return 2 * y\n"
        "def read():\n"
        "    dims = ('item', 'part', 'row', 'column')\n"
        "    return xr.Dataset({'y': (dims, np.zeros((1, 2, 16, 16), 'f4'))},\n"
        "        coords={'item': [0]}, attrs={'operator': 'two.py:Two', 'params': '{}',\n"
        "        'units': 'mm', 'source': 's', 'title': 't'})\n"
    )
    out = tmp_path / "m.zarr"
    prepare(Data(f"{tmp_path / 'two.py'}:read", None, {}), out, items=1)
    with pytest.raises(PriorError, match="different units"):
        check(
            out,
            Operator(f"{tmp_path / 'two.py'}:Two"),
            Prior(path="data/priors/mri.safetensors"),
            tmp_path / "check.json",
        )
    assert not (tmp_path / "check.json").exists()


def test_mri_operators_say_what_one_is(repo: Path) -> None:
    data = readers.find("kspace")(repo / "data/mri/cartesian_ksp.npy")
    assert json.loads(data.attrs["params"])["units"] == "1 = 99th percentile"
    plain = operators.load(
        "mri", mask=np.ones((4, 4), bool), coil_maps=torch.ones(1, 4, 4) + 0j, noise_sd=1.0
    )
    assert plain.image_spec.units == "arbitrary units"


def test_a_sampler_refuses_an_operator_of_other_units() -> None:
    data = readers.find("htc2022")("data/ct/htc2022_ta_full.mat", angles=(0, 30), image_size=16)
    physics, y = operators.from_measurement(data)
    prior = priors.Gaussian(torch.zeros(1, 16, 16), power_spectrum=torch.ones(16, 16), units="1/cm")
    with pytest.raises(PriorError, match="1/cm"):
        samplers.DAPS(prior, levels=2).sample(y, physics, draws=1)
