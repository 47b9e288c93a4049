"""An operator from a plain function: the posterior is that of the operator it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv import priors, samplers
from sciinv.errors import OperatorError
from sciinv.likelihoods import Gaussian
from sciinv.operators.base import ImageSpec, MeasurementSpec
from sciinv.operators.function import FromFunction

SIDE, SD = 3, 0.3
ROWS = np.random.default_rng(5).standard_normal((4, SIDE * SIDE))


def specs() -> tuple[ImageSpec, MeasurementSpec]:
    axis = np.arange(float(SIDE))
    image = ImageSpec((1, SIDE, SIDE), "mT", axis, axis, "mm")
    return image, MeasurementSpec(("coil",), (4,), "V")


def plain(function=lambda image: ROWS @ image.ravel()) -> FromFunction:
    return FromFunction(function, *specs(), Gaussian(SD))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_functions_own_in_the_dtype_of_the_image(dtype):
    x = torch.randn(2, 1, SIDE, SIDE, dtype=dtype, generator=torch.Generator().manual_seed(0))
    y = plain().A(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), x.double().flatten(1) @ torch.from_numpy(ROWS).mT)


def test_draws_have_the_closed_form_posterior_though_no_derivative_is_known():
    prior = priors.Gaussian(
        torch.zeros(1, SIDE, SIDE, dtype=torch.float64),
        power_spectrum=torch.ones(SIDE, SIDE, dtype=torch.float64),
        units="mT",
    )
    y = torch.tensor([[1.0, -0.5, 0.3, 0.8]], dtype=torch.float64)
    draws = samplers.DAPS(prior, levels=8).sample(y, plain(), draws=400, seed=1)
    x = draws["image"].values.reshape(400, -1)
    cov = np.linalg.inv(np.eye(SIDE * SIDE) + ROWS.T @ ROWS / SD**2)
    mean = cov @ ROWS.T @ y[0].numpy() / SD**2
    sd = np.sqrt(np.diag(cov))
    # 400 independent draws: mean ± sd/20, sd ± 3.5 %; 4.5 standard errors over nine pixels.
    assert np.abs((x.mean(0) - mean) / sd).max() < 4.5 / 20
    assert np.abs(x.std(0, ddof=1) / sd - 1).max() < 4.5 * 0.0354


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda image: np.zeros(3), "shape"),
        (lambda image: np.full(4, np.nan), "4 not finite"),
        (lambda image: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_function_that_does_not_keep_its_word_is_named(function, said):
    with pytest.raises(OperatorError, match=said):
        plain(function).A(torch.zeros(1, 1, SIDE, SIDE))
