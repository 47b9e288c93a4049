"""Wrong values of a configuration: each is told by what it should be."""

from __future__ import annotations

import pytest
from support.cli import REPO

from sciinv.config.schema import check_schema, read_value, read_yaml
from sciinv.errors import ConfigError
from sciinv.run.launch import _check_executor
from sciinv.steps.build import _check_device


@pytest.fixture
def raw():
    return read_yaml(REPO / "workflows/configs/ci.yaml")


def test_no_draws_are_told_by_their_range(raw):
    next(iter(raw["problems"].values()))["draws"] = 0
    with pytest.raises(ConfigError, match="outside its range") as caught:
        check_schema(raw)
    assert "or more" in str(caught.value.expected)
    assert str(caught.value.remedy).startswith("give ")
    assert caught.value.got == "0"


def test_a_gpu_is_told_that_it_is_called_cuda(raw):
    raw["run"]["device"] = "gpu"
    with pytest.raises(ConfigError) as caught:
        check_schema(raw)
    assert "cuda" in str(caught.value.remedy)
    with pytest.raises(ConfigError) as caught:
        _check_device("GPU")
    assert "cuda" in str(caught.value.remedy)


def test_a_profile_whose_plugin_is_missing_names_the_package(tmp_path):
    (tmp_path / "config.yaml").write_text("# mine\nexecutor: no-such-cluster\n")
    with pytest.raises(ConfigError) as caught:
        _check_executor(tmp_path)
    assert "pip install snakemake-executor-plugin-no-such-cluster" in str(caught.value.remedy)
    (tmp_path / "config.yaml").write_text("executor: local\n")
    _check_executor(tmp_path)


def test_a_range_stays_a_text_and_numbers_are_numbers(tmp_path):
    # YAML 1.1 reads 10:50 as 650, sixty times ten and fifty.
    (tmp_path / "a.yaml").write_text("angles: 10:50\nsd: 1.5e-3\nn: 0x10\nzero: 0\nback: -3\n")
    found = read_yaml(tmp_path / "a.yaml")
    assert found == {"angles": "10:50", "sd": 1.5e-3, "n": 16, "zero": 0, "back": -3}
    assert read_value("1:30:45.5", "x") == "1:30:45.5"
    assert read_value("[0, .5, .inf]", "x") == [0, 0.5, float("inf")]
    with pytest.raises(ConfigError, match="no valid YAML"):
        read_value("[0,", "--option angles")
