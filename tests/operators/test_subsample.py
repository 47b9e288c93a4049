"""Part of a measurement: values, adjoint and noise are those of the whole at the chosen places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sciinv import operators, readers
from sciinv.errors import OperatorError
from sciinv.operators.subsample import Subsampled, SubsampledLinear, independent_blocks, subsample


@pytest.fixture(scope="module")
def ct():
    return operators.load(
        "ct", angles=list(range(0, 180, 20)), image_size=15, pixel_mm=1.0, detectors=22,
        detector_mm=1.0, noise_sd=torch.linspace(0.1, 0.3, 9 * 22).reshape(9, 22).numpy(),
    )  # fmt: skip


@pytest.fixture
def keep(ct):
    shape = tuple(ct.measurement_spec.shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5


def test_values_and_noise_are_those_of_the_whole(ct, keep):
    part, choose = subsample(ct, keep)
    assert isinstance(part, SubsampledLinear)
    x = torch.randn(2, 1, 15, 15, generator=torch.Generator().manual_seed(1))
    assert torch.equal(part.A(x), ct.A(x)[:, keep])
    assert torch.equal(choose(ct.A(x)), part.A(x))
    sd = torch.linspace(0.1, 0.3, 9 * 22).reshape(9, 22)[keep.reshape(9, 22)]
    torch.testing.assert_close(part.likelihood.sd.float().flatten(), sd)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_adjoint_is_exact(ct, keep, dtype, bound):
    part, _ = subsample(ct, keep)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, 1, 15, 15, generator=g, dtype=dtype)
    v = torch.randn(2, int(keep.sum()), generator=g, dtype=dtype)
    y = part.A(x)
    gap = (y * v).sum() - (x * part.A_adjoint(v)).sum()
    assert abs(float(gap)) <= bound * float(y.norm() * v.norm())


def test_chosen_and_left_out_data_make_the_whole_gradient(ct, keep):
    x = torch.randn(1, 1, 15, 15, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v = torch.randn(ct.A(x).shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (a, of_a), (b, of_b) = subsample(ct, keep), subsample(ct, ~keep)
    both = a.A_vjp(x, of_a(v)) + b.A_vjp(x, of_b(v))
    torch.testing.assert_close(both, ct.A_adjoint(v), rtol=1e-12, atol=1e-12)


def test_wrong_masks_are_refused(ct, keep):
    with pytest.raises(OperatorError, match="keeps something"):
        subsample(ct, torch.zeros_like(keep))
    with pytest.raises(OperatorError, match="does not fit"):
        subsample(ct, keep[0])


def test_counts_have_no_independent_gaussian_noise_to_choose_from():
    counts = operators.load(
        "ct-counts", angles=[0, 60, 120], image_size=8, pixel_mm=1.0, detectors=12,
        detector_mm=1.0, blank_counts=1000.0,
    )  # fmt: skip
    with pytest.raises(OperatorError, match="noise is Gaussian"):
        Subsampled(counts, torch.ones(tuple(counts.measurement_spec.shape), dtype=torch.bool))


@pytest.fixture(scope="module")
def closures():
    """M87* on 11 April: the amplitudes of a scan are correlated by the gains they share."""
    day = Path(__file__).parents[2] / "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits"
    return operators.from_measurement(readers.find("uvfits")(day, kind="amplitudes", gain_sd=0.1))


def test_correlated_noise_is_that_of_the_whole_at_the_chosen_blocks(closures):
    whole, y = closures
    blocks = independent_blocks(whole.likelihood)
    keep = blocks % 2 == 0
    part, choose = subsample(whole, keep)
    full = whole.likelihood.cholesky @ whole.likelihood.cholesky.mT
    own = part.likelihood.cholesky @ part.likelihood.cholesky.mT
    torch.testing.assert_close(own, full[keep][:, keep], rtol=1e-5, atol=0.0)
    # no correlation is cut: what is left between the two parts is rounding
    assert float(full[keep][:, ~keep].abs().max()) < 1e-6 * float(full.diagonal().max())
    assert torch.equal(part.likelihood.period, whole.likelihood.period[keep])
    # so that the misfits of the two halves add up to that of the whole
    other, of_other = subsample(whole, ~keep)
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 1e-3
    y = y.expand(2, -1)
    apart = part.likelihood.nll(part.A(x), choose(y))
    apart = apart + other.likelihood.nll(other.A(x), of_other(y))
    torch.testing.assert_close(apart, whole.likelihood.nll(whole.A(x), y), rtol=1e-4, atol=0.0)


def test_few_coordinates_of_the_whole_serve_the_part(closures):
    whole, _ = closures
    keep = independent_blocks(whole.likelihood) % 3 > 0
    part, choose = subsample(whole, keep)
    x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = (whole.coordinates.flatten(1) @ x.flatten())[None]
    torch.testing.assert_close(part.of_coordinates(v), choose(whole.A(x)))
    slope = part.jacobian_of_coordinates(v)
    torch.testing.assert_close(slope, whole.jacobian_of_coordinates(v)[:, keep])


def test_a_block_of_correlated_noise_is_not_torn(closures):
    whole, _ = closures
    keep = torch.ones(whole.measurement_spec.shape, dtype=torch.bool)
    largest = int(independent_blocks(whole.likelihood).bincount().argmax())
    keep[(independent_blocks(whole.likelihood) == largest).nonzero()[0]] = False
    with pytest.raises(OperatorError, match="1 blocks of which a part stays"):
        subsample(whole, keep)


def test_a_model_error_and_groups_of_noise_are_those_of_the_chosen_data(keep):
    whole = operators.load(
        "ct", angles=list(range(0, 180, 20)), image_size=15, pixel_mm=1.0, detectors=22,
        detector_mm=1.0, unknowns={"model_error": 0.02}, noise_by="angle",
    )  # fmt: skip
    part, choose = subsample(whole, keep)
    y = torch.rand(1, 1, 9, 22, generator=torch.Generator().manual_seed(2))
    inside = torch.where(keep, y, torch.zeros_like(y))
    found = part.error_of(choose(y))
    assert found.width == 0.02
    assert torch.equal(found.sd, whole.error_of(inside).sd[:, keep])
    assert torch.equal(part.noise_groups, torch.arange(9)[:, None].expand(1, 9, 22)[keep])
