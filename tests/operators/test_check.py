"""check-operator passes what is right, and finds each kind of mistake."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv import operators
from sciinv.errors import ConfigError
from sciinv.operators import new as template
from sciinv.operators.base import Declared, ImageSpec, MeasurementSpec
from sciinv.operators.check import check_operator


class Rows(Declared, LinearPhysics):
    """y = sums over rows; right in every respect."""

    def __init__(self, noise=0.1):
        super().__init__(noise_model=GaussianNoise(noise), img_size=(1, 6, 5))
        self.image_spec = ImageSpec((1, 6, 5), "1", np.arange(6), np.arange(5), "px")
        self.measurement_spec = MeasurementSpec(("row",), (6,), "1")

    def A(self, x):
        return x[:, 0].sum(-1)

    def A_adjoint(self, y):
        return y[:, None, :, None].expand(-1, 1, 6, 5)


class WrongAdjoint(Rows):
    def A_adjoint(self, y):
        return 1.01 * super().A_adjoint(y)


class Affine(Rows):
    def A(self, x):
        return super().A(x) + 1


class Single(Rows):
    def A(self, x):
        return super().A(x.float())


class Mixing(Rows):
    def A(self, x):
        return super().A(x - 0.1 * x.mean(0, keepdim=True))


class Noisy(Rows):
    def A(self, x):
        return super().A(x) + torch.randn(len(x), 6, dtype=x.dtype)


class WrongShape(Rows):
    def A(self, x):
        return super().A(x)[:, :-1]


class WrongDerivative(Rows):
    def A_vjp(self, x, v):
        return -self.A_adjoint(v)


class Raising(Rows):
    def A_adjoint(self, y):
        raise RuntimeError("not written yet")


def failed(physics, y=None):
    return {r.name for r in check_operator(physics, y) if not r.ok}


def test_right_operator_passes():
    results = check_operator(Rows(), torch.zeros(1, 6))
    assert all(r.ok for r in results)
    names = {"shape", "measurement", "dtype", "device", "repeat", "noise", "linearity"}
    assert {r.name for r in results} == names | {"dot-product", "vjp", "batch"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (WrongAdjoint, "dot-product"),
        (Affine, "linearity"),
        (Single, "dtype"),
        (Mixing, "batch"),
        (Noisy, "repeat"),
        (WrongShape, "shape"),
        (WrongDerivative, "vjp"),
        (Raising, "dot-product"),
    ],
)
def test_each_mistake_is_found_and_a_remedy_given(kind, name):
    results = {r.name: r for r in check_operator(kind())}
    assert not results[name].ok
    assert results[name].remedy
    assert results[name].expected


def test_operator_without_noise_fails_the_noise_check():
    assert failed(Rows(noise=0.0)) == {"noise"}


def test_measurement_of_another_shape_is_found():
    assert failed(Rows(), torch.zeros(1, 7)) == {"measurement"}


def test_template_passes_as_it_is(tmp_path):
    path = template.write("MyScanner", tmp_path / "scanner.py")
    assert not failed(operators.load(f"{path}:MyScanner"))


def test_template_replaces_no_file_and_takes_only_class_names(tmp_path):
    template.write("MyScanner", tmp_path / "scanner.py")
    with pytest.raises(ConfigError, match="there already"):
        template.write("MyScanner", tmp_path / "scanner.py")
    with pytest.raises(ConfigError, match="no name for a class"):
        template.write("my scanner", tmp_path / "other.py")


def test_example_operator_of_the_ci_configuration_passes(repo):
    path = repo / "workflows/configs/tiny.py"
    spec = importlib.util.spec_from_file_location("tiny", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    y = torch.from_numpy(module.read(items=1)["y"].values)
    assert not failed(module.Blur(), y)
