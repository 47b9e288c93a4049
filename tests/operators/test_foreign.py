"""Operators of other packages: each passes the checks, and is drawn from under a Gaussian prior."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from deepinv import physics as dinv
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv import likelihoods, priors, samplers
from sciinv.config import Config
from sciinv.operators.base import ImageSpec, MeasurementSpec
from sciinv.operators.check import check_operator
from sciinv.operators.function import FromFunction
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare
from sciinv.steps.sample import sample_shard
from sciinv.store import open_posterior

S = 8
NOISE = GaussianNoise(0.1)
SQUARES = torch.linspace(-1, 1, 5) ** 2
KERNEL = torch.exp(-SQUARES[:, None] - SQUARES)[None, None]
KERNEL = KERNEL / KERNEL.sum()
RAMP = torch.linspace(0, 1, S).expand(S, S)
MATRIX = scipy.sparse.random(20, S * S, 0.2, random_state=0, format="csr")
AXIS = np.arange(S) - (S - 1) / 2


class Sparse(LinearPhysics):
    """y = M x with a scipy.sparse matrix, as one would write it: it knows no gradient of torch."""

    def __init__(self) -> None:
        super().__init__(noise_model=NOISE, img_size=(1, S, S))

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.from_numpy((MATRIX @ x.flatten(1).numpy().T).T).to(x)

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.from_numpy((MATRIX.T @ y.numpy().T).T).to(y).reshape(-1, 1, S, S)

    def A_vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.A_adjoint(v)


def function(differs: Callable[[np.ndarray], np.ndarray]) -> FromFunction:
    return FromFunction(
        differs,
        ImageSpec((1, S, S), "1", AXIS, AXIS, "px"),
        MeasurementSpec(("datum",), (20,), "1"),
        likelihoods.Gaussian(0.1),
    )


def pylops_function() -> FromFunction:
    pylops = pytest.importorskip("pylops")
    operator = pylops.MatrixMult(MATRIX.toarray())
    return function(lambda image: operator.matvec(image.ravel()))


def coils() -> torch.Tensor:
    return torch.ones(1, 2, S, S, dtype=torch.complex64)


FOREIGN: dict[str, Callable[[], Any]] = {
    "Blur": lambda: dinv.Blur(filter=KERNEL, padding="circular", noise_model=NOISE),
    "BlurFFT": lambda: dinv.BlurFFT((1, S, S), filter=KERNEL, noise_model=NOISE),
    "Downsampling": lambda: dinv.Downsampling((1, S, S), filter="gaussian", noise_model=NOISE),
    "Inpainting": lambda: dinv.Inpainting((1, S, S), mask=0.5, noise_model=NOISE),
    "MRI": lambda: dinv.MRI(mask=torch.ones(S, S), img_size=(2, S, S), noise_model=NOISE),
    "MultiCoilMRI": lambda: dinv.MultiCoilMRI(
        mask=torch.ones(S, S), coil_maps=coils(), img_size=(2, S, S), noise_model=NOISE
    ),
    "Tomography": lambda: dinv.Tomography(angles=8, img_width=S, noise_model=NOISE),
    "PhaseRetrieval": lambda: dinv.RandomPhaseRetrieval(
        m=80, img_size=(1, S, S), dtype=torch.cfloat, noise_model=NOISE
    ),
    "SinglePixelCamera": lambda: dinv.SinglePixelCamera(
        m=30, img_size=(1, S, S), noise_model=NOISE
    ),
    "CompressedSensing": lambda: dinv.CompressedSensing(
        m=30, img_size=(1, S, S), noise_model=NOISE
    ),
    "Denoising": lambda: dinv.Denoising(NOISE),
    "SpaceVaryingBlur": lambda: dinv.SpaceVaryingBlur(
        filters=KERNEL[None].expand(1, 1, 2, 5, 5).clone(),
        multipliers=torch.stack([RAMP, 1 - RAMP])[None, None].clone(),
        padding="circular", noise_model=NOISE,
    ),
    "NumPy function": lambda: function(lambda image: np.tanh(MATRIX @ image.ravel())),
    "scipy.sparse": Sparse,
    "pylops": pylops_function,
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_operator_passes_its_checks_and_is_drawn_from(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv's own words on astra and compressed sensing
        physics = FOREIGN[name]()
    channels = 2 if "MRI" in name else 1
    truth = 0.5 * torch.randn(1, channels, S, S, generator=torch.Generator().manual_seed(0))
    y = physics.A(truth.to(torch.cfloat) if name == "PhaseRetrieval" else truth)
    failed = {c.name: c.got for c in check_operator(physics, y) if c.ok is False}
    assert not failed
    power = torch.full((S, S), 0.25)
    prior = priors.Gaussian(torch.zeros(channels, S, S), power_spectrum=power)
    drawn = samplers.DAPS(prior, levels=6, micro_batch=2).sample(y, physics, draws=2)
    assert drawn["image"].shape == (2, 1, channels, S, S)
    assert np.isfinite(drawn["image"].values).all()
    if hasattr(physics, "A_adjoint") and name not in ("NumPy function", "pylops"):
        # A linear problem is drawn from exactly: no draw fits worse than the noise by far.
        assert float(drawn["chi2"].max()) < 3


# The file of a user: an operator of FOREIGN as a class that takes no arguments, and its data.
OWN = """
import sys
sys.path.insert(0, FOLDER)
import numpy as np, torch, xarray as xr
import test_foreign as foreign

name = NAME
with torch.random.fork_rng():
    torch.manual_seed(0)  # random masks and matrices are the same in every process
    made = foreign.FOREIGN[name]()

class Own(type(made)):
    def __init__(self):
        torch.nn.Module.__init__(self)
        self.__dict__.update(made.__dict__)

def read(path):
    physics = Own()
    x = 0.5 * torch.randn(1, 2 if "MRI" in name else 1, 8, 8,
                          generator=torch.Generator().manual_seed(0))
    y = physics.A(x.to(torch.cfloat) if name == "PhaseRetrieval" else x)
    y = (y + 0.1 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).numpy()
    axes = ("item", *(f"axis{i}" for i in range(y.ndim - 1)))
    return xr.Dataset({"y": (axes, y)}, coords={"item": [0]},
                      attrs={"operator": "own.py:Own", "params": "{}", "units": "1"})
"""


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_operator_is_swapped_in_by_a_configuration(name, tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)
    if name == "pylops":
        pytest.importorskip("pylops")
    own = tmp_path / "own.py"
    here = repr(str(Path(__file__).parent))
    own.write_text(OWN.replace("FOLDER", here).replace("NAME", repr(name)))
    channels = 2 if "MRI" in name else 1
    text = f"""
run: {{name: f}}
problems:
  p:
    data: {{reader: "{own}:read", path: "{own}"}}
    operator: {{name: "{own}:Own"}}
    prior: {{kind: gaussian, length: 1.0, sd: 0.5}}
    sampler: {{kind: daps, levels: 4, micro_batch: 2}}
    draws: 2
"""
    (tmp_path / "run.yaml").write_text(text)
    problem = Config.of_file(tmp_path / "run.yaml").problem("p")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = prepare(problem.data, tmp_path / "m.zarr")
        found = check(measured, problem.operator, problem.prior, tmp_path / "check.json")
        drawn = sample_shard(
            measured, tmp_path / "p.zarr", operator=problem.operator, prior=problem.prior,
            draws=range(2), items=[0], sampler=problem.sampler,
        )  # fmt: skip
    assert found["image"]["shape"] == [channels, S, S]
    assert np.isfinite(open_posterior(drawn)["posterior"]["image"].values).all()
