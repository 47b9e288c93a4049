"""Files from outside run no code: descriptions of priors, measurement stores, records of draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from sciinv import operators, priors, store
from sciinv.cli import app
from sciinv.config import Config, Data, Operator, Prior, Sampler
from sciinv.errors import ConfigError, OperatorError, PriorError, StoreError
from sciinv.steps.build import load_prior
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare
from sciinv.steps.redraw import redraw
from sciinv.steps.sample import sample_shard
from sciinv.steps.summarize import summarize

TINY = Path(__file__).resolve().parents[2] / "workflows/configs/tiny.py"
NETWORK = """
from pathlib import Path
from torch import nn
Path(MARK).touch()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(1, 1, 1)
    def forward(self, x, sigma):
        return 0.5 * x + 0 * self.c(x)
class Other:
    def __init__(self):
        Path(MARK).with_name("called").touch()
"""


@pytest.fixture
def described(tmp_path):
    """Write a description of a prior; return its path and the file that its code would leave."""
    mark = tmp_path / "has_run"

    def write(network: str, **entries):
        (tmp_path / "net.py").write_text(NETWORK.replace("MARK", repr(str(mark))))
        save_file({"c.weight": torch.ones(1, 1, 1, 1), "c.bias": torch.zeros(1)}, tmp_path / "w.st")
        (tmp_path / "w.st").rename(tmp_path / "w.safetensors")
        said = {"kind": "denoiser", "network": network, "weights": "w.safetensors"}
        said |= {"sigma_min": 0.01, "sigma_max": 10.0, **entries}
        (tmp_path / "prior.yaml").write_text(yaml.safe_dump(said))
        return tmp_path / "prior.yaml", mark

    return write


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("os:system", {"command": "touch MARK"}),
        ("subprocess:Popen", {"args": ["touch", "MARK"]}),
        ("builtins:exec", {"source": "open('MARK', 'w')"}),
        ("torch.hub:load", {"repo_or_dir": "MARK", "model": "x"}),
        ("torch.nn.utils.rnn:os", {}),
        ("deepinv.models:os.system", {"command": "touch MARK"}),
        ("torch.nn.init:ones_", {"tensor": [1]}),
        ("torch.nnx:Linear", {}),
        ("net:Net", {}),
    ],
)
def test_only_networks_of_known_packages_are_called(described, network, arguments, monkeypatch):
    path, mark = described(network)
    monkeypatch.syspath_prepend(path.parent)
    text = yaml.safe_dump({**yaml.safe_load(path.read_text()), "arguments": arguments})
    path.write_text(text.replace("MARK", str(mark)))
    with pytest.raises(PriorError) as caught:
        priors.load(path)
    assert caught.value.remedy
    assert not mark.exists()


def test_python_too_runs_a_described_file_only_where_it_is_told_to(described):
    path, mark = described("net.py:Other")
    with pytest.raises(PriorError, match="not run unasked") as caught:
        priors.load(path)
    assert "run=" in str(caught.value.remedy)
    assert not mark.exists()
    assert not mark.with_name("called").exists()


def test_a_class_that_is_no_network_is_not_called(described):
    path, mark = described("net.py:Other")
    with pytest.raises(PriorError, match="not a network"):
        priors.load(path, run=True)
    assert not mark.with_name("called").exists()


def test_a_description_runs_its_file_only_where_the_user_names_it(described):
    path, mark = described("net.py:Net")
    for named in (None, f"{path.parent / 'net.py'}:Other", f"{TINY}:Net"):
        with pytest.raises(PriorError, match="not run unasked"):
            load_prior(Prior(path=str(path), network=named), (1, 4, 4))
        assert not mark.exists()
    prior = Prior(path=str(path), network=f"{path.parent / 'net.py'}:Net")
    x = torch.ones(1, 1, 4, 4)
    assert torch.equal(load_prior(prior, (1, 4, 4))(x, 1.0), 0.5 * x)
    assert mark.exists()


def test_a_configuration_names_the_network_of_a_prior(described):
    path, _ = described("net.py:Net")
    problem = {
        "data": {"reader": f"{TINY}:read"},
        "sampler": {},
        "draws": 2,
        "prior": {"kind": "file", "path": str(path), "network": f"{path.parent / 'net.py'}:Net"},
    }
    raw = {"run": {"name": "a"}, "problems": {"p": problem}}
    found = Config.of_mapping(raw).problem("p")
    assert found.prior.files == (str(path), str(path.parent / "net.py"))
    problem["prior"] = {"kind": "gaussian", "network": "net.py:Net"}
    with pytest.raises(ConfigError, match="a file, in closed form, or the generic one"):
        Config.of_mapping(raw)


@pytest.fixture
def gift(tmp_path, monkeypatch):
    """A measurement store that names, and carries, a file of code."""
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)
    path = prepare(
        Data(f"{TINY}:read", None, {"items": 1, "size": 8}), tmp_path / "m.zarr", say=str
    )
    dataset = store.open_measurement(path).load()
    mark = tmp_path / "has_run"
    evil = tmp_path / "gift.zarr" / "evil.py"
    dataset.attrs["operator"] = f"{evil}:Blur"
    store.write_measurement(dataset, tmp_path / "gift.zarr")
    evil.write_text(f"{TINY.read_text()}\nfrom pathlib import Path\nPath({str(mark)!r}).touch()\n")
    return tmp_path / "gift.zarr", evil, mark


def invoke(*arguments: object) -> BaseException | None:
    return CliRunner().invoke(app, [str(a) for a in arguments]).exception


def test_a_store_runs_no_file_that_the_user_does_not_name(gift, tmp_path):
    path, evil, mark = gift
    (tmp_path / "prior.safetensors").touch()
    prior = ("--prior", tmp_path / "prior.safetensors")
    sampler = Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 2})
    asked = {"prior": Prior(kind="gaussian", length=2.0), "sampler": sampler}
    named = Operator(f"{TINY}:Blur")
    post = sample_shard(
        path, tmp_path / "p.zarr", operator=named, draws=range(2), items=[0], **asked
    )
    summary = summarize(post, tmp_path / "s.zarr")
    for error in (
        invoke("sample", path, "-o", tmp_path / "o.zarr", *prior),
        invoke("calibrate", path, "-o", tmp_path / "c", *prior),
        invoke("report", path, post, summary, "-o", tmp_path / "r"),
    ):
        assert isinstance(error, OperatorError), error
        assert "--operator FILE.py:CLASS" in str(error)
    invoke("check-operator", "ct", "--measurement", path)
    with pytest.raises(OperatorError, match="not run unasked"):
        check(path, Operator(), asked["prior"], tmp_path / "check.json")
    with pytest.raises(OperatorError, match="not run unasked"):
        operators.from_measurement(store.open_measurement(path))
    assert not mark.exists()
    operators.from_measurement(store.open_measurement(path), operator=f"{evil}:Blur")
    assert mark.exists()


def recorded(tmp_path, path, **changes):
    """Draws whose record says what is given, with the hashes that belong to it."""
    import hashlib
    import json

    sampler = Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 2})
    given = {"prior": Prior(kind="gaussian", length=2.0), "sampler": sampler}
    named = Operator(f"{TINY}:Blur")
    post = sample_shard(
        path, tmp_path / "p.zarr", operator=named, draws=range(2), items=[0], **given
    )
    draws = store.to_dataset(store.open_posterior(post)).load()
    config = json.loads(draws.attrs["config"])
    for key, value in changes.pop("config", {}).items():
        config[key] = {**config[key], **value}
    text = json.dumps(config, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    draws.attrs |= {"config": text, "config_hash": digest, **changes}
    return store.write_posterior(draws, tmp_path / "q.zarr")


def test_a_record_of_draws_runs_no_file_that_the_user_does_not_name(gift, tmp_path):
    path, evil, mark = gift
    digest = store.atomic.sha256(evil)
    post = recorded(
        tmp_path,
        path,
        config={"operator": {"name": f"{evil}:Blur"}},
        operator=f"{evil}:Blur",
        operator_hash=digest,
    )
    for named in (None, f"{TINY}:Other"):
        with pytest.raises(StoreError, match="not run unasked"):
            redraw(post, operator=named)
    assert isinstance(invoke("verify", post, "--redraw"), StoreError)
    assert not mark.exists()
    assert "equal" in redraw(post, operator=f"{evil}:Blur")


def test_a_record_of_draws_names_no_description_that_runs_code(gift, described, tmp_path):
    path, _, _ = gift
    prior, mark = described("net.py:Net")
    digest = store.atomic.sha256(prior)
    evil = {"path": str(prior), "network": f"{tmp_path / 'net.py'}:Net"}
    for number, changes in enumerate(
        (
            {"prior_path": str(prior), "prior_hash": digest, "config": {"prior": {"kind": "file"}}},
            {"config": {"prior": {"kind": "gaussian", **evil}}},
        )
    ):
        folder = tmp_path / str(number)
        post = recorded(folder, path, **changes)
        if number == 0:
            with pytest.raises(PriorError, match="not run unasked"):
                redraw(post, operator=f"{TINY}:Blur")
        else:  # what a record of a closed form says beside its numbers is not looked at
            assert "equal" in redraw(post, operator=f"{TINY}:Blur")
        assert not mark.exists()
    assert np.isfinite(store.open_posterior(post)["posterior/image"].values).all()
