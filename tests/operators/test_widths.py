"""Prior standard deviations of unknowns: what is none is refused in words, by every operator."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.errors import OperatorError
from sciinv.operators.base import Unknown
from sciinv.operators.ct import CT
from sciinv.operators.interferometry import Visibilities
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts import ct_unknowns, mri_unknowns, vlbi_gains
from sciinv.operators.parts.mri_coils import simulate_maps

NONE = ["a", "0.1", True, np.True_, float("nan"), float("inf"), -0.1, 0, [0.1], None, {}, 1j]


def ct(unknowns):
    return CT(np.linspace(0, 180, 6), 8, 1.0, 12, 1.0, unknowns=unknowns)


def mri(unknowns):
    mask = np.zeros((8, 8), dtype=bool)
    mask[::2] = True
    return MultiCoilMRI(mask, simulate_maps(2, (8, 8)).astype(complex), 0.1, unknowns=unknowns)


def visibilities(unknowns):
    pairs = [[0, 1], [0, 2], [1, 2]]
    u = np.array([1e9, 2e9, 1e9])
    return Visibilities(u, u, 0.1, 8, 100.0, stations=pairs, scans=[0, 0, 0], unknowns=unknowns)


OF = [(ct, name) for name in ct_unknowns.KNOWN]
OF += [(mri, name) for name in mri_unknowns.KNOWN]
OF += [(visibilities, name) for name in vlbi_gains.KNOWN]


@pytest.mark.parametrize(("make", "name"), OF)
def test_a_width_that_is_no_positive_number_is_refused_by_name(make, name):
    for sd in NONE:
        with pytest.raises(OperatorError, match=f"{name} is no number above 0") as caught:
            make({name: sd})
        error = caught.value
        assert name in str(error.where)
        assert error.got == repr(sd)
        assert error.expected
        assert error.remedy


@pytest.mark.parametrize(("make", "name"), OF)
def test_numbers_of_any_kind_are_widths(make, name):
    for sd in (0.1, 1, np.float32(0.1), np.int64(1)):
        (unknown,) = make({name: sd}).unknowns
        assert unknown.name == name
        assert unknown.sd == pytest.approx(float(sd))


@pytest.mark.parametrize("make", [ct, mri, visibilities])
def test_unknowns_that_are_no_mapping_or_of_no_known_name_are_refused(make):
    for given in (["a"], "a", 0.1, 0, [], ()):
        with pytest.raises(OperatorError, match="no names with their prior"):
            make(given)
    with pytest.raises(OperatorError, match="no unknown of this name"):
        make({3: 0.1})


@pytest.mark.parametrize("make", [ct, mri, visibilities])
def test_no_unknowns_are_none(make):
    assert make(None).unknowns == ()
    assert make({}).unknowns == ()


def test_a_width_that_yaml_reads_as_a_word_is_told_how_to_be_written():
    with pytest.raises(OperatorError) as caught:
        ct({"attenuation_scale": "1e-2"})
    assert "1.0e-3" in str(caught.value.remedy)


@pytest.mark.parametrize("prior", [("a", 1.0), (0.0, "a"), (0.0, None), (np.nan, 1.0), (0.0, True)])
def test_an_operator_of_ones_own_is_told_the_same(prior):
    with pytest.raises(OperatorError, match="no distribution"):
        Unknown("gain", *prior)
